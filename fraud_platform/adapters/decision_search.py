"""Looking for decisions in the log: by payment, card, time, model and answer; the newest first."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.decision_dossier import DECISION_ID, covered, masked
from fraud_platform.events import microseconds, moment_of
from fraud_platform.settings import Settings

MOST_FOUND = 50
_SHOWN = (
    "d.decision_id, d.transaction_id, d.decided_us, d.decision, d.score, d.model_version,"
    " t.card_id, t.amount_minor, t.currency"
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which decisions; None: whatever it is.

    Attributes:
        name: transaction_id or decision_id.
        card_id: token of the card.
        since: of payments that happened from then on.
        until: of payments that happened before.
        model: version that decided.
        outcome: approve, review or decline.
    """

    name: str | None = None
    card_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    outcome: str | None = None

    @property
    def query(self) -> tuple[str, dict[str, object]]:
        """As SQL, and its arguments.

        The log has no index of cards: that would cost a quarter more for every decision that is
        written. Payments are read in their order instead, without the ten times larger decisions;
        CROSS JOIN makes SQLite keep to that.
        """
        tables, order, at = "decisions d CROSS JOIN transactions t", "d.rowid DESC", "d"
        if self.card_id is not None:
            tables, order, at = "transactions t CROSS JOIN decisions d", "t.seq DESC", "t"
        elif self.since or self.until:
            order = "d.event_us DESC, d.rowid DESC"  # as the index has it: nothing else is read
        told: dict[str, tuple[str, object]] = {
            "name": ("(d.transaction_id = :name OR d.decision_id = :name)", self.name),
            "card_id": ("t.card_id = :card_id", self.card_id),
            "since": (f"{at}.event_us >= :since", self.since and microseconds(self.since)),
            "until": (f"{at}.event_us < :until", self.until and microseconds(self.until)),
            "model": ("d.model_version = :model", self.model),
            "outcome": ("d.decision = :outcome", self.outcome),
        }
        asked = {name: told[name] for name in told if told[name][1] is not None}
        condition = " AND ".join(["TRUE", *(text for text, _ in asked.values())])
        query = (
            f"SELECT {_SHOWN} FROM {tables} USING (transaction_id) WHERE {condition}"  # noqa: S608 -- no input in it
            f" ORDER BY {order} LIMIT {MOST_FOUND}"
        )
        return query, {name: value for name, (_, value) in asked.items()}


def find_decisions(path: Path, wanted: Wanted) -> list[dict[str, object]]:
    """At most `MOST_FOUND` decisions, the newest first; of cards the last four signs only.

    Args:
        path: the log's file.
        wanted: which.
    """
    with closing(EventLog(path)) as log:
        log.drain()
    with closing(LogFile(path)) as file, file.snapshot() as connection:
        cursor = connection.execute(*wanted.query)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [
        {
            **row,
            "card": masked(str(row.pop("card_id"))),
            "decided": moment_of(int(row.pop("decided_us"))).isoformat(timespec="seconds"),
        }
        for row in rows
    ]


def payment_of(connection: sqlite3.Connection, name: str) -> str | None:
    """The transaction_id of the decision with this decision_id or transaction_id; None: none has.

    Senders choose the ids of payments: one that is named like a decision does not stand before it.
    """
    row = connection.execute(
        "SELECT transaction_id FROM decisions WHERE decision_id = :name OR transaction_id = :name"
        " ORDER BY decision_id = :name DESC",
        {"name": name},
    ).fetchone()
    return None if row is None else str(row[0])


def audited_name(settings: Settings, name: str) -> str:
    """How the audit log names a decision that somebody asks for: covered, if there is none.

    It may be a card's token, typed where an id belongs.
    """
    if DECISION_ID.fullmatch(name):
        return name
    with closing(EventLog(settings.log_path)) as log:
        log.drain()
        is_known = log.recorded(name) is not None
    key = None if settings.token_key is None else settings.token_key.get_secret_value().encode()
    return name if is_known else covered(name, key)
