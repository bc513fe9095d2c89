"""Which payments nothing may be learnt from: those that came while an input was broken.

What belongs here: the spans and how rows are kept out of them. Whether learning is stopped now is
`orders.Orders.learning_frozen`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from fraud_platform.events import moment_of
from fraud_platform.heal.causes import EXACT
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.reference import HOUR_US

_BEFORE_US = 6 * HOUR_US
"""A cause is seen only after it began: so long before it the payments are in doubt, too."""
_OF_INPUTS = EXACT - {"model_artifact", "configuration_error"}
"""What decided was wrong, and what came was not: of that may be learnt."""


class Span(NamedTuple):
    """When an input was broken, by the payments' own time.

    Attributes:
        since_us: microseconds UTC, included.
        until_us: microseconds UTC, included; None: not over yet.
        cause: what broke it.
    """

    since_us: int
    until_us: int | None
    cause: str


Spans = tuple[Span, ...]


def doubtful_spans(records: Iterable[Record]) -> Spans:
    """When inputs were broken, by the episodes of causes that are exact; the earliest first.

    Examples:
        >>> from fraud_platform.heal.records import Kind, Record
        >>> began = Record(kind=Kind.DIAGNOSED, event_us=6 * HOUR_US, now_us=0, cause="unit_change",
        ...                episode="unit_change@1")
        >>> over = Record(kind=Kind.CLOSED, event_us=8 * HOUR_US, now_us=0, cause="unit_change",
        ...               episode="unit_change@1")
        >>> doubtful_spans([began, over]) == ((0, 8 * HOUR_US, "unit_change"),)
        True
        >>> doubtful_spans([began])[0].until_us is None
        True
    """
    spans: dict[str, Span] = {}
    for record in records:
        if record.cause in _OF_INPUTS and record.kind is Kind.DIAGNOSED:
            spans[record.episode] = Span(record.event_us - _BEFORE_US, None, record.cause)
        elif record.kind is Kind.CLOSED and record.episode in spans:
            spans[record.episode] = spans[record.episode]._replace(until_us=record.event_us)
    return tuple(sorted(spans.values(), key=lambda span: span.since_us))


def outside(payments: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    """The payments that are in no doubt, by their event_timestamp."""
    for span in spans:
        payments = payments.filter(~_within(span))
    return payments


def in_doubt(payments: pl.DataFrame, spans: Spans) -> dict[Span, int]:
    """How many payments each span keeps out; those of several count to the earliest.

    Examples:
        >>> from datetime import UTC, datetime
        >>> noon = pl.DataFrame({"event_timestamp": [datetime(1970, 1, 1, 12, tzinfo=UTC)]})
        >>> list(in_doubt(noon, (Span(0, None, "a"), Span(1, None, "b"))).values())
        [1]
    """
    found: dict[Span, int] = {}
    for span in spans:
        left = outside(payments, (span,))
        if payments.height > left.height:
            found[span] = payments.height - left.height
        payments = left
    return found


def _within(span: Span) -> pl.Expr:
    since = moment_of(span.since_us)
    when = pl.col("event_timestamp")
    if span.until_us is None:
        return when >= since
    return when.is_between(since, moment_of(span.until_us))
