import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fraud_platform.drift import DriftPolicy, ks, measure, psi, unit_factor

samples = hnp.arrays(
    np.float64, st.integers(5, 60), elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))
)


@given(samples)
def test_a_sample_has_not_drifted_from_itself(sample):
    assert psi(sample, sample) == 0.0


@given(samples, samples)
def test_psi_is_never_negative_nor_undefined(reference, current):
    assert psi(reference, current) >= 0.0


@given(samples, samples)
def test_ks_lies_between_zero_and_one_when_there_is_something_to_compare(reference, current):
    distance = ks(reference, current)
    empty = np.isnan(reference).all() or np.isnan(current).all()
    assert np.isnan(distance) if empty else 0.0 <= distance <= 1.0


def test_two_samples_of_one_distribution_have_almost_no_psi():
    rng = np.random.default_rng(7)
    found = [psi(rng.normal(size=2000), rng.normal(size=2000)) for _ in range(50)]
    assert np.mean(found) < 0.005  # without taking the bias off it would be 0.009


def test_values_that_went_missing_are_a_shift():
    reference = np.arange(100.0)
    current = np.where(reference % 2 == 0, np.nan, reference)
    assert psi(reference, current) > 0.25


def test_drift_is_reported_worst_feature_first():
    reference = pl.DataFrame({"steady": np.arange(500.0), "moved": np.arange(500.0)})
    current = reference.with_columns(pl.col("moved") + 400)
    found = measure(reference, current, DriftPolicy())
    assert found["feature"].to_list() == ["moved", "steady"]
    assert found["psi"][1] == 0.0


def test_cents_read_as_euros_are_named_a_change_of_unit():
    assert unit_factor(2500.0, 25.0, 0.25) == 0.01


def test_prices_that_doubled_are_no_change_of_unit():
    assert unit_factor(2500.0, 5000.0, 0.25) == 1.0
