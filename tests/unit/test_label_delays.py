from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.label_delays import (
    ANY,
    DELAY_COLUMNS,
    FEWEST_AT_RISK,
    delay_curve,
    delay_curves,
    delay_frame,
    delay_table,
    first_frauds,
)
from fraud_platform.schemas import LABELS

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
HISTORY_DAYS = 60.0


def grown_up(seed: int, frauds: int) -> tuple[np.ndarray, np.ndarray]:
    """Delays (log-normal, median 12 d) and ages of frauds in a history whose traffic doubles."""
    rng = np.random.default_rng(seed)
    ages = HISTORY_DAYS * (1 - np.sqrt(1 + 3 * rng.random(frauds))) + HISTORY_DAYS
    return 12 * np.exp(0.9 * rng.standard_normal(frauds)), ages


def seen(seed: int, frauds: int) -> tuple[np.ndarray, np.ndarray]:
    """What can be seen of them: the delays that are over."""
    delays, ages = grown_up(seed, frauds)
    return delays[delays <= ages], ages[delays <= ages]


LARGE = np.sort(grown_up(0, 1_000_000)[0])


def truth(age: float, horizon: float) -> float:
    """The share of a very large sample of all delays up to the horizon."""
    known, all_of_them = np.searchsorted(LARGE, [age, horizon])
    return float(known / all_of_them)


def labels_of(*rows: tuple[str, str, str, float, float]) -> pl.DataFrame:
    """(transaction, verdict, source, paid and known: days before AS_OF)."""
    told = [
        {
            "seq": place,
            "transaction_id": name,
            "verdict": verdict,
            "label_source": source,
            "event_timestamp": AS_OF - timedelta(days=paid),
            "label_timestamp": AS_OF - timedelta(days=known),
        }
        for place, (name, verdict, source, paid, known) in enumerate(rows)
    ]
    return pl.DataFrame(told, schema=LABELS.columns)


# --- the estimator against a truth that is known ---------------------------------------------


@pytest.mark.parametrize("age", [7.0, 14.0, 30.0])
def test_the_curve_is_right_where_the_plain_distribution_of_seen_delays_is_not(age):
    errors, plain_errors = [], []
    for seed in range(20):
        delays, ages = seen(seed, 3_000)
        curve = delay_curve(delays, ages)
        expected = truth(age, curve.horizon_days)
        errors.append(float(curve.share_known(age)) - expected)
        plain_errors.append(float(np.mean(delays <= age)) - expected)
    assert abs(np.mean(errors)) < 0.01
    assert np.max(np.abs(errors)) < 0.07
    assert np.mean(plain_errors) > 0.03
    assert np.mean(plain_errors) > 8 * abs(np.mean(errors))


def test_the_bands_cover_the_truth_as_often_as_they_promise():
    covered = []
    for seed in range(300):
        curve = delay_curve(*seen(seed, 400), confidence=0.9)
        for age in (4.0, 10.0, 25.0):
            low, high = curve.band(age)
            covered.append(low <= truth(age, curve.horizon_days) <= high)
    assert 0.86 <= np.mean(covered) <= 0.94


# --- its properties --------------------------------------------------------------------------

times = st.floats(min_value=0, max_value=100, allow_nan=False)
pairs = st.lists(st.tuples(times, times), min_size=FEWEST_AT_RISK, max_size=120)


def observed(drawn: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs as delay and age: the smaller is the delay."""
    found = np.sort(np.array(drawn), axis=1)
    return found[:, 0], found[:, 1]


@given(pairs)
def test_a_curve_rises_to_one_within_its_band(drawn):
    curve = delay_curve(*observed(drawn))
    if curve is None:
        return
    assert np.all(np.diff(curve.share) >= 0)
    assert curve.share[-1] == 1
    assert np.all(curve.share > 0), "what was seen is not impossible"
    assert np.all((curve.low <= curve.share) & (curve.share <= curve.high))
    assert np.all((curve.low >= 0) & (curve.high <= 1))
    assert curve.days[-1] <= curve.horizon_days


@given(pairs)
def test_the_order_of_the_delays_changes_nothing(drawn):
    one, other = delay_curve(*observed(drawn)), delay_curve(*observed(drawn[::-1]))
    if one is not None:
        assert np.array_equal(one.share, other.share)


@given(st.lists(times, min_size=FEWEST_AT_RISK, max_size=80))
def test_where_nothing_is_cut_off_it_is_the_plain_distribution(delays):
    known = np.array(delays)
    curve = delay_curve(known, np.full(known.size, 100.0))
    plain = [np.mean(known <= day) for day in curve.days]
    assert np.allclose(curve.share, plain)


def test_too_few_delays_have_no_curve():
    few = np.full(FEWEST_AT_RISK - 1, 1.0)
    assert delay_curve(few, few + 5) is None
    assert delay_curve(np.array([]), np.array([])) is None


def test_the_horizon_is_the_age_of_the_oldest_frauds_that_are_not_alone():
    delays = np.full(FEWEST_AT_RISK + 1, 2.0)
    ages = np.append(np.full(FEWEST_AT_RISK, 30.0), 300.0)
    assert delay_curve(delays, ages).horizon_days == 30.0


def test_when_all_at_risk_answer_at_once_the_shorter_delays_remain_possible():
    # Three young frauds were quick; all the old ones took exactly nine days.
    delays = np.append(np.full(30, 9.0), np.full(3, 1.0))
    curve = delay_curve(delays, np.append(np.full(30, 40.0), np.full(3, 4.0)))
    assert curve.share.tolist() == pytest.approx([1 / 31, 1.0])


# --- from verdicts ---------------------------------------------------------------------------


def test_the_first_verdict_of_each_source_and_of_any_source_counts():
    labels = labels_of(
        ("a", "fraud", "chargeback", 20, 5),
        ("a", "fraud", "chargeback", 20, 3),
        ("a", "fraud", "analyst", 20, 8),
        ("a", "genuine", "audit", 20, 19),
    )
    found = first_frauds(labels, as_of=AS_OF, history_days=90)
    delays = dict(found.select("label_source", "delay_days").iter_rows())
    assert delays == {"chargeback": 15.0, "analyst": 12.0, ANY: 12.0}


def test_a_verdict_that_was_taken_back_has_arrived_all_the_same():
    labels = labels_of(("a", "fraud", "dispute", 20, 5), ("a", "withdrawn", "dispute", 20, 4))
    assert first_frauds(labels, as_of=AS_OF, history_days=90).height == 2


@given(st.integers(min_value=-5, max_value=40), st.integers(min_value=0, max_value=5))
def test_what_becomes_known_later_never_changes_what_arrived(known, extra):
    labels = labels_of(
        ("a", "fraud", "dispute", 45, 5),
        ("b", "fraud", "dispute", 45, known),
        ("c", "fraud", "dispute", 45, -extra),
    )
    past = labels.filter(pl.col("label_timestamp") < AS_OF)
    now = first_frauds(labels, as_of=AS_OF, history_days=90)
    assert now.equals(first_frauds(past, as_of=AS_OF, history_days=90))


def test_payments_older_than_the_history_are_left_out():
    labels = labels_of(("a", "fraud", "dispute", 91, 5))
    assert first_frauds(labels, as_of=AS_OF, history_days=90).is_empty()


@pytest.fixture(scope="module")
def curves():
    rows = [(f"{n}", "fraud", "chargeback", 50 - n / 2, 40 - n / 2) for n in range(60)]
    rows += [(f"{n}", "fraud", "analyst", 50 - n / 2, 48 - n / 2) for n in range(40)]
    rows += [(f"{n}", "fraud", "audit", 50, 49) for n in range(3)]
    frauds = first_frauds(labels_of(*rows), as_of=AS_OF, history_days=90)
    return delay_curves(frauds, confidence=0.95)


def test_every_source_with_enough_verdicts_has_a_curve(curves):
    assert list(curves) == [ANY, "analyst", "chargeback"]
    assert curves["chargeback"].median_days() == 10.0
    assert curves["analyst"].median_days() == 2.0


def test_a_curve_as_a_table_has_one_row_per_source_and_day_of_age(curves):
    frame = delay_frame(curves, AS_OF.date())
    assert dict(frame.schema) == DELAY_COLUMNS
    chargeback = frame.filter(pl.col("label_source") == "chargeback")
    assert chargeback["age_days"].to_list() == list(range(chargeback.height))
    assert chargeback["share_known"][9:11].to_list() == [0.0, 1.0]
    assert delay_frame({}, AS_OF.date()).schema == frame.schema


def test_the_table_for_people_does_not_speak_beyond_the_horizon(curves):
    lines = delay_table(curves, (7, 120)).splitlines()
    assert lines[0].endswith("| known after 7 d | known after 120 d |")
    assert lines[-1].startswith("| chargeback | 60 |")
    assert lines[-1].endswith("| 0.0% (0.0% to 0.0%) | cannot tell |")
