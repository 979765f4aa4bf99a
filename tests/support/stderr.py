"""Reads the standard error of a command."""


def own_lines(text: str) -> list[str]:
    """Returns the lines that fsp_tf printed; TensorFlow's libraries print a few of their own while they load.

    Raises:
        AssertionError: If there is a traceback.
    """
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.startswith("fsp_tf: ")]
