"""The flags grouped by topic, for `--help` and docs/flags.md."""

import contextlib
import dataclasses
import sys
import textwrap

from absl import app, flags

from fsp_tf.config.choices import fields

TOPICS = {  # by the first field that `Config` has of each
    "dataset": ("Data", "The images to train on and to evaluate on."),
    "architecture": ("Models", "The networks of teacher and student."),
    "method": ("Method", "How the student learns from the teacher."),
    "teacher_learning_rates": ("Schedules", "Learning rates, steps, optimizer, batch size and seed."),
    "precision": ("Machine", "Devices, numerical precision, checkpoints and logs."),
    "experiment": ("Run", "Which phases to run, from which files, into which folder."),
}


@dataclasses.dataclass(frozen=True)
class Topic:
    """A title, a line about it, and its fields of `Config`."""

    title: str
    summary: str
    fields: list[dataclasses.Field]


def topics() -> list[Topic]:
    """Returns the topics, with the fields of each in the order of `Config`."""
    found: dict[str, list[dataclasses.Field]] = {first: [] for first in TOPICS}
    current = next(iter(fields()))
    for name, field in fields().items():
        current = name if name in TOPICS else current
        found[current].append(field)
    return [Topic(*TOPICS[first], members) for first, members in found.items()]


class HelpFlag(app.HelpFlag):
    """`--help`, with the flags of the command grouped by topic."""

    def __init__(self):
        super().__init__()
        self.allow_override = True  # in place of absl's own

    def parse(self, arg):
        if self._parse(arg):
            with contextlib.suppress(BrokenPipeError):  # `--help | head`
                print(help_text(), flush=True)
            sys.exit(1)  # as absl does


def define_help() -> None:
    """Replaces absl's `--help`."""
    app.define_help_flags()
    flags.DEFINE_flag(HelpFlag())


def help_text() -> str:
    """Returns the main module's docstring, its own flags, and those of `Config` that it takes by topic."""
    taken = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    groups = [("Command", "The flags of this command alone.", sorted(taken.keys() - fields().keys()))]
    groups += [(topic.title, topic.summary, [field.name for field in topic.fields]) for topic in topics()]
    lines = [(sys.modules["__main__"].__doc__ or "").strip()]
    for title, summary, names in groups:
        if shown := [taken[name] for name in names if name in taken]:
            lines += [f"\n{title}: {summary}", *map(_flag_help, shown)]
    return "\n".join([*lines, "\nTry --helpfull to get a list of all flags."])


def _flag_help(flag: flags.Flag) -> str:
    default = f"default: {flag.default_as_str}" if flag.default_as_str else ""
    details = ", ".join(filter(None, [flag.parser.syntactic_help, default]))
    text = f"--{'[no]' * flag.boolean}{flag.name}: {flag.help.replace('|', ' | ')}{f' ({details})' * bool(details)}"
    return textwrap.fill(
        text,
        flags.get_help_width(),
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
