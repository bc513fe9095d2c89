"""Lines of decisions over a log, and which of them see which event.

The decisions of one kind of entity are lined up so that along each entity both event time and seq
only grow. One line suffices unless rows arrived late; a row that does not fit goes to the next
line. An event is then seen by an unbroken run of the line: `intervals` computes over such runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from fraud_platform.features.intervals import (
    Ints,
    Line,
    covering_groups,
    covering_max,
    covering_sum,
)
from fraud_platform.features.spec import Feature

_ENTITIES = ("card_id", "terminal_id")


@dataclass(frozen=True)
class Log:
    """Transactions and verdicts as integers; a transaction's row number is its rank by seq.

    Attributes:
        times: shape (n,), event times, microseconds.
        amounts: shape (n,), minor units.
        codes: kind of entity -> shape (n,), small integers that stand for its ids.
        label_codes: the same for the transactions of the verdicts, shape (m,).
        verdicts: m rows: case (which transaction), event_us, known_us, rank (first row that may
            see it), is_fraud; sorted by case, known time and seq.
    """

    times: Ints
    amounts: Ints
    codes: dict[str, Ints]
    label_codes: dict[str, Ints]
    verdicts: dict[str, Ints]

    @classmethod
    def of(cls, history: pl.DataFrame, labels: pl.DataFrame) -> "Log":
        """Number everything; `history` is sorted by seq."""
        ordered = labels.sort("transaction_id", "label_timestamp", "seq")
        verdicts = ordered.select(
            case=pl.col("transaction_id").rank("dense").cast(pl.Int64),
            event_us=pl.col("event_timestamp").dt.epoch("us"),
            known_us=pl.col("label_timestamp").dt.epoch("us"),
            rank=history["seq"].search_sorted(ordered["seq"]).cast(pl.Int64),
            is_fraud=(pl.col("verdict") == "fraud").cast(pl.Int64),
        )
        entities = pl.concat([history.select(_ENTITIES), ordered.select(_ENTITIES)])
        card, terminal = (
            entities[column].rank("dense").cast(pl.Int64).to_numpy() for column in _ENTITIES
        )
        pair = np.unique(card * (len(terminal) + 1) + terminal, return_inverse=True)[1]
        codes = {"card": card, "terminal": terminal, "pair": pair.astype(np.int64)}
        return cls(
            times=history["event_timestamp"].dt.epoch("us").to_numpy(),
            amounts=history["amount_minor"].to_numpy(),
            codes={kind: all_codes[: history.height] for kind, all_codes in codes.items()},
            label_codes={kind: all_codes[history.height :] for kind, all_codes in codes.items()},
            verdicts={name: verdicts[name].to_numpy() for name in verdicts.columns},
        )


class Seen:
    """Which run of a line's decisions sees which event, for any window.

    Args:
        log: all transactions and verdicts.
        kind: whose transactions the windows are cut from.
        line: the decisions.
        rows: shape (n,), the events, sorted by entity and time.
    """

    def __init__(self, log: Log, kind: str, line: Line, rows: Ints) -> None:
        self.log, self.kind, self.line, self.rows = log, kind, line, rows
        self.places = len(line.rows)
        self.codes, self.times = log.codes[kind][rows], log.times[rows]
        self._edges: dict[int, Ints] = {}

    def start(self, feature: Feature) -> Ints:
        """First place that sees each event: past the delay, and not before the event arrived."""
        return np.maximum(self._edge(feature.delay_us), self._arrival)

    def end(self, feature: Feature) -> Ints:
        """Place from which each event is too old."""
        return self._edge(feature.reach_us)

    def sum(self, feature: Feature, values: Ints | None = None) -> Ints:
        """Sum of the values (number, without values) of the events that each place sees."""
        return covering_sum(self.start(feature), self.end(feature), values, self.places)

    def max(self, feature: Feature, values: Ints) -> Ints:
        """Largest value that each place sees."""
        return covering_max(self.start(feature), self.end(feature), values, self.places)

    def distinct_partners(self, feature: Feature) -> Ints:
        """Number of different partners that each place sees."""
        start, pairs = self.start(feature), self.log.codes["pair"][self.rows]
        order = np.argsort(pairs * (self.places + 1) + start, kind="stable")
        return covering_groups(start[order], self.end(feature)[order], pairs[order], self.places)

    def frauds(self, feature: Feature) -> Ints:
        """Number of events that each place sees and knows to be fraud.

        A verdict holds from the place that knows it to the first that knows a later one.
        """
        verdicts, codes = self.log.verdicts, self.log.label_codes[self.kind]
        known = np.maximum(
            self.line.first_from(codes, verdicts["known_us"]),
            self.line.first_seeing(codes, verdicts["rank"]),
        )
        later = (
            pl.DataFrame({"case": verdicts["case"], "known": known})
            .select(pl.col("known").cum_min(reverse=True).shift(-1).over("case"))
            .to_series()
            .fill_null(self.places)
            .to_numpy()
        )
        opens = self.line.first_from(codes, verdicts["event_us"] + feature.delay_us + 1)
        closes = self.line.first_from(codes, verdicts["event_us"] + feature.reach_us + 1)
        start, end = np.maximum(known, opens), np.minimum(later, closes)
        return covering_sum(start, end, verdicts["is_fraud"], self.places)

    def _edge(self, age_us: int) -> Ints:
        """First place of its entity at which each event is older than an age, microseconds."""
        if age_us not in self._edges:
            self._edges[age_us] = self.line.first_from(self.codes, self.times + age_us + 1)
        return self._edges[age_us]

    @cached_property
    def _arrival(self) -> Ints:
        """First place of its entity that comes after each event in the log."""
        arrival = np.zeros(len(self.rows), np.int64)
        in_line = np.zeros(len(self.log.times), np.bool_)
        in_line[self.line.rows] = True
        elsewhere = ~in_line[self.rows]  # within the line, later in time is later in the log
        arrival[elsewhere] = self.line.first_seeing(self.codes[elsewhere], self.rows[elsewhere] + 1)
        return arrival


def lines(log: Log, kind: str, wanted: Ints, reach_us: int) -> Iterator[Seen]:
    """Line the wanted rows up, in as few lines as it takes, each with the events it may see."""
    codes = log.codes[kind]
    order = np.lexsort((log.times, codes))  # stable: equal times stay in seq order
    is_wanted = np.zeros(len(codes), np.bool_)
    is_wanted[wanted] = True
    left = order[is_wanted[order]]
    while left.size:
        # A row fits when no later row of its entity has a smaller seq: the others arrived late.
        backwards = left[::-1]
        runs = (codes.max() - codes[backwards]) * (len(codes) + 1) + (len(codes) - backwards)
        fits = (runs == np.maximum.accumulate(runs))[::-1]
        rows, left = left[fits], left[~fits]
        line = Line.of(rows, codes[rows], log.times[rows], len(codes) + 1)
        has_decisions = np.zeros(codes.max() + 1, np.bool_)
        has_decisions[line.codes] = True
        is_near = (log.times >= line.times[0] - reach_us) & (log.times < line.times[-1])
        yield Seen(log, kind, line, order[(is_near & has_decisions[codes])[order]])
