import numpy as np
import polars as pl
import pytest

from fraud_platform.bootstrap import intervals
from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.proportions import clopper_pearson
from tests.simulated_scores import simulated_rows

CARDS = pl.Series(["a", "a", "b", "c", "c", "c"])


def total(weights):
    return [float(weights.sum())]


def test_the_same_seed_draws_the_same_cards():
    first, again, other = (intervals(CARDS, total, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_all_rows_of_a_card_are_drawn_together():
    def check(weights):
        assert weights[0] == weights[1]
        assert weights[3] == weights[4] == weights[5]
        return [0.0]

    intervals(CARDS, check, seed=3, draws=50)


def test_the_estimate_is_the_number_on_the_rows_as_they_are():
    told = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert intervals(CARDS, total, seed=1, weights=told)[0].estimate == 21.0


def test_draws_that_cannot_be_judged_are_drawn_again_but_not_for_ever():
    def needs_a(weights):
        if not weights[0]:
            raise LabelsNotMatureError("no a")
        return [float(weights[0])]

    assert intervals(CARDS, needs_a, seed=1)[0].low >= 1.0

    drawn = []

    def never(weights):
        drawn.append(weights)
        if len(drawn) > 1:
            raise LabelsNotMatureError("never")
        return [0.0]

    with pytest.raises(LabelsNotMatureError):
        intervals(CARDS, never, seed=1, draws=10)
    assert len(drawn) == 12


def test_intervals_by_card_hold_the_truth_as_often_as_they_say():
    """Payments of a card move together, so that rows drawn alone would promise too much."""
    truth, held, worlds = 0.15 * 0.5, 0, 200
    for seed in range(worlds):
        rows = simulated_rows(seed=seed, cards=200, per_card=8)
        is_fraud = rows["is_fraud"].to_numpy()

        def share(weights, is_fraud=is_fraud):
            return [float(weights[is_fraud].sum() / weights.sum())]

        found = intervals(rows["card_id"], share, seed=seed, draws=200)[0]
        held += found.low <= truth <= found.high
    # 90 % are promised; chance alone leaves the band in 1 of 10,000 runs of other seeds.
    low, high = clopper_pearson(held, worlds, 0.9999)
    assert low <= 0.9 <= high
