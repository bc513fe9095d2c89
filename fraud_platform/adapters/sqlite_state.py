"""The online state of the features in one SQLite file: it survives restarts, and needs no server.

One row per card and terminal holds its packed past; the log position up to which events are folded
in is written in the same transaction, so the file is always the state at one position. It is
derived from the log: a crash of the machine may take the newest events from it, never a part of
one, and they are folded in again from `last_seq` on.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fraud_platform.adapters.sqlite_commit import committing
from fraud_platform.errors import PermanentError, StateUnavailableError
from fraud_platform.events import Event, LabelEvent, Transaction
from fraud_platform.features.declaration import Feature, digest_of
from fraud_platform.features.past import Past
from fraud_platform.features.reading import Reader
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.state import Sight, changes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    features TEXT PRIMARY KEY, last_seq INTEGER NOT NULL, newest_us INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pasts (
    entity TEXT NOT NULL, key TEXT NOT NULL, newest_us INTEGER NOT NULL, packed BLOB NOT NULL,
    PRIMARY KEY (entity, key)) STRICT;
CREATE INDEX IF NOT EXISTS pasts_by_age ON pasts (newest_us);
"""

# One statement, so that all of it is one state of the file.
_READ = """
SELECT last_seq, newest_us,
    (SELECT packed FROM pasts WHERE entity = 'card' AND key = ?),
    (SELECT packed FROM pasts WHERE entity = 'terminal' AND key = ?)
FROM state
"""
_WRITE = """
INSERT INTO pasts (entity, key, newest_us, packed) VALUES (?, ?, ?, ?)
ON CONFLICT (entity, key) DO UPDATE SET newest_us = excluded.newest_us, packed = excluded.packed
"""


class SqliteState:
    """The online state in a file. For one thread; others, and other processes, open their own.

    Args:
        path: the SQLite file; it is made when missing, and so is its folder.
        features: what `read` answers, in this order.
        busy_seconds: how long a write waits for another process's.

    Raises:
        PermanentError: the file keeps the state of other features.
        StateUnavailableError: the file cannot be opened.
    """

    def __init__(
        self, path: Path, features: tuple[Feature, ...] = FEATURES, *, busy_seconds: float = 60.0
    ) -> None:
        self._path = path
        self._reader = Reader(features)
        self._open_batch: _Batch | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_name(f"{path.name}.lock").open("w") as lock, self._translated():
                # SQLite does not wait where two connections turn one new file to WAL.
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode=WAL")
                # Consistent after any crash; a crash of the machine can lose the newest commits.
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.executescript(_SCHEMA)
                self._claim(digest_of(features))
        except OSError as error:
            raise self._unavailable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last_seq(self) -> int:
        """Log position of the newest event applied, by whatever process; 0 before the first."""
        return self._position()[0]

    @property
    def newest_us(self) -> int:
        """Newest payment time applied, microseconds UTC; 0 before the first."""
        return self._position()[1]

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""
        return self._reader.is_late(event_us, self.newest_us)

    def apply(self, event: Event) -> None:
        """Fold one event in, in a transaction of its own unless one of `applying` is open."""
        with self.applying():
            if self._open_batch is None:
                raise AssertionError(event)
            self._open_batch.apply(event)

    @contextmanager
    def applying(self) -> Iterator[None]:
        """One transaction around several `apply`; a past that changes often is written once."""
        if self._open_batch is not None:
            yield
            return
        with self._translated(), committing(self._connection):
            try:
                self._open_batch = _Batch(self._connection, self._reader)
                yield
                self._open_batch.write()
            finally:
                self._open_batch = None

    def read(self, transaction: Transaction) -> tuple[float | None, ...]:
        """The features of a payment, given everything applied so far; changes nothing."""
        return self.look(transaction).values

    def look(self, transaction: Transaction) -> Sight:
        """The features of a payment, and the log position that they know.

        Inside `applying`, the events of the open transaction are not seen yet.

        Raises:
            StateUnavailableError: the file cannot be read.
        """
        keys = (transaction.card_id, transaction.terminal_id)
        with self._translated():
            last_seq, newest_us, card, terminal = self._connection.execute(_READ, keys).fetchone()
        values = self._reader.values(
            transaction,
            _unpacked(self._reader, "card", card),
            _unpacked(self._reader, "terminal", terminal),
        )
        is_late = self._reader.is_late(transaction.event_us, newest_us)
        return Sight(values, last_seq, last_seq, is_late)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _position(self) -> tuple[int, int]:
        with self._translated():
            last_seq, newest_us = self._connection.execute(
                "SELECT last_seq, newest_us FROM state"
            ).fetchone()
        return last_seq, newest_us

    def _claim(self, digest: str) -> None:
        """Write into a new file whose state it keeps; refuse a file of other features."""
        self._connection.execute(
            "INSERT INTO state SELECT ?, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM state)", (digest,)
        )
        (found,) = self._connection.execute("SELECT features FROM state").fetchone()
        if found != digest:
            self._connection.close()
            raise PermanentError(
                f"found the state of the features {found[:12]} in {self._path}, expected "
                f"{digest[:12]}",
                hint="remove the file: the state is then folded from the log",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StateUnavailableError:
        return StateUnavailableError(
            f"found the state {self._path} unusable ({error}), expected to read and write it",
            hint="check that the disk has room and the folder is writable; a damaged file can be "
            "removed: the state is then folded from the log",
        )


class _Batch:
    """Events of one transaction, and the pasts that they touched."""

    def __init__(self, connection: sqlite3.Connection, reader: Reader) -> None:
        self._connection = connection
        self._reader = reader
        self._pasts: dict[tuple[str, str], Past] = {}
        self._changed: set[tuple[str, str]] = set()
        self._last_seq, self._newest_us = connection.execute(
            "SELECT last_seq, newest_us FROM state"
        ).fetchone()

    def apply(self, event: Event) -> None:
        if event.seq <= self._last_seq:
            return
        self._last_seq = event.seq
        if not isinstance(event, LabelEvent):
            self._newest_us = max(self._newest_us, event.transaction.event_us)
        for change in changes(event, self._newest_us, self._reader, self._past):
            past = self._past(change.entity, change.key)
            past.last_seq = event.seq
            change.insert_into(past)
            self._changed.add((change.entity, change.key))

    def write(self) -> None:
        horizon_us = self._newest_us - self._reader.horizon_us
        for key in sorted(self._changed):
            past = self._pasts[key]
            past.drop_before(horizon_us)
            self._connection.execute(_WRITE, (*key, _newest_us(past), past.pack()))
        self._connection.execute("DELETE FROM pasts WHERE newest_us < ?", (horizon_us,))
        self._connection.execute(
            "UPDATE state SET last_seq = ?, newest_us = ?", (self._last_seq, self._newest_us)
        )

    def _past(self, entity: str, key: str) -> Past:
        past = self._pasts.get((entity, key))
        if past is None:
            found = self._connection.execute(
                "SELECT packed FROM pasts WHERE entity = ? AND key = ?", (entity, key)
            ).fetchone()
            past = _unpacked(self._reader, entity, None if found is None else found[0])
            self._pasts[entity, key] = past
        return past


def _unpacked(reader: Reader, entity: str, packed: bytes | None) -> Past:
    layout = reader.layouts[entity]
    return layout.new_past() if packed is None else layout.unpack(packed)


def _newest_us(past: Past) -> int:
    """Time of the newest payment that a past knows of, microseconds; 0 if there is none."""
    payments = past.rings[0].times[-1:]
    verdicts = [told.event_us for told in past.frauds.verdicts[-1:]]
    return max([*payments, *verdicts], default=0)
