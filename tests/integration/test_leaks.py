"""Every leak alarm against what it must find and what it must leave alone; see benchmarks.leaks."""

from functools import cache

import polars as pl
import pytest

from benchmarks.data import handbook_path, load
from benchmarks.leaks import PLANTS, Clean, clean, looked_at, simulated
from fraud_platform.leak_probes import delay_correlation, feature_auc, given_away
from fraud_platform.leaks import LeakPolicy, LeakReport


@cache
def world(seed: int) -> Clean:
    return simulated(seed, is_small=seed > 1)


def fired(report: LeakReport) -> set[str]:
    return {alarm.name for alarm in report.alarms}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clean_set_raises_no_alarm(seed):
    report = looked_at(world(seed))
    print(f"\nseed {seed}: {report.largest}")
    assert report.alarms == ()
    assert len(report.largest) == 6


def test_a_new_kind_of_fraud_in_the_test_slice_is_no_leak():
    assert looked_at(simulated(4, drifts=True, is_small=True)).alarms == ()


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_leak_is_found_and_named(plant):
    alarm, planted = PLANTS[plant]
    rows = planted(world(2))
    report = looked_at(world(2), rows)
    assert alarm in fired(report)
    subjects = {each.subject for each in report.alarms}
    assert "planted" in subjects or "planted" not in rows.columns
    assert all("expected at most" in each.to_text() for each in report.alarms)


@pytest.mark.skipif(not handbook_path().exists(), reason="no benchmark data on this machine")
def test_the_handbooks_payments_raise_no_alarm():
    report = looked_at(clean(load(400_000).log))
    print(f"\nhandbook: {report.largest}")
    assert report.alarms == ()


def test_a_feature_that_ranks_backwards_is_as_suspicious():
    rows = pl.DataFrame({"is_fraud": [True, False, False], "x": [-3.0, 1.0, 2.0]})
    assert feature_auc(rows, "x") == 1.0
    assert feature_auc(rows.with_columns(-pl.col("x")), "x") == 1.0


def test_a_constant_feature_gives_nothing_away():
    rows = pl.DataFrame({"is_fraud": [True] * 50 + [False] * 50, "x": [1.0] * 100})
    assert (feature_auc(rows, "x"), given_away(rows, "x")) == (0.5, 0.0)
    day = pl.lit(0).cast(pl.Datetime("us", "UTC"))
    frauds = rows.with_columns(event_timestamp=day, delay=pl.int_range(pl.len()))
    assert delay_correlation(frauds, "x") == 0.0


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_a_limit_out_of_bounds_is_refused(wrong):
    with pytest.raises(ValueError, match="max_time_auc"):
        LeakPolicy(max_time_auc=wrong)
