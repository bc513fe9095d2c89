"""What came of the version that a run of healing made."""

import pytest

from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.heal_runs import learnt
from fraud_platform.adapters.model_history import Entry

RUN = "dagster run r1"


def entry(act: str, version: str | None, by: str = RUN, **more: object) -> Entry:
    told = {"why": "", "aliases": {"champion": "1"}, "deployment": Deployment(), **more}
    return Entry(act=act, version=version, by=by, at_us=1, **told)


def canary(version: str, share: float) -> Deployment:
    pointer = Pointer(version=version, path=version, manifest_digest="0" * 64)
    return Deployment(challenger=pointer, canary_share=share)


FIRST = entry("promote", "1", by="ann")
PROPOSED = entry("propose", "2", proposal="p")
STARTED = entry("canary", "2", deployment=canary("2", 0.01))
REIGNS = {"aliases": {"champion": "2"}}

ENDS = {
    "promoted": ([entry("promote", "2", **REIGNS)], True),
    "promoted, then rolled back": (
        [entry("promote", "2", **REIGNS), entry("roll_back", "1", by="ann")],
        True,
    ),
    "proposed and approved": ([PROPOSED, entry("approve", "2", by="ann", **REIGNS)], True),
    "a canary that took over": ([STARTED, entry("promote", "2", by="ramp", **REIGNS)], True),
    "refused by the gates": ([entry("dismiss", "2", why="It is dearer.")], False),
    "proposed and rejected": (
        [PROPOSED, entry("reject", "2", by="ann", proposal="p", why="No.")],
        False,
    ),
    "a canary that did harm": ([STARTED, entry("dismiss", "2", by="ramp", why="Harm.")], False),
}


@pytest.mark.parametrize(("entries", "is_done"), ENDS.values(), ids=ENDS)
def test_a_run_has_healed_only_if_its_version_came_to_decide(
    entries: list[Entry], is_done: bool
) -> None:
    found = learnt("r1", [FIRST, *entries])
    assert found is not None
    assert found.is_done is is_done
    assert is_done or found.why.endswith(entries[-1].why)


def test_a_version_that_may_only_shadow_is_open_until_later_days_tell() -> None:
    assert learnt("r1", [FIRST]) is None


def test_new_cuts_that_the_gates_refuse_have_failed_because_no_later_run_makes_them_again() -> None:
    found = learnt("r1", [FIRST], may_follow=False)
    assert found is not None
    assert (found.is_done, found.after) == (False, "run r1")


@pytest.mark.parametrize("last", [PROPOSED, STARTED], ids=["a person", "a canary"])
def test_while_somebody_else_decides_on_it_nothing_is_said(last: Entry) -> None:
    assert learnt("r1", [FIRST, last]) is None
