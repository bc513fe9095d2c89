"""The newest payments that a model judged, asked of the log's tables: what a governor starts from.

What a scorer has decided lately is seen once it is drained, as it is when a scorer starts.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.log_file import LogFile
from fraud_platform.crowds import Payer, payer_of
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest

_MOST_READ = 50_000
"""No more rows are looked at, however few of them a model judged: a payment may be waiting."""

_NEWEST = (
    "SELECT d.features, t.amount_minor, d.event_us, d.transaction_id,"
    " t.device_id, t.card_id, d.model_version, d.review_cut, d.decline_cut"
    " FROM decisions d CROSS JOIN transactions t USING (transaction_id)"
    " WHERE d.rowid > (SELECT MAX(rowid) FROM decisions) - ?"
    " AND d.score IS NOT NULL AND d.feature_spec_digest = ? ORDER BY d.rowid DESC LIMIT ?"
)
"""Decisions stand in the order they were drained in, which is that of the log."""


class RecentDecisions(NamedTuple):
    """Payments that a model judged, in the order of their decisions.

    Attributes:
        features: shape (n, k) in `FEATURE_NAMES` order, NaN where undefined.
        amounts_minor: shape (n,), minor units.
        event_us: shape (n,), microseconds UTC.
        cuts: model version -> review and decline cut that its newest decision was taken by.
        transaction_ids: of the payments.
        payers: of the payments.
    """

    features: NDArray[np.float64]
    amounts_minor: NDArray[np.int64]
    event_us: NDArray[np.int64]
    cuts: Mapping[str, tuple[float, float]]
    transaction_ids: tuple[str, ...]
    payers: tuple[Payer, ...]


def recent_decisions(path: Path, count: int) -> RecentDecisions:
    """The newest decisions of models, at most so many.

    Args:
        path: the log's SQLite file.
        count: at most so many.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    with closing(LogFile(path)) as log, log.snapshot() as connection:
        rows = connection.execute(_NEWEST, (_MOST_READ, spec_digest(), count)).fetchall()[::-1]
    cuts = {name: (review, decline) for *_, name, review, decline in rows if review is not None}
    packed = b"".join(row[0] for row in rows)
    return RecentDecisions(
        np.frombuffer(packed, np.float64).reshape(len(rows), len(FEATURE_NAMES)),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.int64),
        cuts,
        tuple(row[3] for row in rows),
        tuple(payer_of(device, card) for *_, device, card, _, _, _ in rows),
    )
