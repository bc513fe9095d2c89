"""The row path of the event log: what a scorer does inside one durable commit.

Whole tables in and out are `event_log`. A `LogWriter` lives only inside `EventLog.writing()`.
"""

import hashlib
import json
import math
import sqlite3
import uuid
from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fraud_platform.errors import UnknownPaymentOfLabelError
from fraud_platform.events import (
    Decision,
    Event,
    Label,
    LabelEvent,
    Transaction,
    TransactionEvent,
    moment_of,
)

_TRANSACTION = ", ".join(Transaction._fields)
_DECISION = ", ".join(Decision._fields)
_REASONS, _MISSING, _FEATURES = map(Decision._fields.index, ("reasons", "missing", "features"))
_LABEL = ", ".join(Label._fields)
_TAKE_TRANSACTION = (
    f"INSERT INTO transactions (seq, {_TRANSACTION}, received_us, source)"  # noqa: S608 -- column names are ours
    f" VALUES ({', '.join('?' * (len(Transaction._fields) + 3))})"
)
_TAKE_DECISION = (
    f"INSERT INTO decisions ({_DECISION})"  # noqa: S608 -- column names are ours
    f" VALUES ({', '.join('?' * len(Decision._fields))})"
)
_MARKED = 100
"""So many events up to a position tell it from the same position of another log."""


class Recorded(NamedTuple):
    """A transaction the log already holds, and its decision if a scorer took one."""

    seq: int
    transaction: Transaction
    decision: Decision | None


class Decided(NamedTuple):
    """A transaction at its place in the log, and how it came in."""

    seq: int
    transaction: Transaction
    received_us: int
    source: str


class Place(NamedTuple):
    """A position of one log, and of no other.

    Attributes:
        log: names the log; a copy of its file has the same name.
        mark: digest of what stands there and right before; None where the log ends earlier.
    """

    log: str
    mark: str | None


class LogWriter:
    """One write transaction: everything appended becomes durable together, or not at all.

    Args:
        connection: an open SQLite connection inside BEGIN IMMEDIATE.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.last_seq = last_seq(connection)
        """The newest position in the log, own appends included."""

    def follow(self, after_seq: int) -> list[Event]:
        """The events after a position, in order: what other processes appended meanwhile."""
        if after_seq >= self.last_seq:
            return []
        return follow(self._connection, after_seq=after_seq, since_us=None, limit=None)

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None when the id is new."""
        return recorded(self._connection, transaction_id)

    def append_transaction(self, transaction: Transaction, *, received_us: int, source: str) -> int:
        """Append one new transaction and return its seq."""
        seq = self._next_seq()
        self._connection.execute(_TAKE_TRANSACTION, (seq, *transaction, received_us, source))
        return seq

    def append_decision(self, decision: Decision) -> None:
        """Append the decision of a transaction that is in the log."""
        self._connection.execute(_TAKE_DECISION, row_of(decision))

    def append_decided(self, rows: Sequence[tuple[Decided, tuple[object, ...]]]) -> None:
        """Append transactions of known positions, in order, each with its decision as a row."""
        if rows:
            self._connection.executemany(
                _TAKE_TRANSACTION,
                [(seq, *payment, received, source) for (seq, payment, received, source), _ in rows],
            )
            self._connection.executemany(_TAKE_DECISION, [row for _, row in rows])
            self.last_seq = rows[-1][0].seq

    def append_label(self, label: Label) -> tuple[LabelEvent, bool]:
        """Append one verdict; the same verdict again is a no-op.

        Returns:
            The label as an event, and whether it was new.

        Raises:
            UnknownTransactionError: the log has no such transaction.
        """
        found = self._connection.execute(
            f"SELECT seq, {_TRANSACTION} FROM transactions WHERE transaction_id = ?",  # noqa: S608 -- column names are ours
            (label.transaction_id,),
        ).fetchone()
        if found is None:
            raise UnknownPaymentOfLabelError
        same = self._connection.execute(
            "SELECT seq FROM labels WHERE transaction_id = ? AND verdict = ? AND label_source = ?"
            " AND known_us = ?",
            (label.transaction_id, label.verdict, label.label_source, label.known_us),
        ).fetchone()
        seq = self._next_seq() if same is None else int(same[0])
        if same is None:
            self._connection.execute(
                f"INSERT INTO labels (seq, {_LABEL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 -- column names are ours
                (seq, *label),
            )
        event = LabelEvent(seq, found[0], Transaction(*found[1:]), label.verdict, label.known_us)
        return event, same is None

    def _next_seq(self) -> int:
        self.last_seq += 1
        return self.last_seq


def last_seq(connection: sqlite3.Connection) -> int:
    """The newest position in the log; 0 when it is empty."""
    row = connection.execute(
        "SELECT MAX(COALESCE((SELECT MAX(seq) FROM transactions), 0),"
        " COALESCE((SELECT MAX(seq) FROM labels), 0))"
    ).fetchone()
    return int(row[0])


def identify(connection: sqlite3.Connection) -> None:
    """Give a log its name when its file is made; it is kept from then on."""
    connection.execute("CREATE TABLE IF NOT EXISTS identity (log TEXT NOT NULL) STRICT")
    # Without the question first, every opening would wait for whoever writes.
    if connection.execute("SELECT 1 FROM identity").fetchone() is None:
        connection.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))


def place(connection: sqlite3.Connection, position: int) -> Place:
    """What tells a position of this log from those of others, and of other continuations.

    Args:
        connection: an open connection, inside a transaction.
        position: any log position.
    """
    log = str(connection.execute("SELECT log FROM identity").fetchone()[0])
    if position > last_seq(connection):
        return Place(log, None)
    after_seq = max(0, position - _MARKED)
    events = follow(connection, after_seq=after_seq, since_us=None, limit=position - after_seq)
    received = connection.execute(
        "SELECT seq, received_us FROM transactions WHERE seq > :after AND seq <= :position"
        " UNION ALL SELECT seq, received_us FROM labels WHERE seq > :after AND seq <= :position"
        " ORDER BY seq",
        {"after": after_seq, "position": position},
    ).fetchall()
    return Place(log, hashlib.sha256(repr((events, received)).encode()).hexdigest())


def newest_event(connection: sqlite3.Connection, up_to: int | None) -> datetime | None:
    """The newest event time of the transactions up to a position (None: of all), UTC."""
    where = "" if up_to is None else "WHERE seq <= :up_to"
    row = connection.execute(
        f"SELECT event_us FROM transactions {where} ORDER BY event_us DESC LIMIT 1",  # noqa: S608 -- no input in it
        {"up_to": up_to},
    ).fetchone()
    return None if row is None else moment_of(row[0])


def follow(
    connection: sqlite3.Connection, *, after_seq: int, since_us: int | None, limit: int | None
) -> list[Event]:
    """Transactions and labels after a position, merged in seq order.

    Args:
        connection: an open connection, inside a transaction: two queries must see one state, or an
            event that is committed in between is skipped for ever.
        after_seq: exclusive lower bound.
        since_us: leave out transactions, and labels of transactions, that happened earlier.
        limit: at most this many events.
    """
    arguments = {"after": after_seq, "since": since_us, "limit": -1 if limit is None else limit}
    since = "" if since_us is None else "AND t.event_us >= :since"
    transactions = connection.execute(
        f"SELECT t.seq, {_prefixed('t')} FROM transactions t WHERE t.seq > :after {since}"  # noqa: S608 -- column names are ours
        " ORDER BY t.seq LIMIT :limit",
        arguments,
    )
    labels = connection.execute(
        f"SELECT l.seq, l.verdict, l.known_us, t.seq, {_prefixed('t')} FROM labels l"  # noqa: S608 -- column names are ours
        " JOIN transactions t USING (transaction_id)"
        f" WHERE l.seq > :after {since} ORDER BY l.seq LIMIT :limit",
        arguments,
    )
    events: list[Event] = [TransactionEvent(row[0], Transaction(*row[1:])) for row in transactions]
    events += [
        LabelEvent(seq, about_seq, Transaction(*about), verdict, known_us)
        for seq, verdict, known_us, about_seq, *about in labels
    ]
    events.sort(key=lambda event: event.seq)
    return events if limit is None else events[:limit]


def recorded(connection: sqlite3.Connection, transaction_id: str) -> Recorded | None:
    """The transaction under this id with its decision, or None when the id is unknown."""
    row = connection.execute(
        f"SELECT seq, {_TRANSACTION} FROM transactions WHERE transaction_id = ?",  # noqa: S608 -- column names are ours
        (transaction_id,),
    ).fetchone()
    if row is None:
        return None
    found = connection.execute(
        f"SELECT {_DECISION} FROM decisions WHERE transaction_id = ?",  # noqa: S608 -- column names are ours
        (transaction_id,),
    ).fetchone()
    decision = None if found is None else decision_of(found)
    return Recorded(row[0], Transaction(*row[1:]), decision)


def pack(features: tuple[float | None, ...]) -> bytes:
    """A feature vector as little-endian float64 words; None is the one quiet NaN.

    Examples:
        >>> len(pack((1.0, None)))
        16
    """
    return array("d", [math.nan if value is None else value for value in features]).tobytes()


def unpack(blob: bytes) -> tuple[float | None, ...]:
    """The inverse of `pack`.

    Examples:
        >>> unpack(pack((1.0, None)))
        (1.0, None)
    """
    return tuple(None if math.isnan(value) else value for value in array("d", blob))


def row_of(decision: Decision, packed: bytes | None = None) -> tuple[object, ...]:
    """A decision as the table holds it; `decision_of` is the inverse.

    Args:
        decision: the decision.
        packed: `pack` of its features, by whoever has it already.
    """
    row: list[object] = list(decision)
    row[_REASONS] = json.dumps(decision.reasons) if decision.reasons else "[]"
    row[_MISSING] = json.dumps(decision.missing) if decision.missing else "[]"
    row[_FEATURES] = pack(decision.features) if packed is None else packed
    return tuple(row)


def decision_of(row: tuple[object, ...]) -> Decision:
    """A row of the table decisions, its columns in the order of `Decision._fields`."""
    stored = Decision(*row)  # type: ignore[arg-type]  # SQLite returns objects; columns are typed
    return stored._replace(
        reasons=tuple(json.loads(str(stored.reasons))),
        missing=tuple(json.loads(str(stored.missing))),
        features=unpack(bytes(stored.features)),  # type: ignore[arg-type]  # stored as a blob
        is_late=bool(stored.is_late),
    )


def _prefixed(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in Transaction._fields)
