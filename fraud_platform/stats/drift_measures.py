"""How far two samples of one feature lie apart, and whether chance explains it.

What belongs here: distances and their error, of numbers and of categories. Which of them is called
a shift is `drift`'s policy. Missing values are a category of their own throughout.
"""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Counts = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rows of the reference and of the current sample in each bin; both of shape (bins,)."""


def binned(reference: NDArray[np.float64], current: NDArray[np.float64], bins: int) -> Counts:
    """Count numbers in quantile bins of the reference; the last bin is for missing values.

    Args:
        reference: shape (n,), NaN for missing.
        current: shape (m,), NaN for missing.
        bins: quantile bins cut on the reference; fewer where its values repeat.

    Examples:
        >>> [sample.tolist() for sample in binned(np.arange(4.0), np.array([9.0, np.nan]), 2)]
        [[2.0, 2.0, 0.0], [0.0, 1.0, 1.0]]
    """
    known = reference[~np.isnan(reference)]
    cuts = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique(np.quantile(known, cuts)) if len(known) else known
    return _binned(reference, edges), _binned(current, edges)


def categorised(reference: pl.Series, current: pl.Series) -> Counts:
    """Count categories, those that only one sample has and null among them.

    Args:
        reference: shape (n,), of any type that can be grouped.
        current: shape (m,), of the same type.

    Examples:
        >>> counts = categorised(pl.Series(["a", "b", "a"]), pl.Series(["c", None, "a"]))
        >>> sorted(zip(*(sample.tolist() for sample in counts)))
        [(0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (2.0, 1.0)]
    """
    rows = pl.DataFrame(
        {
            "value": pl.concat([reference.alias("value"), current.alias("value")]),
            "is_current": np.arange(len(reference) + len(current)) >= len(reference),
        }
    )
    is_current = pl.col("is_current")
    counts = rows.group_by("value").agg(r=(~is_current).sum(), c=is_current.sum()).sort("value")
    return counts["r"].cast(pl.Float64).to_numpy(), counts["c"].cast(pl.Float64).to_numpy()


def stability_index(counts: Counts) -> float:
    """Population stability index of counted rows, less its sampling bias.

    PSI = sum((c - r) ln(c / r)) over the b bins that either sample has, r and c being the shares of
    each sample in the bin; empty bins count as half a row. Between samples of n and m rows of one
    distribution n m / (n + m) PSI is about chi-square with b - 1 degrees of freedom, so the mean
    (b - 1) (1/n + 1/m) is taken off. What is left has mean 0 without a shift, whatever the sizes,
    where bins hold fifty rows; at ten rows a bin 6 % of what is taken off remains, at five 12 %.

    Args:
        counts: see `binned` and `categorised`; each sample has at least one row.

    Returns:
        Unitless; at or below 0 nothing speaks for a shift.

    Source: Yurdakul, "Statistical properties of the population stability index" (2018), chapter 3.

    Examples:
        >>> round(stability_index((np.array([500.0, 500.0]), np.array([400.0, 600.0]))), 4)
        0.0385
    """
    sizes = [float(count.sum()) for count in counts]
    used = int(np.count_nonzero(counts[0] + counts[1]))
    r, c = (np.maximum(count, 0.5) / size for count, size in zip(counts, sizes, strict=True))
    seen = (counts[0] + counts[1]) > 0
    whole = float(np.sum(((c - r) * np.log(c / r))[seen]))
    return whole - (used - 1) * (1 / sizes[0] + 1 / sizes[1])


def psi(reference: NDArray[np.float64], current: NDArray[np.float64], bins: int = 10) -> float:
    """`stability_index` of numbers in quantile bins of the reference, or 0 if it is below 0.

    Args:
        reference: shape (n,), NaN for missing.
        current: shape (m,), NaN for missing.
        bins: quantile bins cut on the reference.

    Returns:
        PSI >= 0, unitless; 0 means no shift beyond sampling.

    Examples:
        >>> sample = np.arange(1000.0)
        >>> psi(sample, sample)
        0.0
        >>> round(psi(sample, sample + 500), 1)
        3.5
    """
    return max(0.0, stability_index(binned(reference, current, bins)))


def jensen_shannon(counts: Counts) -> float:
    """Jensen-Shannon distance: sqrt((KL(r, h) + KL(c, h)) / 2), h = (r + c) / 2, in base 2.

    Sampling alone gives about sqrt((b - 1) (1/n + 1/m) / (8 ln 2)); it is not taken off.

    Args:
        counts: see `binned` and `categorised`; each sample has at least one row.

    Returns:
        In [0, 1], 1 when the samples share no bin.

    Source: Lin, IEEE Transactions on Information Theory 37 (1991); Endres and Schindelin, the same
    49 (2003), for the root, which makes it a distance.

    Examples:
        >>> jensen_shannon((np.array([5.0, 0.0]), np.array([0.0, 5.0])))
        1.0
    """
    r, c = (count / count.sum() for count in counts)
    half = (r + c) / 2
    whole = sum(float(np.sum(s[s > 0] * np.log2(s[s > 0] / half[s > 0]))) for s in (r, c))
    return math.sqrt(min(max(whole / 2, 0.0), 1.0))


def ks(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between the two empirical distributions.

    Args:
        reference: shape (n,); NaN are left out.
        current: shape (m,); NaN are left out.

    Returns:
        A distance in [0, 1]; NaN when a sample has no known value.

    Examples:
        >>> ks(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        0.5
    """
    r, c = (np.sort(sample[~np.isnan(sample)]) for sample in (reference, current))
    if not len(r) or not len(c):
        return float("nan")
    points = np.concatenate([r, c])
    gaps = np.searchsorted(r, points, side="right") / len(r) - np.searchsorted(
        c, points, side="right"
    ) / len(c)
    return float(np.abs(gaps).max())


def ks_chance(distance: float, reference: int, current: int) -> float:
    """The p-value of "both samples have one distribution", of a Kolmogorov-Smirnov distance.

    Q(D sqrt(n m / (n + m))), Kolmogorov's limit. Error: at most the level for samples of 50 and
    more, and less with ties (many equal amounts), where it is conservative.

    Args:
        distance: D, in [0, 1].
        reference: n, known values, at least 1.
        current: m, known values, at least 1.

    Source: Smirnov, Annals of Mathematical Statistics 19 (1948).

    Examples:
        >>> round(ks_chance(0.1, 300, 300), 3)
        0.1
    """
    from scipy.special import kolmogorov

    return float(kolmogorov(distance * math.sqrt(reference * current / (reference + current))))


def benjamini_hochberg(chances: Sequence[float], level: float) -> tuple[bool, ...]:
    """Which of many hypotheses fall, with a mean share of at most `level` of them wrongly.

    The k smallest p-values fall, k being the largest with p_(k) <= level k / number. Error: the
    false discovery rate is at most `level` if the p-values of true hypotheses are independent, or
    positively dependent on the others.

    Args:
        chances: p-values, in [0, 1].
        level: in (0, 1).

    Source: Benjamini and Hochberg, JRSS B 57 (1995); Benjamini and Yekutieli, Annals of Statistics
    29 (2001), for dependence.

    Examples:
        >>> benjamini_hochberg([0.04, 0.01, 0.03, 0.6], 0.06)
        (True, True, True, False)
    """
    ranked = sorted(chances)
    passed = [p for k, p in enumerate(ranked, start=1) if p <= level * k / len(ranked)]
    return tuple(bool(passed) and p <= passed[-1] for p in chances)


def _binned(sample: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(sample)
    index = np.searchsorted(edges, sample[~missing], side="right")
    counts = np.bincount(index, minlength=len(edges) + 1)
    return np.append(counts, missing.sum()).astype(np.float64)
