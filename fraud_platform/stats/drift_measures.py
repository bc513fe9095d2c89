"""How far two samples of one feature lie apart, and whether chance explains it.

What belongs here: distances and their error, of numbers and of categories. Which of them is called
a shift is `drift`'s policy. Missing values are a category of their own throughout.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Counts = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rows of the reference and of the current sample in each bin; both of shape (bins,)."""


@dataclass(frozen=True)
class Bins:
    """Quantile bins of a reference, cut once and held against many samples.

    Attributes:
        edges: between the bins, shape (bins - 1,), rising.
        counts: rows of the reference in each, by stratum, shape (strata, bins); the last bin is for
            missing values.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        reference: NDArray[np.float64],
        bins: int,
        strata: NDArray[np.int64] | None = None,
    ) -> "Bins":
        """Cut a reference of shape (n,), NaN for missing; fewer bins where its values repeat.

        Args:
            reference: the sample.
            bins: so many.
            strata: shape (n,), the part of the reference that each row belongs to, from 0 on.
        """
        known = reference[~np.isnan(reference)]
        cuts = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(known, cuts)) if len(known) else known
        if strata is None:
            return cls(edges, _binned(reference, edges)[None, :])
        parts = range(int(strata.max(initial=0)) + 1)
        return cls(edges, np.stack([_binned(reference[strata == n], edges) for n in parts]))

    def against(
        self, current: NDArray[np.float64], weights: NDArray[np.float64] | None = None
    ) -> Counts:
        """The reference's rows and those of a sample of shape (m,), NaN for missing.

        Args:
            current: the sample.
            weights: what a row of each stratum counts, at least as many as strata; None: one.
        """
        known = self.counts.sum(axis=0)
        if weights is not None:
            known = weights[: len(self.counts)] @ self.counts
        return known, _binned(current, self.edges)


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
    return Bins.of(reference, bins).against(current)


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
    return side_by_side(tally(reference), tally(current))


Tally = Mapping[object, float]
"""Category, or None for missing -> rows."""


def tally(sample: pl.Series) -> Tally:
    """Count categories, null among them.

    Examples:
        >>> sorted(tally(pl.Series(["a", "b", "a"])).items())
        [('a', 2), ('b', 1)]
    """
    counts = sample.alias("value").value_counts()
    return dict(zip(counts["value"].to_list(), counts["count"].to_list(), strict=True))


def weighted(parts: Sequence[Tally], weights: NDArray[np.float64]) -> Tally:
    """The sum of tallies, each counted so many times.

    Examples:
        >>> weighted([{"a": 2}, {"a": 1, "b": 4}], np.array([1.0, 0.5]))
        {'a': 2.5, 'b': 2.0}
    """
    whole: dict[object, float] = {}
    for part, weight in zip(parts, weights.tolist(), strict=True):
        for name, rows in part.items():
            whole[name] = whole.get(name, 0.0) + weight * rows
    return {name: rows for name, rows in whole.items() if rows > 0.0}


def side_by_side(reference: Tally, current: Tally) -> Counts:
    """Two tallies as counts of every category that either has, in a settled order."""
    names = sorted({*reference, *current}, key=lambda name: (name is None, str(name)))
    r, c = ([float(counted.get(n, 0)) for n in names] for counted in (reference, current))
    return np.array(r), np.array(c)


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
    return ks_sorted(r, c)


def ks_sorted(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """`ks` of samples in order and without NaN: cheap where the current one is small.

    Between two of its values only the reference's distribution moves, and it only rises; so the
    largest gap is at one of them, or just before it.
    """
    if not len(reference) or not len(current):
        return float("nan")
    gaps = [
        np.searchsorted(reference, current, side=side) / len(reference)
        - np.searchsorted(current, current, side=side) / len(current)
        for side in ("left", "right")
    ]
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
