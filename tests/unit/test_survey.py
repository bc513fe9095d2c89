import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError
from fraud_platform.survey import Costs, estimated_cost, estimated_share

FALSE_DECLINE = 283.0


def survey(seed):
    """4,000 payments, a tenth declined; a new model misses few of their frauds."""
    random = np.random.default_rng(seed)
    declined = random.random(4000) < 0.1
    fraud = random.random(4000) < np.where(declined, 0.4, 0.01)
    caught = random.random(4000) < np.where(fraud, 0.93, 0.02)
    amount = random.lognormal(8.5, 1.0, 4000)
    chance = np.where(declined, np.clip(0.1 * amount / 10_000, 0.1, 1.0), 1.0)
    costs = Costs(np.where(caught, 0.0, amount), np.where(caught, FALSE_DECLINE, 0.0))
    return declined, fraud, caught, costs, chance, random.random(4000) < chance


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = {"declined": 0, "recall": 0, "precision": 0, "cost": 0}
    for seed in range(400):
        declined, fraud, caught, costs, chance, known = survey(seed)
        for name, part, whole in (
            ("declined", fraud, declined),
            ("recall", caught, fraud),
            ("precision", fraud, caught),
        ):
            found = estimated_share(part[known], whole[known], chance[known], confidence=0.9)
            covered[name] += found.low <= np.mean(part[whole]) <= found.high
        money = estimated_cost(costs, fraud, known, chance, confidence=0.9)
        truth = np.where(fraud, costs.if_fraud, costs.if_genuine).mean()
        covered["cost"] += money.low <= truth <= money.high
    print(covered)
    assert all(0.85 <= count / 400 <= 0.96 for count in covered.values()), covered


def test_what_is_known_throughout_has_no_uncertainty():
    whole = np.ones(4, dtype=bool)
    found = estimated_share(whole, whole, np.ones(4), confidence=0.9)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
    cost = estimated_cost(
        Costs(np.full(4, 8.0), np.zeros(4)), whole, whole, np.ones(4), confidence=0.9
    )
    assert (cost.low, cost.value, cost.high) == (8.0, 8.0, 8.0)


def test_all_of_a_few_is_not_called_certain():
    whole = np.ones(9, dtype=bool)
    found = estimated_share(whole, whole, np.full(9, 0.05), confidence=0.9)
    assert found.low < 0.85


def test_a_draw_without_frauds_leaves_room_for_what_it_missed():
    lost, known = np.full(100, 5_000.0), np.arange(100) < 10
    found = estimated_cost(
        Costs(lost, np.zeros(100)), ~known, known, np.full(100, 0.1), confidence=0.9
    )
    assert (found.low, found.value) == (0.0, 0.0)
    assert 500 < found.high < 1_250


@given(st.integers(0, 50), st.randoms(use_true_random=False))
def test_what_an_unknown_row_is_called_changes_nothing(seed, random):
    _, fraud, _, costs, chance, known = survey(seed)
    called = np.where(known, fraud, random.random() < 0.5)
    told = [estimated_cost(costs, of, known, chance, confidence=0.9) for of in (fraud, called)]
    assert told[0] == told[1]


@pytest.mark.parametrize("propensity", [0.0, 1.5])
def test_a_row_without_a_chance_cannot_be_estimated_from(propensity):
    rows, chance = np.ones(2, dtype=bool), np.array([1.0, propensity])
    with pytest.raises(DataContractError, match=r"chances in \(0, 1\]"):
        estimated_share(rows, rows, chance, confidence=0.9)


def test_money_of_which_no_row_was_drawn_may_all_be_lost_or_none():
    known, chance = np.array([True, False]), np.array([1.0, 0.5])
    costs = Costs(np.array([10.0, 4.0]), np.zeros(2))
    found = estimated_cost(costs, known, known, chance, confidence=0.9)
    assert (found.low, found.value, found.high) == (5.0, 6.0, 7.0)
    with pytest.raises(DataContractError, match="found 0 rows"):
        estimated_cost(costs, known, np.zeros(2, dtype=bool), chance, confidence=0.9)
