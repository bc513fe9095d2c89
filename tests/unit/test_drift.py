import numpy as np
import polars as pl

from fraud_platform.drift import DriftPolicy, measure, unit_factor


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
