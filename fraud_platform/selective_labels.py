"""Learning although what is declined never shows its truth: explore a little, and weigh.

What belongs here: which would-be declines are let through or audited, and what a row that became
known by such a chance stands for. Who acts on it is the scorer; which rows a model learns from is
`training_set`; what such rows say about the others is `survey`.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Action(StrEnum):
    """What becomes of a payment that would be declined."""

    NONE = "none"  # it is declined, and its truth stays unknown
    # approved, and its truth becomes known as for any approved payment
    PASS = "pass"  # noqa: S105 -- no password
    AUDIT = "audit"  # it is declined, and somebody finds out what it was


@dataclass(frozen=True, kw_only=True)
class ExplorationPolicy:
    """How many would-be declines are let through or audited at random; off unless told."""

    pass_rate: float = 0.0
    """Chance that a would-be decline of at most `pass_max_amount_minor` is let through, in [0, 1]:
    letting a share of frauds through is what learning from declines costs."""
    pass_floor: float = 0.0
    """The same chance for larger amounts, in [0, pass_rate]."""
    pass_max_amount_minor: int = 15_000
    """Amount up to which `pass_rate` holds, minor units."""
    pass_ceiling_minor: int = 200_000
    """Sum of the amounts let through in a day (UTC) that is never exceeded, minor units."""
    audit_rate: float = 0.0
    """Chance that a would-be decline of at most `audit_amount_minor` that is not let through is
    audited, in [0, 1]."""
    audit_amount_minor: int = 10_000
    """Amount up to which `audit_rate` holds, minor units, at least 1. Above, the chance grows with
    the amount up to 1: the few large payments that decide a sum of money are seldom missed."""
    audits_per_day: int = 100
    """Audits in a day (UTC); then no more are asked for."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.pass_floor <= self.pass_rate <= 1.0 and 0.0 <= self.audit_rate <= 1.0):
            raise ValueError(
                f"found pass_floor={self.pass_floor}, pass_rate={self.pass_rate} and "
                f"audit_rate={self.audit_rate}, expected 0 <= pass_floor <= pass_rate <= 1 and "
                "audit_rate in [0, 1]"
            )
        limits = (self.pass_max_amount_minor, self.pass_ceiling_minor, self.audits_per_day)
        if min(limits) < 0:
            raise ValueError(
                f"found pass_max_amount_minor, pass_ceiling_minor and audits_per_day of {limits}, "
                "expected at least 0"
            )
        if self.audit_amount_minor < 1:
            found = self.audit_amount_minor
            raise ValueError(f"found audit_amount_minor={found}, expected at least 1")

    def audit_chance(self, amount_minor: int) -> float:
        """Chance that a would-be decline is audited, while the day's audits last.

        Examples:
            >>> policy = ExplorationPolicy(audit_rate=0.25, audit_amount_minor=10_000)
            >>> [policy.audit_chance(amount) for amount in (500, 10_000, 30_000, 200_000)]
            [0.25, 0.25, 0.75, 1.0]
        """
        return min(1.0, self.audit_rate * max(1.0, amount_minor / self.audit_amount_minor))


@dataclass(frozen=True)
class Exploration:
    """What was drawn for a would-be decline, and how likely it was.

    Attributes:
        action: what becomes of the payment.
        pass_propensity: chance that it was let through.
        audit_propensity: chance that it was audited, had it not been let through.
    """

    action: Action
    pass_propensity: float
    audit_propensity: float

    @property
    def propensity(self) -> float:
        """Chance that the truth of this payment could become known, in [0, 1].

        Examples:
            >>> Exploration(Action.NONE, 0.5, 0.5).propensity
            0.75
        """
        return 1.0 - (1.0 - self.pass_propensity) * (1.0 - self.audit_propensity)


def explore(
    policy: ExplorationPolicy,
    transaction_id: str,
    amount_minor: int,
    *,
    exposure_minor_today: int,
    audits_today: int,
    salt: bytes,
) -> Exploration:
    """Draw what becomes of one would-be decline; the same input always draws the same.

    The chance comes from a keyed digest of the transaction id, so that a replay of the decision
    redraws it, and nobody without the key can find ids that will pass.

    Args:
        policy: the rates and the limits.
        transaction_id: of the payment.
        amount_minor: its amount, minor units.
        exposure_minor_today: amounts let through on this UTC day so far, minor units.
        audits_today: audits asked for on this UTC day so far.
        salt: the key; whoever knows it knows what will pass.

    Examples:
        >>> policy = ExplorationPolicy(pass_rate=1.0)
        >>> today = {"audits_today": 0, "salt": b"key"}
        >>> explore(policy, "t1", 9_000, exposure_minor_today=0, **today).action
        <Action.PASS: 'pass'>
        >>> explore(policy, "t1", 9_000, exposure_minor_today=195_000, **today).pass_propensity
        0.0
    """
    is_ordinary = amount_minor <= policy.pass_max_amount_minor
    passes = policy.pass_rate if is_ordinary else policy.pass_floor
    if exposure_minor_today + amount_minor > policy.pass_ceiling_minor:
        passes = 0.0
    is_left = audits_today < policy.audits_per_day
    audits = policy.audit_chance(amount_minor) if is_left else 0.0
    if _uniform(salt, "pass", transaction_id) < passes:
        return Exploration(Action.PASS, passes, audits)
    if _uniform(salt, "audit", transaction_id) < audits:
        return Exploration(Action.AUDIT, passes, audits)
    return Exploration(Action.NONE, passes, audits)


def _uniform(salt: bytes, purpose: str, transaction_id: str) -> float:
    """A number in [0, 1) that looks drawn at random: the first 53 bits of a keyed digest."""
    digest = hmac.digest(salt, f"{purpose}\0{transaction_id}".encode(), "sha256")
    return float((int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53)


def training_weights(propensity: Floats, *, max_weight: float) -> Floats:
    """How many payments each labelled row stands for: 1 / propensity, clipped, mean 1.

    The clip gives up a little truth for a smaller variance; the mean of 1 keeps what a library's
    settings per row (such as the least weight of a leaf) mean.

    Args:
        propensity: shape (n,), chance that the row's label became known, in [0, 1]. A label that
            came although its chance was 0 was not drawn: it stands for itself alone.
        max_weight: what the inverse is clipped at, at least 1.

    Examples:
        >>> training_weights(np.array([1.0, 1.0, 0.01, 0.0]), max_weight=5.0).tolist()
        [0.5, 0.5, 2.5, 0.5]
    """
    inverse = np.divide(1.0, propensity, out=np.ones(propensity.shape), where=propensity > 0)
    clipped = np.minimum(inverse, max_weight)
    return np.asarray(clipped / clipped.mean() if clipped.size else clipped, dtype=np.float64)
