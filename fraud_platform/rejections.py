"""Source rows that broke a rule of reading: which one, what was found, and the row itself, masked.

Rules with names are `mapping` and `label_columns`; the quarantine table is made by `validation`.
"""

from typing import NamedTuple

import polars as pl

from fraud_platform.card_number import masked, masked_json
from fraud_platform.schemas import UTC_MICROSECONDS

REJECTION: dict[str, pl.DataType] = {
    "row_number": pl.Int64(),  # in the source file, from 1
    "transaction_id": pl.String(),
    "event_timestamp": UTC_MICROSECONDS,
    "broken_rule": pl.String(),
    "detail": pl.String(),
    "payload": pl.String(),
}
"""A rejected source row; id and time are null where they could not be read."""

_SHOWN = 80


class Broken(NamedTuple):
    """One rule of reading, asked of every row.

    Attributes:
        rule: its name, a sentence.
        rows: Boolean per row, true where the rule is broken.
        column: the source column it looks at; None for the whole row.
        expected: what should have been there, for people.
    """

    rule: str
    rows: pl.Series
    column: str | None
    expected: str


def divide(
    rows: pl.DataFrame, source: pl.DataFrame, broken: list[Broken]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Divide rows by the first rule they break.

    Args:
        rows: what was read; with row_number, transaction_id and event_timestamp.
        source: the same rows as they came.
        broken: the rules, in the order in which they are asked.

    Returns:
        The rows that break none, their source rows, and the others as `REJECTION` columns.
    """
    names = pl.select(
        broken_rule=pl.coalesce(
            pl.repeat(None, rows.height, dtype=pl.String),
            *(pl.when(b.rows.fill_null(value=False)).then(pl.lit(b.rule)) for b in broken),
        )
    ).to_series()
    bad = names.is_not_null()
    if not bad.any():
        return rows, source, pl.DataFrame(schema=REJECTION)
    rejected = _rejected(rows.filter(bad), source.filter(bad), names.filter(bad), broken)
    return rows.filter(~bad), source.filter(~bad), rejected


def _rejected(
    rows: pl.DataFrame, source: pl.DataFrame, names: pl.Series, broken: list[Broken]
) -> pl.DataFrame:
    parts = []
    for rule in broken:
        here = names == rule.rule
        if not here.any():
            continue
        found = source.filter(here)
        detail = pl.Series([f"expected {rule.expected}"]).new_from_index(0, found.height)
        if rule.column is not None:
            shown = masked(found[rule.column].cast(pl.String)).str.head(_SHOWN)
            label = f"found in column {rule.column!r}: "
            detail = label + shown.fill_null("nothing") + "; " + detail
        parts.append(
            rows.filter(here)
            .select("row_number", "transaction_id", "event_timestamp")
            .with_columns(
                pl.col("transaction_id").map_batches(masked, return_dtype=pl.String),
                broken_rule=pl.lit(rule.rule),
                detail=detail,
                payload=masked_json(found),
            )
        )
    return pl.concat(parts).sort("row_number").cast(REJECTION)  # type: ignore[arg-type]
