"""Tests that system failures get a one-line description and bugs keep their traceback."""

import errno
import os

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.config import command_line
from fsp_tf.system import os_errors


def test_system_errors_are_described_with_the_file():
    for number, words in {errno.ENOSPC: "the disk is full", errno.EROFS: "the disk is read-only"}.items():
        description = os_errors.describe(OSError(number, os.strerror(number), "result.json"))
        assert description.startswith(f"result.json: {words}")
        passed_on = os_errors.describe(tf.errors.UnknownError(None, None, f"events.out; {os.strerror(number)}"))
        assert passed_on.startswith("events.out; ") and words in passed_on
        assert words in os_errors.describe(OSError(f"Can't write data (errno = {number}, '{os.strerror(number)}')"))
    onednn = "Operation received an exception:Status: 1, message: could not create a primitive, in file mkl_conv_ops.cc"
    assert "out of memory" in os_errors.describe(tf.errors.AbortedError(None, None, onednn))
    assert "no such file" in os_errors.describe(FileNotFoundError(2, "No such file or directory", "there"))


def test_memory_errors_are_described():
    with pytest.raises(MemoryError) as raised:
        np.zeros(2**60, np.uint8)
    assert "out of memory" in os_errors.describe(raised.value)
    assert "out of memory" in os_errors.describe(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"))


def test_truncated_and_missing_records_are_described_with_the_file(tmp_path):
    path = tmp_path / "train.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"image" * 100)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(tf.errors.DataLossError) as raised:
        list(tf.data.TFRecordDataset(str(path)))
    assert "corrupt" in os_errors.describe(raised.value) and "\n" not in os_errors.describe(raised.value)
    path.unlink()
    with pytest.raises(tf.errors.NotFoundError) as raised:
        list(tf.data.TFRecordDataset(str(path)))
    assert f"{path}; No such file or directory" in os_errors.describe(raised.value)


@pytest.mark.parametrize("error", [ValueError("shape"), tf.errors.InvalidArgumentError(None, None, "rank")])
def test_bugs_keep_their_traceback(error):
    assert os_errors.describe(error) is None
    with pytest.raises(type(error)), command_line.exit_on_user_error():
        raise error
