"""What a challenger would have said about payments that another model decided on."""

from collections.abc import Sequence

import numpy as np

from fraud_platform.adapters.journal_frames import ShadowScore
from fraud_platform.events import Decision
from fraud_platform.rollout import CHAMPION_ARM, CONTROL_ARM
from serving.ruling import Ruling


def shadow_scores(ruling: Ruling, decided: Sequence[Decision]) -> tuple[ShadowScore, ...] | None:
    """What the challenger says about payments that another model decided on.

    Returns:
        The usable scores; None when the challenger failed, which harms nothing.
    """
    judged = [decision for decision in decided if decision.arm in (CHAMPION_ARM, CONTROL_ARM)]
    matrix = np.array([decision.features for decision in judged], dtype=np.float64)
    verdicts = ruling.shadow(matrix)
    if verdicts is None:
        return None
    return tuple(
        ShadowScore(
            decision.seq,
            decision.transaction_id,
            verdict.version,
            verdict.model_digest,
            verdict.score,
            str(verdict.outcome),
        )
        for decision, verdict in zip(judged, verdicts, strict=True)
        if verdict.score is not None
    )
