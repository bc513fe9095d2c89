"""What a seal covers: everything that the event log stores at a position, in one canonical form.

A record is all that stands at one position: a transaction with its decision, or a verdict. Its leaf
is RFC 6962's over MessagePack in its shortest forms: texts and bytes with their length before them,
floats as 8 bytes big-endian, columns by name. Columns without a value are left out, so a column
that the log gets later changes no leaf, as long as old rows hold NULL there.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fraud_platform.audit_log.merkle import leaf_hash
from fraud_platform.errors import LogUnavailableError

Record = dict[str, dict[str, object]]

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_EMPTY = leaf_hash(_encode({}))
"""Of a position where nothing stands."""


class Columns(NamedTuple):
    """Names of the stored columns, sorted: that is how they are encoded."""

    transactions: tuple[str, ...]
    labels: tuple[str, ...]
    decisions: tuple[str, ...]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """One state of the event log, never written.

    Raises:
        LogUnavailableError: it cannot be read.
    """
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=5.0, isolation_level=None)) as c:
            c.execute("BEGIN")
            yield c
    except sqlite3.Error as error:
        raise LogUnavailableError(
            f"found the event log {path} unreadable ({error}), expected to read it",
            hint="check that the file exists and that this user may read its folder",
        ) from error


def records(connection: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, Record]]:
    """What stands at the positions of a range, in order; empty positions are left out."""
    columns = _columns(connection)
    labels = _labels(connection, columns.labels, first, last)
    width = len(columns.transactions)
    waiting = next(labels, None)
    for seq, *values in _payments(connection, columns, first, last):
        while waiting is not None and waiting[0] < seq:
            yield waiting
            waiting = next(labels, None)
        record: Record = {"transaction": _told(columns.transactions, values[:width])}
        if values[width] is not None:
            record["decision"] = _told(columns.decisions, values[width + 1 :])
        if waiting is not None and waiting[0] == seq:
            record |= waiting[1]
            waiting = next(labels, None)
        yield seq, record
    while waiting is not None:
        yield waiting
        waiting = next(labels, None)


def leaf_of(record: Record) -> bytes:
    """The leaf of a record.

    Examples:
        >>> leaf_of({}).hex()[:8]
        '085edad4'
    """
    return leaf_hash(_encode(record))


def leaves(connection: sqlite3.Connection, first: int, last: int) -> list[bytes]:
    """The leaves of a range, one for each position."""
    found = [_EMPTY] * (last - first + 1)
    for seq, record in records(connection, first, last):
        found[seq - first] = leaf_hash(_encode(record))
    return found


def _payments(
    connection: sqlite3.Connection, columns: Columns, first: int, last: int
) -> Iterator[tuple[Any, ...]]:
    names = [f"t.{name}" for name in columns.transactions]
    names += ["d.transaction_id", *(f"d.{name}" for name in columns.decisions)]
    return connection.execute(
        f"SELECT t.seq, {', '.join(names)} FROM transactions t"  # noqa: S608 -- names are ours
        " LEFT JOIN decisions d USING (transaction_id) WHERE t.seq BETWEEN ? AND ? ORDER BY t.seq",
        (first, last),
    )


def _labels(
    connection: sqlite3.Connection, names: tuple[str, ...], first: int, last: int
) -> Iterator[tuple[int, Record]]:
    rows = connection.execute(
        f"SELECT seq, {', '.join(names)} FROM labels WHERE seq BETWEEN ? AND ? ORDER BY seq",  # noqa: S608 -- names are ours
        (first, last),
    )
    return ((seq, {"label": _told(names, values)}) for seq, *values in rows)


def _told(names: tuple[str, ...], values: list[object]) -> dict[str, object]:
    return {n: v for n, v in zip(names, values, strict=True) if v is not None}


def _columns(connection: sqlite3.Connection) -> Columns:
    return Columns(
        *(
            tuple(sorted(row[1] for row in connection.execute(f"PRAGMA table_info({table})")))
            for table in Columns._fields
        )
    )
