"""Tests that may be looked at after every event, and boundaries for a few planned looks.

What belongs here: the evidence against one hypothesis. An e-process E has, under its hypothesis, a
chance of at most alpha ever to reach 1 / alpha (Ville's inequality), however often one looks and
whenever one stops. All evidence is a natural logarithm, so the bound is -ln(alpha).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ODDS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Odds, as multiples of those of the tested share, that `share_evidence` bets on."""


def share_evidence(
    hits: NDArray[np.int64] | int,
    trials: NDArray[np.int64] | int,
    share: float,
    odds: Sequence[float] = ODDS,
) -> NDArray[np.float64]:
    """Evidence that hits are a larger share of trials than `share`.

    It is the natural logarithm of

        E = mean over k of (q_k / p)^hits ((1 - q_k) / (1 - p))^(trials - hits),

    where q_k has odds_k times the odds of p = `share`; with lambda_k = (q_k - p) / (p (1 - p)) that
    is mean_k (1 + lambda_k (1 - p))^hits (1 - lambda_k p)^(trials - hits). Error: if each trial,
    given those before, hits with a chance of at most `share`, E ever reaches 1 / alpha with a
    chance of at most alpha. For "a smaller share" count misses against 1 - `share`.

    Three uses: adverse events that fall on the canary (share from `canary_share`); rows that only
    the new model flags among rows that only one flags (share 1/2, McNemar's test at any time);
    frauds that audits find in one of two samples of equal size among all they find (share 1/2). If
    all rows are there at once, as in a replay, `paired.mcnemar` finds more.

    Args:
        hits: 0 <= hits <= trials; shape (...) or one number.
        trials: independent; shape (...).
        share: p, in (0, 1).
        odds: all above 1.

    Returns:
        ln E, shape (...).

    Raises:
        ValueError: an argument is out of its range.

    Source: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022,
    section 2 (with points in place of the Dirichlet mixture).

    Examples:
        >>> share_evidence(np.array([16, 8]), np.array([20, 20]), 0.5).round(3).tolist()
        [3.084, -1.849]
    """
    ratios = np.asarray(odds, dtype=np.float64)
    if not (0.0 < share < 1.0 and np.all(ratios > 1.0)):
        raise ValueError(f"found share={share}, odds={tuple(odds)}, expected in (0, 1), above 1")
    found = np.asarray(hits, dtype=np.float64)[..., None]
    drawn = np.asarray(trials, dtype=np.float64)[..., None]
    if not np.all((found >= 0.0) & (found <= drawn)):
        raise ValueError("found hits below 0 or above trials, expected 0 <= hits <= trials")
    # (1 - q) / (1 - p) = 1 / (1 - p + odds p), and q / p is odds times that.
    logs = found * np.log(ratios) - drawn * np.log1p(share * (ratios - 1.0))
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - math.log(len(ratios)))


def canary_share(traffic: float, ratio: float) -> float:
    """The share of adverse events that fall on a canary whose rate is `ratio` times the control's.

    p = w rho / (1 - w + w rho): the rate itself cancels out, so that a flash sale or a quiet night
    moves both arms and not the share.

    Args:
        traffic: w, the canary's share of the traffic of both arms, in (0, 1).
        ratio: rho, of the canary's rate to the control's, above 0.

    Raises:
        ValueError: an argument is out of its range.

    Examples:
        >>> round(canary_share(0.1, 1.2), 4), canary_share(0.5, 1.0)
        (0.1176, 0.5)
    """
    if not (0.0 < traffic < 1.0 and ratio > 0.0):
        raise ValueError(f"found traffic={traffic}, ratio={ratio}, expected in (0, 1), above 0")
    return traffic * ratio / (1.0 - traffic + traffic * ratio)


def mean_evidence(mean: float, count: int, variance: float, spread: float) -> float:
    """Evidence that a mean is not 0: the mixture sequential probability ratio test.

    It is the natural logarithm of

        Lambda = sqrt(V / (V + n tau^2)) exp(tau^2 n^2 mean^2 / (2 V (V + n tau^2))).

    Two-sided. Error: if the values are independent and normal with mean 0 and variance V, Lambda
    ever reaches 1 / alpha with a chance of at most alpha; for other values, and a V estimated from
    them, about alpha once a few hundred are seen. Subtract a tested mean other than 0 first.

    Args:
        mean: of the values so far.
        count: n, values so far, >= 0.
        variance: V, of one value, above 0.
        spread: tau, standard deviation of the means that are thought likely, above 0.

    Raises:
        ValueError: an argument is out of its range.

    Source: Johari, Koomen, Pekelis and Walsh, "Always valid inference: continuous monitoring of A/B
    tests", Operations Research 70 (2022), section 5.

    Examples:
        >>> round(mean_evidence(0.3, 100, 1.0, 0.2), 3)
        2.795
    """
    if not (count >= 0 and variance > 0.0 and spread > 0.0):
        raise ValueError(
            f"found count={count}, variance={variance} and spread={spread}, "
            "expected at least 0, above 0 and above 0"
        )
    prior = spread * spread
    whole = variance + count * prior
    pull = prior * (count * mean) ** 2 / (2.0 * variance * whole)
    return 0.5 * math.log(variance / whole) + pull


@lru_cache(maxsize=64)
def obrien_fleming(information: tuple[float, ...], alpha: float = 0.025) -> tuple[float, ...]:
    """The z values at which to stop at planned looks, strict early and nearly alpha's own at last.

    z_k = C / sqrt(t_k), with C so that a Brownian motion without drift reaches C at any of the
    times t_k with chance alpha. Error: one-sided alpha over all looks, if the score at each look is
    normal and its increments are independent (sums over rows that mature one after another).

    Args:
        information: t_k, shares of the final information at the looks, rising; the last is 1.
        alpha: one-sided, over all looks, in (0, 1/2).

    Returns:
        One z a look, falling.

    Raises:
        ValueError: an argument is out of its range.

    Source: O'Brien and Fleming, Biometrics 35 (1979); the chance by the recursive integration of
    Armitage, McPherson and Rowe, JRSS A 132 (1969).

    Examples:
        >>> [round(z, 3) for z in obrien_fleming((0.25, 0.5, 0.75, 1.0))]
        [4.049, 2.863, 2.337, 2.024]
    """
    from scipy.optimize import brentq

    rising = all(0.0 < a < b for a, b in pairwise(information))
    if not (information and rising and information[-1] == 1.0 and 0.0 < alpha < 0.5):
        raise ValueError(
            f"found information={information} and alpha={alpha}, "
            "expected shares that rise to 1, and 0 < alpha < 1/2"
        )
    level = brentq(lambda c: _crossing(c, information) - alpha, 0.0, 8.0, xtol=1e-9)
    return tuple(float(level / math.sqrt(t)) for t in information)


def _crossing(level: float, times: Sequence[float]) -> float:
    """The chance that a Brownian motion is at or above the level at one of the times."""
    from scipy.special import ndtr

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low = -8.0  # eight standard deviations of the last value: what is left out is below 1e-15
    places = low + (nodes + 1.0) * (level - low) / 2.0
    weights = weights * (level - low) / 2.0
    sd = math.sqrt(times[0])
    density, crossed = _normal(places / sd) / sd, float(ndtr(-level / sd))
    for before, now in pairwise(times):
        sd = math.sqrt(now - before)
        crossed += float(np.sum(weights * density * ndtr((places - level) / sd)))
        steps = _normal((places[:, None] - places[None, :]) / sd) / sd
        density = steps @ (weights * density)
    return crossed


_NODES = 256
"""Points of the integral: enough for looks at least 0.01 of the information apart."""


def _normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * values**2) / math.sqrt(2.0 * math.pi))
