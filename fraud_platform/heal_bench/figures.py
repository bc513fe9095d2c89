"""Numbers of the scenario benchmark, each with an interval and with what it rests on.

What belongs here: arithmetic over runs. Which numbers are told, and against what, is `report`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fraud_platform.proportions import clopper_pearson

CONFIDENCE = 0.9
"""Of every interval: such intervals hold the truth this often."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        value: the number; None: there is nothing to judge; `inf`: it never happened.
        low: lower end of its interval, None without one.
        high: upper end.
        count: what it rests on: runs, seeds or days.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: float = 0


def share(hits: int, trials: int) -> Figure:
    """A share of runs, with the exact interval: runs of different seeds are independent.

    Examples:
        >>> found = share(1, 20)
        >>> found.value, round(found.low, 4), round(found.high, 3)
        (0.05, 0.0026, 0.216)
    """
    if not trials:
        return Figure()
    low, high = clopper_pearson(hits, trials, CONFIDENCE)
    return Figure(value=hits / trials, low=low, high=high, count=trials)


def rate(events: int, days: float, per_days: float) -> Figure:
    """Events in so many days, with the exact interval of a Poisson count.

    Args:
        events: counted.
        days: that could have had one.
        per_days: the rate is told for so many days.

    Source: Garwood, Biometrika 28 (1936).

    Examples:
        >>> found = rate(0, days=90.0, per_days=30.0)
        >>> found.value, found.low, round(found.high, 3)
        (0.0, 0.0, 0.999)
    """
    from scipy.special import gammaincinv

    if days <= 0:
        return Figure()
    tail, scale = (1.0 - CONFIDENCE) / 2, per_days / days
    low = float(gammaincinv(events, tail)) if events else 0.0
    high = float(gammaincinv(events + 1, 1.0 - tail))
    return Figure(value=events * scale, low=low * scale, high=high * scale, count=days)


def median(delays: Sequence[int | None]) -> Figure:
    """The median delay; None is a delay without end, so more than half of them give `inf`.

    Examples:
        >>> median([100, None, 300]).value, median([None, None, 300]).value
        (300.0, inf)
    """
    if not delays:
        return Figure()
    ordered = sorted(math.inf if delay is None else float(delay) for delay in delays)
    low, high = (len(ordered) - 1) // 2, len(ordered) // 2
    middle = ordered[low] if low == high else (ordered[low] + ordered[high]) / 2
    return Figure(value=middle, count=len(ordered))


def mean_ratio(parts: ArrayLike, wholes: ArrayLike) -> Figure:
    """Sum of parts over sum of wholes in each group, and the mean over the groups.

    The interval is Student's over the seeds, each seed's deviation taken to first order: two
    scenarios under one seed share a world and count as one draw.

    Args:
        parts: shape (groups, seeds).
        wholes: the same shape, what the parts are of; a group without any has no ratio.

    Source: the ratio estimator of Cochran, Sampling Techniques (1977), section 6.4.

    Examples:
        >>> found = mean_ratio([[90.0, 70.0], [40.0, 60.0]], [[100.0, 100.0], [100.0, 100.0]])
        >>> found.value, round(found.low, 3), round(found.high, 3), found.count
        (0.65, 0.65, 0.65, 2)
    """
    part, whole = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    has_any = whole.sum(axis=1) != 0 if whole.size else np.zeros(0, dtype=bool)
    if not has_any.any():
        return Figure()
    part, whole = part[has_any], whole[has_any]
    ratios = part.sum(axis=1) / whole.sum(axis=1)
    value, seeds = float(ratios.mean()), part.shape[1]
    if seeds < 2:
        return Figure(value=value, count=seeds)
    deviations = (part - ratios[:, None] * whole) / whole.mean(axis=1)[:, None]
    half = _student(seeds) * float(deviations.mean(axis=0).std(ddof=1)) / math.sqrt(seeds)
    return Figure(value=value, low=value - half, high=value + half, count=seeds)


def _student(seeds: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 0.5 + CONFIDENCE / 2))
