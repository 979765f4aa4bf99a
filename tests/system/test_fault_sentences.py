"""What the system refuses is told in a sentence, and a mistake of the program is not mistaken for it."""

import errno
import os

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.config import command_line
from fsp_tf.system import os_errors


def test_the_systems_errors_are_told_with_the_file():
    for number, words in {errno.ENOSPC: "the disk is full", errno.EROFS: "the disk can only be read"}.items():
        assert os_errors.sentence(OSError(number, os.strerror(number), "result.json")).startswith(
            f"result.json: {words}"
        )
        passed_on = tf.errors.UnknownError(None, None, f"events.out; {os.strerror(number)}")
        assert os_errors.sentence(passed_on).startswith("events.out; ") and words in os_errors.sentence(passed_on)
        assert words in os_errors.sentence(OSError(f"Can't write data (errno = {number}, '{os.strerror(number)}')"))
    assert "no such file" in os_errors.sentence(FileNotFoundError(2, "No such file or directory", "there"))


def test_memory_is_told():
    with pytest.raises(MemoryError) as raised:
        np.zeros(2**60, np.uint8)
    assert "memory ran out" in os_errors.sentence(raised.value)
    assert "memory ran out" in os_errors.sentence(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"))


def test_a_torn_record_is_told_with_its_file(tmp_path):
    path = tmp_path / "train.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"image" * 100)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(tf.errors.DataLossError) as raised:
        list(tf.data.TFRecordDataset(str(path)))
    assert "not whole" in os_errors.sentence(raised.value) and "\n" not in os_errors.sentence(raised.value)
    path.unlink()
    with pytest.raises(tf.errors.NotFoundError) as raised:
        list(tf.data.TFRecordDataset(str(path)))
    assert f"{path}; No such file or directory" in os_errors.sentence(raised.value)


@pytest.mark.parametrize("error", [ValueError("shape"), tf.errors.InvalidArgumentError(None, None, "rank")])
def test_a_mistake_of_the_program_keeps_its_traceback(error):
    assert os_errors.sentence(error) is None
    with pytest.raises(type(error)), command_line.mistakes_told():
        raise error
