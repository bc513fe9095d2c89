"""What the audit log says was purged of an event log, and whether it may be believed.

A row `retention.purge` announces ranges before they are deleted. It counts only if it fits what was
sealed: whole ranges behind the ones purged before, the root over their roots, all older than its
limit at its time, and no legal hold. Any other deletion is what it was before: found.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.audit_log.merkle import root
from fraud_platform.audit_log.rows import Row
from fraud_platform.retention import before_us

PURGE, HOLD, RELEASE = "retention.purge", "retention.hold", "retention.release"


class Sealed(Protocol):
    """A sealed range, as `log_seals.Seal` has it."""

    @property
    def first(self) -> int:
        """First position."""

    @property
    def last(self) -> int:
        """Last position."""

    @property
    def root(self) -> bytes:
        """Of the tree over its leaves."""

    @property
    def row(self) -> Row:
        """The audit log's row that says so."""


class LogPurge(NamedTuple):
    """Ranges of one event log that a row of the audit log says are purged.

    Attributes:
        first: their first position.
        last: their last one.
        row: that row.
        is_done: whether the deletion ended; else some of it may still stand there.
    """

    first: int
    last: int
    row: Row
    is_done: bool


@dataclass(frozen=True)
class Claims:
    """The rows of retention in an audit log.

    Attributes:
        rows: in order, first rows and second ones.
    """

    rows: Sequence[Row]

    @property
    def ends(self) -> Mapping[int, str]:
        """What became of the acts that ended, by their first row."""
        return {row.begun: row.outcome for row in self.rows if row.begun}

    @property
    def hold(self) -> Row | None:
        """The hold in force at the end, or None."""
        held = None
        for row in self.rows:
            held = _held(held, row)
        return held

    def begun(self, kind: str) -> Iterator[Row]:
        """The first rows of purges of objects of a kind, none of those under a hold."""
        held = None
        for row in self.rows:
            held = _held(held, row)
            is_first = row.action == PURGE and row.outcome == "begun"
            if is_first and row.object.startswith(kind) and held is None:
                yield row

    def of(self, log: str, seals: Iterable[Sealed]) -> list[LogPurge]:
        """The purges of an event log that fit what was sealed, oldest first.

        Args:
            log: its name.
            seals: its seals, oldest first; read no further than the claims reach.
        """
        told = [one for one in map(self._read, self.begun(f"log:{log}")) if one is not None]
        if not told:
            return []
        roots = _Roots(seals, max(one.last for one in told))
        found: list[LogPurge] = []
        for one in told:
            covered = max((purge.last for purge in found), default=0)
            if one.first <= covered + 1 and roots.fit(one):
                found.append(one)
        return found

    def _read(self, row: Row) -> LogPurge | None:
        """What a first row says; None where it says nothing, or what cannot be."""
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            told = row.told
            first, last = int(told["first"]), int(told["last"])
            is_old = int(told["newest_us"]) < before_us(row.at_us, max(1, int(told["days"])))
            if 0 < first <= last and is_old:
                return LogPurge(first, last, row, self.ends.get(row.seq) == "done")
        return None


def _held(held: Row | None, row: Row) -> Row | None:
    """The hold behind a row: in force as soon as it is announced, and until a release is done."""
    if row.action == HOLD and not row.outcome.startswith("failed"):
        return held or row
    return None if row.action == RELEASE and row.outcome == "done" else held


class _Roots:
    """The sealed ranges that claims are about."""

    def __init__(self, seals: Iterable[Sealed], last: int) -> None:
        self._seals: list[tuple[int, int, bytes, int]] = []
        for seal in seals:
            if seal.first > last:
                break
            self._seals.append((seal.first, seal.last, seal.root, seal.row.seq))

    def fit(self, purge: LogPurge) -> bool:
        """Whether a claim is of whole ranges, sealed before it, and names the root over theirs."""
        mine = [seal for seal in self._seals if purge.first <= seal[0] and seal[1] <= purge.last]
        if not mine or (mine[0][0], mine[-1][1]) != (purge.first, purge.last):
            return False
        is_sealed = all(seal[3] < purge.row.seq for seal in mine)
        return is_sealed and root([seal[2] for seal in mine]).hex() == purge.row.before


def purge_of(purges: Sequence[LogPurge], position: int) -> LogPurge | None:
    """The purge that a position went by: one that ended, if there is one."""
    found = [one for one in purges if one.first <= position <= one.last]
    return next((one for one in found if one.is_done), found[0] if found else None)


def claims_of(audit: AuditLog) -> Claims:
    """The rows of retention, from the first on."""
    return Claims(list(audit.rows(RowFilter(action="retention.*"))))
