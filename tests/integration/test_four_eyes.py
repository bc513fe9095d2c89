"""T-4EYE: every way round four eyes is refused, and the audit log has that it was tried."""

import json
import shutil

import pytest

from fraud_platform.adapters import model_proposals
from fraud_platform.adapters.approved_moves import (
    approved,
    carry_out,
    finish,
    is_interrupted,
    take_cards,
    uncleared,
    unconfirmed,
    undo,
)
from fraud_platform.adapters.hash_chain import Chain
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import DOCKET, Line
from fraud_platform.approvals import HOUR_US, Standing, Vote
from fraud_platform.errors import NotReadyError, PermanentError, UnavailableError
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.rollout import RolloutPolicy
from tests.governed_home import (
    FileRoles,
    outcomes,
    refusals,
    serving,
    settings_of,
    with_champion,
)
from tests.small_bundles import trained, write_small_bundle

RULES = {
    "aliases": ("a.smith=anna", "robot=ci-bot", "b.jones=bert"),
    "service_accounts": ("ci-bot",),
    "widening_approvals": 2,
}


@pytest.fixture
def home(tmp_path):
    """Version 1 decides; anna proposed version 2, which tess trained; two people must approve."""
    with_champion(tmp_path)
    settings = settings_of(tmp_path, **RULES)
    roles = FileRoles(settings)
    roles.propose("2", Mandate(by="anna", why="better", trainer="tess"))
    return settings


def say(settings, subject, name="2", answer="approve"):
    return FileRoles(settings).docket.vote(name, answer, Mandate(by=subject, why="seen"))


def later(monkeypatch, hours):
    real = model_proposals._now_us
    monkeypatch.setattr(model_proposals, "_now_us", lambda: real() + round(hours * HOUR_US))


def voting(subject):
    return lambda settings, monkeypatch: say(settings, subject)


def twice(first, second):
    def way(settings, monkeypatch):
        say(settings, first)
        say(settings, second)

    return way


def too_late(settings, monkeypatch):
    say(settings, "bert")
    later(monkeypatch, 73)
    say(settings, "carl")


def after_another_champion(settings, monkeypatch):
    roles = FileRoles(settings)
    roles.propose("3", Mandate(by="anna"))
    digest = roles.docket.find("2").proposal.digest
    for voter in ("bert", "carl"):
        say(settings, voter, "3")
    roles.promote("3", Mandate(by="bert"))
    say(settings, "bert", digest)


def after_a_rejection(settings, monkeypatch):
    say(settings, "bert", answer="reject")
    say(settings, "carl")


def other_digest(settings, monkeypatch):
    say(settings, "bert", "f" * 64)


def a_digest_too_short(settings, monkeypatch):
    say(settings, "bert", FileRoles(settings).docket.find("2").proposal.digest[:3])


def promoting(settings, monkeypatch):
    FileRoles(settings).promote("2", Mandate(by="bert"))


def promoting_by_one_vote(settings, monkeypatch):
    say(settings, "bert")
    promoting(settings, monkeypatch)


def an_approval_used_twice(settings, monkeypatch):
    for voter in ("bert", "carl"):
        say(settings, voter)
    roles = FileRoles(settings)
    roles.promote("2", Mandate(by="bert"))
    roles.roll_back("2", Mandate(by="carl"))
    roles.promote("2", Mandate(by="anna"))


def giving_cards(settings, monkeypatch):
    roles = FileRoles(settings)
    roles.set_challenger("2", Mandate(by="anna"))
    roles.set_canary(0.5, Mandate(by="anna"))


def healing_promotes(settings, monkeypatch):
    FileRoles(settings).promote("3", Mandate(by="healing"))


def switched_off(settings, monkeypatch):
    loose = settings_of(settings.home, PromotionPolicy(), **RULES)
    FileRoles(loose).promote("2", Mandate(by="anna"))


def fewer_are_asked_for(settings, monkeypatch):
    say(settings, "bert")
    loose = settings_of(settings.home, **{**RULES, "widening_approvals": 1})
    FileRoles(loose).promote("2", Mandate(by="anna"))


def the_alias_is_forgotten(settings, monkeypatch):
    loose = settings_of(settings.home, **{**RULES, "aliases": ()})
    say(loose, "a.smith")


def own_loose_rules(settings, monkeypatch):
    loose = settings_of(settings.home, PromotionPolicy(), **RULES)
    case = FileRoles(loose).docket.propose_rules(Mandate(by="anna", why="faster"))
    say(loose, "A.Smith", case.proposal.digest)


def a_bundle_put_in_its_place(settings, monkeypatch):
    for voter in ("bert", "carl"):
        say(settings, voter)
    shutil.rmtree(settings.models_dir / "2")
    write_small_bundle(settings.models_dir, "2", trained(7))
    FileRoles(settings).promote("2", Mandate(by="anna"))


def a_colleague_proposes_it_again(settings, monkeypatch):
    later(monkeypatch, 100)
    FileRoles(settings).propose("2", Mandate(by="bert", why="for anna"))
    say(settings, "anna")


def a_vote_written_past_the_door(settings, monkeypatch):
    say(settings, "bert")
    digest = FileRoles(settings).docket.find("2").proposal.digest
    now_us = model_proposals._now_us()
    vote = Vote(proposal=digest, answer="approve", subject="Anna", at_us=now_us)
    Chain(settings.models_dir / DOCKET, Line).append([Line(said=vote)])
    promoting(settings, monkeypatch)


def glass_without_a_reason(settings, monkeypatch):
    FileRoles(settings).break_glass("2", Mandate(by="root"))


def glass_confirmed_by_its_breaker(settings, monkeypatch):
    digest = FileRoles(settings).break_glass("3", Mandate(by="zoe", why="the champion is broken"))
    say(settings, "Zoe", digest)


def glass_confirmed_too_late(settings, monkeypatch):
    digest = FileRoles(settings).break_glass("3", Mandate(by="zoe", why="the champion is broken"))
    later(monkeypatch, 25)
    say(settings, "bert", digest)


WAYS = {
    "the proposer": voting("anna"),
    "the proposer in capitals": voting("ANNA"),
    "the proposer with spaces": voting(" anna  "),
    "the proposer by another name": voting("A.Smith"),
    "the trainer": voting("tess"),
    "a service": voting("ci-bot"),
    "a service by another name": voting("robot"),
    "a run": voting("dagster run 7f3a"),
    "a part of the platform": voting("healing"),
    "a letter of another alphabet": voting("\u0430nna"),
    "an invisible letter": voting("anna\u200b"),
    "one person twice": twice("bert", "bert"),
    "one person by two names": twice("bert", "B.Jones"),
    "too late": too_late,
    "after another champion": after_another_champion,
    "after a rejection": after_a_rejection,
    "another digest": other_digest,
    "a digest too short": a_digest_too_short,
    "promoting at once": promoting,
    "promoting by one of two votes": promoting_by_one_vote,
    "an approval used twice": an_approval_used_twice,
    "giving it cards": giving_cards,
    "healing promotes": healing_promotes,
    "approval switched off": switched_off,
    "fewer are asked for": fewer_are_asked_for,
    "the alias is forgotten": the_alias_is_forgotten,
    "approving one's own loose rules": own_loose_rules,
    "a bundle put in its place": a_bundle_put_in_its_place,
    "a colleague proposes it again": a_colleague_proposes_it_again,
    "a vote written past the door": a_vote_written_past_the_door,
    "breaking the glass without a reason": glass_without_a_reason,
    "confirming one's own broken glass": glass_confirmed_by_its_breaker,
    "confirming too late": glass_confirmed_too_late,
}


@pytest.mark.parametrize("name", WAYS)
def test_every_way_round_four_eyes_is_refused_and_audited(home, monkeypatch, name):
    before = refusals(home)
    with pytest.raises(PermanentError):
        WAYS[name](home, monkeypatch)
    assert refusals(home) == before + 1
    serves = {"after another champion": "3"} | dict.fromkeys(
        ("confirming one's own broken glass", "confirming too late"), "3"
    )
    assert serving(home) == {"champion": serves.get(name, "1")}
    print(json.dumps({"test": "T-4EYE", "way": name, "ways": len(WAYS), "refused": 1}))


def test_two_people_who_neither_proposed_nor_trained_it_promote_it(home):
    assert say(home, "bert").standing(model_proposals._now_us()) is Standing.WAITING
    case = say(home, "carl")
    roles = FileRoles(home)
    assert carry_out(roles, case, home.rollout)
    assert serving(home) == {"champion": "2"}
    last = roles.history()[-1]
    assert (last.act, last.proposal) == ("promote", case.proposal.digest)
    assert last.why == "approved by bert, carl: better"
    assert roles.docket.find("2").standing(model_proposals._now_us()) is Standing.DONE


def begun_canary(home):
    """Two people approved version 2, and it has its first cards."""
    settings = home.model_copy(update={"rollout": RolloutPolicy(is_on=True)})
    for voter in ("bert", "carl"):
        case = say(settings, voter)
    roles = FileRoles(settings)
    assert carry_out(roles, case, settings.rollout)
    assert serving(settings) == {"champion": "1", "challenger": "2"}
    return roles


@pytest.mark.parametrize(
    "end",
    [
        lambda roles: roles.dismiss("2", Mandate(by="canary_ramp")),
        lambda roles: roles.set_canary(0.0, Mandate(by="healing")),
    ],
    ids=["dismissed", "no-cards"],
)
def test_a_canary_that_was_ended_starts_again_only_by_a_new_proposal(home, end):
    roles = begun_canary(home)
    end(roles)
    assert approved(roles) == ()
    with pytest.raises(PermanentError, match="nobody approved"):
        giving_cards(home, None)
    first = roles.docket.find("2").proposal.digest
    assert roles.propose("2", Mandate(by="anna", why="better", trainer="tess")) != first
    assert roles.docket.find("2").standing(model_proposals._now_us()) is Standing.WAITING


def test_an_approved_version_does_not_drive_another_out_of_its_canary(home):
    roles = begun_canary(home)
    roles.propose("3", Mandate(by="anna"))
    for voter in ("bert", "carl"):
        case = say(home, voter, "3")
    with pytest.raises(NotReadyError, match="canary of version 2"):
        carry_out(roles, case, RolloutPolicy(is_on=True))
    assert serving(home) == {"champion": "1", "challenger": "2"}


def test_whoever_turns_a_canary_down_late_takes_its_cards(home, monkeypatch):
    roles = begun_canary(home)
    assert uncleared(roles) is None
    later(monkeypatch, 100)
    case = say(home, "dora", answer="reject")
    assert case.standing(model_proposals._now_us()) is Standing.REJECTED
    assert uncleared(roles) == "2"
    take_cards(roles)
    assert serving(home) == {"champion": "1"}
    assert (uncleared(roles), approved(roles)) == (None, ())


def test_other_rules_take_the_cards_of_a_canary_that_was_approved_under_those_before(home):
    begun_canary(home)
    stricter = settings_of(home.home, **{**RULES, "widening_approvals": 3})
    roles = FileRoles(stricter)
    assert uncleared(roles) == "2"
    take_cards(roles)
    assert serving(stricter) == {"champion": "1"}


def test_a_move_that_died_on_its_way_to_the_scorers_is_found_and_finished(home, monkeypatch):
    roles = FileRoles(home)
    for voter in ("bert", "carl"):
        say(home, voter)
    with monkeypatch.context() as patch:
        patch.setattr(roles, "_apply", broken)
        with pytest.raises(UnavailableError):
            roles.promote("2", Mandate(by="bert"))
    assert serving(home) == {"champion": "1"}
    assert is_interrupted(roles)
    finish(roles)
    assert serving(home) == {"champion": "2"}
    assert not is_interrupted(roles)


def broken(*arguments):
    raise UnavailableError("the registry is away")


def test_new_names_need_a_vote_once_rules_are_in_force(home):
    locked_out = settings_of(
        home.home, **{**RULES, "service_accounts": ("ci-bot", "bert", "carl", "dora")}
    )
    assert say(locked_out, "bert").counted[0].subject == "bert"


def test_a_champion_that_was_set_by_hand_is_put_back(home):
    roles = FileRoles(home)
    roles._client.set_registered_model_alias("fraud", "champion", "3")
    roles.publish(Mandate(by="anna"))
    assert serving(home) == {"champion": "1"}
    assert [entry.act for entry in roles.history()][-2:] == ["found", "restore"]
    assert roles._client.get_registered_model("fraud").aliases["champion"] == "1"


def test_broken_glass_decides_until_another_confirms_it_and_is_undone_otherwise(home, monkeypatch):
    roles = FileRoles(home)
    digest = roles.break_glass("3", Mandate(by="zoe", why="the champion is broken"))
    assert serving(home) == {"champion": "3"}
    assert unconfirmed(roles) is None
    with monkeypatch.context() as patch:
        later(patch, 25)
        made = unconfirmed(roles)
        assert made.proposal == digest
        assert undo(roles, made) == "1"
        assert unconfirmed(roles) is None, "once is enough"
    assert serving(home) == {"champion": "1"}
    again = roles.break_glass("3", Mandate(by="zoe", why="it is broken again"))
    for voter in ("bert", "carl"):
        say(home, voter, again)
    later(monkeypatch, 25)
    assert unconfirmed(roles) is None
    assert serving(home) == {"champion": "3"}


def test_what_breaks_the_glass_twice_goes_back_to_what_was_approved(home, monkeypatch):
    roles = FileRoles(home)
    roles.break_glass("3", Mandate(by="zoe", why="one"))
    roles.break_glass("2", Mandate(by="zoe", why="two"))
    later(monkeypatch, 25)
    undo(roles, unconfirmed(roles))
    assert serving(home) == {"champion": "1"}


def test_what_was_turned_down_in_a_hurry_and_approved_since_is_not_undone(home):
    roles = FileRoles(home)
    say(home, "bert", roles.break_glass("3", Mandate(by="zoe", why="a fire")), "reject")
    undo(roles, unconfirmed(roles))
    asked = roles.propose("3", Mandate(by="anna", why="it is better"))
    for voter in ("carl", "dora"):
        say(home, voter, asked)
    roles.promote("3")
    assert unconfirmed(roles) is None


def test_looser_rules_come_into_force_once_another_approved_them(home):
    loose = settings_of(home.home, PromotionPolicy(), **RULES)
    docket = FileRoles(loose).docket
    case = docket.propose_rules(Mandate(by="anna", why="a test home"))
    assert docket.rules().is_required
    say(loose, "bert", case.proposal.digest)
    assert not FileRoles(loose).docket.rules().is_required
    FileRoles(loose).promote("2", Mandate(by="anna"))
    assert serving(loose) == {"champion": "2"}
    assert "done" in outcomes(loose, "proposal.adopt_rules")


def test_rules_that_were_loosened_once_and_made_stricter_again_need_new_votes(home):
    def docket(is_required):
        promotion = PromotionPolicy(approval_required=is_required)
        return FileRoles(settings_of(home.home, promotion, **RULES)).docket

    asked = docket(False).propose_rules(Mandate(by="anna", why="a test")).proposal.digest
    docket(False).vote(asked, "approve", Mandate(by="bert", why="for today"))
    assert not docket(False).adopt().is_required
    assert docket(True).adopt().is_required
    assert docket(False).adopt().is_required, "an approval is used once"
    again = docket(False).propose_rules(Mandate(by="anna", why="again")).proposal.digest
    docket(False).vote(again, "approve", Mandate(by="carl", why="seen"))
    assert not docket(False).adopt().is_required
