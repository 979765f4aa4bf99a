"""The flags grouped by topic, for `--help` and docs/flags.md."""

import dataclasses
import textwrap

from absl import flags

from fsp_tf.config.choices import TOPICS, fields

COMMON = (  # shown before the topics by --help
    *("dataset", "data_dir", "image_size", "teacher_depth", "student_depth", "teacher", "schedule_scale", "pipeline"),
    *("experiment", "run_dir"),
)
COLUMN = 24  # of the meaning of a flag in --help


def topics() -> dict[tuple[str, str], list[dataclasses.Field]]:
    """Returns the fields of `Config` by the title and the line of their topic."""
    return {
        (topic.__name__, str(topic.__doc__)): [fields()[name] for name in topic.__annotations__] for topic in TOPICS
    }


def help_text(summary: str | None, module: str) -> str:
    """Returns the help of a command: a summary, the flags of its module, and the fields of `Config` that it takes."""
    taken = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module)}
    groups = {("Command", "The flags of this command alone."): sorted(taken.keys() - fields().keys())}
    groups[("Common", "The flags that most runs need.")] = list(COMMON)
    for topic, members in topics().items():
        groups[topic] = [field.name for field in members if field.name not in COMMON]
    lines = [(summary or "").strip()]
    for (title, line), names in groups.items():
        if shown := [taken[name] for name in names if name in taken]:
            lines += [f"\n{title}: {line}", *map(_flag_help, shown)]
    return "\n".join([*lines, "\n--helpfull lists the flags of absl too."])


def _flag_help(flag: flags.Flag) -> str:
    """Returns a flag and, in a second column, its meaning and default."""
    name, indent = f"  --{'[no]' * flag.boolean}{flag.name} ", " " * COLUMN
    default = (flag.default_as_str or "").strip("'")
    text = flag.help.replace("|", " | ") + f" Default: {default}." * bool(default)
    lines = textwrap.wrap(text, flags.get_help_width() - COLUMN, break_on_hyphens=False)
    first = name.ljust(COLUMN) if len(name) <= COLUMN else f"{name.rstrip()}\n{indent}"
    return first + f"\n{indent}".join(lines)
