"""What a model did with payments whose truth is known, and what cannot be known."""

from datetime import UTC, date, datetime

import polars as pl

from fraud_platform.performance import outcomes_by_day, undeclined

PAID = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGED = datetime(2026, 3, 9, tzinfo=UTC)
SCORES = pl.DataFrame(
    {
        "transaction_id": ["approved", "missed", "reviewed", "declined"],
        "event_timestamp": [PAID] * 4,
        "score": [0.1, 0.2, 0.6, 0.9],
    }
)
LABELS = SCORES.select(
    "transaction_id",
    is_fraud=pl.Series([False, True, True, True]),
    as_of_timestamp=pl.lit(AGED, pl.Datetime("us", "UTC")),
)


def counted(labels: pl.DataFrame) -> dict[str, object]:
    found = outcomes_by_day(SCORES, labels, version="1", review=0.5)
    return found.row(by_predicate=pl.col("day") == date(2026, 3, 8), named=True)


def test_frauds_of_declined_payments_count_neither_as_caught_nor_as_missed():
    known = undeclined(SCORES, LABELS, decline=0.9)
    assert counted(known)["frauds"] == 2
    assert counted(known)["missed_frauds"] == 1
    assert counted(known) == counted(undeclined(SCORES, LABELS.head(3), decline=0.9))


def test_alerts_of_a_day_count_declined_payments_too():
    found = outcomes_by_day(SCORES, LABELS.head(0), version="1", review=0.5)
    assert found.row(0, named=True)["scored_alerts"] == 2
