"""Monitors of labels, audits, releases and machinery: what they say, and how often wrongly."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.features.parity import Parity
from fraud_platform.heal import clues, probes, verdicts
from fraud_platform.heal.evidence import Signal, Standing
from fraud_platform.heal.reference import DAY_US, HOUR_US, Floats, MonitorPolicy
from fraud_platform.schemas import UTC_MICROSECONDS

POLICY = MonitorPolicy()
FINE, BREACHED, BLIND = Standing.FINE, Standing.BREACHED, Standing.BLIND


def known_share(age_days: Floats) -> Floats:
    return 1.0 - np.exp(-np.asarray(age_days) / 3.0)


def approved(rng: np.random.Generator, times_fraud: float, rows: int = 20_000) -> pl.DataFrame:
    made = np.sort(rng.integers(0, 7 * DAY_US, rows))
    probability = rng.beta(0.5, 50.0, rows)
    fraud = rng.random(rows) < np.minimum(1.0, times_fraud * probability)
    told = made + (rng.exponential(3.0, rows) * DAY_US).astype(np.int64)
    is_told = fraud & (told <= 7 * DAY_US)
    return pl.DataFrame(
        {
            "card_id": [f"c{n}" for n in range(rows)],
            "event_timestamp": pl.Series(made).cast(UTC_MICROSECONDS),
            "probability": probability,
            "reported_timestamp": pl.Series(told).cast(UTC_MICROSECONDS),
        }
    ).with_columns(reported_timestamp=pl.when(pl.Series(is_told)).then("reported_timestamp"))


@pytest.mark.parametrize("times", [0.8, 1.0, 1.2])
def test_reports_within_the_tolerated_ratio_are_fine(times: float) -> None:
    rng = np.random.default_rng(7)
    runs = [approved(rng, times) for _ in range(40)]
    told = [verdicts.missed_fraud(run, known_share, 7 * DAY_US, POLICY) for run in runs]
    assert {reading.standing for reading in told} == {FINE}
    assert np.mean([r.value for r in told if r.value]) == pytest.approx(times, rel=0.1)


def test_twice_the_expected_fraud_is_missed_fraud() -> None:
    rng = np.random.default_rng(8)
    runs = [approved(rng, 2.0) for _ in range(20)]
    told = [verdicts.missed_fraud(run, known_share, 7 * DAY_US, POLICY) for run in runs]
    assert [reading.standing for reading in told].count(BREACHED) >= 19


def test_ten_reports_of_one_card_are_one() -> None:
    frame = approved(np.random.default_rng(9), 1.0)
    of_one = frame.with_columns(
        reported_timestamp=pl.when(pl.int_range(pl.len()) < 500).then(
            pl.lit(7 * DAY_US).cast(UTC_MICROSECONDS)
        ),
        card_id=pl.lit("c"),
    )
    told = verdicts.missed_fraud(of_one, known_share, 7 * DAY_US, POLICY)
    assert told.details["reported"] == 1.0


def test_nothing_can_be_missed_without_scores() -> None:
    frame = approved(np.random.default_rng(9), 1.0).with_columns(
        probability=pl.lit(None, pl.Float64)
    )
    told = verdicts.missed_fraud(frame, known_share, 7 * DAY_US, POLICY)
    assert told.standing is BLIND


def audit(share: float, expected: float, rows: int = 160) -> tuple[Standing, Standing]:
    fraud = np.zeros(rows)
    fraud[: round(share * rows)] = 1.0
    told = verdicts.audited(np.full(rows, expected), fraud, np.full(rows, 0.5), POLICY)
    return told[0].standing, told[1].standing


def test_audits_tell_false_blocks_from_an_attack() -> None:
    assert audit(0.30, 0.30) == (FINE, BLIND)
    assert audit(0.30, 0.30, rows=4_000) == (FINE, FINE)
    assert audit(0.05, 0.30) == (BREACHED, FINE)
    assert audit(0.70, 0.30) == (FINE, BREACHED)
    assert audit(0.0, 0.30, rows=10) == (BLIND, BLIND)


def test_audits_of_a_calibrated_model_rarely_alarm() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(500):
        chance = rng.beta(2.0, 4.0, 160)
        fraud = (rng.random(160) < chance).astype(np.float64)
        told = verdicts.audited(chance, fraud, rng.uniform(0.1, 1.0, 160), POLICY)
        alarms += any(reading.standing is BREACHED for reading in told)
    assert alarms == 0  # each has a chance of at most 0.0005 while the ratio is 1


def arrivals(*feeds: str) -> pl.DataFrame:
    sources = [f"s{n}" for n in range(len(feeds))]
    shares = [0.1 if feed == "stopped" else 1.0 for feed in feeds]
    return pl.DataFrame(
        {"label_source": sources, "feed": feeds, "share": shares, "arrived": [5] * len(feeds)}
    )


def test_a_source_that_stopped_is_named_and_silence_about_all_is_blind() -> None:
    stopped = verdicts.label_arrivals(arrivals("arriving", "stopped"))
    assert (stopped.standing, stopped.subjects) == (BREACHED, ("s1",))
    assert verdicts.label_arrivals(arrivals("arriving")).standing is FINE
    assert verdicts.label_arrivals(arrivals("unknown")).standing is BLIND


def test_sources_that_contradict_each_other_more_than_ever_are_a_conflict() -> None:
    ids = [f"t{n}" for n in range(200)]
    one = pl.DataFrame({"transaction_id": ids}).with_columns(
        verdict=pl.lit("fraud"), label_source=pl.lit("chargeback")
    )
    flipped = pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("genuine")).otherwise("verdict")
    other = one.with_columns(verdict=flipped, label_source=pl.lit("analyst"))
    both = pl.concat([one, other])
    assert verdicts.label_conflicts(both, 0.01, POLICY).standing is BREACHED
    assert verdicts.label_conflicts(both, 0.20, POLICY).standing is FINE
    assert verdicts.label_conflicts(one, 0.01, POLICY).standing is BLIND


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_a_release_that_disturbs_as_many_is_not_blamed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = rng.random(3_000) < 0.05, rng.random(3_000) < 0.05
    assert clues.replay(new, old, POLICY).standing is FINE


def test_a_release_that_disturbs_twice_as_many_is_seen_in_a_replay() -> None:
    rng = np.random.default_rng(5)
    old = rng.random(3_000) < 0.05
    new = old | (rng.random(3_000) < 0.05)
    assert clues.replay(new, old, POLICY).standing is BREACHED
    assert clues.replay(new, old, POLICY, ["c"] * 3_000).standing is FINE  # of one card


def test_a_young_change_is_a_suspect() -> None:
    changed = {"model": 0, "thresholds": -3 * DAY_US}
    assert clues.change(changed, HOUR_US, POLICY).subjects == ("model",)
    assert clues.change(changed, 2 * DAY_US, POLICY).standing is FINE
    assert clues.change({}, 0, POLICY).standing is BLIND


def test_stored_rows_that_score_otherwise_are_told_also_without_a_score() -> None:
    recorded = np.array([0.1, 0.2])
    assert probes.golden_rows(recorded, recorded + 1e-9, POLICY).standing is FINE
    assert probes.golden_rows(recorded, np.array([0.1, np.nan]), POLICY).standing is BREACHED
    assert probes.golden_rows(recorded, recorded[:1], POLICY).standing is BLIND


def test_digests_are_compared_where_both_are_known() -> None:
    assert probes.artifact({"7": "a"}, {"7": "a"}).standing is FINE
    assert probes.artifact({"7": "a"}, {"7": None}).subjects == ("7",)
    assert probes.configuration({"policy": "a"}, {}).standing is BLIND


def test_who_is_silent_is_named() -> None:
    told = probes.heartbeat({"scorer": 0, "tick": None}, 60_000_000, POLICY)
    assert (told.standing, told.subjects) == (BREACHED, ("tick",))
    assert (told.value, told.why) == (None, "tick was never heard, and should be")
    assert probes.heartbeat({}, 0, POLICY).standing is BLIND


def test_features_are_stale_by_their_oldest_hundredth() -> None:
    ages = np.zeros(1_000)
    assert probes.feature_age(ages, POLICY).standing is FINE
    ages[:20] = 3_600e6
    assert probes.feature_age(ages, POLICY).standing is BREACHED


def test_features_that_differ_from_those_recomputed_are_named() -> None:
    found = Parity(
        decisions=1_000,
        decisions_compared=1_000,
        values_compared=46_000,
        mismatches=30,
        missing=0,
        extra=0,
        sample=1.0,
        mismatches_by_feature={"a": 10, "b": 20},
    )
    told = probes.parity(found, POLICY)
    assert (told.signal, told.standing, told.subjects) == (Signal.PARITY, BREACHED, ("b", "a"))
