"""The flags grouped by topic, for `--help` and docs/flags.md."""

import contextlib
import dataclasses
import sys
import textwrap

from absl import flags

from fsp_tf.config.choices import fields

TOPICS = {  # a topic's first field in `Config`, its title, and a line about it
    "dataset": ("Data", "The images to train on and to evaluate on."),
    "architecture": ("Models", "The networks of teacher and student."),
    "method": ("Method", "How the student learns from the teacher."),
    "teacher_learning_rates": ("Schedules", "Learning rates, steps, optimizer, batch size and seed."),
    "precision": ("Machine", "Devices, numerical precision, checkpoints and logs."),
    "experiment": ("Run", "Which phases to run, from which files, into which folder."),
}


def topics() -> dict[tuple[str, str], list[dataclasses.Field]]:
    """Returns the fields of `Config` by the title and the line of their topic."""
    found: dict[tuple[str, str], list[dataclasses.Field]] = {}
    for name, field in fields().items():
        if name in TOPICS:
            current = found.setdefault(TOPICS[name], [])
        current.append(field)
    return found


class HelpFlag(flags.BooleanFlag):
    """Replaces absl's `--help`: groups the flags of the command by topic."""

    def __init__(self):
        super().__init__("help", False, "show this help", short_name="?", allow_override=True)

    def parse(self, argument):
        if self._parse(argument):
            with contextlib.suppress(BrokenPipeError):  # `--help | head`
                print(help_text(), flush=True)
            sys.exit(1)  # as absl does


def help_text() -> str:
    """Returns the main module's docstring, its own flags, and those of `Config` that it takes by topic."""
    taken = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    groups = {("Command", "The flags of this command alone."): sorted(taken.keys() - fields().keys())}
    groups |= {topic: [field.name for field in members] for topic, members in topics().items()}
    lines = [(sys.modules["__main__"].__doc__ or "").strip()]
    for (title, summary), names in groups.items():
        if shown := [taken[name] for name in names if name in taken]:
            lines += [f"\n{title}: {summary}", *map(_flag_help, shown)]
    return "\n".join([*lines, "\nTry --helpfull to get a list of all flags."])


def _flag_help(flag: flags.Flag) -> str:
    default = f"default: {flag.default_as_str}" if flag.default_as_str else ""
    details = ", ".join(filter(None, [flag.parser.syntactic_help, default]))
    text = f"--{'[no]' * flag.boolean}{flag.name}: {flag.help.replace('|', ' | ')}{f' ({details})' * bool(details)}"
    width = flags.get_help_width()
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
