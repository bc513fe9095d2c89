"""What was put up for audit, what of it waits, and what is judged: asked of the log's tables.

Read-only and on a connection of its own. What a scorer has decided lately is seen once it is
drained. No card is named here: an auditor needs the payment, not whose card it was.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from fraud_platform.audit_credit import JudgedAudit
from fraud_platform.errors import LogUnavailableError

_WAITING = (
    "d.explored = 'audited' AND COALESCE((SELECT l.verdict FROM labels l"
    " WHERE l.transaction_id = d.transaction_id AND l.label_source = 'audit'"
    " ORDER BY l.known_us DESC, l.seq DESC LIMIT 1), 'withdrawn') = 'withdrawn'"
)
"""The newest verdict of an audit closes an entry; one that was withdrawn opens it again."""
_JUDGED = (
    "SELECT d.model_version, d.transaction_id, d.decided_us, l.known_us, d.audit_propensity,"
    " l.verdict = 'fraud' FROM labels l CROSS JOIN decisions d USING (transaction_id)"
    " WHERE l.known_us >= ? AND l.label_source = 'audit' AND l.verdict != 'withdrawn'"
    " AND d.explored = 'audited' AND d.decision = 'decline'"
    " AND NOT EXISTS (SELECT 1 FROM labels n WHERE n.transaction_id = l.transaction_id"
    "  AND n.label_source = 'audit' AND (n.known_us, n.seq) > (l.known_us, l.seq))"
    " ORDER BY l.seq"
)


class OpenAudit(NamedTuple):
    """A payment that waits for an audit.

    Attributes:
        seq: its place in the log.
        transaction_id: a label with source `audit` under this id closes it.
        event_us: when it happened, microseconds UTC.
        decided_us: when it was decided on, and drawn.
        amount_minor: minor units of `currency`.
        currency: ISO 4217.
        terminal_id: where.
        decision: approve or decline: what became of it.
        score: of the model, in [0, 1].
        reasons: codes, strongest first.
        pass_propensity: chance that it had been let through; None for an approved payment.
        audit_propensity: chance of the audit, had it not been let through.
    """

    seq: int
    transaction_id: str
    event_us: int
    decided_us: int
    amount_minor: int
    currency: str
    terminal_id: str
    decision: str
    score: float | None
    reasons: tuple[str, ...]
    pass_propensity: float | None
    audit_propensity: float


_OF_PAYMENT = {"amount_minor", "currency", "terminal_id"}
_COLUMNS = ", ".join(f"{'t' if n in _OF_PAYMENT else 'd'}.{n}" for n in OpenAudit._fields)


def open_audits(path: Path, *, after_seq: int = 0, limit: int = -1) -> list[OpenAudit]:
    """Payments that wait for an audit, oldest in the log first.

    Args:
        path: the log's SQLite file; without one, nothing waits.
        after_seq: leave out those up to this place.
        limit: at most so many; negative: all.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    query = (
        f"SELECT {_COLUMNS} FROM decisions d JOIN transactions t USING (transaction_id)"  # noqa: S608 -- names are ours
        f" WHERE d.seq > :after AND {_WAITING} ORDER BY d.seq LIMIT :limit"
    )
    with _reading(path) as connection:
        if connection is None:
            return []
        rows = connection.execute(query, {"after": after_seq, "limit": limit}).fetchall()
    found = [OpenAudit(*row) for row in rows]
    return [one._replace(reasons=tuple(json.loads(str(one.reasons)))) for one in found]


def count_open(path: Path) -> int:
    """How many payments wait for an audit.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    query = f"SELECT COUNT(*) FROM decisions d WHERE {_WAITING}"  # noqa: S608 -- names are ours
    with _reading(path) as connection:
        return 0 if connection is None else int(connection.execute(query).fetchone()[0])


def judged_audits(path: Path, since_us: int) -> Mapping[str, tuple[JudgedAudit, ...]]:
    """Declined payments that were drawn and judged, by the version of the model that declined them.

    Args:
        path: the log's SQLite file; without one, nothing is judged.
        since_us: judged since then, microseconds UTC; of an audit its newest verdict counts.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    with _reading(path) as connection:
        if connection is None:
            return {}
        rows = connection.execute(_JUDGED, (since_us,)).fetchall()
    found: dict[str, list[JudgedAudit]] = {}
    for version, name, decided_us, known_us, propensity, is_fraud in rows:
        audit = JudgedAudit(name, decided_us, known_us, propensity, bool(is_fraud))
        found.setdefault(version, []).append(audit)
    return {version: tuple(audits) for version, audits in found.items()}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection; None while the log has nothing that was drawn: no file, or an older one."""
    if not path.exists():
        yield None
        return
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
            known = {row[1] for row in connection.execute("PRAGMA table_info(decisions)")}
            yield connection if "explored" in known else None
    except sqlite3.Error as error:
        raise LogUnavailableError(
            f"found the event log {path} unreadable ({error}), expected to read it",
            hint="check that the file exists and that this user may read its folder",
        ) from error
