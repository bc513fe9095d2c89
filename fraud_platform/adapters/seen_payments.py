"""What a decision could see of its card and terminal, read back from the log as of its position."""

import sqlite3
from collections.abc import Mapping, Sequence

from fraud_platform.adapters import log_horizon
from fraud_platform.decision_dossier import PastPayment
from fraud_platform.events import Transaction
from fraud_platform.features.declaration import ENTITY_COLUMNS
from fraud_platform.features.spec import FEATURES

_PAST = """
SELECT t.seq, t.event_us, t.amount_minor, COALESCE((
    SELECT l.verdict = 'fraud' FROM labels l WHERE l.transaction_id = t.transaction_id
    AND l.seq <= :seen AND l.known_us <= :end ORDER BY l.known_us DESC, l.seq DESC LIMIT 1), 0)
FROM transactions t
WHERE t.event_us >= :start AND t.event_us < :end AND t.{column} = :key AND t.seq <= :seen
ORDER BY t.seq
"""
_LABELS = """
SELECT seq, verdict, label_source, reason, known_us, received_us, reported_by
FROM labels WHERE transaction_id = ? ORDER BY seq
"""


def seen_payments(
    connection: sqlite3.Connection, payment: Transaction, seen_seq: int
) -> dict[str, list[PastPayment]]:
    """By entity, the payments in its longest window, with what was known of them at that moment.

    An entity of whose window a part was purged is left out: its past is not known here any more.

    Args:
        connection: to the log.
        payment: that was decided on.
        seen_seq: the newest position that its features had seen.
    """
    found = {}
    horizon = log_horizon.horizon(connection)
    for entity, column in ENTITY_COLUMNS.items():
        reach_us = max(one.reach_us for one in FEATURES if one.entity == entity)
        if horizon is not None and payment.event_us - reach_us <= horizon.newest_us:
            continue
        arguments = {
            "start": payment.event_us - reach_us,
            "end": payment.event_us,
            "key": getattr(payment, column),
            "seen": seen_seq,
        }
        rows = connection.execute(_PAST.format(column=column), arguments)
        found[entity] = [
            PastPayment(seq, event_us, amount, bool(is_fraud))
            for seq, event_us, amount, is_fraud in rows
        ]
    return found


def labels_since(
    connection: sqlite3.Connection, transaction_id: str
) -> Sequence[Mapping[str, object]]:
    """What was said about a payment, oldest first."""
    cursor = connection.execute(_LABELS, (transaction_id,))
    names = [column[0] for column in cursor.description]
    return tuple(dict(zip(names, row, strict=True)) for row in cursor)
