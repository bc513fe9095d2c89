import math

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.paired import UNKNOWN, Change, change, holm, mcnemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(only_new, only_old):
    n, k = only_new + only_old, min(only_new, only_old)
    expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert math.isclose(mcnemar(only_new, only_old), expected, rel_tol=1e-9)


def test_mcnemar_takes_tens_of_thousands():
    assert mcnemar(10_000, 10_000) == 1.0
    assert 0.0 <= mcnemar(20_000, 100) < 1e-300


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.2))
def test_holm_is_between_bonferroni_and_no_correction(chances, level):
    fallen = holm(chances, level)
    for chance, is_fallen in zip(chances, fallen, strict=True):
        assert not is_fallen or chance <= level
        assert is_fallen or chance > level / len(chances)


def test_cards_of_many_rows_are_less_sure_than_as_many_rows_of_their_own():
    random = np.random.default_rng(1)
    new, old = np.repeat(random.random(100), 10), np.repeat(random.random(100), 10)
    by_card = change(pl.Series(np.repeat(np.arange(100), 10)), new, old)
    by_row = change(pl.Series(np.arange(1000)), new, old)
    assert math.isclose(by_card.ratio, by_row.ratio)
    assert math.isclose(by_card.error, by_row.error * math.sqrt(10))


def test_the_error_of_a_change_is_its_spread_over_samples():
    random = np.random.default_rng(2)
    cards = pl.Series(np.arange(500))
    found = [
        change(cards, random.exponential(1.1, 500), random.exponential(1.0, 500))
        for _ in range(400)
    ]
    spread = float(np.std([each.ratio for each in found]))
    assert 0.85 < np.mean([each.error for each in found]) / spread < 1.15


def test_nothing_speaks_against_what_cannot_be_known():
    none = change(pl.Series(["a"]), np.array([1.0]), np.array([0.0]))
    assert none is UNKNOWN
    assert none.chance_below(0.0) == 1.0
    assert Change(0.1, 0.0).chance_below(0.05) == 0.0
