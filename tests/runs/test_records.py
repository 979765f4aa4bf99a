"""Records and flagfiles of a run that were damaged."""

import pytest

from fsp_tf.runs import records
from fsp_tf.system.errors import UserError


@pytest.mark.parametrize(
    ("read", "data"),
    [(records.read_result, b"{"), (records.read_result, b"1"), (records.read_flagfile, b"\xff")],
)
def test_damaged_record_is_refused(tmp_path, read, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=r"is not a valid .*: repair it"):
        read(tmp_path / "file")
