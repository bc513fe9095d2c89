import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.stats import false_discovery_control, ks_2samp

from fraud_platform.stats.drift_measures import (
    benjamini_hochberg,
    binned,
    categorised,
    jensen_shannon,
    ks,
    ks_chance,
    psi,
    stability_index,
)
from tests.error_rates import at_least, keeps

samples = hnp.arrays(
    np.float64, st.integers(5, 60), elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))
)
tables = st.integers(2, 8).flatmap(
    lambda bins: st.tuples(
        *[hnp.arrays(np.float64, bins, elements=st.integers(1, 500).map(float))] * 2
    )
)


@given(samples)
def test_a_sample_has_not_drifted_from_itself(sample):
    assert psi(sample, sample) == 0.0
    assert jensen_shannon(binned(sample, sample, 10)) == 0.0


@given(samples, samples)
def test_psi_is_never_negative_nor_undefined(reference, current):
    assert psi(reference, current) >= 0.0


@given(samples, samples)
def test_every_row_is_counted_once(reference, current):
    assert [count.sum() for count in binned(reference, current, 10)] == [
        reference.size,
        current.size,
    ]


@given(samples, samples)
def test_ks_lies_between_zero_and_one_when_there_is_something_to_compare(reference, current):
    distance = ks(reference, current)
    empty = np.isnan(reference).all() or np.isnan(current).all()
    assert np.isnan(distance) if empty else 0.0 <= distance <= 1.0


@pytest.mark.parametrize(("rows", "bins"), [(500, 10), (10_000, 10), (10_000, 20)])
def test_without_a_shift_the_index_has_mean_zero_and_the_spread_of_chi_square(rows, bins):
    rng, runs = np.random.default_rng(1), at_least(4_000)
    shares = np.full(bins, 1 / bins)
    reference = rng.multinomial(rows, shares, runs).astype(float)
    current = rng.multinomial(2 * rows, shares, runs).astype(float)
    pairs = zip(reference, current, strict=True)
    found = np.array([stability_index(counts) for counts in pairs])
    unit = 1 / rows + 1 / (2 * rows)
    assert abs(found.mean()) <= 4 * found.std() / np.sqrt(runs) + 0.02 * unit * (bins - 1)
    assert found.std() == pytest.approx(unit * np.sqrt(2 * (bins - 1)), rel=0.06)


def test_numbers_cut_at_their_own_quantiles_have_mean_zero_too():
    rng, runs = np.random.default_rng(2), 300
    normal = rng.normal(size=(runs, 2, 2_000))
    found = np.array([stability_index(binned(r, c, 10)) for r, c in normal])
    # Raw PSI would have mean 0.009.
    assert abs(found.mean()) <= 4 * found.std() / np.sqrt(runs)


def test_values_that_went_missing_are_a_shift_of_numbers_and_of_categories():
    numbers = np.arange(100.0)
    holes = np.where(numbers % 2 == 0, np.nan, numbers)
    assert psi(numbers, holes) > 0.25
    words = pl.Series(["a"] * 100)
    assert stability_index(categorised(words, pl.Series(["a", None] * 50))) > 0.25


def test_a_new_category_is_a_shift_and_renamed_rows_are_the_largest_one():
    old = pl.Series(["card", "wallet"] * 50)
    assert stability_index(categorised(old, pl.Series(["card", "voucher"] * 50))) > 0.25
    assert jensen_shannon(categorised(old, pl.Series(["CARD", "WALLET"] * 50))) == 1.0


@given(tables)
def test_both_distances_are_symmetric_and_do_not_care_for_the_order_of_bins(table):
    for distance in (stability_index, jensen_shannon):
        here = distance(table)
        assert distance(table[::-1]) == pytest.approx(here, abs=1e-12)
        assert distance((table[0][::-1], table[1][::-1])) == pytest.approx(here, abs=1e-12)


@given(tables)
def test_jensen_shannon_agrees_with_scipy(table):
    assert jensen_shannon(table) == pytest.approx(jensenshannon(*table, base=2), abs=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of its p-value, which is not used here
@given(samples, samples)
def test_ks_agrees_with_scipy(reference, current):
    r, c = (sample[~np.isnan(sample)] for sample in (reference, current))
    if r.size and c.size:
        assert ks(reference, current) == pytest.approx(ks_2samp(r, c, method="exact").statistic)


def test_the_chance_of_a_ks_distance_agrees_with_the_exact_one():
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.05, 0.1, 0.2):
        r, c = rng.normal(size=1_000), rng.normal(size=800) + shift
        exact = ks_2samp(r, c, method="exact").pvalue
        assert ks_chance(ks(r, c), 1_000, 800) == pytest.approx(exact, rel=0.15, abs=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_equal_samples_are_told_apart_as_rarely_as_promised(level):
    pairs = np.random.default_rng(4).normal(size=(at_least(2_000), 2, 100))
    chances = np.array([ks_chance(ks(r, c), 100, 100) for r, c in pairs])
    assert keeps(chances <= level, level)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_benjamini_hochberg_agrees_with_scipy(chances, level):
    adjusted = false_discovery_control(chances)
    told = np.array(benjamini_hochberg(chances, level))
    clear = np.abs(adjusted - level) > 1e-9
    assert np.array_equal(told[clear], (adjusted <= level)[clear])


def test_the_share_of_false_discoveries_is_as_promised():
    rng, runs, true, all_ = np.random.default_rng(5), at_least(3_000), 30, 40
    chances = rng.random((runs, all_))
    chances[:, true:] = chances[:, true:] ** 12  # ten real shifts of forty
    told = np.array([benjamini_hochberg(row, 0.1) for row in chances])
    false_share = told[:, :true].sum(axis=1) / np.maximum(told.sum(axis=1), 1)
    # Exactly level times the share of true hypotheses, for independent ones.
    error = false_share.std() / np.sqrt(runs)
    assert false_share.mean() == pytest.approx(0.1 * true / all_, abs=4 * error)
    assert told[:, true:].mean() > 0.4


def test_nothing_tested_is_nothing_found():
    assert benjamini_hochberg([], 0.05) == ()
