"""The precision that `auto` selects, and the recorded device and versions."""

import pytest
import tensorflow as tf

from fsp_tf import __version__
from fsp_tf.runs import environment
from fsp_tf.system.version import version


def test_named_precision_is_used():
    for name in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert environment.resolve_precision(name) == name


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", "fpu avx2 fma", "float32"),
        ("AuthenticAMD", "avx512f avx512_bf16", "mixed_bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "mixed_bfloat16"),
    ],
)
def test_auto_selects_bfloat16_on_processors_where_it_is_faster(monkeypatch, vendor, flags, expected):
    monkeypatch.setattr(environment, "processor", {"flags": flags, "vendor_id": vendor}.get)
    assert environment.resolve_precision("auto") == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "float32"), ((7, 5), "mixed_float16"), ((8, 0), "mixed_bfloat16"), ((9, 0), "mixed_bfloat16")],
)
def test_auto_selects_the_type_of_a_gpus_tensor_cores(monkeypatch, capability, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"compute_capability": capability})
    assert environment.resolve_precision("auto") == expected


def test_device_and_versions():
    assert environment.device().endswith((", 1 core", " cores"))
    versions = environment.versions()
    assert {"tensorflow", "keras", "numpy", "python"} <= set(versions)
    assert versions["fsp_tf"] == version() and versions["fsp_tf"].startswith(__version__)
