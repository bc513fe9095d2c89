from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fraud_platform.label_arrivals import ARRIVAL_COLUMNS, Feed, arrival_table, judge_arrivals
from fraud_platform.labels import LabelPolicy
from fraud_platform.schemas import LABELS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 90
POLICY = LabelPolicy()


def verdicts(seed: int, a_day, *, source="chargeback", median_days=9.0) -> pl.DataFrame:
    """Fraud verdicts on `a_day` payments of each day, by chance, log-normally late."""
    rng = np.random.default_rng(seed)
    numbers = rng.poisson(np.broadcast_to(a_day, DAYS))
    paid = np.repeat(np.arange(DAYS), numbers) + rng.random(numbers.sum())
    known = paid + median_days * np.exp(0.8 * rng.standard_normal(paid.size))
    frame = pl.DataFrame(
        {
            "seq": np.arange(paid.size),
            "transaction_id": [f"{source}{n}" for n in range(paid.size)],
            "event_timestamp": paid,
            "label_timestamp": known,
        }
    )
    moments = [
        (pl.lit(START) + pl.duration(microseconds=pl.col(name) * 86_400_000_000)).alias(name)
        for name in ("event_timestamp", "label_timestamp")
    ]
    told = frame.with_columns(*moments, verdict=pl.lit("fraud"), label_source=pl.lit(source))
    missing = [pl.lit(None, t).alias(n) for n, t in LABELS.columns.items() if n not in told.columns]
    return told.with_columns(missing).select(
        pl.col(name).cast(dtype) for name, dtype in LABELS.columns.items()
    )


def payments(a_day=2_000) -> pl.DataFrame:
    days = [(START + timedelta(days=n)).date() for n in range(DAYS)]
    numbers = np.broadcast_to(a_day, DAYS).astype(np.int64)
    return pl.DataFrame({"day": days, "payments": numbers})


def without(labels: pl.DataFrame, first: float, last: float = DAYS) -> pl.DataFrame:
    """The same verdicts with a feed that rests from the day `first` to `last`."""
    known = pl.col("label_timestamp")
    silent = known.is_between(START + timedelta(days=first), START + timedelta(days=last))
    return labels.filter(~silent)


def judged(labels, paid=None, *, day=DAYS, source="any") -> dict:
    found = judge_arrivals(
        labels,
        payments() if paid is None else paid,
        as_of=START + timedelta(days=day),
        policy=POLICY,
    )
    assert dict(found.schema) == ARRIVAL_COLUMNS
    return found.row(by_predicate=pl.col("label_source") == source, named=True)


def test_a_steady_feed_is_never_called_stopped():
    found = [judged(verdicts(seed, 4.0)) for seed in range(60)]
    assert {row["feed"] for row in found} == {Feed.ARRIVING}
    assert np.mean([row["share"] for row in found]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("days_of_silence", "feed"), [(0, Feed.ARRIVING), (1, Feed.ARRIVING), (4, Feed.STOPPED)]
)
def test_a_feed_that_stops_is_seen_within_days(days_of_silence, feed):
    found = [judged(without(verdicts(s, 20.0), DAYS - days_of_silence))["feed"] for s in range(20)]
    assert found == [feed] * 20


@pytest.mark.parametrize("weeks", [1, 2, 4])
def test_a_feed_that_sends_nothing_at_all_stays_stopped(weeks):
    row = judged(without(verdicts(1, 10.0), DAYS - 7 * weeks))
    assert (row["feed"], row["arrived"], row["share"]) == (Feed.STOPPED, 0, 0.0)
    assert row["high"] < 1


def test_a_feed_that_is_back_arrives_again():
    labels = verdicts(1, 20.0)
    rested = without(labels, DAYS - 20, DAYS - 8)
    assert judged(rested, day=DAYS - 8)["feed"] == Feed.STOPPED
    assert judged(rested)["feed"] == Feed.ARRIVING


def test_fewer_payments_lead_to_fewer_verdicts_and_that_is_no_stop():
    half = np.where(np.arange(DAYS) < 50, 1.0, 0.3)
    row = judged(verdicts(3, 30 * half), payments(2_000 * half))
    assert row["feed"] == Feed.ARRIVING
    assert row["expected"] < 0.5 * 30 * 7
    assert judged(verdicts(3, 30 * half), payments())["feed"] == Feed.STOPPED, "without the volumes"


def test_a_young_feed_is_not_expected_to_have_sent_everything_yet():
    started = np.where(np.arange(DAYS) < 60, 0.0, 1.0)
    found = [
        judged(verdicts(s, 30 * started, median_days=15), payments(2_000 * started))["feed"]
        for s in range(20)
    ]
    assert set(found) == {Feed.ARRIVING}


@pytest.mark.parametrize("a_day", [0.05, 0.4])
def test_with_too_little_history_nobody_knows(a_day):
    row = judged(without(verdicts(2, a_day), DAYS - 7))
    assert row["feed"] == Feed.UNKNOWN


def test_the_source_that_stopped_is_named_beside_one_that_speaks():
    silent = without(verdicts(1, 20.0, source="dispute"), DAYS - 7)
    labels = pl.concat([verdicts(2, 40.0), silent])
    feeds = {s: judged(labels, source=s)["feed"] for s in ("any", "chargeback", "dispute")}
    assert feeds == {
        "any": Feed.ARRIVING,
        "chargeback": Feed.ARRIVING,
        "dispute": Feed.STOPPED,
    }


def test_what_becomes_known_later_changes_nothing():
    labels = verdicts(5, 20.0)
    past = labels.filter(pl.col("label_timestamp") < START + timedelta(days=60))
    assert judged(labels, day=60) == judged(past, day=60)


def test_no_verdict_ever_is_no_row():
    found = judge_arrivals(LABELS.empty(), payments(), as_of=START, policy=POLICY)
    assert found.is_empty()
    assert arrival_table(found).count("\n") == 1


def test_the_table_for_people_leaves_out_what_nobody_can_expect():
    labels = pl.concat([verdicts(1, 20.0), verdicts(2, 0.1, source="audit")])
    found = judge_arrivals(labels, payments(), as_of=START + timedelta(days=DAYS), policy=POLICY)
    lines = arrival_table(found).splitlines()
    assert len(lines) == 5
    (audit,) = [line for line in lines if "audit" in line]
    assert audit.endswith("| | | | unknown |")
