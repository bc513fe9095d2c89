"""What decides under orders, and on what it decides."""

from dataclasses import replace

import numpy as np
import pytest

from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.decision import LARGE_AMOUNT, QUARANTINED, SET_ASIDE, DecisionPolicy
from fraud_platform.events import Transaction
from fraud_platform.fallbacks import GROUPS
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.orders import NORMAL, Orders
from fraud_platform.rollout import NO_ARM
from fraud_platform.selective_labels import PASSED, ExplorationPolicy, Explorer, Spent
from serving.obeying import ordered, under, without_orders
from serving.ruling import FALLBACK_ARM, Ruling, resident_of
from tests.small_bundles import trained, write_small_bundle

ROWS = np.abs(np.random.default_rng(3).normal(size=(60, len(FEATURE_NAMES)))) * 3_000
CARDS = [f"card-{number}" for number in range(60)]
AMOUNTS = [1_000] * 60
POLICY = DecisionPolicy(rules_decline_from_minor=50_000)
EXPLORER = Explorer(ExplorationPolicy(audit_rate=0.2, audit_rate_approved=0.01), b"key")


@pytest.fixture
def ruling(tmp_path) -> Ruling:
    """Version 1 decides, 2 has half of the cards; there are three fallbacks."""

    def resident(version, without=(), explorer=None):
        model = trained(1 if without else int(version), without)
        path = write_small_bundle(tmp_path, version, model, without=without)
        return resident_of(load_bundle(path), POLICY, explorer)

    found = Ruling(POLICY, resident("1", explorer=EXPLORER), resident("2"), canary_share=0.5)
    lacking = {"all": tuple(GROUPS), "money": ("money",), "amount_history": ("amount_history",)}
    fallbacks = tuple(resident(f"1-without-{n}", groups) for n, groups in lacking.items())
    return replace(found, fallbacks=fallbacks)


def decided(ruling, rows=ROWS):
    return ruling.verdicts(rows, CARDS, AMOUNTS)


def test_orders_for_nothing_change_no_answer(ruling):
    obeyed = under(ruling, Orders(sequence=7, learning_frozen=True))
    assert decided(obeyed) == decided(ruling)
    assert obeyed.orders.sequence == 7


def test_the_fallback_that_lacks_the_group_decides_for_all_cards_and_the_mode_says_so(ruling):
    obeyed = under(ruling, Orders(quarantined=("money",)))
    found = decided(obeyed)
    assert {(v.arm, v.version) for v in found} == {(FALLBACK_ARM, "1-without-money")}
    assert (obeyed.mode, obeyed.missing) == ("degraded", ("features",))
    assert {obeyed.arm(card) for card in CARDS} == {FALLBACK_ARM}
    assert obeyed.shadow(ROWS) == [], "a challenger rests on the same features"
    broken = ROWS.copy()
    broken[:, [FEATURE_NAMES.index(name) for name in GROUPS["money"]]] *= 100
    assert decided(obeyed, broken) == found


@pytest.mark.parametrize("quarantined", [("context",), ("money", "fraud_labels"), tuple(GROUPS)])
def test_what_no_smaller_fallback_lacks_the_one_without_all_does(ruling, quarantined):
    obeyed = under(ruling, Orders(quarantined=quarantined))
    assert obeyed.version == "1-without-all"


def test_where_no_fallback_lacks_the_groups_a_person_looks_and_nothing_is_approved(ruling):
    few = replace(ruling, fallbacks=ruling.fallbacks[1:])
    obeyed = under(few, Orders(quarantined=("money", "context")))
    found = obeyed.verdicts(ROWS[:2], CARDS[:2], [1, 50_000])
    assert [(str(v.outcome), v.reasons) for v in found] == [
        ("review", (QUARANTINED,)),
        ("decline", (QUARANTINED, LARGE_AMOUNT)),
    ]
    assert {(v.arm, v.score, v.model_digest) for v in found} == {(NO_ARM, None, None)}
    assert (obeyed.mode, obeyed.model) == ("rules_only", None)


def test_before_any_orders_were_read_nothing_is_approved(ruling):
    found = decided(without_orders(ruling))
    assert {(str(v.outcome), v.reasons) for v in found} == {("review", (SET_ASIDE,))}


def test_a_unit_is_divided_out_and_what_remembers_amounts_is_set_aside(ruling):
    wrong = ROWS.copy()
    wrong[:, FEATURE_NAMES.index("transaction_amount")] *= 100.0
    before, obeyed = wrong.copy(), under(ruling, Orders(unit_factors={"transaction_amount": 100.0}))
    honest = under(ruling, Orders(quarantined=("amount_history",)))
    found = decided(obeyed, wrong)
    assert {(v.arm, v.version) for v in found} == {(FALLBACK_ARM, "1-without-amount_history")}
    assert [v.score for v in found] == [v.score for v in decided(honest)]
    broken = wrong.copy()
    broken[:, [FEATURE_NAMES.index(name) for name in GROUPS["amount_history"]]] *= 37.0
    assert decided(obeyed, broken) == found
    assert np.array_equal(wrong, before), "what is recorded stays what was read"


def test_what_lacks_money_lacks_its_history_too(ruling):
    few = replace(ruling, fallbacks=ruling.fallbacks[:2])
    assert under(few, Orders(quarantined=("amount_history",))).version == "1-without-money"


def test_more_audits_never_more_than_all_and_nothing_else_is_drawn(ruling):
    policy = under(ruling, Orders(audit_factor=10.0)).explorer.policy
    assert (policy.audit_rate, policy.audit_rate_approved) == (1.0, pytest.approx(0.1))
    assert policy.audits_per_day == 10 * EXPLORER.policy.audits_per_day
    assert policy.currency == "EUR"


def test_while_anything_is_ordered_of_decisions_nothing_is_let_through_to_learn_from(ruling):
    lets = replace(EXPLORER, policy=replace(EXPLORER.policy, pass_rate=1.0, pass_floor=1.0))
    champion = replace(ruling.champion, explorer=lets)
    payment = Transaction("t1", 0, "c1", "m1", 1_000, "EUR")
    assert champion.explorer.draw("decline", payment, Spent()).explored == PASSED
    for orders in (Orders(max_disturbed=0.1), Orders(audit_factor=2.0), Orders(is_shedding=True)):
        drawn = ordered(champion, orders).explorer.draw("decline", payment, Spent())
        assert (drawn.explored == PASSED, drawn.pass_propensity) == (False, 0.0)
    frozen = ordered(champion, Orders(learning_frozen=True))
    assert frozen == champion, "which scorers ignore"


def test_shedding_ends_the_shadow_and_leaves_the_canary(ruling):
    obeyed = under(ruling, Orders(is_shedding=True))
    assert obeyed.shadow(ROWS) == []
    assert len(ruling.shadow(ROWS)) == len(ROWS)
    assert [v.arm for v in decided(obeyed)] == [v.arm for v in decided(ruling)]


def test_each_order_names_another_rule_and_the_same_order_the_same(ruling):
    told = [NORMAL, Orders(is_shedding=True), Orders(audit_factor=2.0), Orders(max_disturbed=0.1)]
    digests = [ordered(ruling.champion, orders).policy_digest for orders in told]
    assert len(set(digests)) == len(told)
    assert digests[0] == ruling.champion.policy_digest
    again = Orders(sequence=9, is_shedding=True, because={"shed": "act"})
    assert ordered(ruling.champion, again).policy_digest == digests[1]
