"""What a day costs: the expectation of calibration, corrected by the truth, with its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.money import (
    UNKNOWN_RATIO,
    Priced,
    can_be_counted,
    daily,
    ratio_audited,
    ratio_missed,
)
from fraud_platform.money import APPROVE, DECLINE, REVIEW, MoneyPolicy, cost_minor
from fraud_platform.stats.cbpe import Estimate
from tests.unit.heal_evidence import evidence

AS_EXPECTED = Estimate(1.0, 1.0, 1.0)
PRICES = MoneyPolicy(reviews_catch=0.9, false_decline_share=0.1)


def payments(seed: int, rows: int = 4_000, per_day: float = 50_000.0) -> Priced:
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.2, 8.0, rows)
    outcome = np.select([chance > 0.3, chance > 0.15], [DECLINE, REVIEW], APPROVE)
    return Priced(
        probability=chance,
        amount_minor=np.exp(rng.normal(8.0, 1.0, rows)),
        outcome=outcome.astype(np.int8),
        card=rng.integers(0, rows, rows),
        per_day=per_day,
        expected_disturbed=0.02,
    )


def test_where_calibration_holds_the_interval_holds_what_days_really_cost() -> None:
    rng, held = np.random.default_rng(7), 0
    truth = np.random.default_rng(8)
    whole = payments(0, 400_000)
    is_fraud = truth.random(400_000) < whole.probability
    costs = cost_minor(is_fraud, whole.amount_minor.astype(np.int64), whole.outcome, PRICES)
    for _ in range(200):
        told = payments(int(rng.integers(1, 2**31)))
        cost = daily(told, AS_EXPECTED, AS_EXPECTED, PRICES).cost
        held += cost.low <= told.per_day * costs.mean() <= cost.high
    assert held >= 170, "nine in ten, as it says"


@given(st.integers(0, 50), st.floats(0.1, 5.0), st.floats(0.1, 5.0))
def test_more_missed_fraud_costs_more_and_so_do_more_innocents(seed, ratio, more) -> None:
    told, larger = payments(seed, 300), Estimate(ratio + more, ratio, ratio + 2 * more)
    cheap = daily(told, Estimate(ratio, ratio, ratio), AS_EXPECTED, PRICES)
    dear = daily(told, larger, AS_EXPECTED, PRICES)
    assert 0.0 <= dear.cost.low <= dear.cost.value <= dear.cost.high
    assert dear.cost.value >= cheap.cost.value
    assert dear.gain >= cheap.gain >= 0.0


def test_a_model_that_is_right_leaves_nothing_to_gain() -> None:
    told = payments(1)
    quiet = Priced(**{**vars(told), "expected_disturbed": 1.0})
    assert daily(quiet, AS_EXPECTED, AS_EXPECTED, PRICES).gain == 0.0
    assert daily(told, Estimate(3.0, 2.0, 4.0), AS_EXPECTED, PRICES).gain > 0.0


def test_without_audits_the_interval_is_that_of_all_and_of_no_fraud_among_the_disturbed() -> None:
    told = payments(1)
    known = daily(told, AS_EXPECTED, Estimate(1.0, 0.9, 1.1), PRICES)
    unknown = daily(told, AS_EXPECTED, UNKNOWN_RATIO, PRICES)
    assert unknown.cost.value == known.cost.value
    assert unknown.cost.low < known.cost.low < known.cost.high < unknown.cost.high


def test_what_nobody_measured_is_no_ratio() -> None:
    blind = Reading(signal=Signal.MISSED_FRAUD, standing=Standing.BLIND)
    assert ratio_missed(blind) is None
    none_yet = {"reported": 0.0, "expected": 3.0}
    fine = Reading(signal=Signal.MISSED_FRAUD, standing=Standing.FINE, details=none_yet)
    found = ratio_missed(fine)
    assert found is not None
    assert (found.value, found.low, round(found.high, 2)) == (0.0, 0.0, 1.0)
    audits = Reading(signal=Signal.AUDITED_PRECISION, standing=Standing.BLIND)
    assert ratio_audited(audits) is UNKNOWN_RATIO


@pytest.mark.parametrize(
    ("breached", "expected"),
    [(Signal.UNITS, False), (Signal.NULLS, False), (Signal.DISTURBED_RATE, True)],
)
def test_broken_inputs_are_no_basis_to_count_money_on(breached: Signal, expected: bool) -> None:
    assert can_be_counted(evidence(breached)) is expected
