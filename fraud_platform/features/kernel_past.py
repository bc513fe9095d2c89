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


class Pasts:
    """The pasts of all cards and of all terminals.

    Args:
        log: the log.
        reach_us: how far back windows look, by entity.

    Attributes:
        log: the log.
    """

    def __init__(self, log: Log, reach_us: dict[str, int]) -> None:
        self.log, self._reach_us, self._sides = log, reach_us, dict[str, Side]()

    def side(self, entity: str) -> "Side":
        """The lines of one kind of entity."""
        if entity not in self._sides:
            seen = self.log.seen(entity)
            self._sides[entity] = self._side(
                entity, self.log.is_wanted, seen, self._reach_us[entity]
            )
        return self._sides[entity]

    def forget(self, entity: str) -> None:
        """Give the memory of its lines back."""
        self._sides.pop(entity, None)

    def passes(self, where: Where) -> Flags:
        """Which payments count, by rank."""
        if where.fact == "is_outlier" and "is_outlier" not in self.log.rows.columns:
            return self._is_outlier if where.equals else ~self._is_outlier
        return array((self.log.rows[where.fact] == where.equals).fill_null(value=False))

    def _side(
        self, entity: str, is_wanted: Flags, seen: tuple[Ints, Places], reach_us: int
    ) -> "Side":
        codes = self.log.codes(ENTITY_COLUMNS[entity])
        lines, is_asked = line_up(codes, self.log.times, seen[1], is_wanted, reach_us)
        return Side(self, lines, kept(lines, is_asked), seen[0])

    @cached_property
    def _is_outlier(self) -> Flags:
        """Marks are facts of the log: every payment has one, and saw all before it."""
        if self.log.is_whole and self._reach_us.get("card", 0) >= _REFERENCE_US:
            side = self.side("card")  # the features ask the same lines
        else:
            every = np.ones(len(self.log.ranks), np.bool_)
            side = self._side("card", every, (self.log.before, self.log.ranks), _REFERENCE_US)
        ring = side.ring(None)
        twice = ring.twice_medians(0, _REFERENCE_US)
        return outliers(side.asked, ring.window(0, _REFERENCE_US), twice, OUTLIER_FACTOR)


class Side:
    """All lines of one kind of entity.

    Args:
        pasts: where they belong to.
        lines: the payments.
        asked: those of them that are asked.
        seen: newest log position seen, by rank.

    Attributes:
        pasts: where they belong to.
        lines: the payments.
        asked_lines: those of them that are asked.
    """

    def __init__(self, pasts: Pasts, lines: Lines, asked: Lines, seen: Ints) -> None:
        self.pasts, self.lines, self.asked_lines = pasts, lines, asked
        self._seen, self._rings, self._accused = seen, Memory(), Memory()

    @cached_property
    def asked(self) -> Asked:
        """What loops know about the asked."""
        ring, ranks, log = self.asked_ring, self.asked_lines.ranks, self.pasts.log
        slots = ranks if log.slots is log.ranks else taken(log.slots, ranks)
        return Asked(ring.times, ring.amounts, ranks, self._seen, slots)

    @cached_property
    def asked_ring(self) -> "Ring":
        """The asked payments."""
        return self.ring(None) if self.asked_lines is self.lines else Ring(self, self.asked_lines)

    def ring(self, where: Where | None) -> "Ring":
        """The payments that count."""
        return self._rings.once(where, lambda: self._ring(where))

    def accused(self, where: Where | None) -> "Accused":
        """Those of them that were ever called fraud."""
        is_accused, lines = self.pasts.log.is_accused, self.ring(where).lines
        return self._accused.once(
            where, lambda: Accused(self, kept(lines, taken(is_accused, lines.ranks)))
        )

    def _ring(self, where: Where | None) -> "Ring":
        if where is None:
            return Ring(self, self.lines)
        passes = taken(self.pasts.passes(where), self.lines.ranks)
        return Ring(self, kept(self.lines, passes))


class Ring:
    """Payments that count, line by line.

    Args:
        side: whose they are.
        lines: the payments.

    Attributes:
        side: whose they are.
        lines: the payments.
    """

    def __init__(self, side: Side, lines: Lines) -> None:
        self.side, self.lines, self._log = side, lines, side.pasts.log
        self._codes, self._edges, self._found = Memory(), Memory(), Memory()

    @cached_property
    def times(self) -> Ints:
        """When they happened, microseconds."""
        return taken(self._log.times, self.lines.ranks)

    @cached_property
    def amounts(self) -> Ints:
        """Minor units."""
        return taken(self._log.amounts, self.lines.ranks)

    @cached_property
    def sums(self) -> Ints:
        """Running sums of the amounts."""
        return running(self.amounts)

    @cached_property
    def squares(self) -> Squares:
        """Running sums of the amounts and of their squares."""
        return Squares(self.sums, *running_squares(self.amounts))

    def codes(self, column: str) -> Places:
        """Their values of a column of texts."""
        return self._codes.once(column, lambda: taken(self._log.codes(column), self.lines.ranks))

    def window(self, delay_us: int, reach_us: int) -> Window:
        """What the asked payments see of them."""
        return Window(self._edge(reach_us), self._edge(delay_us))

    def twice_medians(self, delay_us: int, reach_us: int) -> Ints:
        """Twice the median amount in a window."""
        window = self.window(delay_us, reach_us)
        return self._found.once(
            (delay_us, reach_us), lambda: twice_medians(window, *self._in_order)
        )

    @cached_property
    def _in_order(self) -> tuple[Places, Ints]:
        return in_order(self.lines.starts, self.amounts)

    def _edge(self, age_us: int) -> Places:
        now, askers = self.side.asked.times, self.side.asked_lines.starts
        return self._edges.once(
            age_us, lambda: edges(askers, now, self.lines.starts, self.times, age_us)
        )


class Accused(Ring):
    """Payments that count and were ever called fraud."""

    @cached_property
    def frauds(self) -> Frauds:
        """The payments with all verdicts on them."""
        verdicts, ranks = self._log.verdicts, self.lines.ranks
        of = array(verdicts["rank"])
        return Frauds(
            ranks=ranks,
            times=self.times,
            first=np.searchsorted(of, ranks),
            last=np.searchsorted(of, ranks, side="right"),
            known=array(verdicts["known_us"]),
            seqs=array(verdicts["seq"]),
            is_fraud=array(verdicts["is_fraud"]),
        )

    def counted(self, delay_us: int, reach_us: int) -> tuple[Places, Places]:
        """Of the frauds known to the asked payments: their number and the newest one's place."""
        asked, window = self.side.asked, self.window(delay_us, reach_us)
        return self._found.once(
            ("counted", delay_us, reach_us), lambda: fraud_counts(asked, window, self.frauds)
        )

    def streaks(self, delay_us: int, reach_us: int) -> Places:
        """How many of the newest payments seen are known frauds, without a gap."""
        ring, asked = self.side.ring(None), self.side.asked
        windows = ring.window(delay_us, reach_us), self.window(delay_us, reach_us)
        return self._found.once(
            ("streaks", delay_us, reach_us),
            lambda: streaks(asked, *windows, ring.lines.ranks, self.frauds),
        )
