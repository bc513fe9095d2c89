"""Where the kept history of an event log begins, and which ids were purged.

Both stand in the log's own file, written in the commits that delete, so that nobody who reads a log
takes what was purged for what never was. That it was purged rightly, only the audit log proves.
"""

import hashlib
import sqlite3
from typing import NamedTuple

from fraud_platform.errors import PurgedError
from fraud_platform.events import moment_of

_TABLES = """
CREATE TABLE IF NOT EXISTS purges (
    audit_row INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, newest_us INTEGER NOT NULL,
    before_us INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS purged_ids (
    id BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_ID_BYTES = 16


class Horizon(NamedTuple):
    """Where a log begins whose older rows were purged.

    Attributes:
        audit_row: the newest row of the audit log that announces a purge of it.
        last_seq: the last purged position.
        newest_us: the newest time of a payment or verdict among what was purged, microseconds UTC.
        before_us: rejected rows of earlier partitions were purged.
    """

    audit_row: int
    last_seq: int
    newest_us: int
    before_us: int


def begin(connection: sqlite3.Connection, horizon: Horizon) -> None:
    """Say that rows up to here are about to go; the first that a purge writes."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO purges VALUES (?, ?, ?, ?)", horizon)


def remember(connection: sqlite3.Connection, names: list[tuple[str, int]]) -> None:
    """Keep digests of ids that are about to go, each with its position."""
    rows = [(_id(name), seq) for name, seq in names]
    connection.executemany("INSERT OR REPLACE INTO purged_ids VALUES (?, ?)", rows)


def horizon(connection: sqlite3.Connection) -> Horizon | None:
    """Where the kept history begins; None: nothing was ever purged."""
    if not _is_there(connection, "purges"):
        return None
    row = connection.execute(
        "SELECT MAX(audit_row), MAX(last_seq), MAX(newest_us), MAX(before_us) FROM purges"
    ).fetchone()
    return None if row[0] is None else Horizon(*row)


def purged_position(connection: sqlite3.Connection, name: str) -> int | None:
    """Where a purged transaction_id or decision_id stood; None: it was not purged."""
    if not _is_there(connection, "purged_ids"):
        return None
    query = "SELECT seq FROM purged_ids WHERE id = ?"
    row = connection.execute(query, (_id(name),)).fetchone()
    return None if row is None else int(row[0])


def require_kept(connection: sqlite3.Connection, start_us: int, *, rejected: bool = False) -> None:
    """Refuse to read a stretch of time of which a part was purged.

    Args:
        connection: to the log.
        start_us: where the stretch begins, microseconds UTC.
        rejected: whether it is of rejected rows.

    Raises:
        PurgedError: not all of it is kept.
    """
    found = horizon(connection)
    if found is None:
        return
    whole_us = found.before_us if rejected else found.newest_us + 1
    if start_us < whole_us:
        raise PurgedError(
            f"found the log purged up to {moment_of(whole_us):%Y-%m-%d %H:%M}Z (row"
            f" {found.audit_row} of the audit log), expected it from"
            f" {moment_of(start_us):%Y-%m-%d %H:%M}Z on",
            hint="what retention deleted can only be had from a backup that is older",
        )


def _id(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:_ID_BYTES]


def _is_there(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    return connection.execute(query, (table,)).fetchone() is not None
