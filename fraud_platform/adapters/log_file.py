"""The SQLite file of the event log: its tables, its connections and its transactions.

One connection per thread, opened on first use. It is also where the scorer's journal is drained to,
and what its owner asks about everything that is drained.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fraud_platform.adapters import log_sink, log_writer
from fraud_platform.adapters.drain import Drained, Seal
from fraud_platform.adapters.journal_frames import LabelKey
from fraud_platform.adapters.log_origins import INGESTED
from fraud_platform.adapters.log_sink import LogRows
from fraud_platform.adapters.log_writer import Recorded
from fraud_platform.adapters.sqlite_commit import committing
from fraud_platform.errors import LogUnavailableError
from fraud_platform.events import Event
from fraud_platform.selective_labels import Spent

JOURNAL_FOLDER = "journal"
"""The journal of a log stands beside its file."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS transactions (
    seq INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, event_us INTEGER NOT NULL,
    card_id TEXT NOT NULL, terminal_id TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL, merchant_category TEXT, payment_method TEXT, country TEXT,
    device_id TEXT, entry_mode TEXT, latitude REAL, longitude REAL,
    received_us INTEGER NOT NULL, source TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS transactions_by_time ON transactions (event_us);
CREATE TABLE IF NOT EXISTS labels (
    seq INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL REFERENCES transactions (transaction_id),
    verdict TEXT NOT NULL, label_source TEXT NOT NULL, reason TEXT, known_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL, happened_us INTEGER, reported_by TEXT,
    UNIQUE (transaction_id, verdict, label_source, known_us)) STRICT;
CREATE INDEX IF NOT EXISTS labels_by_time ON labels (known_us);
CREATE TABLE IF NOT EXISTS decisions (
    transaction_id TEXT PRIMARY KEY REFERENCES transactions (transaction_id),
    decision_id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, seen_seq INTEGER NOT NULL,
    event_us INTEGER NOT NULL, decided_us INTEGER NOT NULL, decision TEXT NOT NULL, score REAL,
    reasons TEXT NOT NULL, probability REAL, expected_fpr REAL, mode TEXT NOT NULL,
    missing TEXT NOT NULL, arm TEXT NOT NULL, is_late INTEGER NOT NULL, model_version TEXT,
    model_digest TEXT, policy_digest TEXT NOT NULL, feature_spec_digest TEXT NOT NULL,
    features BLOB NOT NULL, latency_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,
    pass_propensity REAL, audit_propensity REAL, explored TEXT, governed TEXT, review_cut REAL,
    decline_cut REAL, fpr_bound REAL, budget REAL, price_minor REAL,
    worth_multiplier REAL) STRICT;
CREATE INDEX IF NOT EXISTS decisions_by_time ON decisions (event_us);
CREATE TABLE IF NOT EXISTS rejections (
    partition_us INTEGER NOT NULL, received_us INTEGER NOT NULL, source TEXT NOT NULL,
    row_number INTEGER, transaction_id TEXT, broken_rule TEXT NOT NULL, detail TEXT NOT NULL,
    payload TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS rejections_once
    ON rejections (source, COALESCE(row_number, -1), broken_rule, payload);
CREATE INDEX IF NOT EXISTS rejections_by_time ON rejections (partition_us);
CREATE TABLE IF NOT EXISTS journal_position (
    one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, byte INTEGER NOT NULL)
    STRICT;
CREATE TABLE IF NOT EXISTS segments (
    number INTEGER PRIMARY KEY, journal TEXT NOT NULL, first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, previous TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS shadow_scores (
    seq INTEGER NOT NULL, transaction_id TEXT NOT NULL, model_version TEXT NOT NULL,
    model_digest TEXT NOT NULL, score REAL NOT NULL, decision TEXT NOT NULL,
    UNIQUE (seq, model_digest)) STRICT;
"""

_LATER_COLUMNS = {
    "labels": {"happened_us": "INTEGER", "reported_by": "TEXT"},
    "decisions": {
        "probability": "REAL",
        "expected_fpr": "REAL",
        "missing": "TEXT NOT NULL DEFAULT '[]'",
        "arm": "TEXT NOT NULL DEFAULT 'none'",
        "expires_us": "INTEGER NOT NULL DEFAULT 0",
        "pass_propensity": "REAL",
        "audit_propensity": "REAL",
        "explored": "TEXT",
        "governed": "TEXT",
        **dict.fromkeys(("review_cut", "decline_cut", "fpr_bound", "budget"), "REAL"),
        "price_minor": "REAL",
        "worth_multiplier": "REAL",
    },
}
"""Columns that older logs lack; their rows get nulls, or what says "not told"."""

_EXPLORED = (
    "CREATE INDEX IF NOT EXISTS decisions_explored ON decisions (seq) WHERE explored IS NOT NULL"
)
"""Few are: what is spent, and what waits for an audit, is asked again and again."""


def _widen(connection: sqlite3.Connection) -> None:
    """Give the tables of an older log the columns they lack."""
    for table, columns in _LATER_COLUMNS.items():
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for name, declaration in columns.items():
            if name not in known:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")


class LogFile:
    """The file behind one path.

    Args:
        path: its folder is made when missing.
        busy_seconds: how long a write waits for another process's commit before it gives up.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 60.0) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._threads = threading.local()

    def identity(self) -> str:
        """What names the log."""
        with self._translated():
            return log_sink.identity(self._connection())

    def drained(self) -> Drained:
        """How far the journal is drained into the file."""
        with self._translated():
            return log_sink.drained(self._connection())

    @contextmanager
    def draining(self) -> Iterator[LogRows]:
        """A durable commit of rows of the journal."""
        with self.transaction() as connection:
            yield LogRows(connection)

    def seals(self) -> list[Seal]:
        """The journal's finished segments, oldest first."""
        with self._translated():
            return log_sink.seals(self._connection())

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None when the file has none."""
        # Most ids are new. One statement sees one state: no transaction around it.
        query = "SELECT 1 FROM transactions WHERE transaction_id = ?"
        with self._translated():
            if self._connection().execute(query, (transaction_id,)).fetchone() is None:
                return None
        with self.snapshot() as connection:
            return log_writer.recorded(connection, transaction_id)

    def held(self, transaction_ids: Sequence[str]) -> set[str]:
        """Those of these ids, one or more, that the file has: one question, not one for each."""
        # By powers of two there are few such statements, and SQLite keeps them compiled.
        asked = 1 << (len(transaction_ids) - 1).bit_length()
        ids = [*transaction_ids, *[transaction_ids[-1]] * (asked - len(transaction_ids))]
        marks = ", ".join("?" * asked)
        query = f"SELECT transaction_id FROM transactions WHERE transaction_id IN ({marks})"  # noqa: S608 -- no input in it
        with self._translated():
            return {name for (name,) in self._connection().execute(query, ids)}

    def spent(self) -> dict[int, Spent]:
        """What exploration has spent, by UTC day of the decisions; days without any are left out.

        Days as `selective_labels.day_of` counts them.
        """
        with self._translated():
            return log_sink.spent(self._connection())

    def labels_of(self, transaction_id: str) -> dict[LabelKey, int]:
        """All verdicts on a transaction that the file has, each with its position."""
        with self._translated():
            return log_sink.labels_of(self._connection(), transaction_id)

    def follow(self, after_seq: int) -> list[Event]:
        """The events after a position, in order."""
        with self.snapshot() as connection:
            return log_writer.follow(connection, after_seq=after_seq, since_us=None, limit=None)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """One state of the log for several queries: without it a commit can come in between."""
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One durable commit: all of it, or nothing.

        Raises:
            LogUnavailableError: the file cannot be opened, locked, written or synced.
        """
        with self._translated(), committing(self._connection()) as connection:
            yield connection

    def close(self) -> None:
        """Close this thread's connection; the next use opens a new one."""
        connection = self._threads.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
                # SQLite does not wait where two connections turn one new file to WAL.
                fcntl.flock(lock, fcntl.LOCK_EX)
                return self._prepared()
        except OSError as error:
            raise self._unavailable(error) from error

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # a new file's; others keep theirs
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA + INGESTED)
            _widen(connection)
            connection.execute(_EXPLORED)
            log_writer.identify(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> LogUnavailableError:
        return LogUnavailableError(
            f"found the event log {self._path} unusable ({error}), expected to read and write it",
            hint="check that the disk has room, the folder is writable and no backup holds a lock",
        )
