"""What every place for the audit log can do: read in one state, append under one lock."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fraud_platform.audit_log.heads import Head
from fraud_platform.audit_log.merkle import Frontier
from fraud_platform.audit_log.rows import Row, Tail, start_of
from fraud_platform.errors import AuditUnavailableError

MOST_SIZE = 2**62
"""More rows than any log has."""

ROW = ", ".join(Row._fields)
TAIL = ", ".join(Tail._fields)
LAST = "SELECT seq, chain FROM acts ORDER BY seq DESC LIMIT 1"

_HASH = 32
_PAGE = 2_000


@dataclass(frozen=True, kw_only=True)
class RowFilter:
    """Which rows are meant; None: whatever it is.

    Attributes:
        actor: who did it.
        action: what was done; with a `*` at the end, all that begin so.
        object: to what; likewise.
        since_us: written at or after this moment, microseconds UTC.
        after: behind this place.
        before: above this place.
    """

    actor: str | None = None
    action: str | None = None
    object: str | None = None
    since_us: int | None = None
    after: int = 0
    before: int | None = None

    @property
    def condition(self) -> tuple[str, list[str | int]]:
        """As SQL with `?`, and its arguments."""
        told: list[tuple[str, str | int]] = [("seq > ?", self.after)]
        told += [("seq < ?", self.before)] if self.before is not None else []
        told += [("actor = ?", self.actor)] if self.actor is not None else []
        told += [("at_us >= ?", self.since_us)] if self.since_us is not None else []
        for name, value in (("action", self.action), ("object", self.object)):
            if value is not None and value.endswith("*"):
                start = value[:-1]
                told.append((f"substr({name}, 1, {len(start)}) = ?", start))
            elif value is not None:
                told.append((f"{name} = ?", value))
        return " AND ".join(text for text, _ in told), [value for _, value in told]


class AuditEnd(Protocol):
    """The end of the log while its lock is held: nobody else appends."""

    @property
    def tail(self) -> Tail:
        """Where the next row goes."""

    def add(self, row: Row) -> None:
        """Add the next row; the tail moves."""

    def add_head(self, head: Head) -> None:
        """Keep a head of all rows so far; the tail moves."""


class AuditStore(ABC):
    """Where the audit log is kept: tables `acts`, `heads` and `tail` in one database."""

    @abstractmethod
    def appending(self) -> AbstractContextManager[AuditEnd]:
        """One durable commit at the end, or nothing.

        Raises:
            AuditUnavailableError: it cannot be written, or its end is not what was written there.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; the next use opens a new one."""

    @abstractmethod
    def _found(self, query: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows of a query with `?`, in one transaction; bytes are `bytes`.

        Raises:
            AuditUnavailableError: it cannot be read.
        """

    def rows(
        self, which: RowFilter, *, limit: int | None = None, newest: bool = False
    ) -> Iterator[Row]:
        """Rows in order, or the newest first.

        Between two pages nothing is held, and anybody may append.

        Args:
            which: only these.
            limit: at most so many.
            newest: whether to begin at the end.

        Raises:
            AuditUnavailableError: it cannot be read.
        """
        left = limit
        while left is None or left > 0:
            many = _PAGE if left is None else min(left, _PAGE)
            rows = self._page(which, many, newest)
            yield from rows
            if len(rows) < many:
                return
            last = rows[-1].seq
            which = replace(which, before=last) if newest else replace(which, after=last)
            left = None if left is None else left - many

    def heads(self, *, above: int = 0, upto: int = MOST_SIZE) -> Sequence[str]:
        """The notes of heads as they are stored, the smallest size first.

        Args:
            above: only those of more rows.
            upto: only those of at most so many.
        """
        query = "SELECT note FROM heads WHERE size > ? AND size <= ? ORDER BY size"
        return [str(note) for (note,) in self._found(query, (above, upto))]

    def tail(self) -> Tail:
        """Where the next row would go, as it is stored."""
        return tail_of(self._found(f"SELECT {TAIL} FROM tail", ()))  # noqa: S608 -- names are ours

    def _page(self, which: RowFilter, many: int, newest: bool) -> list[Row]:
        condition, arguments = which.condition
        query = (
            f"SELECT {ROW} FROM acts WHERE {condition}"  # noqa: S608 -- names are ours
            f" ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?"
        )
        return list(map(Row._make, self._found(query, [*arguments, many])))


def tail_of(found: Sequence[Sequence[Any]]) -> Tail:
    """The log's end, of the rows of its table `tail`.

    Raises:
        AuditUnavailableError: there is none.
    """
    if not found:
        raise AuditUnavailableError(
            "found an audit log that does not say where it ends, expected one row in its table"
            " tail",
            hint="somebody changed it: keep it as evidence, and compare with a backup",
        )
    tail = Tail._make(found[0])
    return tail._replace(frontier=unpacked(tail.frontier))  # type: ignore[arg-type]  # stored as bytes


def require_end(tail: Tail, last: tuple[int, bytes] | None) -> None:
    """Refuse to go on where the last row is not the one that was written last.

    Args:
        tail: the end as it is stored.
        last: seq and chain of the last row; None without any.

    Raises:
        AuditUnavailableError: rows were removed, added or changed there.
    """
    found = (0, start_of(tail.name).chain) if last is None else (last[0], bytes(last[1]))
    if found != (tail.size, tail.chain):
        raise AuditUnavailableError(
            f"found an audit log that ends at row {found[0]}, expected the row {tail.size} that was"
            " written last",
            hint="somebody changed it: keep it as evidence; fraud-platform audit verify",
        )


def packed(frontier: Frontier) -> bytes:
    """A frontier as it is stored."""
    return b"".join(frontier)


def unpacked(stored: bytes) -> Frontier:
    """A frontier from what is stored."""
    return tuple(stored[at : at + _HASH] for at in range(0, len(stored), _HASH))
