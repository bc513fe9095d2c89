"""Shares of counted things, and how sure they are."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def clopper_pearson(hits: float, trials: float, confidence: float) -> tuple[float, float]:
    """The exact interval for a proportion, two-sided: it holds the truth at least as often as told.

    Counts may be effective ones, hence fractions. Trials count as independent; where they are not,
    the interval is too short.

    Args:
        hits: successes, 0 <= hits <= trials.
        trials: draws, more than 0.
        confidence: in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Source: Clopper and Pearson, Biometrika 26 (1934).

    Examples:
        >>> [round(bound, 4) for bound in clopper_pearson(0, 30, 0.9)]
        [0.0, 0.095]
        >>> [round(bound, 3) for bound in clopper_pearson(10, 100, 0.95)]
        [0.049, 0.176]
    """
    return _beta_interval(hits, trials, confidence, near=0.0, far=1.0)


def jeffreys(hits: float, trials: float, confidence: float) -> tuple[float, float]:
    """An interval that holds the truth about as often as told: shorter than the exact one.

    Counts may be effective ones, hence fractions.

    Args:
        hits: successes, 0 <= hits <= trials.
        trials: draws, more than 0.
        confidence: in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Source: Brown, Cai and DasGupta, Statistical Science 16 (2001).

    Examples:
        >>> [round(bound, 4) for bound in jeffreys(0, 30, 0.9)]
        [0.0, 0.0615]
        >>> [round(bound, 3) for bound in jeffreys(10, 100, 0.95)]
        [0.053, 0.17]
    """
    return _beta_interval(hits, trials, confidence, near=0.5, far=0.5)


def wilson(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval, two-sided: a formula without a library, for many judgements a day.

    Args:
        hits: successes, 0 <= hits <= trials.
        trials: draws, at least 1.
        confidence: in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Source: Wilson, JASA 22 (1927).

    Examples:
        >>> [round(bound, 3) for bound in wilson(10, 100, 0.95)]
        [0.055, 0.174]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def effective_size(weights: NDArray[np.float64]) -> float:
    """How many equally weighted rows would say as much: (sum of weights)^2 / sum of squares.

    Examples:
        >>> effective_size(np.ones(4)), effective_size(np.array([3.0, 1.0]))
        (4.0, 1.6)
    """
    return float(weights.sum() ** 2 / np.sum(weights**2)) if weights.any() else 0.0


def _beta_interval(
    hits: float, trials: float, confidence: float, *, near: float, far: float
) -> tuple[float, float]:
    """Quantiles of the beta distribution; `near` and `far` are what each side's counts get."""
    from scipy.special import betaincinv

    tail, missed = (1.0 - confidence) / 2, max(trials - hits, 0.0)
    low = float(betaincinv(hits + near, missed + far, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + far, missed + near, 1 - tail)) if missed > 0 else 1.0
    return low, high
