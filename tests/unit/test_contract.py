from datetime import UTC, datetime, timedelta

import polars as pl

from fraud_platform.contract import from_the_future, lost_rows, repeated_ids, schema_failures
from fraud_platform.schemas import TRANSACTIONS
from fraud_platform.validation import ValidationPolicy, split

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
POLICY = ValidationPolicy()


def payments(**changes: object) -> pl.DataFrame:
    row = dict.fromkeys(TRANSACTIONS.columns) | {
        "seq": 1,
        "transaction_id": "t1",
        "event_timestamp": NOON,
        "card_id": "c1",
        "terminal_id": "m1",
        "amount_minor": 100,
        "currency": "EUR",
        "received_timestamp": NOON,
        "source": "test",
    }
    return pl.DataFrame([row | changes], schema=TRANSACTIONS.columns)


def test_a_sound_row_fits_the_schema():
    assert schema_failures(payments(), POLICY) == 0


def test_a_negative_amount_that_slipped_through_is_a_schema_failure():
    assert schema_failures(payments(amount_minor=-1), POLICY) >= 1


def test_a_column_of_another_type_is_a_schema_failure():
    assert schema_failures(payments().with_columns(pl.col("seq").cast(pl.String)), POLICY) >= 1


def test_an_id_that_names_two_rows_is_counted_once():
    assert repeated_ids(pl.concat([payments(), payments()])) == 1


def test_a_payment_after_its_arrival_is_from_the_future_beyond_the_tolerance():
    rows = [payments(event_timestamp=NOON + timedelta(seconds=s)) for s in (5, 6)]
    assert [from_the_future(row, POLICY) for row in rows] == [0, 1]


def test_a_row_whose_id_was_masked_in_quarantine_is_not_lost():
    raw = payments(transaction_id="4111111111111111")
    parts = split(raw, POLICY)
    assert parts.quarantined["transaction_id"].to_list() != ["4111111111111111"]
    assert lost_rows(raw, parts.valid, parts.quarantined) == 0


def test_a_row_in_neither_table_is_lost():
    raw = pl.concat([payments(), payments(transaction_id="t2", amount_minor=-1)])
    parts = split(raw, POLICY)
    assert lost_rows(raw, parts.valid, parts.quarantined) == 0
    assert lost_rows(raw, parts.valid, parts.quarantined.clear()) == 1


def test_a_card_number_in_a_table_blocks_what_follows():
    assert schema_failures(payments(terminal_id="4111 1111 1111 1111"), POLICY) >= 1
