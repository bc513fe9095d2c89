"""The label columns of a foreign file become fraud verdicts with the time they became known.

Genuine is what holds until a fraud verdict says otherwise, so genuine rows make no label.
"""

from datetime import timedelta

import polars as pl

from fraud_platform.card_number import masked
from fraud_platform.mapping_document import LabelColumns, LabelValue, Time
from fraud_platform.rejections import Broken, divide
from fraud_platform.schemas import UTC_MICROSECONDS
from fraud_platform.source_columns import comparable, plain_value, read_text, read_times

LABEL_COLUMNS: dict[str, pl.DataType] = {
    "row_number": pl.Int64(),
    "transaction_id": pl.String(),
    "verdict": pl.String(),
    "label_source": pl.String(),
    "reason": pl.String(),
    "label_timestamp": UTC_MICROSECONDS,
}


def read_labels(
    rows: pl.DataFrame, source: pl.DataFrame, spec: LabelColumns, time: Time
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fraud verdicts of readable rows, and the verdicts that cannot be used.

    Args:
        rows: readable transactions: row_number, transaction_id, event_timestamp.
        source: the same rows as they came, with the columns that `spec` names.
        spec: where the verdicts are.
        time: how times are written.

    Returns:
        `LABEL_COLUMNS` of the fraud verdicts, and the rejected verdicts as
        `rejections.REJECTION`.
    """
    values = comparable(source[spec.column])
    is_fraud = _is_one_of(values, spec.fraud)
    is_genuine = values.is_not_null() if spec.genuine is None else _is_one_of(values, spec.genuine)
    known = _known(rows, source, spec, time)
    known_at = spec.known_at or spec.column
    broken = [
        Broken(
            "label_value_is_listed",
            values.is_not_null() & ~is_fraud & ~is_genuine,
            spec.column,
            "one of the mapping's fraud and genuine values",
        ),
        Broken(
            "label_time_is_readable",
            is_fraud & known.is_null(),
            known_at,
            "the time the verdict became known, with a zone in it or in the mapping",
        ),
        Broken(
            "label_is_known_after_its_transaction",
            is_fraud & (known < rows["event_timestamp"]),
            known_at,
            "a verdict that became known no earlier than its transaction happened",
        ),
    ]
    reason = pl.lit(None, pl.String)
    told = rows.with_columns(
        verdict=pl.when(is_fraud).then(pl.lit("fraud")),
        label_source=pl.lit(spec.source),
        reason=masked(read_text(source[spec.reason])).str.head(200) if spec.reason else reason,
        label_timestamp=known,
    )
    usable, _, rejected = divide(told, source, broken)
    return usable.drop_nulls("verdict").select(*LABEL_COLUMNS), rejected


def _is_one_of(values: pl.Series, listed: LabelValue | list[LabelValue]) -> pl.Series:
    spellings: set[str] = set()
    for value in listed if isinstance(listed, list) else [listed]:
        spellings |= plain_value(value)
    return values.is_in(list(spellings)).fill_null(value=False)


def _known(rows: pl.DataFrame, source: pl.DataFrame, spec: LabelColumns, time: Time) -> pl.Series:
    if spec.known_at is not None:
        column = source[spec.known_at]
        return read_times(column, zone=time.zone, time_format=time.format)[0]
    return rows["event_timestamp"] + timedelta(days=spec.known_after_days or 0.0)
