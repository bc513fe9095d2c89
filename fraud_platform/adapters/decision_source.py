"""The log as a replay of its decisions needs it: stretch by stretch, each decision in its place.

A decision's place is the position that its features had seen.
Reads in short transactions, so that a scorer may go on meanwhile; what it appends after the start
is left out. What is done with a decision is `decision_replay`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fraud_platform.adapters import log_writer
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.decision_replay import Asked, Page
from fraud_platform.events import Decision, Transaction, microseconds
from fraud_platform.features.declaration import MICROSECOND
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import LATENESS, LOOKBACK
from fraud_platform.selective_labels import Spent, day_of

_PAGE = 2_000
"""Events, and about as many decisions, in memory at a time."""

_DECISION = ", ".join(f"d.{name}" for name in Decision._fields)
_TRANSACTION = ", ".join(f"t.{name}" for name in Transaction._fields)
_READ_AT = "MIN(MAX(d.seen_seq, 0), t.seq - 1)"
# CROSS JOIN: SQLite keeps the order of the tables, which is the cheap one each time.
_FROM_DECISIONS = "FROM decisions d LEFT JOIN transactions t USING (transaction_id)"
_FROM_TRANSACTIONS = "FROM transactions t CROSS JOIN decisions d USING (transaction_id)"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which decisions to replay.

    Attributes:
        since: of payments that happened from then on; None: from the first on.
        until: of payments that happened before; None: to the last.
        transaction_id: of this payment only.
        every: those whose place in the log this number divides; 1: all.
        limit: at most so many, the earliest in the log first.
        whole_us: of payments that happened later only, microseconds UTC.
    """

    since: datetime | None = None
    until: datetime | None = None
    transaction_id: str | None = None
    every: int = 1
    limit: int | None = None
    whole_us: int | None = None

    @property
    def condition(self) -> str:
        """As SQL over `d`, with `arguments`."""
        parts = ["TRUE"]
        parts += ["d.event_us >= :since"] if self.since is not None else []
        parts += ["d.event_us < :until"] if self.until is not None else []
        parts += ["d.transaction_id = :id"] if self.transaction_id is not None else []
        parts += ["d.seq % :every = 0"] if self.every > 1 else []
        parts += ["d.event_us > :whole"] if self.whole_us is not None else []
        return " AND ".join(parts)

    @property
    def arguments(self) -> dict[str, int | str | None]:
        """The values of the condition."""
        return {
            "since": None if self.since is None else microseconds(self.since),
            "until": None if self.until is None else microseconds(self.until),
            "id": self.transaction_id,
            "every": self.every,
            "whole": self.whole_us,
        }


@dataclass(frozen=True)
class Extent:
    """Where the chosen decisions are.

    Attributes:
        decisions: how many there are.
        first: the lowest position at which features are read.
        last: the highest.
        orphans: decisions whose transaction the log lacks; not among the others.
        orphan: the transaction id of one of them.
        cut: decisions whose windows reach into what was purged; not among the others.
        one_cut: the transaction id of one of them.
    """

    decisions: int
    first: int
    last: int
    orphans: int
    orphan: str | None
    cut: int = 0
    one_cut: str | None = None


class DecisionSource:
    """The decisions of one log, as of now.

    Args:
        path: the log's SQLite file; its journal is drained first.
        choice: which decisions.

    Attributes:
        extent: where they are.
    """

    def __init__(self, path: Path, choice: Choice) -> None:
        self._choice = choice
        with closing(EventLog(path)) as log:
            log.drain()
        self._file = LogFile(path)
        self._look()

    def state(self, log: EventLog, snapshots: StateSnapshots | None) -> FeatureRings:
        """What the fold begins with: the newest snapshot before the first decision, or nothing.

        With nothing, decisions whose windows reach into what was purged are left out: `extent.cut`.
        """
        started = None
        if snapshots is not None:
            started = snapshots.newest(log, not_after=self.extent.first)
        if started is None and (horizon := log.horizon()) is not None:
            self._leave_out_cut(horizon.newest_us + LOOKBACK // MICROSECOND)
        return started or FeatureRings()

    def pages(self, after_seq: int) -> Iterator[Page]:
        """The log from a position to the last chosen decision, with the decisions.

        Args:
            after_seq: where the state stands; with an empty state what no window can see any more
                is left out.
        """
        since_us = None if after_seq else self._horizon_us()
        left = self._choice.limit
        while after_seq <= self.extent.last and left != 0:
            with self._file.snapshot() as connection:
                events = log_writer.follow(
                    connection, after_seq=after_seq, since_us=since_us, limit=_PAGE
                )
            upto = events[-1].seq if events else self.extent.last + 1
            asked = self._asked(after_seq, min(upto, self.extent.last + 1))[:left]
            left = None if left is None else left - len(asked)
            yield Page(events, asked)
            after_seq = upto

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _look(self) -> None:
        self.extent = self._measure()
        self._strays = self._overtaken()
        self._spending = self._explored()

    def _leave_out_cut(self, whole_us: int) -> None:
        """Choose only decisions of payments that happened after a moment, and count the others."""
        query = (
            f"SELECT COUNT(*), MIN(d.transaction_id) {_FROM_DECISIONS}"
            f" WHERE {self._choice.condition} AND d.event_us <= {whole_us:d} AND t.seq IS NOT NULL"
        )
        with self._file.snapshot() as connection:
            cut, one = connection.execute(query, self._choice.arguments).fetchone()
        self._choice = replace(self._choice, whole_us=whole_us)
        self._look()
        self.extent = replace(self.extent, cut=cut, one_cut=one)

    def _measure(self) -> Extent:
        query = (
            f"SELECT COUNT(t.seq), MIN({_READ_AT}), MAX({_READ_AT}), SUM(t.seq IS NULL),"
            f" MIN(CASE WHEN t.seq IS NULL THEN d.transaction_id END) {_FROM_DECISIONS}"
            f" WHERE {self._choice.condition}"
        )
        with self._file.snapshot() as connection:
            found = connection.execute(query, self._choice.arguments).fetchone()
        count, first, last, orphans, orphan = found
        return Extent(count, first or 0, -1 if last is None else last, orphans or 0, orphan)

    def _overtaken(self) -> list[tuple[int, str]]:
        """Where those are read that had not seen the position right before their own, ascending.

        Only an engine of before the journal left any: a few, where others wrote meanwhile.
        """
        query = (
            f"SELECT {_READ_AT}, d.transaction_id {_FROM_DECISIONS}"
            f" WHERE {self._choice.condition} AND d.seen_seq <> t.seq - 1"
        )
        with self._file.snapshot() as connection:
            return sorted(connection.execute(query, self._choice.arguments).fetchall())

    def _asked(self, start: int, end: int) -> list[Asked]:
        """The decisions whose features are read at a position in [start, end)."""
        straight = (
            f"SELECT t.seq, t.seq - 1, {_TRANSACTION}, {_DECISION} {_FROM_TRANSACTIONS}"
            f" WHERE t.seq > :start AND t.seq <= :end AND d.seen_seq = t.seq - 1"
            f" AND {self._choice.condition}"
        )
        strayed = (
            f"SELECT t.seq, {_READ_AT}, {_TRANSACTION}, {_DECISION} {_FROM_TRANSACTIONS}"
            f" WHERE t.transaction_id = :stray"
        )
        first, last = (bisect_left(self._strays, (position,)) for position in (start, end))
        arguments = self._choice.arguments | {"start": start, "end": end}
        with self._file.snapshot() as connection:
            rows = connection.execute(straight, arguments).fetchall()
            for _, stray in self._strays[first:last]:
                rows += connection.execute(strayed, {"stray": stray}).fetchall()
        found = [one._replace(spent=self._spent_before(one)) for one in map(_asked, rows)]
        return sorted(found, key=lambda one: (one.read_at, one.seq))

    def _explored(self) -> dict[int, list[tuple[int, Spent]]]:
        """What exploration had spent behind each position where it spent something, by day."""
        query = (
            "SELECT d.seq, d.decided_us, d.explored, t.amount_minor FROM decisions d"
            " JOIN transactions t USING (transaction_id) WHERE d.explored IS NOT NULL"
            " ORDER BY d.seq"
        )
        found: dict[int, list[tuple[int, Spent]]] = {}
        with self._file.snapshot() as connection:
            for seq, decided_us, explored, amount_minor in connection.execute(query):
                spending = found.setdefault(day_of(decided_us), [])
                before = spending[-1][1] if spending else Spent()
                spending.append((seq, before.after(explored, amount_minor)))
        return found

    def _spent_before(self, asked: Asked) -> Spent:
        spending = self._spending.get(day_of(asked.decision.decided_us), [])
        place = bisect_left(spending, (asked.seq,))
        return spending[place - 1][1] if place else Spent()

    def _horizon_us(self) -> int | None:
        """The oldest payment that a window could see at the first position, microseconds."""
        with self._file.snapshot() as connection:
            newest = log_writer.newest_event(connection, self.extent.first)
        return None if newest is None else microseconds(newest - LOOKBACK - LATENESS)


def _asked(row: tuple[object, ...]) -> Asked:
    seq, read_at, *values = row
    payment, decision = values[: len(Transaction._fields)], values[len(Transaction._fields) :]
    return Asked(
        seq,  # type: ignore[arg-type]  # SQLite returns objects; columns are typed
        read_at,  # type: ignore[arg-type]  # as above
        Transaction(*payment),  # type: ignore[arg-type]  # as above
        log_writer.decision_of(tuple(decision)),
    )
