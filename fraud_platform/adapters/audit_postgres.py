"""The audit log in PostgreSQL, prepared with `deploy/postgresql/audit.sql`.

The platform's login may read, and append through functions of another role that check each row; it
may change and remove nothing. Keys stay with the home.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

from fraud_platform.adapters.audit_store import LAST, TAIL, AuditStore, require_end, tail_of
from fraud_platform.adapters.postgres_link import Patience, PostgresAddress
from fraud_platform.audit_log.heads import Head
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import AuditUnavailableError, FraudPlatformError

_SCHEMA = "fraud_audit"
_APPEND = f"SELECT audit_append(ROW({', '.join(['%s'] * len(Row._fields))})::fraud_audit.acts)"


class PostgresAudit(AuditStore):
    """The log in one database; connects on first use, and again in a process that was forked.

    Args:
        url: `postgresql+psycopg2://[user:password@]host:port/database`.
        patience: how long to wait.
    """

    def __init__(self, url: str, *, patience: Patience | None = None) -> None:
        self._address = PostgresAddress.parse(url)
        self._patience = patience or Patience()
        self._lock = threading.RLock()
        self._opened: tuple[int, psycopg2.extensions.connection] | None = None

    @contextmanager
    def appending(self) -> Iterator["PostgresEnd"]:
        """One durable commit at the end, or nothing.

        Raises:
            AuditUnavailableError: PostgreSQL is away or refuses, or the log's end is not what was
                written there.
        """
        with self._transaction() as cursor:
            yield PostgresEnd(cursor)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    def _found(self, query: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._transaction() as cursor:
            return _found(cursor, query, arguments)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._lock:
            connection = self._connection()
            try:
                # Commits at the end of the block, rolls back when it fails.
                with connection, connection.cursor() as cursor:
                    yield cursor
            except psycopg2.Error as error:
                self.close()
                said = error.diag.message_primary or "no answer"
                raise self._unavailable(f"{error.pgcode or ''} {said}") from None

    def _connection(self) -> psycopg2.extensions.connection:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), self._address.connect(_SCHEMA, self._patience)
            except FraudPlatformError as error:
                raise self._unavailable(error.message) from error
        return self._opened[1]

    def _unavailable(self, told: str) -> AuditUnavailableError:
        return AuditUnavailableError(
            f"found the audit log in PostgreSQL at {self._address.place} unusable ({told.strip()}),"
            " expected to read it and to append",
            hint="check that it runs, FRAUD_AUDIT__URL, that deploy/postgresql/audit.sql was run"
            " there, and that the login is of the role fraud_audit_app",
        )


class PostgresEnd:
    """The end of the log inside one transaction that holds its lock.

    Args:
        cursor: of that transaction.

    Raises:
        AuditUnavailableError: the last row is not the one that was written last.
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.tail = tail_of(_found(cursor, f"SELECT {TAIL} FROM audit_end()"))  # noqa: S608 -- names are ours
        require_end(self.tail, next(iter(_found(cursor, LAST)), None))

    def add(self, row: Row) -> None:
        """Add the next row."""
        self._cursor.execute(_APPEND, row)
        self.tail = self.tail.after(row)

    def add_head(self, head: Head) -> None:
        """Keep a head of all rows so far."""
        self._cursor.execute("SELECT audit_add_head(%s, %s)", (head.at_us, head.note))
        self.tail = self.tail.under(head)


def _found(cursor: Any, query: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    cursor.execute(query.replace("?", "%s"), arguments)
    return [
        tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row)
        for row in cursor.fetchall()
    ]
