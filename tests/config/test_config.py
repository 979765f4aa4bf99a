"""Flags and `Config`: defaults, flagfiles, schedules, and messages for invalid values."""

import dataclasses
import math
import pathlib

import pytest

from fsp_tf import config as config_lib
from fsp_tf.config import METHODS, Config, parse_pairs
from fsp_tf.config.fsp_pairs import OF_RESNETS
from fsp_tf.config.phases import PHASES, phases_of
from fsp_tf.distillation import DEFAULT_WEIGHTS, NAMED_PAIRS
from fsp_tf.distillation.soft_targets import FORMS
from fsp_tf.models import SHORTCUTS
from fsp_tf.system.errors import UserError
from tests.support.command_line import parse

FLAGFILES = sorted(pathlib.Path("flags").glob("*.cfg"))


def test_flag_defaults_equal_config_defaults():
    assert parse() == Config()


def test_demo_and_cifar10_flagfiles_exist():
    assert {"demo.cfg", "cifar10.cfg"} <= {path.name for path in FLAGFILES}


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.name)
def test_every_flagfile_parses_and_validates(path):
    config = parse(f"--flagfile={path}")
    assert config.experiment == path.stem
    command = f"--table={path.stem[-1]} " if path.stem.startswith("table") else f"--flagfile={path}"
    assert command in path.read_text(), "the header must contain the command"


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1.0, (11000, 16000, 21000)),
        (0.0625, (688, 1000, 1312)),  # 687.5 and 1312.5 round to even
        (0.0001, (1, 2, 3)),  # at least one step per entry
    ],
)
def test_schedule_scale_multiplies_every_step(scale, expected):
    assert Config(schedule_scale=scale).rates_and_steps(PHASES["stage1"]) == ((1e-3, 1e-4, 1e-5), expected)


def test_baseline_has_the_schedule_of_stage_2():
    config = Config(stage2_steps=(1, 2, 9), schedule_scale=0.5)
    assert (
        config.rates_and_steps(PHASES["baseline"])
        == config.rates_and_steps(PHASES["stage2"])
        == ((0.1, 0.01, 0.001), (1, 2, 4))
    )


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"fsp_pairs": ("typo",)}, "--fsp_pairs is section_input, first_block, auto, or names layers .* got 'typo'"),
        (
            {"export_formats": ("onnx", "tflite")},
            "--export_formats must be some of saved_model, litert, litert_int8, onnx, got 'onnx,tflite'",
        ),
        ({"teacher_depth": 9}, "--teacher_depth of a CIFAR ResNet must be 6k\\+2 .* got 9"),
        ({"student_depth": 2}, "--student_depth .* got 2"),
        ({"architecture": "imagenet"}, "--teacher_depth of an ImageNet-size ResNet must be one of 18, 20, 34, got 26"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"schedule_scale": 0.0}, "--schedule_scale must be above 0"),
        ({"stage1_steps": (5, 5, 6)}, "--stage1_steps must be positive and increasing"),
        ({"stage2_learning_rates": (0.1,)}, "must have the same number of entries, got 1 and 3"),
        ({"stage2_steps": 6400}, "must have the same number of entries, got 3 and 1"),
        ({"teacher_learning_rates": (0.1, 0.0, 0.1)}, "--teacher_learning_rates must be above 0"),
        ({"pipeline": "transfer"}, "set --source_dataset=NAME or --teacher=PATH"),
        ({"image_size": 4}, "--image_size must be at least 8 pixels"),
        ({"image_channels": 2}, "--image_channels must be 1, 3 or 4, got 2"),
        ({"momentum": 1.0}, "--momentum"),
        ({"label_smoothing": 1.0}, "--label_smoothing must be at least 0 and below 1, got 1.0"),
        ({"ema": -0.5}, "--ema must be at least 0 and below 1, got -0.5"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov needs --momentum above 0"),
        ({"warmup_steps": 400}, "--warmup_steps needs --schedule=cosine, got --schedule=step"),
        (
            {"warmup_steps": 42000, "schedule": "cosine", "schedule_scale": 0.5},
            "--warmup_steps must be below the 10500 steps of stage1, got 21000 after scaling",
        ),
        ({"holdout": -1}, "--holdout must be at least 0"),
        ({"fsp_weight": float("nan")}, "--fsp_weight must be at least 0, got nan"),
        ({"stage1_learning_rates": (math.inf, 1.0, 1.0)}, "--stage1_learning_rates must be above 0"),
        ({"trained_student": "a.keras"}, "needs --pipeline=stage2, evaluate or export, got --pipeline=distill"),
        (
            {"method": "kd", "pipeline": "stage2", "trained_student": "a.keras"},
            "kd trains a new student, got --trained",
        ),
        ({"source_dataset": "digits"}, "--source_dataset needs --pipeline=transfer"),
        ({"pipeline": "source_teacher"}, "--pipeline=source_teacher needs its data set"),
        ({"method": "kd", "pipeline": "stage1"}, "--method=kd has no stage 1"),
        (
            {"method": "kd", "stage2_loss": "cross_entropy"},
            "--method=kd needs --stage2_loss=kd, got --stage2_loss=cross_entropy",
        ),
        ({"method": "fitnet", "fsp_shuffle": True}, "--fsp_shuffle needs --method=fsp, got --method=fitnet"),
        ({"method": "fitnet", "fsp_teacher_statistics": "batch"}, "=batch needs --method=fsp, got --method=fitnet"),
        ({"kd_store_views": 1}, "--kd_store_views needs --stage2_loss=kd, got --stage2_loss=cross_entropy"),
        ({"fsp_store_views": 1, "fsp_teacher_statistics": "batch"}, "=batch cannot be combined with --fsp_store_views"),
        ({"sync_batch_norm": True, "fsp_teacher_statistics": "batch"}, "cannot be combined with --sync_batch_norm"),
        ({"num_hints": 2}, "--num_hints must be 1 or 3, got 2"),
        (
            {"fitnet_steps": (1, 2, 3)},
            "--fitnet_learning_rates and --fitnet_steps must have the same number of entries",
        ),
        ({"kd_temperature": 0.0}, "--kd_temperature must be above 0"),
        ({"kd_weights": (1.0,)}, "--kd_weights must be two numbers"),
        ({"precision": "mixed_float16", "student": "a.keras"}, "does not apply to custom models: set the dtype policy"),
        ({"kd_form": "mix"}, "--kd_weights must be at most 1 with --kd_form=mix, got 4.0,1.0"),
        ({"teacher_weight_decay": -1.0}, "--teacher_weight_decay must be at least 0, got -1.0"),
        ({"pipeline": "ensemble", "members": ("a.keras",)}, "needs at least two models, got 1"),
        (
            {"teacher": "keras.applications:MobileNetV2"},
            r"--teacher=keras\.applications:MobileNetV2 needs --pipeline=transfer, .* got --pipeline=distill",
        ),
        (
            {"teacher": "keras.applications:MobileNetV2", "pipeline": "transfer", "method": "fitnet"},
            "Custom models need --method=fsp or kd, got --method=fitnet",
        ),
        ({"teacher_weights": "none", "teacher": "a.keras"}, "--teacher_weights needs .*, got --teacher=a.keras"),
        ({"members": ("a.keras", "b.keras")}, "--members needs --pipeline=ensemble, got --pipeline=distill"),
    ],
)
def test_invalid_config_raises_user_error(choices, message):
    with pytest.raises(UserError, match=message):
        Config(**choices)


def test_method_decides_loss_of_stage_2_and_schedule_of_stage_1():
    assert [Config(method=method).stage2_loss for method in METHODS] == ["cross_entropy", "kd", "kd"]
    assert Config(stage2_loss="kd").stage2_loss == "kd"
    assert Config(method="fitnet").rates_and_steps(PHASES["stage1"]) == ((1e-4, 1e-5), (25000, 35000))


def test_teacher_of_keras_applications_is_a_transfer_with_automatic_pairs():
    config = Config(teacher="keras.applications:MobileNetV2", pipeline="transfer")
    assert config.application == "MobileNetV2" and config.fsp_pairs == ("auto",) and config.learns_from_source
    names = [phase.name for phase in phases_of(config)]
    assert names == ["fine_tuning", "baseline", "stage1", "stage2"]
    config = dataclasses.replace(config, pipeline="stage1", transfer_teacher="fine_tuned", fsp_pairs=("a:b",))
    assert config.transfers and not config.learns_from_source and config.fsp_pairs == ("a:b",)
    assert Config(teacher="keras.applications.keras").application is None


def test_transfer_phases_share_schedules_with_stage_2_and_teacher():
    config = Config(stage2_steps=(1, 2, 9))
    assert config.rates_and_steps(PHASES["fine_tuning"]) == config.rates_and_steps(PHASES["stage2"])
    assert config.rates_and_steps(PHASES["source_teacher"]) == config.rates_and_steps(PHASES["teacher"])


def test_teacher_has_its_own_flip_and_weight_decay():
    own = Config(flip=True, teacher_flip=False, teacher_weight_decay=0.0)
    shared = Config(flip=True, weight_decay=0.5)
    for name in ("source_teacher", "teacher", "fine_tuning"):
        phase = PHASES[name]
        assert (own.flips(phase), own.decay(phase), shared.flips(phase), shared.decay(phase)) == (False, 0.0, True, 0.5)
    for name in ("baseline", "stage1", "stage2"):
        assert own.flips(PHASES[name]) and own.decay(PHASES[name]) == 1e-4


def test_flag_choices_equal_those_of_the_library():
    expected_choices = {
        "kd_form": FORMS,
        "fsp_weighting": tuple(DEFAULT_WEIGHTS),
        "shortcut": SHORTCUTS,
    }
    for name, expected in expected_choices.items():
        assert config_lib.fields()[name].metadata["choices"] == expected
    assert OF_RESNETS == NAMED_PAIRS


@pytest.mark.parametrize("pairs", [("a",), ("a:",), ("a:b=c",), ("a:b=c:d=e:f",), ("a:b:c",), ("auto", "a:b")])
def test_malformed_pairs_are_refused(pairs):
    with pytest.raises(UserError, match=r"--fsp_pairs is .* or names layers as first:last .* got 'a"):
        Config(fsp_pairs=pairs)


def test_names_of_layers_are_parsed_to_pairs():
    assert parse_pairs(("a:b", "c:d=e:f")) == [("a", "b"), (("c", "d"), ("e", "f"))]
    assert parse_pairs(("a:1:b", "c:d:12=e:1:f:2")) == [("a:1", "b"), (("c", "d:12"), ("e:1", "f:2"))]


def test_own_student_needs_pairs_of_custom_models():
    assert Config(student="mine.keras").fsp_pairs == ("auto",)
    with pytest.raises(UserError, match="need --fsp_pairs=auto or names of layers, got --fsp_pairs=first_block"):
        Config(student="mine.keras", fsp_pairs=("first_block",))


def test_list_flag_with_a_word_raises_user_error():
    with pytest.raises(UserError, match="--stage1_steps must be a list of whole numbers, got soon"):
        parse("--stage1_steps=soon")


def test_experiment_names_outside_their_folder_are_refused():
    for name in ("../x", "/x", "a/../../x", "..", ".", "", "x" * 300, "a\nb"):
        with pytest.raises(UserError, match="--experiment"):
            Config(experiment=name)


def test_every_flag_has_a_help_sentence():
    for field in dataclasses.fields(Config):
        assert field.metadata["help"].endswith("."), field.name
