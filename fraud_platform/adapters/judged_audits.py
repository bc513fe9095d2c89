"""Audits of declined payments that are judged, asked of the log's tables.

What a label says is seen once it is drained, a second or so later.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from fraud_platform.adapters.log_file import LogFile
from fraud_platform.audit_credit import JudgedAudit

_JUDGED = (
    "SELECT d.model_version, d.transaction_id, d.decided_us, l.known_us, d.audit_propensity,"
    " l.verdict = 'fraud' FROM labels l CROSS JOIN decisions d USING (transaction_id)"
    " WHERE l.known_us >= ? AND l.label_source = 'audit' AND l.verdict != 'withdrawn'"
    " AND d.explored = 'audited' AND d.decision = 'decline'"
    " AND NOT EXISTS (SELECT 1 FROM labels n WHERE n.transaction_id = l.transaction_id"
    "  AND n.label_source = 'audit' AND (n.known_us, n.seq) > (l.known_us, l.seq))"
    " ORDER BY l.seq"
)
"""An auditor's newest word counts, and none once it is withdrawn."""


def judged_audits(path: Path, since_us: int) -> Mapping[str, tuple[JudgedAudit, ...]]:
    """Declined payments that were drawn and judged, by the version of the model that declined them.

    Args:
        path: the log's SQLite file.
        since_us: judged since then, microseconds UTC.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    with closing(LogFile(path)) as log, log.snapshot() as connection:
        rows = connection.execute(_JUDGED, (since_us,)).fetchall()
    found: dict[str, list[JudgedAudit]] = {}
    for version, name, decided_us, known_us, propensity, is_fraud in rows:
        audit = JudgedAudit(name, decided_us, known_us, propensity, bool(is_fraud))
        found.setdefault(version, []).append(audit)
    return {version: tuple(audits) for version, audits in found.items()}
