"""A proof of one decision that can be checked without this platform, by `deploy/verify_audit.py`.

It leads from what the event log stores at the decision's position, along the path to the root of
its sealed range, to the row of the audit log that holds this root, and along the path to the root
that a signed head fixes. Who has that head, or a later one and a proof of consistency, needs to
trust nobody.
"""

from base64 import b64encode
from contextlib import closing
from typing import Any

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.decision_search import payment_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import LogSeals
from fraud_platform.adapters.purged_records import refuse_purged
from fraud_platform.adapters.sealed_records import Record, leaf_of, leaves, reading, records
from fraud_platform.audit_log.merkle import inclusion, root
from fraud_platform.audit_log.rows import HASHED, leaf
from fraud_platform.errors import HistoryDamagedError, UnknownTransactionError
from fraud_platform.settings import Settings

FORMAT = "fraud-platform/proof/1"


def decision_proof(settings: Settings, name: str) -> dict[str, Any]:
    """The proof of what the log holds of a payment, as plain values for JSON.

    What is not sealed yet is sealed first, and what is not under a signed head gets one.

    Args:
        settings: of the home.
        name: the transaction_id, or the decision_id of its decision.

    Raises:
        UnknownTransactionError: the log has no such transaction.
        PurgedError: it has it no more.
        HistoryDamagedError: the event log does not hold any more what was sealed.
        AuditUnavailableError: the audit log cannot be read or written.
    """
    transaction_id, position = _position(settings, name)
    audit = audit_log_of(settings)
    seals = LogSeals(settings.log_path, audit, settings.audit_dir)
    seals.seal()
    with reading(settings.log_path) as connection:
        log = str(connection.execute("SELECT log FROM identity").fetchone()[0])
        seal = next((one for one in seals.all(log) if one.first <= position <= one.last), None)
        if seal is None:
            raise HistoryDamagedError(
                f"found position {position} under no seal, expected one over every position",
                hint="somebody changed events.db: keep it as evidence; fraud-platform audit verify",
            )
        hashes = seals.leaves(seal) or leaves(connection, seal.first, seal.last)
        record = dict(records(connection, position, position)).get(position, {})
    if root(hashes) != seal.root:
        raise HistoryDamagedError(
            f"found other records at positions {seal.first}..{seal.last} than were sealed there,"
            " expected the same: nothing among them can be proven",
            hint="somebody changed events.db: keep it as evidence; fraud-platform audit verify",
        )
    if leaf_of(record) != hashes[position - seal.first]:
        raise HistoryDamagedError(
            f"found another record at position {position} than was sealed there, expected the same",
            hint="somebody changed events.db: keep it as evidence; fraud-platform audit verify",
        )
    head = audit.head()
    rows = [leaf(row) for row in audit.rows(limit=head.size if head else 0)]
    return {
        "format": FORMAT,
        "transaction_id": transaction_id,
        "position": position,
        "record": _plain(record),
        "range": {"first": seal.first, "last": seal.last},
        "range_path": _text(inclusion(hashes, position - seal.first)),
        "row": dict(zip(seal.row._fields[:HASHED], seal.row, strict=False)),
        "row_path": _text(inclusion(rows, seal.row.seq - 1)),
        "head": head.note if head else "",
    }


def _position(settings: Settings, name: str) -> tuple[str, int]:
    with closing(EventLog(settings.log_path)) as log:
        log.drain()
        with reading(settings.log_path) as connection:
            transaction_id = payment_of(connection, name) or name
        found = log.recorded(transaction_id)
    if found is None:
        refuse_purged(settings, name)
        raise UnknownTransactionError(
            "found no payment or decision under this id in the log, expected one to prove"
        )
    return transaction_id, found.seq


def _plain(record: Record) -> dict[str, dict[str, Any]]:
    """Bytes as JSON can hold them."""
    return {
        name: {column: _value(value) for column, value in fields.items()}
        for name, fields in record.items()
    }


def _value(value: object) -> object:
    return {"base64": b64encode(value).decode()} if isinstance(value, bytes) else value


def _text(path: list[bytes]) -> str:
    """All hashes of a path, 32 bytes each, from the leaf up."""
    return b64encode(b"".join(path)).decode()
