"""What the log holds for the monitors: its newest payments, and what became of approved ones.

What belongs here: queries. What the rows mean is `heal.monitors` and `heal.verdicts`.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.events import microseconds
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.heal.monitors import Window
from fraud_platform.schemas import PAYLOAD_COLUMNS, UTC_MICROSECONDS

_PAYLOAD = ["event_us" if name == "event_timestamp" else name for name in PAYLOAD_COLUMNS]
_NEWEST = (
    f"SELECT t.seq, {', '.join(f't.{name}' for name in _PAYLOAD)}, t.received_us, t.source,"  # noqa: S608 -- names are ours
    " d.features, d.score, d.seen_seq, d.model_version, d.feature_spec_digest"
    " FROM (SELECT * FROM transactions ORDER BY seq DESC LIMIT ?) t"
    " LEFT JOIN decisions d USING (transaction_id) ORDER BY t.seq"
)
_REJECTED = "SELECT COUNT(*) FROM rejections WHERE received_us BETWEEN ? AND ?"
_APPROVED = (
    "SELECT t.card_id, d.event_us, d.probability,"
    " (SELECT MIN(l.known_us) FROM labels l"
    "  WHERE l.transaction_id = d.transaction_id AND l.verdict = 'fraud') AS reported_us"
    " FROM decisions d CROSS JOIN transactions t USING (transaction_id)"
    " WHERE d.event_us >= ? AND d.decision = 'approve' AND d.probability IS NOT NULL"
    " AND d.model_version = ?"
)
_AUDITED = (
    "SELECT d.probability, l.verdict = 'fraud' AS is_fraud,"
    " COALESCE(CASE d.decision WHEN 'review' THEN 1.0 ELSE d.audit_propensity END, 1.0)"
    " AS propensity FROM decisions d CROSS JOIN labels l USING (transaction_id)"
    " WHERE d.event_us >= ? AND d.model_version = ? AND d.probability IS NOT NULL"
    " AND l.label_source IN ('audit', 'analyst') AND l.verdict != 'withdrawn'"
    " AND NOT EXISTS (SELECT 1 FROM labels n WHERE n.transaction_id = l.transaction_id"
    "  AND n.label_source = l.label_source AND n.verdict = 'withdrawn' AND n.seq > l.seq)"
    " AND ((d.decision = 'decline' AND d.explored = 'audited') OR d.decision = 'review')"
    " GROUP BY d.transaction_id HAVING l.seq = MAX(l.seq)"
)


@dataclass(frozen=True)
class Newest:
    """The newest payments of the log.

    Attributes:
        window: for the monitors; features and scores of those that were decided.
        matrix: shape (m, k) in `FEATURE_NAMES` order, NaN for unknown, of those that were decided
            with today's features.
        cards: of the rows of `matrix`.
        age_us: how far behind each decision's features were; see `probes.feature_age`.
        rows: position of the newest payment: about the payments since the log began.
        event_us: the newest payment's time, microseconds UTC; 0 without any.
    """

    window: Window
    matrix: NDArray[np.float64]
    cards: list[str]
    age_us: NDArray[np.float64]
    rows: int
    event_us: int


def newest(log: EventLog, path: Path, count: int, champion: str | None) -> Newest:
    """The newest payments, at most so many, and what they were decided by.

    Args:
        log: the log; what a scorer's journal holds is taken into the file first.
        path: the file of the log.
        count: at most so many.
        champion: whose scores count.

    Raises:
        LogUnavailableError: the log cannot be read now.
    """
    log.last_seq()  # drains
    with LogFile(path).snapshot() as connection:
        cursor = connection.execute(_NEWEST, (count,))
        rows, names = cursor.fetchall(), [column[0] for column in cursor.description]
        received = names.index("received_us")
        # Files bring payments of years in a moment; only live arrivals tell a rate of refusals.
        ends = (rows[0][received], rows[-1][received]) if rows else (0, -1)
        (rejected,) = connection.execute(_REJECTED, ends).fetchone()
    frame = pl.DataFrame(rows, schema={name: _TYPES.get(name) for name in names}, orient="row")
    decided = frame.filter(pl.col("feature_spec_digest") == spec_digest())
    matrix = np.frombuffer(b"".join(decided["features"]), np.float64)
    matrix = matrix.reshape(decided.height, len(FEATURE_NAMES))
    by_champion = pl.when(pl.col("model_version") == champion).then("score")
    scores = decided.select(by_champion.alias("score"))["score"].cast(pl.Float64)
    window = Window(
        payments=_payments(frame),
        features=pl.DataFrame(matrix, schema=list(FEATURE_NAMES)).fill_nan(None)
        if decided.height
        else None,
        scores=scores.fill_null(float("nan")).to_numpy() if decided.height else None,
        rejected=int(rejected),
    )
    return Newest(
        window,
        matrix,
        decided["card_id"].to_list(),
        _ages(frame, decided),
        int(rows[-1][0]) if rows else 0,
        int(frame["event_us"].max() or 0),  # type: ignore[arg-type]  # an Int64 column
    )


def approved(path: Path, since: datetime, version: str) -> pl.DataFrame:
    """Payments that a version let through since then, as `verdicts.missed_fraud` takes them."""
    with LogFile(path).snapshot() as connection:
        rows = connection.execute(_APPROVED, (microseconds(since), version)).fetchall()
    schema = {
        "card_id": pl.String,
        "event_timestamp": pl.Int64,
        "probability": pl.Float64,
        "reported_timestamp": pl.Int64,
    }
    times = pl.col("event_timestamp", "reported_timestamp").cast(UTC_MICROSECONDS)
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(times)


def audits(path: Path, since: datetime, version: str) -> pl.DataFrame:
    """Disturbed payments of a version that somebody looked at: those drawn, and those reviewed.

    Returns:
        probability, is_fraud (Float64) and propensity.
    """
    with LogFile(path).snapshot() as connection:
        rows = connection.execute(_AUDITED, (microseconds(since), version)).fetchall()
    schema = {"probability": pl.Float64, "is_fraud": pl.Float64, "propensity": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _payments(frame: pl.DataFrame) -> pl.DataFrame:
    """The payload; arrivals are told only of payments that a scorer was asked about."""
    told = frame.rename({"event_us": "event_timestamp"}).with_columns(
        pl.col("event_timestamp").cast(UTC_MICROSECONDS)
    )
    payments = told.select(pl.col(name).cast(dtype) for name, dtype in PAYLOAD_COLUMNS.items())
    if (frame["source"] != "scorer").any():
        return payments
    return payments.with_columns(received_timestamp=frame["received_us"].cast(UTC_MICROSECONDS))


def _ages(frame: pl.DataFrame, decided: pl.DataFrame) -> NDArray[np.float64]:
    """Time between the last payment before each decided one, and the last that it had seen."""
    if not decided.height:
        return np.zeros(0)
    places, times = frame["seq"].to_numpy(), frame["event_us"].to_numpy()
    newest_us = np.maximum.accumulate(times)
    before = np.searchsorted(places, decided["seq"].to_numpy()) - 1
    seen = np.searchsorted(places, decided["seen_seq"].to_numpy(), side="right") - 1
    ages = newest_us[np.maximum(before, 0)] - newest_us[np.maximum(np.minimum(seen, before), 0)]
    return ages.astype(np.float64)


_TYPES: dict[str, pl.DataType] = {
    **PAYLOAD_COLUMNS,
    "seq": pl.Int64(),
    "event_us": pl.Int64(),
    "received_us": pl.Int64(),
    "source": pl.String(),
    "features": pl.Binary(),
    "score": pl.Float64(),
    "seen_seq": pl.Int64(),
    "model_version": pl.String(),
    "feature_spec_digest": pl.String(),
}
