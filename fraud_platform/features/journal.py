"""A whole log as two tables: put out of order on purpose, and told event by event.

A log that came by file is in the order of event time, the kindest one there is. `disturbed` makes
rows arrive late, as networks do, and numbers the log anew: what was late is then simply what the
log says, for every engine.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.declaration import MICROSECOND
from fraud_platform.features.sample import sampled_cards
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS, TRANSACTIONS

LONGEST_LAG = timedelta(days=5)
"""How late a disturbed row may arrive: less than `spec.LATENESS`, so that none is left out."""

_SLICE = 50_000  # rows turned into Python objects at a time


@dataclass(frozen=True)
class Journal:
    """Everything a log holds about payments and verdicts.

    Attributes:
        transactions: `schemas.TRANSACTIONS`, sorted by seq.
        labels: `schemas.LABELS` about these transactions, sorted by seq, each after its payment.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame

    @property
    def events(self) -> int:
        """Number of events."""
        return self.transactions.height + self.labels.height

    def of_cards(self, share: float) -> "Journal":
        """The log of a sample of cards, as if there were no others.

        Args:
            share: of all cards, in [0, 1]; see `sample`.
        """
        cards = sampled_cards(self.transactions["card_id"], share).implode()
        chosen = pl.col("card_id").is_in(cards)
        return Journal(self.transactions.filter(chosen), self.labels.filter(chosen))

    def disturbed(self, *, late: float, seed: int) -> "Journal":
        """The same facts, some of which arrived late; seq is 1, 2, 3, ... in the new order.

        An event arrives when it became known (a payment: when it happened; a verdict: at its known
        time), in the log's own order where that was later already, and about `late` of them up to
        `LONGEST_LAG` later than that; no verdict before its payment.

        Args:
            late: share of payments and of verdicts that arrive late, in [0, 1].
            seed: same seed, same log.
        """
        events = _arrived(self._moments(), late, seed)
        transactions, labels = (
            rows.drop("seq")
            .insert_column(0, events.filter(pl.col("kind") == kind).sort("index")["seq"])
            .sort("seq")
            for kind, rows in enumerate((self.transactions, self.labels))
        )
        return Journal(transactions, labels)

    def told(self) -> Iterator[Event]:
        """Every event in seq order, made as it is asked for."""
        return heapq.merge(self._payments(), self._verdicts(), key=attrgetter("seq"))

    def _moments(self) -> pl.DataFrame:
        """Every event in log order: when it became known, and which row of which table it is."""
        parts = [
            rows.select(
                pl.lit(kind).alias("kind"),
                "transaction_id",
                pl.col(time).dt.epoch("us").alias("moment"),
                old_seq="seq",
            ).with_row_index()
            for kind, rows, time in (
                (0, self.transactions, "event_timestamp"),
                (1, self.labels, "label_timestamp"),
            )
        ]
        return pl.concat(parts).sort("old_seq").with_columns(pl.col("moment").cum_max())

    def _payments(self) -> Iterator[TransactionEvent]:
        for row in _rows(self.transactions.select("seq", *PAYLOAD_COLUMNS)):
            yield TransactionEvent(row[0], Transaction._make(row[1:]))

    def _verdicts(self) -> Iterator[LabelEvent]:
        about = self.transactions.select(pl.col("seq").alias("about_seq"), *PAYLOAD_COLUMNS)
        verdicts = self.labels.select("seq", "transaction_id", "verdict", "label_timestamp")
        told = verdicts.join(about, on="transaction_id", maintain_order="left")
        for row in _rows(
            told.select("seq", "about_seq", "verdict", "label_timestamp", *PAYLOAD_COLUMNS)
        ):
            seq, about_seq, verdict, known_us, *payload = row
            yield LabelEvent(seq, about_seq, Transaction._make(payload), verdict, known_us)


@dataclass(frozen=True)
class Repeats:
    """Deliveries of events that were delivered before, as senders do after a lost answer.

    Attributes:
        share: of all events, in [0, 1], each at some moment after its first delivery.
        seed: same seed, same deliveries.
    """

    share: float = 0.0
    seed: int = 0


def journal(transactions: pl.DataFrame, labels: pl.DataFrame) -> Journal:
    """A log of rows that never were in one: in the order in which they became known.

    Args:
        transactions: `PAYLOAD_COLUMNS`; of several rows with one id the first counts.
        labels: transaction_id, verdict, label_timestamp; verdicts about no transaction are left
            out.
    """
    first = transactions.sort("event_timestamp", maintain_order=True).unique(
        "transaction_id", keep="first", maintain_order=True
    )
    entities = first.select("transaction_id", "event_timestamp", "card_id", "terminal_id")
    told = labels.select("transaction_id", "verdict", "label_timestamp")
    about = told.join(entities, on="transaction_id", maintain_order="left")
    moments = pl.concat(
        [
            first.select(moment="event_timestamp", kind=pl.lit(0)).with_row_index(),
            about.select(moment="label_timestamp", kind=pl.lit(1)).with_row_index(),
        ]
    ).sort("moment", "kind", "index")
    numbered = moments.with_row_index("seq", offset=1)
    return Journal(
        *(
            rows.with_columns(
                numbered.filter(pl.col("kind") == kind)["seq"].cast(pl.Int64),
                received_timestamp=pl.col(time),
                source=pl.lit("replay"),
                label_source=pl.lit("replay"),
                reason=pl.lit(None, pl.String),
                reported_by=pl.lit(None, pl.String),
                happened_timestamp=pl.lit(None, pl.Datetime),
            )
            .select(pl.col(name).cast(dtype) for name, dtype in table.columns.items())
            .sort("seq")
            for kind, rows, time, table in (
                (0, first, "event_timestamp", TRANSACTIONS),
                (1, about.sort("label_timestamp", maintain_order=True), "label_timestamp", LABELS),
            )
        )
    )


class Delivery(NamedTuple):
    """One event on its way to a state."""

    event: Event
    is_again: bool


def deliveries(log: Journal, repeats: Repeats) -> Iterator[Delivery]:
    """Every event in seq order, and between them those that come a second time."""
    due = _second_deliveries(log.events, repeats)
    waiting: list[tuple[int, int, Event]] = []
    for place, event in enumerate(log.told()):
        yield Delivery(event, is_again=False)
        if due[place] >= 0:
            heapq.heappush(waiting, (int(due[place]), place, event))
        while waiting and waiting[0][0] <= place:
            yield Delivery(heapq.heappop(waiting)[2], is_again=True)


def _second_deliveries(events: int, repeats: Repeats) -> NDArray[np.int64]:
    """After which place each event is delivered again; -1: never."""
    chance = np.random.default_rng(repeats.seed)
    places = np.arange(events)
    again = chance.random(events) < repeats.share
    # To the fourth power: some come back at once, as retries do, and some much later.
    gaps = (chance.random(events) ** 4 * (events - places)).astype(np.int64)
    return np.where(again, places + gaps, -1)


def _arrived(moments: pl.DataFrame, late: float, seed: int) -> pl.DataFrame:
    """Let some events wait, and number all of them in the order in which they then arrive."""
    chance = np.random.default_rng(seed)
    is_late = chance.random(moments.height) < late
    # Cubed: about 40 % of the late rows arrive within 8 hours, another 40 % only days later.
    lags = chance.random(moments.height) ** 3 * (LONGEST_LAG // MICROSECOND)
    waited = moments.with_columns(
        arrival=pl.col("moment") + pl.Series(np.where(is_late, lags, 0).astype(np.int64))
    )
    payments = waited.filter(pl.col("kind") == 0).select("transaction_id", paid="arrival")
    return (
        waited.join(payments, on="transaction_id", how="left", maintain_order="left")
        .with_columns(arrival=pl.max_horizontal("arrival", "paid"))
        .sort("arrival", "old_seq")
        .with_row_index("seq", offset=1)
        .with_columns(pl.col("seq").cast(pl.Int64))
    )


def _rows(frame: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    as_us = frame.with_columns(pl.col(pl.Datetime).dt.epoch("us"))
    for some in as_us.iter_slices(_SLICE):
        yield from some.iter_rows()
