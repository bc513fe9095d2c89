"""The audit log in an SQLite file of its owner's alone.

Triggers refuse what would change or remove a row; they stop mistakes and programs, not the owner of
the file. Who changes it all the same is found by `audit_log.verification`.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fraud_platform.adapters.audit_store import (
    LAST,
    ROW,
    TAIL,
    AuditStore,
    packed,
    require_end,
    tail_of,
)
from fraud_platform.adapters.sqlite_commit import committing
from fraud_platform.audit_log.heads import Head
from fraud_platform.audit_log.rows import Row, Tail, start_of
from fraud_platform.errors import AuditUnavailableError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS acts (
    seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, actor TEXT NOT NULL, role TEXT NOT NULL,
    action TEXT NOT NULL, object TEXT NOT NULL, origin TEXT NOT NULL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, facts TEXT NOT NULL,
    begun INTEGER NOT NULL, epoch INTEGER NOT NULL, chain BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tail (
    one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL, size INTEGER NOT NULL,
    chain BLOB NOT NULL, frontier BLOB NOT NULL, epoch INTEGER NOT NULL,
    head_size INTEGER NOT NULL, head_us INTEGER NOT NULL, head_digest TEXT NOT NULL) STRICT;
"""
_FROZEN = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
    " BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;\n"
    for table in ("acts", "heads")
    for verb in ("UPDATE", "DELETE")
)
_GROWING = """
CREATE TRIGGER IF NOT EXISTS tail_no_delete BEFORE DELETE ON tail
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER IF NOT EXISTS tail_grows BEFORE UPDATE ON tail
WHEN NEW.name != OLD.name OR NEW.size < OLD.size OR NEW.head_size < OLD.head_size
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER IF NOT EXISTS acts_in_order BEFORE INSERT ON acts
WHEN NEW.seq != (SELECT size FROM tail) + 1
BEGIN SELECT RAISE(ABORT, 'the audit log has no gaps'); END;
"""
_DURABLE = "PRAGMA synchronous=FULL"
_TAKE = f"INSERT INTO acts ({ROW}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608 -- names are ours
_TAIL = f"SELECT {TAIL} FROM tail"  # noqa: S608 -- names are ours
_MOVE = f"UPDATE tail SET {', '.join(f'{name} = ?' for name in Tail._fields)}"  # noqa: S608 -- names are ours


class SqliteAudit(AuditStore):
    """The log behind one path; opens on first use, and again in a process that was forked.

    Args:
        path: the file; made when missing, mode 0600, in a folder of mode 0700.
        busy_seconds: how long to wait for another process's row before giving up.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._lock = threading.RLock()
        self._opened: tuple[int, sqlite3.Connection] | None = None

    @contextmanager
    def appending(self) -> Iterator["SqliteEnd"]:
        """One durable commit at the end, or nothing.

        Raises:
            AuditUnavailableError: the file cannot be opened, locked, written or synced, or its end
                is not what was written there.
        """
        with self._using() as connection, committing(connection):
            yield SqliteEnd(connection)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    def _found(self, query: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._using() as connection:
            return connection.execute(query, arguments).fetchall()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), self._open()
            yield self._opened[1]

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):  # SQLite's own files get the mode of this one
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_DURABLE)
            _prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise AuditUnavailableError(
                f"found the audit log {self._path} unusable ({error}), expected to read and write"
                " it",
                hint="check that the disk has room and that its owner runs this",
            ) from error


class SqliteEnd:
    """The end of the log inside one write transaction.

    Args:
        connection: inside BEGIN IMMEDIATE.

    Raises:
        AuditUnavailableError: the last row is not the one that was written last.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.tail = tail_of(connection.execute(_TAIL).fetchall())
        require_end(self.tail, connection.execute(LAST).fetchone())

    def add(self, row: Row) -> None:
        """Add the next row."""
        self._connection.execute(_TAKE, row)
        self._move(self.tail.after(row))

    def add_head(self, head: Head) -> None:
        """Keep a head of all rows so far."""
        self._connection.execute("INSERT INTO heads VALUES (?, ?)", (head.size, head.note))
        self._move(self.tail.under(head))

    def _move(self, tail: Tail) -> None:
        self._connection.execute(_MOVE, tail._replace(frontier=packed(tail.frontier)))  # type: ignore[arg-type]  # stored as bytes
        self.tail = tail


def _prepare(connection: sqlite3.Connection) -> None:
    """Tables, triggers and the log's name, once; two processes may do it at the same time."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'acts_in_order'").fetchone():
        return
    with committing(connection):
        for statement in _statements():
            connection.execute(statement)
        empty = start_of(os.urandom(16).hex())
        connection.execute(
            # A log with rows that lost its tail must not pass for an empty one.
            f"INSERT OR IGNORE INTO tail (one, {TAIL}) SELECT 1, ?, ?, ?, ?, ?, ?, ?, ?"  # noqa: S608 -- names are ours
            " WHERE NOT EXISTS (SELECT 1 FROM acts)",
            empty._replace(frontier=b""),  # type: ignore[arg-type]  # stored as bytes
        )


def _statements() -> Iterator[str]:
    """The schema's statements one by one: `executescript` would commit before it begins."""
    statement = ""
    for line in f"{_SCHEMA}{_FROZEN}{_GROWING}".splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
