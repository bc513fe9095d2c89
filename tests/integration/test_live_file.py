import pytest

from fraud_platform.adapters.live_file import Live, live_path, read_live, write_live
from fraud_platform.errors import PermanentError
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.rollout import ArmCount, Comparison

READING = Reading(
    signal=Signal.ERRORS, standing=Standing.FINE, value=0.0, rows=5, details={"evidence": 1.5}
)
LIVE = Live(
    written_us=7,
    model_version="3",
    readings=(READING,),
    governor={"budget": 0.049},
    comparison=Comparison(key="k", candidate="4", traffic=0.5, canary=ArmCount(9, 1)),
)


def test_without_a_file_nothing_is_known(tmp_path):
    assert read_live(live_path(tmp_path)) is None


def test_what_is_told_comes_back(tmp_path):
    for written_us in (1, 7):
        write_live(live_path(tmp_path), Live(written_us=written_us))
    write_live(live_path(tmp_path), LIVE)
    assert read_live(live_path(tmp_path)) == LIVE
    assert [file.name for file in (tmp_path / "heal").iterdir()] == ["live.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"written_us": "now"}', b"\xff"])
def test_what_is_no_state_of_a_scorer_is_an_error(tmp_path, content):
    live_path(tmp_path).parent.mkdir()
    live_path(tmp_path).write_bytes(content)
    with pytest.raises(PermanentError, match="no state of a scorer"):
        read_live(live_path(tmp_path))


def test_fields_of_a_later_release_are_skipped(tmp_path):
    live_path(tmp_path).parent.mkdir()
    live_path(tmp_path).write_bytes(b'{"written_us": 3, "mood": "fine"}')
    assert read_live(live_path(tmp_path)) == Live(written_us=3)
