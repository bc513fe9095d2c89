"""The append-only event log: the single source of truth, in one SQLite file.

Transactions and labels share one gapless sequence (`seq`), so a position names everything that was
known. Several processes may write: SQLite serialises them, WAL lets readers go on, and
synchronous=FULL makes a commit durable before it returns. Rows are never updated; retention alone
deletes, whole ranges from the start, and leaves a horizon that readers are told of.

What the scorer has decided lately is still in its journal, in the folder beside the file; who reads
or appends here drains it first, so that the file is all of the log.

Here whole tables go in and out; rows are `log_writer`, the file itself is `log_file`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from fraud_platform.adapters import log_horizon, log_origins, log_writer
from fraud_platform.adapters.drain import appending, checked, drain, is_drained
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.adapters.log_horizon import Horizon
from fraud_platform.adapters.log_origins import Origin, SourceFile
from fraud_platform.adapters.log_writer import LogWriter, Place, Recorded, unpack
from fraud_platform.errors import DataContractError
from fraud_platform.events import Decision, Event, microseconds, moment_of
from fraud_platform.schemas import (
    DECISIONS,
    LABELS,
    PAYLOAD_COLUMNS,
    QUARANTINE,
    TRANSACTIONS,
    UTC_MICROSECONDS,
)

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
        drains: whether reading takes what the scorer's journal holds into the file first. Only the
            scorer itself, which knows the journal's records, may do without.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 60.0, drains: bool = True) -> None:
        self._file = LogFile(path, busy_seconds=busy_seconds)
        self._disk = FolderDisk(path.with_name(JOURNAL_FOLDER))
        self._drains = drains
        self._busy_seconds = busy_seconds

    def append(
        self,
        transactions: pl.DataFrame,
        labels: pl.DataFrame,
        file: SourceFile | None = None,
    ) -> Appended:
        """Append a batch in one durable commit, ordered by the time each event became known.

        Args:
            transactions: `PAYLOAD_COLUMNS`, received_timestamp and source.
            labels: transaction_id, verdict, label_source, reason, label_timestamp and
                received_timestamp, and if known reported_by and happened_timestamp; about
                transactions of this batch or of the log.
            file: that the batch is of; None: of none.

        Raises:
            LogUnavailableError: the file cannot be opened, locked or written.
        """
        with self._appending() as connection:
            first = transactions.unique("transaction_id", keep="first", maintain_order=True)
            known = self._known_payloads(connection, first)
            fresh = first.join(known, on="transaction_id", how="anti", maintain_order="left")
            conflicts = _conflicting(transactions, pl.concat([known, _payload(fresh)]))
            told = labels.unique(_LABEL_KEY, keep="first", maintain_order=True)
            new_labels, unknown = self._split_labels(connection, told, fresh)
            start = log_writer.last_seq(connection) + 1
            _insert_events(connection, fresh, new_labels, start)
            if file is not None and (count := fresh.height + new_labels.height):
                log_origins.note(connection, file, start, start + count - 1)
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
        with self._file.transaction() as connection:
            try:
                connection.executemany(insert, stored.iter_rows())
            except sqlite3.IntegrityError as error:
                raise DataContractError(
                    f"found a rejected row that the log refuses ({error}), expected all of it",
                    hint="whatever rejected the row must say which rule it broke, and how",
                ) from error

    def transactions(self, start: datetime, end: datetime, *, is_cut: bool = False) -> pl.DataFrame:
        """`TRANSACTIONS` whose event time is in [start, end), in seq order.

        Raises:
            PurgedError: a part was purged, and the caller does not say that it `is_cut`.
        """
        query = "SELECT * FROM transactions WHERE event_us >= ? AND event_us < ? ORDER BY seq"
        return self._frame(query, start, end, is_cut=is_cut).select(*TRANSACTIONS.columns)

    def labels(self, start: datetime, end: datetime, *, is_cut: bool = False) -> pl.DataFrame:
        """`LABELS` that became known in [start, end), in seq order; none on purged payments."""
        query = (
            "SELECT l.*, t.event_us, t.card_id, t.terminal_id FROM labels l"
            " JOIN transactions t USING (transaction_id)"
            " WHERE l.known_us >= ? AND l.known_us < ? ORDER BY l.seq"
        )
        return self._frame(query, start, end, is_cut=is_cut).select(*LABELS.columns)

    def decisions(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`DECISIONS` on transactions that happened in [start, end), in seq order."""
        query = "SELECT * FROM decisions WHERE event_us >= ? AND event_us < ? ORDER BY seq"
        stored = self._frame(query, start, end)
        return stored.with_columns(
            pl.col("is_late").cast(pl.Boolean),
            pl.col("reasons", "missing").str.json_decode(pl.List(pl.String)),
            pl.Series("features", [unpack(b) for b in stored["features"]], pl.List(pl.Float64)),
        ).select(*DECISIONS.columns)

    def outcomes(self, start: datetime, end: datetime) -> pl.DataFrame:
        """What was decided on transactions of [start, end), as `labels.OUTCOME_COLUMNS`.

        The part of `decisions` that says which labels can become known, at a tenth of its cost. An
        audit of an approved payment is left out: its label becomes known anyway.
        """
        query = (
            "SELECT transaction_id, decision, pass_propensity, CASE WHEN pass_propensity IS NULL"
            " THEN NULL ELSE audit_propensity END AS audit_propensity FROM decisions"
            " WHERE event_us >= ? AND event_us < ?"
        )
        return self._frame(query, start, end)

    def decisions_in(self, start: datetime, end: datetime) -> int:
        """How many decisions were taken on transactions of [start, end)."""
        query = "SELECT COUNT(*) FROM decisions WHERE event_us >= ? AND event_us < ?"
        with self._reading() as connection:
            (count,) = connection.execute(
                query, (microseconds(start), microseconds(end))
            ).fetchone()
        return int(count)

    def rejections(self, start: datetime, end: datetime) -> pl.DataFrame:
        """`QUARANTINE` rows kept at the door for the partitions in [start, end)."""
        query = (
            "SELECT * FROM rejections WHERE partition_us >= ? AND partition_us < ?"
            " ORDER BY source, row_number, broken_rule, payload"
        )
        with self._reading() as connection:
            log_horizon.require_kept(connection, microseconds(start), rejected=True)
        return self._frame(query, start, end, is_cut=True).select(*QUARANTINE.columns)

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
        with self._reading() as connection:
            rows = connection.execute(query, {"after": after_seq}).fetchall()
        columns = ["day", "transactions", "labels", "last_seq"]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")
        return frame.with_columns(pl.col("day").cast(pl.Int32).cast(pl.Date))

    def origins(self, first_seq: int, last_seq: int) -> list[Origin]:
        """The source files and finished segments that positions came from, in order."""
        with self._reading() as connection:
            return log_origins.origins(connection, first_seq, last_seq)

    def horizon(self) -> Horizon | None:
        """Where the kept history begins; None: nothing was ever purged."""
        with self._reading() as connection:
            return log_horizon.horizon(connection)

    def last_seq(self) -> int:
        """The newest position in the log; 0 when it is empty."""
        with self._reading() as connection:
            return log_writer.last_seq(connection)

    def newest_event_timestamp(self, *, up_to: int | None = None) -> datetime | None:
        """The newest payment's own time, UTC, of those up to a position; None without any."""
        with self._reading() as connection:
            return log_writer.newest_event(connection, up_to)

    def oldest_event_timestamp(self) -> datetime | None:
        """The oldest payment's own time, UTC, or None for an empty log."""
        with self._reading() as connection:
            row = connection.execute("SELECT MIN(event_us) FROM transactions").fetchone()
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
        with self._reading() as connection:
            return log_writer.follow(
                connection,
                after_seq=after_seq,
                since_us=None if since is None else microseconds(since),
                limit=limit,
            )

    def place(self, position: int) -> Place:
        """What tells a position of this log from the same position of any other."""
        with self._reading() as connection:
            return log_writer.place(connection, position)

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None when the id is unknown."""
        with self._reading() as connection:
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
        with self._appending() as connection:
            yield LogWriter(connection)

    def drain(self, *, checks: bool = False) -> int:
        """Take what the scorer's journal holds into the tables; returns how many frames.

        Everything else here does that by itself before it reads or appends.

        Args:
            checks: also see whether a lost sector hides more; slower, so about once a minute.

        Raises:
            JournalDamagedError: bytes of the journal that were on the disk are lost or changed.
            LogUnavailableError: the file or the journal cannot be read or written.
        """
        take = checked if checks else drain
        return take(self._disk, self._file, seconds=self._busy_seconds)

    def close(self) -> None:
        """Close this thread's connection; the next use opens a new one."""
        self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the whole log, for one or several queries."""
        if self._drains and not is_drained(self._disk, self._file):
            self.drain()
        with self._file.snapshot() as connection:
            yield connection

    @contextmanager
    def _appending(self) -> Iterator[sqlite3.Connection]:
        """One durable commit at the end of the log: nobody else can append meanwhile."""
        with (
            appending(self._disk, self._file, self._busy_seconds),
            self._file.transaction() as connection,
        ):
            yield connection

    def _frame(
        self, query: str, start: datetime, end: datetime, *, is_cut: bool = False
    ) -> pl.DataFrame:
        with self._reading() as connection:
            if not is_cut:
                log_horizon.require_kept(connection, microseconds(start))
            cursor = connection.execute(query, (microseconds(start), microseconds(end)))
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
    "reasons": pl.String(),
    "missing": pl.String(),
    "features": pl.Binary(),
    "is_late": pl.Int64(),
    **dict.fromkeys(_TIMES, pl.Int64()),
}
"""Column -> dtype as SQLite returns it."""


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
    connection: sqlite3.Connection, transactions: pl.DataFrame, labels: pl.DataFrame, start: int
) -> None:
    """Give both kinds one order by the time they became known, and store them from `start` on."""
    times = [
        transactions.select(known=pl.col("event_timestamp"), kind=pl.lit(0)).with_row_index(),
        labels.select(known=pl.col("label_timestamp"), kind=pl.lit(1)).with_row_index(),
    ]
    ordered = pl.concat(times).sort("known", "kind", "index").with_row_index("seq")
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
    "labels": [*_LABEL_KEY, "reason", "reported_by", "happened_timestamp", "received_timestamp"],
}
