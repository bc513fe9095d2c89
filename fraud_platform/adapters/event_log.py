"""The append-only event log: the single source of truth, in one SQLite file.

Transactions and labels share one gapless sequence (`seq`), so a position names everything that was
known. Several processes may write: SQLite serialises them, WAL lets readers go on, and
synchronous=FULL makes a commit durable before it returns. Rows are never updated or deleted.

Here whole tables go in and out; the scorer's row path is `log_writer`.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from fraud_platform.adapters import log_writer
from fraud_platform.adapters.log_writer import LogWriter, Place, Recorded, unpack
from fraud_platform.errors import DataContractError, LogUnavailableError
from fraud_platform.events import Decision, Event, microseconds, moment_of
from fraud_platform.schemas import (
    DECISIONS,
    LABELS,
    PAYLOAD_COLUMNS,
    QUARANTINE,
    TRANSACTIONS,
    UTC_MICROSECONDS,
)

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
    features BLOB NOT NULL, latency_us INTEGER NOT NULL, expires_us INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS decisions_by_time ON decisions (event_us);
CREATE TABLE IF NOT EXISTS rejections (
    partition_us INTEGER NOT NULL, received_us INTEGER NOT NULL, source TEXT NOT NULL,
    row_number INTEGER, transaction_id TEXT, broken_rule TEXT NOT NULL, detail TEXT NOT NULL,
    payload TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS rejections_once
    ON rejections (source, COALESCE(row_number, -1), broken_rule, payload);
CREATE INDEX IF NOT EXISTS rejections_by_time ON rejections (partition_us);
"""

_LABEL_KEY = ["transaction_id", "verdict", "label_source", "label_timestamp"]
_TIMES = {
    "event_us": "event_timestamp",
    "received_us": "received_timestamp",
    "known_us": "label_timestamp",
    "happened_us": "happened_timestamp",
    "decided_us": "decided_timestamp",
    "expires_us": "expires_timestamp",
    "partition_us": "partition_timestamp",
}


@dataclass(frozen=True)
class Appended:
    """What became of one appended batch.

    Attributes:
        accepted: transactions that were new.
        duplicates: transactions the log already had with the same payload.
        conflicts: rows under a known id with another payload; not appended.
        labels_accepted: verdicts that were new.
        labels_duplicates: verdicts the log already had.
        labels_unknown: verdicts about transactions the log does not have; not appended.
    """

    accepted: int
    duplicates: int
    conflicts: pl.DataFrame
    labels_accepted: int
    labels_duplicates: int
    labels_unknown: pl.DataFrame


class EventLog:
    """The log behind one path; opens on first use, one connection per thread.

    Args:
        path: the SQLite file; its folder is made when missing.
        busy_seconds: how long a write waits for another process's commit before it gives up.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 60.0) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._threads = threading.local()

    def append(self, transactions: pl.DataFrame, labels: pl.DataFrame) -> Appended:
        """Append a batch in one durable commit, ordered by the time each event became known.

        Args:
            transactions: `PAYLOAD_COLUMNS`, received_timestamp and source.
            labels: transaction_id, verdict, label_source, reason, label_timestamp and
                received_timestamp; about transactions of this batch or of the log.

        Raises:
            LogUnavailableError: the file cannot be opened, locked or written.
        """
        with self._translated(), self._transaction() as connection:
            first = transactions.unique("transaction_id", keep="first", maintain_order=True)
            known = self._known_payloads(connection, first)
            fresh = first.join(known, on="transaction_id", how="anti", maintain_order="left")
            conflicts = _conflicting(transactions, pl.concat([known, _payload(fresh)]))
            told = labels.unique(_LABEL_KEY, keep="first", maintain_order=True)
            new_labels, unknown = self._split_labels(connection, told, fresh)
            _insert_events(connection, fresh, new_labels)
        return Appended(
            accepted=fresh.height,
            duplicates=transactions.height - fresh.height - conflicts.height,
            conflicts=conflicts,
            labels_accepted=new_labels.height,
            labels_duplicates=labels.height - new_labels.height - unknown.height,
            labels_unknown=unknown,
        )

    def reject(self, rows: pl.DataFrame) -> None:
        """Keep rows that broke a rule (`QUARANTINE` columns); the same row again is a no-op.

        Raises:
            DataContractError: a row lacks something that every rejection must have.
            LogUnavailableError: the file cannot be opened, locked or written.
        """
        names = {new: old for old, new in _TIMES.items()}
        stored = (
            rows.select(*QUARANTINE.columns)
            .with_columns(_as_us(rows))
            .rename({name: names[name] for name in rows.columns if name in names})
        )
        marks = ", ".join("?" * stored.width)
        insert = (
            f"INSERT INTO rejections ({', '.join(stored.columns)}) VALUES ({marks})"  # noqa: S608 -- column names are ours
            " ON CONFLICT DO NOTHING"  # OR IGNORE would also lose rows that break NOT NULL
        )
        with self._translated(), self._transaction() as connection:
            try:
                connection.executemany(insert, stored.iter_rows())
            except sqlite3.IntegrityError as error:
                raise DataContractError(
                    f"found a rejected row that the log refuses ({error}), expected all of it",
                    hint="whatever rejected the row must say which rule it broke, and how",
                ) from error

    def transactions(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`TRANSACTIONS` whose event time is in [start, end), in seq order."""
        query = "SELECT * FROM transactions WHERE event_us >= ? AND event_us < ? ORDER BY seq"
        return self._frame(query, start, end).select(*TRANSACTIONS.columns)

    def labels(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`LABELS` that became known in [start, end), in seq order."""
        query = (
            "SELECT l.*, t.event_us, t.card_id, t.terminal_id FROM labels l"
            " JOIN transactions t USING (transaction_id)"
            " WHERE l.known_us >= ? AND l.known_us < ? ORDER BY l.seq"
        )
        return self._frame(query, start, end).select(*LABELS.columns)

    def decisions(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`DECISIONS` on transactions that happened in [start, end), in seq order."""
        query = "SELECT * FROM decisions WHERE event_us >= ? AND event_us < ? ORDER BY seq"
        stored = self._frame(query, start, end)
        return stored.with_columns(
            pl.col("is_late").cast(pl.Boolean),
            pl.col("reasons", "missing").str.json_decode(pl.List(pl.String)),
            pl.Series("features", [unpack(b) for b in stored["features"]], pl.List(pl.Float64)),
        ).select(*DECISIONS.columns)

    def rejections(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`QUARANTINE` rows kept at the door for the partitions in [start, end)."""
        query = (
            "SELECT * FROM rejections WHERE partition_us >= ? AND partition_us < ?"
            " ORDER BY source, row_number, broken_rule, payload"
        )
        return self._frame(query, start, end).select(*QUARANTINE.columns)

    def arrivals(self, after_seq: int) -> pl.DataFrame:
        """The days that events after a position belong to.

        Returns:
            One row per UTC day, oldest first: day (Date), transactions (by event time), labels (by
            the time they became known) and last_seq (newest position on that day).
        """
        query = (
            "SELECT day, SUM(kind) AS transactions, SUM(1 - kind) AS labels, MAX(seq) AS last_seq"
            " FROM (SELECT event_us / 86400000000 AS day, 1 AS kind, seq FROM transactions"
            " WHERE seq > :after UNION ALL"
            " SELECT known_us / 86400000000, 0, seq FROM labels WHERE seq > :after)"
            " GROUP BY day ORDER BY day"
        )
        with self._translated():
            rows = self._connection().execute(query, {"after": after_seq}).fetchall()
        columns = ["day", "transactions", "labels", "last_seq"]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")
        return frame.with_columns(pl.col("day").cast(pl.Int32).cast(pl.Date))

    def last_seq(self) -> int:
        """The newest position in the log; 0 when it is empty."""
        with self._translated():
            return log_writer.last_seq(self._connection())

    def newest_event_timestamp(self, *, up_to: int | None = None) -> datetime | None:
        """The newest payment's own time, UTC, of those up to a position; None without any."""
        with self._translated():
            return log_writer.newest_event(self._connection(), up_to)

    def oldest_event_timestamp(self) -> datetime | None:
        """The oldest payment's own time, UTC, or None for an empty log."""
        with self._translated():
            row = self._connection().execute("SELECT MIN(event_us) FROM transactions").fetchone()
        return None if row[0] is None else moment_of(row[0])

    def follow(
        self, after_seq: int, *, since: datetime | None = None, limit: int | None = None
    ) -> list[Event]:
        """Events after a position, in seq order.

        Args:
            after_seq: exclusive lower bound.
            since: leave out transactions, and labels of transactions, that happened earlier.
            limit: at most this many events.
        """
        with self._translated(), self._snapshot() as connection:
            return log_writer.follow(
                connection,
                after_seq=after_seq,
                since_us=None if since is None else microseconds(since),
                limit=limit,
            )

    def place(self, position: int) -> Place:
        """What tells a position of this log from the same position of any other."""
        with self._translated(), self._snapshot() as connection:
            return log_writer.place(connection, position)

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None when the id is unknown."""
        with self._translated(), self._snapshot() as connection:
            return log_writer.recorded(connection, transaction_id)

    def decision(self, transaction_id: str) -> Decision | None:
        """The decision on this transaction, or None when no scorer took one."""
        found = self.recorded(transaction_id)
        return None if found is None else found.decision

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """One durable commit: everything written inside becomes durable together, or not at all.

        Raises:
            LogUnavailableError: the file cannot be opened, locked, written or synced.
        """
        with self._translated(), self._transaction() as connection:
            yield LogWriter(connection)

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
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            _widen(connection)
            log_writer.identify(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One state of the log for several queries: without it a commit can come in between."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

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

    def _frame(self, query: str, start: datetime, end: datetime) -> pl.DataFrame:
        with self._translated():
            cursor = self._connection().execute(query, (microseconds(start), microseconds(end)))
            rows = cursor.fetchall()
        names = [column[0] for column in cursor.description]
        return pl.DataFrame(rows, schema={n: _STORED[n] for n in names}, orient="row").select(
            pl.col(name).cast(UTC_MICROSECONDS).alias(_TIMES[name]) if name in _TIMES else name
            for name in names
        )

    def _known_payloads(self, connection: sqlite3.Connection, rows: pl.DataFrame) -> pl.DataFrame:
        """The payloads the log holds under the ids of these rows."""
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS told (transaction_id TEXT PRIMARY KEY)")
        connection.execute("DELETE FROM told")
        if connection.execute("SELECT 1 FROM transactions LIMIT 1").fetchone():
            ids = rows.select("transaction_id").iter_rows()
            connection.executemany("INSERT OR IGNORE INTO told VALUES (?)", ids)
        columns = ["event_us" if c == "event_timestamp" else c for c in PAYLOAD_COLUMNS]
        found = connection.execute(
            f"SELECT {', '.join(columns)} FROM transactions JOIN told USING (transaction_id)"  # noqa: S608 -- column names are ours
        ).fetchall()
        schema = {name: _STORED[name] for name in columns}
        frame = pl.DataFrame(found, schema=schema, orient="row")
        return _payload(frame.rename({"event_us": "event_timestamp"}))

    def _split_labels(
        self, connection: sqlite3.Connection, labels: pl.DataFrame, fresh: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Verdicts that are new, and verdicts whose transaction nobody knows."""
        connection.execute("DELETE FROM told")
        ids = labels.select("transaction_id").unique().iter_rows()
        connection.executemany("INSERT OR IGNORE INTO told VALUES (?)", ids)
        known = connection.execute(
            "SELECT transaction_id FROM transactions JOIN told USING (transaction_id)"
        ).fetchall()
        known_ids = pl.DataFrame(known, schema={"transaction_id": pl.String}, orient="row")
        known_ids = pl.concat([known_ids, fresh.select("transaction_id")])
        unknown = labels.join(known_ids, on="transaction_id", how="anti", maintain_order="left")
        stored = connection.execute(
            "SELECT transaction_id, verdict, label_source, known_us FROM labels"
            " JOIN told USING (transaction_id)"
        ).fetchall()
        schema = dict(zip(_LABEL_KEY, [pl.String, pl.String, pl.String, pl.Int64], strict=True))
        had = pl.DataFrame(stored, schema=schema, orient="row").with_columns(
            pl.col("label_timestamp").cast(UTC_MICROSECONDS)
        )
        new = labels.join(unknown, on="transaction_id", how="anti", maintain_order="left")
        return new.join(had, on=_LABEL_KEY, how="anti", maintain_order="left"), unknown


_STORED: dict[str, pl.DataType] = {
    **TRANSACTIONS.columns,
    **LABELS.columns,
    **DECISIONS.columns,
    **QUARANTINE.columns,
    "reported_by": pl.String(),
    "reasons": pl.String(),
    "missing": pl.String(),
    "features": pl.Binary(),
    "is_late": pl.Int64(),
    **dict.fromkeys(_TIMES, pl.Int64()),
}
"""Column -> dtype as SQLite returns it."""


_LATER_COLUMNS = {
    "labels": {"happened_us": "INTEGER", "reported_by": "TEXT"},
    "decisions": {
        "probability": "REAL",
        "expected_fpr": "REAL",
        "missing": "TEXT NOT NULL DEFAULT '[]'",
        "arm": "TEXT NOT NULL DEFAULT 'none'",
        "expires_us": "INTEGER NOT NULL DEFAULT 0",
    },
}
"""Columns that a log of the first version lacks; its rows get nulls, or what says "not told"."""


def _widen(connection: sqlite3.Connection) -> None:
    """Give the tables of an older log the columns they lack."""
    for table, columns in _LATER_COLUMNS.items():
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for name, declaration in columns.items():
            if name not in known:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")


def _payload(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(dtype) for name, dtype in PAYLOAD_COLUMNS.items())


def _conflicting(told: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """The rows whose id the log knows under another payload."""
    return told.join(
        truth, on=list(PAYLOAD_COLUMNS), how="anti", nulls_equal=True, maintain_order="left"
    )


def _as_us(rows: pl.DataFrame) -> list[pl.Expr]:
    return [pl.col(n).cast(pl.Int64) for n in rows.columns if n in _TIMES.values()]


def _insert_events(
    connection: sqlite3.Connection, transactions: pl.DataFrame, labels: pl.DataFrame
) -> None:
    """Give both kinds one order by the time they became known, and store them."""
    times = [
        transactions.select(known=pl.col("event_timestamp"), kind=pl.lit(0)).with_row_index(),
        labels.select(known=pl.col("label_timestamp"), kind=pl.lit(1)).with_row_index(),
    ]
    ordered = pl.concat(times).sort("known", "kind", "index").with_row_index("seq")
    start = log_writer.last_seq(connection) + 1
    for kind, rows, table in ((0, transactions, "transactions"), (1, labels, "labels")):
        seqs = ordered.filter(pl.col("kind") == kind).sort("index")["seq"].cast(pl.Int64) + start
        names = [n for n in _TABLE_COLUMNS[table] if n in rows.columns]
        stored = rows.select(names).with_columns(_as_us(rows.select(names)))
        inverse = {new: old for old, new in _TIMES.items()}
        columns = ", ".join(["seq", *(inverse.get(n, n) for n in names)])
        marks = ", ".join("?" * (len(names) + 1))
        connection.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 -- names are ours
            stored.insert_column(0, seqs.alias("seq")).sort("seq").iter_rows(),
        )


_TABLE_COLUMNS = {
    "transactions": [*PAYLOAD_COLUMNS, "received_timestamp", "source"],
    "labels": [*_LABEL_KEY, "reason", "received_timestamp"],
}
