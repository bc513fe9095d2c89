"""The records of lineage: one SQLite file in the home that only grows.

It is the platform's own: deleting Dagster's runs or MLflow's leaves it as it is. What its records
mean is `lineage`.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fraud_platform.adapters.sqlite_commit import committing
from fraud_platform.errors import UnavailableError
from fraud_platform.lineage import Node, Record

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, part TEXT NOT NULL, digest TEXT NOT NULL,
    path TEXT NOT NULL, rows INTEGER, rows_digest TEXT NOT NULL, run_id TEXT NOT NULL,
    code_commit TEXT NOT NULL, lock_digest TEXT NOT NULL, at_us INTEGER NOT NULL,
    facts TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS records_by_node ON records (kind, part, digest);
CREATE TABLE IF NOT EXISTS inputs (
    record INTEGER NOT NULL REFERENCES records (seq), kind TEXT NOT NULL, part TEXT NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (record, kind, part, digest)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS inputs_by_node ON inputs (kind, part, digest);
"""
_GUARDS = "".join(
    f"CREATE TRIGGER IF NOT EXISTS no_{act}_of_{table} BEFORE {act} ON {table}"
    " BEGIN SELECT RAISE(ABORT, 'lineage only grows'); END;\n"
    for table in ("records", "inputs")
    for act in ("UPDATE", "DELETE")
)
_COLUMNS = (
    "seq, kind, part, digest, path, rows, rows_digest, run_id, code_commit, lock_digest, at_us,"
    " facts"
)
_OF_NODE = "kind = ? AND part = ? AND digest = ?"


class LineageStore:
    """The records behind one path; opens on first use, one connection per thread.

    Args:
        path: the SQLite file; its folder is made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.local()

    def record(self, made: Record) -> Record:
        """Append a record durably.

        Returns:
            It with its place.

        Raises:
            UnavailableError: the file cannot be written.
        """
        told: tuple[object, ...] = (*made.node, made.path, made.rows, made.rows_digest, made.run_id)
        told += (made.code_commit, made.lock_digest, made.at_us, json.dumps(dict(made.facts)))
        with self._transaction() as connection:
            cursor = connection.execute(
                f"INSERT INTO records ({_COLUMNS}) VALUES (NULL{', ?' * len(told)})",  # noqa: S608 -- names are ours
                told,
            )
            seq = int(cursor.lastrowid or 0)
            connection.executemany(
                "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?)",
                [(seq, *node) for node in made.inputs],
            )
        return replace(made, seq=seq)

    def inputs_of(self, node: Node) -> list[Node]:
        """What a content was made of when it was first made; [] where no record tells."""
        rows = self._rows(
            "SELECT kind, part, digest FROM inputs WHERE record ="  # noqa: S608 -- no input in it
            f" (SELECT MIN(seq) FROM records WHERE {_OF_NODE}) ORDER BY kind, part, digest",
            node,
        )
        return [Node(*row) for row in rows]

    def outputs_of(self, node: Node) -> list[Node]:
        """What was made of a content, whenever."""
        rows = self._rows(
            "SELECT DISTINCT r.kind, r.part, r.digest FROM inputs i JOIN records r"
            " ON r.seq = i.record WHERE i.kind = ? AND i.part = ? AND i.digest = ?"
            " ORDER BY r.kind, r.part, r.digest",
            node,
        )
        return [Node(*row) for row in rows]

    def records(self, kind: str, part: str, digest: str | None = None) -> list[Record]:
        """The records of one place, or of one content in it, oldest first."""
        named = "" if digest is None else " AND digest = ?"
        found = self._rows(
            f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND part = ?{named} ORDER BY seq",  # noqa: S608 -- names are ours
            (kind, part) if digest is None else (kind, part, digest),
        )
        return [self._record(row) for row in found]

    def contents(self, kind: str, part: str) -> list[Node]:
        """Every content that a place ever had, made here or read."""
        where = "WHERE kind = ? AND part = ?"
        rows = self._rows(
            f"SELECT kind, part, digest FROM records {where}"  # noqa: S608 -- no input in it
            f" UNION SELECT kind, part, digest FROM inputs {where}",
            (kind, part, kind, part),
        )
        return [Node(*row) for row in rows]

    def by_fact(self, kind: str, name: str, value: str) -> list[Record]:
        """The records of a kind of which a fact was told, oldest first."""
        found = self._rows(
            f"SELECT {_COLUMNS} FROM records WHERE kind = ?"  # noqa: S608 -- names are ours
            " AND json_extract(facts, '$.' || ?) = ? ORDER BY seq",
            (kind, name, value),
        )
        return [self._record(row) for row in found]

    def _record(self, row: Sequence[object]) -> Record:
        seq, kind, part, digest, path, rows, rows_digest, run, commit, lock, at_us, facts = row
        inputs = self._rows("SELECT kind, part, digest FROM inputs WHERE record = ?", (seq,))
        return Record(
            seq=seq,  # type: ignore[arg-type]  # SQLite returns objects; columns are typed
            node=Node(str(kind), str(part), str(digest)),
            path=str(path),
            rows=rows,  # type: ignore[arg-type]  # as above
            rows_digest=str(rows_digest),
            inputs=tuple(Node(*one) for one in inputs),
            run_id=str(run),
            code_commit=str(commit),
            lock_digest=str(lock),
            at_us=at_us,  # type: ignore[arg-type]  # as above
            facts=json.loads(str(facts)),
        )

    def _rows(self, query: str, arguments: Sequence[object]) -> list[tuple[str, ...]]:
        if not self._path.exists():
            return []
        with self._translated():
            return self._connection().execute(query, arguments).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), committing(self._connection()) as connection:
            yield connection

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=60.0, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA + _GUARDS)
            self._threads.connection = connection
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(
                f"found the lineage {self._path} unusable ({error}), expected to read and write it",
                hint="check that the disk has room and the folder is writable",
            ) from error


def now_us() -> int:
    """The clock of records, microseconds since 1970 UTC."""
    return time.time_ns() // 1000
