"""What the mirror says of itself, read by a scorer that must not stumble over it."""

import pytest

from fraud_platform.adapters.mirror_status import MirrorStatus, read_status, write_status


def test_a_status_comes_back_as_it_was_written(tmp_path):
    status = MirrorStatus("running", at=1.5, pid=7, contact_at=2.5, behind_rows=3)
    write_status(tmp_path / "mirror.json", status)
    assert read_status(tmp_path / "mirror.json") == status


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"state": "running"}', b'{"state":"x","at":"soon","pid":1}'],
)
def test_what_is_no_status_is_as_good_as_none(tmp_path, content):
    (tmp_path / "mirror.json").write_bytes(content)
    assert read_status(tmp_path / "mirror.json") is None


def test_what_cannot_be_read_is_as_good_as_none(tmp_path):
    (tmp_path / "mirror.json").mkdir()
    assert read_status(tmp_path / "mirror.json") is None
