"""Learning although what is declined never shows its truth: explore a little, weigh, estimate.

What belongs here: which would-be declines are let through or audited, what a row that became known
by such a chance stands for, and what can be said about the others. Who acts on it is the scorer;
which rows a model learns from is `training_set`.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import DataContractError

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
    """Chance that a would-be decline that is not let through is audited, in [0, 1]."""
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
    audits = policy.audit_rate if audits_today < policy.audits_per_day else 0.0
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


def effective_sample_size(weights: Floats) -> float:
    """Rows of equal weight that would tell as much: (sum w)^2 / sum w^2; 0 without rows.

    Source:
        Kish, Survey Sampling, 1965.

    Examples:
        >>> effective_sample_size(np.array([1.0, 1.0, 2.0]))
        2.6666666666666665
    """
    squares = float(np.sum(weights * weights))
    return float(np.sum(weights)) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class Estimate:
    """What the labelled rows say about all rows that had a chance to be labelled.

    Attributes:
        low: lower end of the interval.
        value: the estimate.
        high: upper end of the interval.
        effective_sample_size: labelled rows of equal weight that would tell as much.
    """

    low: float
    value: float
    high: float
    effective_sample_size: float


def estimated_share(
    part: NDArray[np.bool_], whole: NDArray[np.bool_], propensity: Floats, *, confidence: float
) -> Estimate:
    """Which share of `whole` is in `part`, among all rows that could have been labelled.

    Hajek's estimator: both counts are sums of 1 / propensity. Its linearised variance becomes the
    number of rows that a simple random sample of that variance would have, and Wilson's interval
    follows, which stays in [0, 1] and has a width also where all or none are in `part`.

    Args:
        part: shape (n,) over the labelled rows, for instance frauds at or above a threshold.
        whole: shape (n,), for instance frauds; rows outside do not count.
        propensity: shape (n,), the chance of each label, in (0, 1].
        confidence: of the interval, in (0, 1).

    Raises:
        DataContractError: no row in `whole`, or a propensity outside (0, 1].

    Source:
        Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, sections 3.5 and 5.5
        (Poisson sampling, linearised ratio); Korn and Graubard, 1998, for the effective rows.

    Examples:
        >>> known, drawn = [True] * 6, [0.5] * 6
        >>> fraud = np.array([True, True, True, False, False, False])
        >>> found = estimated_share(fraud, np.array(known), np.array(drawn), confidence=0.9)
        >>> f"{found.low:.2f} {found.value:.2f} {found.high:.2f}"
        '0.27 0.50 0.73'
    """
    inside = (part & whole).astype(np.float64)
    value, variance, size = _ratio(inside, whole.astype(np.float64), propensity)
    if not np.any(whole & (propensity < 1.0)):
        return Estimate(value, value, value, size)
    rows = value * (1.0 - value) / variance if 0.0 < value < 1.0 and variance > 0 else size
    square = _quantile(confidence) ** 2
    middle = (value + square / (2 * rows)) / (1 + square / rows)
    spread = square / rows * (value * (1 - value) + square / (4 * rows))
    half = spread**0.5 / (1 + square / rows)
    return Estimate(max(0.0, middle - half), value, min(1.0, middle + half), size)


def estimated_mean(values: Floats, propensity: Floats, *, confidence: float) -> Estimate:
    """Mean of a number, such as a payment's cost, over all rows that could have been labelled.

    Where a few rare rows decide the mean, as large frauds do, a draw without them has too short an
    interval: of nominal 90 %, 60 % covered the cost in `benchmarks.learning`.

    Args:
        values: shape (n,) over the labelled rows.
        propensity: shape (n,), the chance of each label, in (0, 1].
        confidence: of the interval, in (0, 1).

    Raises:
        DataContractError: no rows, or a propensity outside (0, 1].

    Source:
        As `estimated_share`, with a normal interval.
    """
    value, variance, size = _ratio(values, np.ones(values.shape), propensity)
    half = _quantile(confidence) * variance**0.5
    return Estimate(value - half, value, value + half, size)


def _ratio(of: Floats, over: Floats, propensity: Floats) -> tuple[float, float, float]:
    """Hajek's ratio, its linearised variance under independent draws, and the effective rows."""
    if not over.any() or not np.all((propensity > 0) & (propensity <= 1)):
        raise DataContractError(
            f"found {np.count_nonzero(over)} rows to estimate from and propensities of "
            f"{propensity.min(initial=1.0):g} to {propensity.max(initial=1.0):g}, expected rows, "
            "and chances in (0, 1]",
            hint="leave out rows whose label had no chance to become known, and say how many.",
        )
    weights = 1.0 / propensity
    total = float(np.sum(weights * over))
    value = float(np.sum(weights * of)) / total
    residual = weights * (of - value * over)
    drawn = np.count_nonzero((over > 0) & (propensity < 1.0))
    unbiased = drawn / (drawn - 1) if drawn > 1 else 1.0
    variance = unbiased * float(np.sum((1.0 - propensity) * residual**2)) / total**2
    return value, variance, effective_sample_size(weights * over)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)
