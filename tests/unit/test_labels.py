from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError
from fraud_platform.labels import mature, mature_by_day
from fraud_platform.schemas import MATURE_LABELS, UTC_MICROSECONDS

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def paid(*ids: str, at: datetime = DAY) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "transaction_id": list(ids),
            "event_timestamp": [at] * len(ids),
            "card_id": [f"card-{name}" for name in ids],
        },
        schema_overrides={"transaction_id": pl.String, "event_timestamp": UTC_MICROSECONDS},
    )


def verdicts(*rows: tuple[str, str, float]) -> pl.DataFrame:
    """Rows of (transaction, verdict, days after DAY); later rows have a larger seq."""
    return pl.DataFrame(
        {
            "seq": list(range(len(rows))),
            "transaction_id": [row[0] for row in rows],
            "verdict": [row[1] for row in rows],
            "label_timestamp": [DAY + timedelta(days=row[2]) for row in rows],
        },
        schema={
            "seq": pl.Int64,
            "transaction_id": pl.String,
            "verdict": pl.String,
            "label_timestamp": UTC_MICROSECONDS,
        },
    )


def is_fraud(*rows: tuple[str, str, float], as_of_days: float = 8) -> bool:
    labels = mature(paid("a"), verdicts(*rows), as_of=DAY + timedelta(days=as_of_days))
    return bool(labels["is_fraud"].item())


def test_silence_means_genuine_and_has_no_label_time():
    labels = mature(paid("a"), verdicts(), as_of=DAY + timedelta(days=8))
    assert (labels["is_fraud"].item(), labels["label_timestamp"].item()) == (False, None)


def test_a_fraud_verdict_counts_from_when_it_was_known():
    assert is_fraud(("a", "fraud", 3))
    assert not is_fraud(("a", "fraud", 9))


def test_a_verdict_known_at_as_of_itself_belongs_to_the_next_day():
    assert not is_fraud(("a", "fraud", 8))


@pytest.mark.parametrize("later", ["genuine", "withdrawn"])
def test_a_fraud_verdict_taken_back_is_genuine(later):
    assert not is_fraud(("a", "fraud", 2), ("a", later, 3))


def test_a_verdict_taken_back_only_later_still_counts_now():
    assert is_fraud(("a", "fraud", 2), ("a", "withdrawn", 9))


def test_of_two_verdicts_of_one_instant_the_later_in_the_log_decides():
    assert is_fraud(("a", "genuine", 2), ("a", "fraud", 2))
    assert not is_fraud(("a", "fraud", 2), ("a", "genuine", 2))


def test_the_deciding_verdict_gives_the_label_time():
    labels = mature(
        paid("a"),
        verdicts(("a", "fraud", 2), ("a", "genuine", 4)),
        as_of=DAY + timedelta(days=8),
    )
    assert labels["label_timestamp"].item() == DAY + timedelta(days=4)


def test_rows_follow_the_table_contract_and_the_order_of_the_transactions():
    labels = mature(paid("b", "a"), verdicts(("a", "fraud", 1)), as_of=DAY + timedelta(days=8))
    assert labels.schema == MATURE_LABELS.empty().schema
    assert labels["transaction_id"].to_list() == ["b", "a"]
    assert labels["is_fraud"].to_list() == [False, True]


def test_verdicts_about_other_transactions_change_nothing():
    assert not is_fraud(("other", "fraud", 1))


def test_a_transaction_after_as_of_is_refused():
    with pytest.raises(DataContractError, match="1 of 1 transactions"):
        mature(paid("a", at=DAY + timedelta(days=9)), verdicts(), as_of=DAY + timedelta(days=8))


def test_a_repeated_transaction_is_refused():
    with pytest.raises(DataContractError, match="more than once"):
        mature(paid("a", "a"), verdicts(), as_of=DAY + timedelta(days=8))


known = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["fraud", "genuine", "withdrawn"]),
    st.integers(min_value=0, max_value=12),
)


@given(st.lists(known, max_size=12))
def test_what_becomes_known_later_never_changes_a_label(rows):
    labels, as_of = verdicts(*rows), DAY + timedelta(days=8)
    past = labels.filter(pl.col("label_timestamp") < as_of)
    everything = mature(paid("a", "b"), labels, as_of=as_of)
    assert everything.equals(mature(paid("a", "b"), past, as_of=as_of))


@given(st.lists(known, max_size=12))
def test_a_range_of_days_equals_its_days_one_by_one(rows):
    transactions = pl.concat([paid("a"), paid("b", at=DAY + timedelta(days=1))])
    first, last = date(2026, 1, 8), date(2026, 1, 9)

    def settled(start: date, end: date) -> pl.DataFrame:
        return mature_by_day(transactions, verdicts(*rows), maturity_days=7, first=start, last=end)

    assert settled(first, last).equals(pl.concat([settled(first, first), settled(last, last)]))


def test_each_day_settles_the_transactions_of_maturity_days_before():
    transactions = pl.concat([paid("a"), paid("b", at=DAY + timedelta(days=1))])
    settled = mature_by_day(
        transactions,
        verdicts(("a", "fraud", 8)),  # known on the day after a's label was settled
        maturity_days=7,
        first=date(2026, 1, 8),
        last=date(2026, 1, 8),
    )
    assert settled["transaction_id"].to_list() == ["a"]
    assert settled["is_fraud"].to_list() == [False]
    assert settled["as_of_timestamp"].to_list() == [DAY + timedelta(days=8)]


def test_days_without_transactions_settle_nothing():
    settled = mature_by_day(
        paid("a"), verdicts(), maturity_days=7, first=date(2026, 3, 1), last=date(2026, 3, 2)
    )
    assert settled.equals(MATURE_LABELS.empty())
