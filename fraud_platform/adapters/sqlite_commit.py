"""One durable commit in SQLite."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def committing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """What the block writes is committed at its end, all of it; after an error nothing is.

    The write lock is taken at once, so that what the block reads is what it changes.

    Args:
        connection: with `isolation_level=None`, in no transaction.

    Raises:
        sqlite3.Error: it cannot be locked, written or synced.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
