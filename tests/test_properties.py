"""Properties of any input: flags and folding."""

from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from fsp_tf import config as config_lib
from fsp_tf.config import EXPORT_FORMATS, Config
from fsp_tf.runs.records import read_flagfile
from fsp_tf.system.errors import UserError
from tests.support.command_line import parse

SEEDS = st.integers(0, 2**31 - 1)


# --- Flags.


PRINTABLE = st.characters(
    codec="utf-8", exclude_categories=("C", "Z"), include_characters=" ", exclude_characters='",/'
)
NAMES = st.text(PRINTABLE, min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text == text.strip() and text not in (".", "..")
)
POSITIVE = st.floats(1e-12, 1e12)


@st.composite
def schedules(draw) -> tuple[tuple[float, ...], tuple[int, ...]]:
    steps = draw(st.sets(st.integers(1, 10**6), min_size=1, max_size=5))
    return tuple(draw(st.lists(POSITIVE, min_size=len(steps), max_size=len(steps)))), tuple(sorted(steps))


@st.composite
def configs(draw) -> Config:
    """Draws valid configurations with a value for every kind of field."""
    values = {
        "experiment": draw(NAMES),
        "run_dir": draw(st.none() | NAMES),
        "dataset": draw(NAMES),
        "resume": draw(st.booleans()),
        "flip": draw(st.booleans()),
        "baseline": draw(st.booleans()),
        "stage1_clipnorm": draw(st.none() | st.just(0.0) | POSITIVE),
        "teacher_depth": 6 * draw(st.integers(1, 20)) + 2,
        "seed": draw(SEEDS),
        "image_size": draw(st.none() | st.integers(8, 4096)),
        "fsp_weight": draw(st.none() | POSITIVE),
        "fsp_weighting": draw(st.sampled_from(["relative", "equal"])),
        "momentum": draw(st.floats(0, 1, exclude_max=True)),
        "schedule_scale": draw(st.floats(0, 1, exclude_min=True)),
        "kd_weights": tuple(draw(st.lists(POSITIVE, min_size=2, max_size=2))),
        "export_formats": tuple(draw(st.lists(st.sampled_from(EXPORT_FORMATS), max_size=4))),
        "fsp_pairs": draw(st.sampled_from([("auto",), ("first_block",), ("a:b", "c:d=e:f")])),
    }
    values["num_virtual_devices"] = draw(st.integers(1, 8))
    values["batch_size"] = values["num_virtual_devices"] * draw(st.integers(1, 100))
    for stage in ("teacher", "stage1", "fitnet", "stage2"):
        values[f"{stage}_learning_rates"], values[f"{stage}_steps"] = draw(schedules())
    if draw(st.booleans()):
        values |= {"pipeline": "ensemble", "members": tuple(draw(st.lists(NAMES, min_size=2, max_size=4)))}
    return Config(**values)


@given(configs())
@settings(max_examples=60)
def test_config_written_as_flags_is_read_back_unchanged(tmp_path_factory, config):
    written = config_lib.to_flags(config)
    lines = [f"--{name}={value}" for name, value in written.items()]
    assert parse(*lines) == config
    path = tmp_path_factory.getbasetemp() / "flags.cfg"
    path.write_text("\n".join(["# a comment", *lines, ""]))
    assert read_flagfile(path) == written
    assert parse(f"--flagfile={path}") == config


@given(st.sampled_from(sorted(config_lib.fields())), st.text() | st.from_regex(r"[-0-9eE.,+nafi]*", fullmatch=True))
@settings(max_examples=400)
def test_any_flag_text_gives_a_config_or_a_user_error(name, text):
    try:
        config = parse(f"--{name}={text}")
    except (UserError, flags.Error) as error:
        assert str(error)
    else:
        assert all("\n" not in value for value in config_lib.to_flags(config).values())
