"""The rules of four eyes, without a clock or a disk."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.approval_rules import ApprovalPolicy, Rules, Tier
from fraud_platform.approvals import Adopted, Case, Proposal, Standing, Vote, cases, rules_of
from fraud_platform.settings import Settings

POLICY = ApprovalPolicy(aliases=("a.smith=anna", "ann=a.smith"), widening_approvals=2)
RULES = Rules(is_required=True, policy=POLICY)
NAMES = st.sampled_from(["anna", "ANN", "a.smith", "bert", " Bert", "carl", "healing", "run:1", ""])

ASKED = Proposal(
    kind="model",
    object="model:2",
    content="c" * 64,
    rules=RULES.digest,
    evidence="e" * 64,
    replacing="1",
    tier=Tier.WIDENING,
    approvals=2,
    proposer="anna",
    trainer="tess",
    position=1,
    proposed_us=100,
    expires_us=200,
    why="better",
)


def vote(subject, answer="approve", at_us=150, position=1):
    return Vote(
        proposal=ASKED.digest, answer=answer, subject=subject, at_us=at_us, position=position
    )


def case(*votes, rules=RULES, champions=(), asked=ASKED, canaries=()):
    """The history has one act before the proposal; `canaries` begin with the time of asking."""
    (found,) = cases([asked, *votes], rules, [None, *champions], [None, *canaries]).values()
    return found


@pytest.mark.parametrize("name", list(ASKED.__struct_fields__))
def test_a_proposal_that_says_anything_else_has_another_digest(name):
    value = getattr(ASKED, name)
    told = {"tier": Tier.REFRESH, "fallbacks": {"money": "d" * 64}}
    other = value + 1 if isinstance(value, int) else told.get(name, "other")
    assert msgspec.structs.replace(ASKED, **{name: other}).digest != ASKED.digest


def test_a_proposal_of_before_there_were_approved_fallbacks_keeps_its_name():
    assert ASKED.digest == "83c8752239ed1e036f6e6f1de473c61f6015de68e90dd5b428b125813a33542e"


@given(st.lists(st.tuples(NAMES, st.sampled_from(["approve", "reject"])), max_size=8))
def test_only_two_other_people_approve_and_each_counts_once(said):
    found = case(*(vote(name, answer) for name, answer in said))
    yes = [one for one in found.counted if one.answer == "approve"]
    people = [POLICY.person(one.subject) for one in yes]
    assert len(people) == len(set(people))
    if found.standing(180) is Standing.APPROVED:
        assert set(people) == {"bert", "carl"}
    rejected = any(one.answer == "reject" for one in found.counted)
    assert (found.standing(180) is Standing.REJECTED) == rejected


@pytest.mark.parametrize(
    ("champions", "standing"),
    [
        ((), Standing.APPROVED),
        (("1", "1"), Standing.APPROVED),
        (("1", "2"), Standing.DONE),
        (("3", "1"), Standing.OVERTAKEN),
        (("2", "1"), Standing.DONE),
    ],
)
def test_another_champion_ends_a_proposal_for_good(champions, standing):
    assert case(vote("bert"), vote("carl"), champions=champions).standing(180) is standing


@pytest.mark.parametrize(
    ("canaries", "champions", "standing"),
    [
        ((None, "2", "2"), ("1", "1"), Standing.APPROVED),
        ((None, "2", None), ("1", "1"), Standing.STOPPED),
        ((None, "2", "3", "2"), ("1", "1", "1"), Standing.STOPPED),
        (("2", None), ("1",), Standing.STOPPED),
        ((None, "3", None), ("1", "1"), Standing.APPROVED),
        ((None, "2", None), ("1", "2"), Standing.DONE),
    ],
)
def test_an_approval_is_used_once_the_end_of_its_canary_ends_it(canaries, champions, standing):
    found = case(vote("bert"), vote("carl"), champions=champions, canaries=canaries)
    assert found.standing(10_000) is standing
    assert found.has_cards == (standing is Standing.APPROVED and canaries[-1] == "2")


def test_people_turn_down_what_is_approved_until_it_is_champion_whoever_and_however_late():
    yes = (vote("bert"), vote("carl"))
    for name in ("bert", "dora", "anna"):
        found = case(*yes, vote(name, "reject", at_us=900, position=2), champions=("1", "1"))
        assert found.standing(1_000) is Standing.REJECTED, name
    for name in ("healing", "run:1"):
        assert case(*yes, vote(name, "reject")).standing(180) is Standing.APPROVED
    late = vote("dora", "reject", at_us=900, position=3)
    assert case(*yes, late, champions=("1", "2", "2")).standing(1_000) is Standing.DONE


def test_an_emergency_needs_as_many_to_confirm_it_as_any_model_would():
    assert POLICY.approvals(Tier.EMERGENCY) == 2
    assert ApprovalPolicy(refresh_approvals=3).approvals(Tier.EMERGENCY) == 3


def test_other_names_are_looser_rules_whether_more_or_fewer():
    for name in ("aliases", "service_accounts"):
        more = replace(RULES, policy=replace(POLICY, **{name: (*getattr(POLICY, name), "b=x")}))
        assert not more.no_looser_than(RULES), name
        assert not RULES.no_looser_than(more), name


def test_time_ends_what_waits_and_not_what_was_approved_in_time():
    assert case(vote("bert")).standing(200) is Standing.WAITING
    assert case(vote("bert")).standing(201) is Standing.EXPIRED
    assert case(vote("bert"), vote("carl", at_us=201)).standing(202) is Standing.EXPIRED
    assert case(vote("bert"), vote("carl", at_us=99)).standing(150) is Standing.WAITING
    assert case(vote("bert"), vote("carl")).standing(10_000) is Standing.APPROVED


def test_rules_that_ask_for_more_hold_for_proposals_from_before_and_other_rules_end_them():
    forged = msgspec.structs.replace(ASKED, approvals=0)
    assert case(asked=forged).standing(150) is Standing.WAITING, "no fewer than the rules say"
    other = replace(RULES, policy=replace(POLICY, widening_approvals=3))
    assert case(vote("bert"), vote("carl"), rules=other).standing(150) is Standing.OVERTAKEN


@given(st.booleans(), st.integers(1, 3), st.floats(1, 100), st.booleans())
def test_whoever_asks_for_less_is_looser(is_required, people, hours, has_aliases):
    policy = ApprovalPolicy(
        refresh_approvals=people,
        expires_hours=hours,
        aliases=("b=bert",) if has_aliases else (),
    )
    rules = Rules(is_required=is_required, policy=policy)
    assert rules.no_looser_than(rules)
    assert Rules(is_required=True, policy=replace(policy, refresh_approvals=4)).no_looser_than(
        rules
    )
    for looser in (
        replace(rules, policy=replace(policy, expires_hours=hours * 2)),
        replace(rules, policy=replace(policy, refresh_approvals=people - 1 or 1)),
        replace(rules, policy=replace(policy, aliases=())),
        replace(rules, is_required=False),
    ):
        assert looser == rules or not looser.no_looser_than(rules)
        assert looser == rules or looser.digest != rules.digest


@pytest.mark.parametrize("pairs", [("a=b", "b=a"), ("a=b", "b=c", "c=a")])
def test_names_that_lead_in_a_circle_are_one_person(pairs):
    policy = ApprovalPolicy(aliases=pairs)
    assert {policy.person(name) for name in "ab"} == {"a"}


@pytest.mark.parametrize(
    "told",
    [
        {"expires_hours": 0.99},
        {"break_glass_hours": 0.001},
        {"refresh_approvals": 0},
        {"policy_approvals": 6},
        {"aliases": ("x",)},
        {"aliases": ("a=b", "A=c")},
    ],
)
def test_a_policy_that_is_none_is_refused(told):
    with pytest.raises(ValueError, match="found"):
        Settings(approvals=told)


def test_rules_that_were_in_force_are_read_whatever_the_bounds_are_by_now():
    old = Rules(is_required=True, policy=ApprovalPolicy(policy_approvals=9, expires_hours=0.5))
    told = msgspec.json.encode(Adopted(rules=old, at_us=1))
    assert msgspec.json.decode(told, type=Adopted).rules == old


def test_broken_glass_is_for_good_once_another_confirmed_it():
    glass = msgspec.structs.replace(ASKED, kind="break_glass", tier=Tier.EMERGENCY, approvals=1)
    yes = msgspec.structs.replace(vote("bert", position=2), proposal=glass.digest)
    own, second, no = (
        msgspec.structs.replace(yes, **told)
        for told in ({"subject": "Anna"}, {"subject": "carl"}, {"answer": "reject"})
    )
    waits = case(own, asked=glass, champions=("2",))
    assert (waits.is_for_good, waits.standing(150)) == (False, Standing.WAITING)
    assert waits.standing(201) is Standing.EXPIRED
    assert not case(yes, asked=glass, champions=("2",)).is_for_good, "two people as for any model"
    confirmed = case(yes, second, no, asked=glass, champions=("2",))
    assert (confirmed.is_for_good, confirmed.standing(900)) == (True, Standing.APPROVED)
    assert case(asked=glass, champions=("2", "3")).standing(150) is Standing.OVERTAKEN


def test_the_rules_in_force_are_those_adopted_last():
    assert rules_of([ASKED]) is None
    adopted = [Adopted(rules=rules, at_us=1) for rules in (Rules(), RULES)]
    assert rules_of(adopted) == RULES
    assert isinstance(case(), Case)
