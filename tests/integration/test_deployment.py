import msgspec
import pytest

from fraud_platform.adapters.deployment import (
    DEPLOYMENT,
    Deployment,
    Pointer,
    read_deployment,
    write_deployment,
)
from fraud_platform.errors import BundleIntegrityError

ONE = Pointer(version="1", path="1", manifest_digest="a" * 64)
TWO = Pointer(version="2", path="2", manifest_digest="b" * 64)


def test_a_deployment_comes_back_as_it_was_written_and_leaves_no_part_behind(tmp_path):
    models = tmp_path / "models"
    assert read_deployment(models) == Deployment()
    found = Deployment(sequence=3, champion=ONE, challenger=TWO, canary_share=0.25)
    write_deployment(models, found)
    assert read_deployment(models) == found
    assert [path.name for path in models.iterdir()] == [DEPLOYMENT]


def _pointing(path: str) -> bytes:
    pointer = {"version": "1", "path": path, "manifest_digest": "a" * 64}
    return msgspec.json.encode({"champion": pointer})


REFUSED = {
    "nothing": b"",
    "half": b"{",
    "no text": b"\xff",
    "a list": b"[]",
    "a pointer": msgspec.json.encode(ONE),
    "a stranger among the fields": b'{"champions":null}',
    "a path upwards": _pointing("../1"),
    "a path from the root": _pointing("/1"),
    "a share above one": b'{"canary_share":1.5}',
    "a negative share": b'{"canary_share":-0.1}',
    "a share that is no number": b'{"canary_share":"1"}',
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_deployment_is_refused(content, tmp_path):
    (tmp_path / DEPLOYMENT).write_bytes(content)
    with pytest.raises(BundleIntegrityError, match="is no deployment"):
        read_deployment(tmp_path)


def test_a_link_is_no_deployment(tmp_path):
    write_deployment(tmp_path / "elsewhere", Deployment(champion=ONE))
    (tmp_path / DEPLOYMENT).symlink_to(tmp_path / "elsewhere" / DEPLOYMENT)
    with pytest.raises(BundleIntegrityError, match="no regular file"):
        read_deployment(tmp_path)
