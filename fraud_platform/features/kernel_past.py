"""What the compiled loops read about an entity's past: lines, rings and windows as arrays.

Everything is worked out once and kept for all features that ask for it.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    MICROSECOND,
    OUTLIER_FACTOR,
    OUTLIER_REFERENCE,
    Where,
)
from fraud_platform.features.kernel_frauds import Frauds, fraud_counts, streaks
from fraud_platform.features.kernel_lines import Lines, edges, kept, line_up, taken
from fraud_platform.features.kernel_log import Log, Memory, array
from fraud_platform.features.kernel_loops import Asked, Window, running
from fraud_platform.features.kernel_medians import in_order, outliers, twice_medians
from fraud_platform.features.kernel_spreads import Squares, running_squares

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Flags = NDArray[np.bool_]

_REFERENCE_US = OUTLIER_REFERENCE // MICROSECOND


def marks(log: Log, card: "Side | None") -> Flags:
    """Which payments are outliers, by rank: every one is asked, and saw all the log before it.

    Args:
        log: the log.
        card: the lines of the cards, if there are any already.
    """
    if card is None or card.reach_us < _REFERENCE_US or not log.is_whole:
        every = np.ones(len(log.ranks), np.bool_)
        card = Side(log, "card", _REFERENCE_US, every, (log.before, log.ranks))
    ring = card.ring(None)
    twice = ring.twice_medians(0, _REFERENCE_US)
    return outliers(card.asked, ring.window(0, _REFERENCE_US), twice, OUTLIER_FACTOR)


class Side:
    """All lines of one kind of entity.

    Args:
        log: the log.
        entity: "card" or "terminal".
        reach_us: how far back windows look at most.
        is_wanted: which payments are decisions to be answered, by rank.
        seen: see `Log.seen`.

    Attributes:
        log: the log.
        reach_us: how far back windows look at most.
        payments: all places of the lines.
        askers: the places that ask.
        asked: what loops know about them.
    """

    def __init__(
        self, log: Log, entity: str, reach_us: int, is_wanted: Flags, seen: tuple[Ints, Places]
    ) -> None:
        self.log, self.reach_us = log, reach_us
        codes = log.codes(ENTITY_COLUMNS[entity])
        lines, is_asked = line_up(codes, log.times, seen[1], is_wanted, reach_us)
        asking = kept(lines, is_asked)
        self.payments = Payments(log, lines)
        self.askers = self.payments if asking is lines else Payments(log, asking)
        slots = asking.ranks if log.slots is log.ranks else taken(log.slots, asking.ranks)
        self.asked = Asked(*asking, self.askers.times, self.askers.amounts, seen[0], slots)
        self._rings, self._accused = Memory(), Memory()

    @classmethod
    def of(cls, log: Log, entity: str, reach_us: int) -> "Side":
        """The lines in which the wanted decisions stand behind what they saw."""
        return cls(log, entity, reach_us, log.is_wanted, log.seen(entity))

    def ring(self, where: Where | None) -> "Ring":
        """The payments that count."""
        return self._rings.once(where, lambda: self._ring(where))

    def accused(self, where: Where | None) -> "Accused":
        """Those of them that were ever called fraud."""
        return self._accused.once(
            where, lambda: Accused(self.ring(where).payments.those(self.log.is_accused), self.asked)
        )

    def _ring(self, where: Where | None) -> "Ring":
        counting = self.payments if where is None else self.payments.those(self.log.passes(where))
        return Ring(counting, self.asked)


class Payments:
    """Payments, line by line.

    Args:
        log: the log.
        lines: where they stand.

    Attributes:
        log: the log.
        lines: where they stand.
    """

    def __init__(self, log: Log, lines: Lines) -> None:
        self.log, self.lines, self._codes = log, lines, Memory()

    @cached_property
    def times(self) -> Ints:
        """When they happened, microseconds."""
        return taken(self.log.times, self.lines.ranks)

    @cached_property
    def amounts(self) -> Ints:
        """Minor units."""
        return taken(self.log.amounts, self.lines.ranks)

    def codes(self, column: str) -> Places:
        """Their values of a column of texts."""
        return self._codes.once(column, lambda: taken(self.log.codes(column), self.lines.ranks))

    def those(self, passes: Flags) -> "Payments":
        """Some of them, which pass by rank."""
        return Payments(self.log, kept(self.lines, taken(passes, self.lines.ranks)))


class Ring:
    """Payments that count, and the windows that decisions see of them.

    Args:
        payments: the payments.
        asked: the decisions.

    Attributes:
        payments: the payments.
        asked: the decisions.
    """

    def __init__(self, payments: Payments, asked: Asked) -> None:
        self.payments, self.asked = payments, asked
        self._edges, self._found = Memory(), Memory()

    @cached_property
    def sums(self) -> Ints:
        """Running sums of the amounts."""
        return running(self.payments.amounts, self._sums())

    @cached_property
    def squares(self) -> Squares:
        """Running sums of the amounts and of their squares."""
        return Squares(
            self.sums, *running_squares(self.payments.amounts, self._sums(), self._sums())
        )

    def _sums(self) -> Ints:
        return np.empty(len(self.payments.lines.ranks) + 1, np.int64)

    def window(self, delay_us: int, reach_us: int) -> Window:
        """What the asked payments see of them."""
        return Window(self._edge(reach_us), self._edge(delay_us))

    def twice_medians(self, delay_us: int, reach_us: int) -> Ints:
        """Twice the median amount in a window."""
        window = self.window(delay_us, reach_us)
        return self._found.once(
            (delay_us, reach_us),
            lambda: twice_medians(window, *self._in_order, np.full(len(window.first), 0)),
        )

    @cached_property
    def _in_order(self) -> tuple[Places, Ints]:
        return in_order(self.payments.lines.starts, self.payments.amounts)

    def _edge(self, age_us: int) -> Places:
        return self._edges.once(age_us, lambda: self._find_edge(age_us))

    def _find_edge(self, age_us: int) -> Places:
        starts, times, found = self.payments.lines.starts, self.payments.times, each(self.asked, 0)
        return edges(self.asked.starts, self.asked.times, starts, times, age_us, found)


class Accused(Ring):
    """Payments that count and were ever called fraud."""

    @cached_property
    def frauds(self) -> Frauds:
        """The payments with all verdicts on them."""
        verdicts, ranks = self.payments.log.verdicts, self.payments.lines.ranks
        of = array(verdicts["rank"])
        return Frauds(
            starts=self.payments.lines.starts,
            ranks=ranks,
            times=self.payments.times,
            first=np.searchsorted(of, ranks),
            last=np.searchsorted(of, ranks, side="right"),
            known=array(verdicts["known_us"]),
            seqs=array(verdicts["seq"]),
            is_fraud=array(verdicts["is_fraud"]),
        )

    def counted(self, delay_us: int, reach_us: int) -> tuple[Places, Places]:
        """Of the frauds known to the asked payments: their number and the newest one's place."""
        return self._found.once(
            ("counted", delay_us, reach_us),
            lambda: fraud_counts(
                self.asked,
                self.frauds,
                delay_us,
                reach_us,
                each(self.asked, 0),
                each(self.asked, -1),
            ),
        )

    def streaks(self, ring: Ring, delay_us: int, reach_us: int) -> Places:
        """How many of the newest payments seen of a ring are known frauds, without a gap."""
        window, ranks = ring.window(delay_us, reach_us), ring.payments.lines.ranks
        return self._found.once(
            ("streaks", delay_us, reach_us),
            lambda: streaks(self.asked, window, ranks, self.frauds, delay_us, each(self.asked, 0)),
        )


def each(asked: Asked, number: int) -> Places:
    """A number for each of the asked."""
    return np.full(len(asked.slots), number, np.int32)
