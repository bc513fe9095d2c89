"""Which payments nothing may be learnt from: those that came while an input was broken.

What belongs here: the spans and how rows are kept out of them. Whether learning is stopped now is
`orders.Orders.learning_frozen`.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from fraud_platform.heal.causes import EXACT
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.reference import HOUR_US, event_us

_BEFORE_US = 6 * HOUR_US
"""A cause is seen only after it began: so long before it the payments are in doubt, too."""

Spans = tuple[tuple[int, int | None], ...]
"""From and until, microseconds UTC of payments' time; until None: not over yet."""


def doubtful_spans(records: Iterable[Record]) -> Spans:
    """When inputs were broken, by the episodes of causes that are exact.

    Examples:
        >>> from fraud_platform.heal.records import Kind, Record
        >>> began = Record(kind=Kind.DIAGNOSED, event_us=6 * HOUR_US, now_us=0, cause="unit_change",
        ...                episode="unit_change@1")
        >>> over = Record(kind=Kind.CLOSED, event_us=8 * HOUR_US, now_us=0, cause="unit_change",
        ...               episode="unit_change@1")
        >>> doubtful_spans([began, over]) == ((0, 8 * HOUR_US),), doubtful_spans([began])
        (True, ((0, None),))
    """
    spans: dict[str, tuple[int, int | None]] = {}
    for record in records:
        if record.cause in EXACT and record.kind is Kind.DIAGNOSED:
            spans[record.episode] = (record.event_us - _BEFORE_US, None)
        elif record.kind is Kind.CLOSED and record.episode in spans:
            spans[record.episode] = (spans[record.episode][0], record.event_us)
    return tuple(sorted(spans.values(), key=lambda span: span[0]))


def outside(payments: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    """The payments that are in no doubt, by their event_timestamp."""
    times, kept = event_us(payments), np.ones(payments.height, dtype=bool)
    for since, until in spans:
        kept &= (times < since) | (times > (np.iinfo(np.int64).max if until is None else until))
    return payments.filter(kept)
