"""How many payments may be blocked while no label is known, so that few genuine ones are.

What belongs here: the arithmetic of the bound on the false positive rate. Who holds the window and
moves the threshold is the scorer's governor.

Of all payments a share B is blocked, a share F is blocked and fraud, and a share pi is fraud. So
FPR = (B - F) / (1 - pi), whatever the traffic or the model. A cap on B, which needs no
label, is a cap on the FPR; audits of blocked payments, which bound F from below, loosen it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fraud_platform.proportions import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class FprPolicy:
    """The bound on the false positive rate, and what is taken as known."""

    max_fpr: float = 0.05
    """Largest share of genuine payments that may be blocked."""
    max_fraud_share: float = 0.02
    """Share of fraud that traffic is taken never to exceed: an assumption, not an estimate."""
    max_block_share: float = 0.15
    """Largest share of payments that may be blocked, however good the audits look."""
    audit_confidence: float = 0.90
    """One-sided confidence of the lower bound on the fraud share among blocked payments."""

    def __post_init__(self) -> None:
        for name in ("max_fpr", "max_fraud_share", "max_block_share", "audit_confidence"):
            _require_share(name, getattr(self, name))


@dataclass(frozen=True)
class Audits:
    """Blocked payments drawn at random and judged, of one check.

    Attributes:
        fraud: found to be fraud, 0 <= fraud <= looked.
        looked: judged, 0 when nobody looked.

    Raises:
        ValueError: the counts contradict each other.
    """

    fraud: int
    looked: int

    def __post_init__(self) -> None:
        if not 0 <= self.fraud <= self.looked:
            raise ValueError(f"found {self.fraud} frauds in {self.looked} audits, expected fewer")


NO_AUDITS = Audits(0, 0)


def block_budget(policy: FprPolicy, known_fraud: float = 0.0) -> float:
    """The share of payments that may be blocked: min(alpha (1 - pi_U) + F, B_max).

    Guarantee: blocking at most this share keeps the FPR at or under `max_fpr`, for sure if F = 0,
    and otherwise with the confidence of F; provided that traffic holds at most `max_fraud_share` of
    fraud. What is blocked beyond F counts as genuine, so a budget that grows is not spent on the
    belief that the next payments are like those that were audited.

    Args:
        policy: alpha, pi_U and B_max.
        known_fraud: F, share of all payments that are blocked and shown to be fraud: the share
            blocked times q_L (`audited_fraud_share`), in [0, 1].

    Returns:
        In (0, B_max].

    Examples:
        >>> round(block_budget(FprPolicy()), 4), round(block_budget(FprPolicy(), 0.02), 4)
        (0.049, 0.069)
    """
    certain = policy.max_fpr * (1.0 - policy.max_fraud_share)
    return min(certain + known_fraud, policy.max_block_share)


def fpr_bound(block_share: float, policy: FprPolicy, known_fraud: float = 0.0) -> float:
    """The largest FPR that a block share can mean: min(1, (B - F) / (1 - pi_U)).

    It holds as `block_budget` does.

    Args:
        block_share: B, of all payments, in [0, 1].
        policy: pi_U.
        known_fraud: F, as above, at most B.

    Examples:
        >>> round(fpr_bound(0.049, FprPolicy()), 4), round(fpr_bound(0.049, FprPolicy(), 0.0245), 4)
        (0.05, 0.025)
    """
    return min(1.0, max(0.0, block_share - known_fraud) / (1.0 - policy.max_fraud_share))


def audited_fraud_share(checks: Sequence[Audits], confidence: float) -> float:
    """A lower bound q_L on the share of fraud among the payments blocked now.

    The smaller of two one-sided Clopper-Pearson bounds, that of the last check alone and that of
    all checks together: the credit of an attack ends with the attack, and a single lucky check
    gives none. It exceeds the last check's true share with a chance of at most 1 - `confidence`,
    because the first of the two alone already does so.

    Args:
        checks: oldest first; empty, or a last one without audits, gives no credit.
        confidence: one-sided, in (0, 1).

    Returns:
        In [0, 1).

    Examples:
        >>> round(audited_fraud_share([Audits(30, 40), Audits(2, 40)], 0.9), 4)
        0.0134
    """
    last = checks[-1] if checks else NO_AUDITS
    pooled = Audits(sum(c.fraud for c in checks), sum(c.looked for c in checks))
    return min(_lower(last, confidence), _lower(pooled, confidence))


@lru_cache(maxsize=4_096)
def allowed_blocks(window: int, budget: float, risk: float) -> int | None:
    """How many of the last scores may lie at or above the threshold.

    The largest m with P(Bin(n, B) <= m) <= delta. A threshold drawn from n scores so that at most m
    of them reach it blocks more than a share B of what follows with a chance of at most delta, if
    the scores that follow are exchangeable with those of the window (independent draws of one
    distribution, known or not; ties only help). After a shift the excess lasts at most until the
    window is full of new scores. The chance is that of one threshold: of many in a row, a share
    delta may be wrong.

    Args:
        window: n, scores looked at.
        budget: B, in (0, 1).
        risk: delta, in (0, 1).

    Returns:
        m, 0 <= m < n; None when the window is too short for any threshold (n < ln delta /
        ln (1 - B)), where only blocking nothing is safe.

    Raises:
        ValueError: an argument is out of its range.

    Source: Tong, Feng and Li, "Neyman-Pearson classification algorithms and NP receiver operating
    characteristics", Science Advances 4 (2018), proposition 1 (the umbrella algorithm).

    Examples:
        >>> allowed_blocks(3_000, 0.049, 0.1), allowed_blocks(12_500, 0.049, 0.1)
        (131, 581)
        >>> allowed_blocks(45, 0.049, 0.1), allowed_blocks(46, 0.049, 0.1)
        (None, 0)
    """
    from scipy.special import bdtr

    if window < 1:
        raise ValueError(f"found window={window}, expected at least 1")
    _require_share("budget", budget)
    _require_share("risk", risk)
    below = bisect_right(range(window + 1), risk, key=lambda m: float(bdtr(m, window, budget)))
    return below - 1 if below else None


def lowest_threshold(scores: NDArray[np.float64], blocks: int) -> float:
    """The lowest threshold that at most so many scores reach, a score at it being blocked.

    Args:
        scores: shape (n,), finite.
        blocks: m, 0 <= m < n.

    Returns:
        The next number above the (m + 1)-th largest score; it may exceed 1, which blocks nothing.

    Raises:
        ValueError: `blocks` is not in [0, n).

    Examples:
        >>> threshold = lowest_threshold(np.array([0.1, 0.9, 0.5, 0.5]), 2)
        >>> round(threshold, 6), threshold > 0.5
        (0.5, True)
    """
    if not 0 <= blocks < scores.size:
        raise ValueError(f"found blocks={blocks}, expected 0 to below {scores.size}")
    place = scores.size - 1 - blocks
    return float(np.nextafter(np.partition(scores, place)[place], np.inf))


def _lower(audits: Audits, confidence: float) -> float:
    if not audits.looked:
        return 0.0
    # The lower end of a two-sided interval that misses as often on either side.
    return clopper_pearson(audits.fraud, audits.looked, 2.0 * confidence - 1.0)[0]


def _require_share(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"found {name}={value}, expected 0 < {name} < 1")
