"""What two models meet on: decisions of a real log, no older than asked."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.model_contest import newest_payments
from fraud_platform.events import Decision, Transaction, microseconds
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.promotion_policy import PromotionPolicy

END = datetime(2026, 2, 8, tzinfo=UTC)
DAY = timedelta(days=1)
A_DAY = 30
POLICY = PromotionPolicy(replay_rows=1_000, min_replay_rows=50)


@pytest.fixture
def log(tmp_path):
    """A week of decisions; the first feature of each says how many days old it is."""
    log = EventLog(tmp_path / "events.db")
    with log.writing() as writer:
        for number in range(7 * A_DAY):
            age, place = divmod(number, A_DAY)
            moment = microseconds(END - DAY * (age + 1) + place * timedelta(minutes=1))
            payment = Transaction(f"t{number}", moment, "c", "m", 100, "EUR")
            seq = writer.append_transaction(payment, received_us=moment, source="scorer")
            writer.append_decision(decided(payment, seq, (float(age), *[0.0] * 99)))
    return log


def decided(payment, seq, features):
    return Decision(
        payment.transaction_id, f"d{seq}", seq, seq - 1, payment.event_us, 5, "approve", 0.1, (),
        None, None, "normal", (), "champion", False, "1", "m", "p", spec_digest(),
        features[: len(FEATURE_NAMES)], 7, 9,
    )  # fmt: skip


def ages(log, table=None, **how):
    table = pl.DataFrame() if table is None else table
    found = newest_payments(log, table, END, POLICY, **how)[:, 0].tolist()
    return {age: found.count(age) for age in found}


def test_as_many_days_are_read_as_it_takes(log):
    assert ages(log) == dict.fromkeys(range(7), A_DAY)


def test_no_payment_is_older_than_asked_however_few_there_are(log):
    assert ages(log, within=2 * DAY) == {0: A_DAY, 1: A_DAY}


def test_where_too_few_were_decided_the_table_speaks_no_further_back(log):
    table = pl.DataFrame({"event_timestamp": [END - DAY * age / 2 for age in (1, 2, 3)]})
    table = table.with_columns(
        pl.lit(float(place)).alias(name) for place, name in enumerate(FEATURE_NAMES)
    ).with_columns(
        pl.col("event_timestamp").dt.cast_time_unit("us"),
        pl.Series(FEATURE_NAMES[0], [0.5, 1.0, 1.5]),
    )
    assert ages(log, table, within=DAY) == {1.0: 1, 0.5: 1}
