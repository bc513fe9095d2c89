"""Where the journal ends in the event log: its rows, how far it is drained, its sealed segments.

All inside transactions of `log_file`; what is drained when is `drain`.
"""

import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from typing import cast

from fraud_platform.adapters.drain import Drained, Seal
from fraud_platform.adapters.journal import START
from fraud_platform.adapters.journal_frames import (
    DecisionRecord,
    LabelKey,
    LabelRecord,
    Position,
    Record,
)
from fraud_platform.adapters.log_writer import LogWriter
from fraud_platform.errors import JournalDamagedError
from fraud_platform.selective_labels import Spent, day_of

SPENT = (
    "SELECT d.decided_us, d.explored, t.amount_minor FROM decisions d"
    " CROSS JOIN transactions t USING (transaction_id) WHERE d.explored IS NOT NULL"
)
"""Asked at each start. CROSS JOIN: SQLite begins with the decisions, by the index of the few."""


class LogRows:
    """One write transaction of the event log that the journal is drained in.

    Args:
        connection: an open SQLite connection inside BEGIN IMMEDIATE.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def drained(self) -> Drained:
        """Where this transaction begins."""
        return drained(self._connection)

    def store(self, records: Sequence[Record]) -> None:
        """Add records.

        Raises:
            JournalDamagedError: the log holds one of them already, by another way.
        """
        writer = LogWriter(self._connection)
        try:
            # Runs of decisions go in together; a label needs its transaction before it.
            for is_decided, run in itertools.groupby(records, _is_decided):
                if is_decided:
                    writer.append_decided(cast("list[DecisionRecord]", list(run)))
                else:
                    self._store(writer, run)
        except sqlite3.IntegrityError as error:
            raise JournalDamagedError(
                f"found a record in the journal that the log refuses ({error})",
                hint="events.db and its journal belong together: was one of them restored alone?",
            ) from error

    def _store(self, writer: LogWriter, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, LabelRecord):
                writer.append_label(record.label)
            else:
                self._connection.executemany(
                    "INSERT INTO shadow_scores VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    record,
                )

    def seal(self, seal: Seal) -> None:
        """Record a finished segment."""
        self._connection.execute(
            "INSERT INTO segments (number, journal, first_seq, last_seq, records, bytes, sha256,"
            " previous) VALUES (:number, (SELECT log FROM identity), :first_seq, :last_seq,"
            " :records, :bytes, :sha256, :previous)",
            seal._asdict(),
        )

    def seals(self) -> list[Seal]:
        """The finished segments, oldest first."""
        return seals(self._connection)

    def has(self, record: DecisionRecord | LabelRecord) -> bool:
        """Whether the log holds this very decision or verdict, at whatever position."""
        if isinstance(record, LabelRecord):
            label = record.label
            key = LabelKey(label.transaction_id, label.verdict, label.label_source, label.known_us)
            return key in labels_of(self._connection, label.transaction_id)
        query = "SELECT 1 FROM decisions WHERE transaction_id = ? AND decision_id = ?"
        decision = record.decision
        names = (decision.transaction_id, decision.decision_id)
        return self._connection.execute(query, names).fetchone() is not None

    def advance(self, position: Position) -> None:
        """Say where the next drain goes on."""
        self._connection.execute(
            "INSERT OR REPLACE INTO journal_position VALUES (1, ?, ?)", position
        )


def _is_decided(record: Record) -> bool:
    return isinstance(record, DecisionRecord)


def drained(connection: sqlite3.Connection) -> Drained:
    """How far the journal is drained; one statement, so one state of the log."""
    row = connection.execute(
        "SELECT (SELECT segment FROM journal_position), (SELECT byte FROM journal_position),"
        " MAX(COALESCE((SELECT MAX(seq) FROM transactions), 0),"
        " COALESCE((SELECT MAX(seq) FROM labels), 0))"
    ).fetchone()
    return Drained(START if row[0] is None else Position(row[0], row[1]), row[2])


def seals(connection: sqlite3.Connection) -> list[Seal]:
    """The finished segments, oldest first."""
    rows = connection.execute(
        f"SELECT {', '.join(Seal._fields)} FROM segments ORDER BY number"  # noqa: S608 -- names are ours
    )
    return [Seal(*row) for row in rows]


def spent(connection: sqlite3.Connection) -> dict[int, Spent]:
    """What exploration has spent, by UTC day of the decisions."""
    found: dict[int, Spent] = {}
    for decided_us, explored, amount_minor in connection.execute(SPENT):
        day = day_of(decided_us)
        found[day] = found.get(day, Spent()).after(explored, amount_minor)
    return found


def labels_of(connection: sqlite3.Connection, transaction_id: str) -> dict[LabelKey, int]:
    """All verdicts on a transaction, each with its position."""
    rows = connection.execute(
        f"SELECT {', '.join(LabelKey._fields)}, seq FROM labels WHERE transaction_id = ?",  # noqa: S608 -- names are ours
        (transaction_id,),
    )
    return {LabelKey(*row[:-1]): row[-1] for row in rows}


def identity(connection: sqlite3.Connection) -> str:
    """What names the log."""
    return str(connection.execute("SELECT log FROM identity").fetchone()[0])
