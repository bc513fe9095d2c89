"""What came of the version that a run of healing made."""

import msgspec
import pytest

from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.heal_runs import learnt
from fraud_platform.adapters.model_history import Entry
from fraud_platform.approval_rules import Rules, Tier
from fraud_platform.approvals import Case, Proposal, Vote

RUN = "dagster run r1"
RULES = Rules()


def entry(act: str, version: str | None, by: str = RUN, **more: object) -> Entry:
    told = {"why": "", "aliases": {"champion": "1"}, "deployment": Deployment(), **more}
    return Entry(act=act, version=version, by=by, at_us=1, **told)


def canary(version: str, share: float) -> Deployment:
    pointer = Pointer(version=version, path=version, manifest_digest="0" * 64)
    return Deployment(challenger=pointer, canary_share=share)


DECIDES = Deployment(champion=Pointer(version="2", path="2", manifest_digest="0" * 64))
FIRST = entry("promote", "1", by="ann")
APPROVED = entry("promote", "2", by="approvals", aliases={"champion": "2"}, deployment=DECIDES)
STARTED = entry("canary", "2", deployment=canary("2", 0.01))
REIGNS = {"aliases": {"champion": "2"}}

ENDS = {
    "promoted": ([entry("promote", "2", **REIGNS)], True),
    "promoted, then rolled back": (
        [entry("promote", "2", **REIGNS), entry("roll_back", "1", by="ann")],
        True,
    ),
    "a canary that took over": ([STARTED, entry("promote", "2", by="ramp", **REIGNS)], True),
    "refused by the gates": ([entry("dismiss", "2", why="It is dearer.")], False),
    "a canary that did harm": ([STARTED, entry("dismiss", "2", by="ramp", why="Harm.")], False),
}


@pytest.mark.parametrize(("entries", "is_done"), ENDS.values(), ids=ENDS)
def test_a_run_has_healed_only_if_its_version_came_to_decide(
    entries: list[Entry], is_done: bool
) -> None:
    found = learnt("r1", [FIRST, *entries], (), 150)
    assert found is not None
    assert found.is_done is is_done
    assert is_done or found.why.endswith(entries[-1].why)


def test_a_version_that_may_only_shadow_is_open_until_later_days_tell() -> None:
    assert learnt("r1", [FIRST], (), 150) is None


def test_new_cuts_that_the_gates_refuse_have_failed_because_no_later_run_makes_them_again() -> None:
    found = learnt("r1", [FIRST], (), 150, may_follow=False)
    assert found is not None
    assert (found.is_done, found.after) == (False, "run r1")


def test_while_a_canary_decides_nothing_is_said() -> None:
    assert learnt("r1", [FIRST, STARTED], (), 150) is None


def proposed(*votes: Vote, champions: tuple[str, ...] = ()) -> Case:
    asked = Proposal(
        kind="model",
        object="model:2",
        content="c" * 64,
        rules=RULES.digest,
        replacing="1",
        tier=Tier.REFRESH,
        approvals=1,
        proposer=RUN,
        position=1,
        proposed_us=100,
        expires_us=200,
        why="Cheaper.",
    )
    said = [msgspec.structs.replace(vote, proposal=asked.digest) for vote in votes]
    return Case(proposal=asked, votes=tuple(said), rules=RULES, champions=champions)


def test_what_people_are_asked_is_open_until_they_answer_or_their_time_is_over() -> None:
    yes, no = (
        Vote(proposal="", answer=answer, subject="ann", at_us=150, position=1)
        for answer in ("approve", "reject")
    )
    assert learnt("r1", [FIRST], (proposed(),), 150) is None
    assert learnt("r1", [FIRST], (proposed(yes),), 150) is None, "the sensor promotes it"
    done = learnt("r1", [FIRST, APPROVED], (proposed(yes, champions=("2",)),), 150)
    assert done is not None
    assert (done.is_done, done.why) == (True, "Cheaper.")
    for case, now_us, why in ((proposed(no), 150, "rejected"), (proposed(), 201, "expired")):
        found = learnt("r1", [FIRST], (case,), now_us)
        assert found is not None
        assert (found.is_done, found.why.split()[-1]) == (False, why)
