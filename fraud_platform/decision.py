"""From a score to an answer: approve, review or decline, with stable reasons."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DecisionPolicy:
    """How much of the genuine traffic may be disturbed."""

    review_fpr: float = 0.02
    """Share of genuine transactions that may be reviewed or declined, in (0, 1)."""
    decline_fpr: float = 0.002
    """Share of genuine transactions that may be declined, in (0, review_fpr]."""
    max_reasons: int = 4
    """Most reason codes in one answer."""
