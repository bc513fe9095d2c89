"""Detectors of a change in a stream, with a stated time between false alarms.

What belongs here: e-detectors, that is a running bet against "nothing changed" that starts anew
whenever it has lost. Each step multiplies what every bet k holds by a factor whose mean is at most
1 while nothing changed:

    M_k <- factor_k * max(1, M_k),   evidence E = mean over k of M_k,   alarm at E >= 1 / alpha.

While nothing changed the mean number of steps to the first alarm is at least 1 / alpha, for any
number of looks, because sum_k M_k is at most the Shiryaev-Roberts sum of the same bets. The bets
differ in the size of change they find soonest; a mixture of K costs ln K. Two kinds of factor:
`count_factors` (fast) and `mean_factors` (robust to what happens within a step).

Source: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", New England Journal of Statistics in Data Science 2 (2024), sections 2.2 (average run
length) and 2.4 (mixtures).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RISES = (1.1, 1.25, 1.5, 2.0, 3.0, 6.0)
"""Ratios to the bounded count that `count_factors` bets on, to find that it is exceeded."""
FALLS = (0.9, 0.8, 0.6, 0.4, 0.2)
"""The same to find that a count is fallen short of."""
BETS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Shares of the largest stake, 1 / mean, that `mean_factors` bets with."""


@dataclass(frozen=True)
class Detector:
    """What the bets of a detector hold, as natural logarithms.

    Attributes:
        logs: ln M_k of each bet, -inf while nothing was seen; at least one.
        steps: updates since the start.

    Raises:
        ValueError: there is no bet.

    Examples:
        >>> detector = start(len(RISES))
        >>> for blocked in (6, 5, 18, 22, 19, 21):  # of 100 each, where at most 6.9 are expected
        ...     detector = detector.after(count_factors(blocked, 6.9, RISES))
        >>> detector.steps, round(detector.log_evidence, 1), detector.alarms(1e-6)
        (6, 30.9, True)
    """

    logs: tuple[float, ...]
    steps: int = 0

    def __post_init__(self) -> None:
        if not self.logs:
            raise ValueError("found a detector without bets, expected at least one")

    def after(self, factors: NDArray[np.float64]) -> "Detector":
        """The detector one step later.

        Args:
            factors: shape (bets,), natural logarithms; see `count_factors` and `mean_factors`.

        Raises:
            ValueError: the number of factors differs from that of bets.
        """
        held = zip(factors.tolist(), self.logs, strict=True)
        return Detector(tuple(new + max(0.0, old) for new, old in held), self.steps + 1)

    @property
    def log_evidence(self) -> float:
        """The evidence as ln E, -inf before the first step."""
        top = max(self.logs)
        if top == -math.inf:
            return top
        whole = math.fsum(math.exp(log - top) for log in self.logs)
        return top + math.log(whole / len(self.logs))

    def alarms(self, alpha: float) -> bool:
        """Whether E >= 1 / alpha: a false alarm comes once in 1 / alpha steps or less often."""
        return self.log_evidence >= -math.log(alpha)


def start(bets: int) -> Detector:
    """A detector of so many bets that has seen nothing."""
    return Detector((-math.inf,) * bets)


def count_factors(
    observed: NDArray[np.float64] | float,
    expected: NDArray[np.float64] | float,
    ratios: Sequence[float] = RISES,
) -> NDArray[np.float64]:
    """Factors for a count of events against what is expected: r^O exp(-E (r - 1)), as logarithms.

    With ratios above 1 the question is "are there more than expected?", with ratios below 1 "are
    there fewer?"; never both in one detector. Assumption: given all that came before, each event's
    chance is at most (at least) its part of `expected`, which may differ from step to step.

    Clusters, such as ten blocks of one card in a row, break it, and then false alarms are common.
    Where at most c events come together, pass O / c and E / c: r^(x / c) <= 1 + (x / c) (r - 1) for
    x in [0, c], so all holds again, c times slower. Or count each card once.

    Args:
        observed: O, events of the step, shape (...) or one number, >= 0.
        expected: E, the most (fewest) that are normal: the bound, not the mean; shape (...), >= 0.
        ratios: r, all above 1 or all in (0, 1).

    Returns:
        Shape (..., ratios).

    Raises:
        ValueError: ratios on both sides of 1, or not above 0.

    Examples:
        >>> count_factors(12, 6.0, (2.0, 3.0)).round(3).tolist()
        [2.318, 1.183]
    """
    rates = np.asarray(ratios, dtype=np.float64)
    if not (np.all(rates > 1.0) or np.all((rates > 0.0) & (rates < 1.0))):
        raise ValueError(f"found ratios={tuple(ratios)}, expected all above 1 or all in (0, 1)")
    seen = np.asarray(observed, dtype=np.float64)[..., None]
    bound = np.asarray(expected, dtype=np.float64)[..., None]
    return np.asarray(seen * np.log(rates) - bound * (rates - 1.0))


def mean_factors(
    seen: NDArray[np.float64] | float,
    mean: NDArray[np.float64] | float,
    bets: Sequence[float] = BETS,
) -> NDArray[np.float64]:
    """Factors for a mean in [0, 1] against its bound: 1 + lambda (x - mu), as logarithms.

    Assumption: given all earlier steps, a step's mean is at most `mean`; within a step anything may
    depend on anything. It pays for that: a step of 100 rows weighs no more than one bounded number,
    so an alarm takes about six times as many rows as with `count_factors`.

    Args:
        seen: x, shape (...) or one number, in [0, 1]: the mean of a step, for instance the share
            blocked of 100 payments. To find a fall pass 1 - x and 1 - mu.
        mean: mu, the largest mean that is normal, in (0, 1); shape (...) or one number, because it
            may differ from step to step.
        bets: lambda as shares of the largest stake 1 / mu, in (0, 1).

    Returns:
        Shape (..., bets).

    Raises:
        ValueError: an argument is out of its range.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    JRSS B 86 (2024), section 4.

    Examples:
        >>> mean_factors(0.2, 0.1, (0.25, 0.5)).round(3).tolist()
        [0.223, 0.405]
    """
    stakes, shares = np.asarray(bets, dtype=np.float64), np.asarray(seen, dtype=np.float64)
    bound = np.asarray(mean, dtype=np.float64)[..., None]
    if not (np.all((bound > 0.0) & (bound < 1.0)) and np.all((stakes > 0.0) & (stakes < 1.0))):
        raise ValueError(f"found mean={mean} and bets={tuple(bets)}, expected all in (0, 1)")
    if not np.all((shares >= 0.0) & (shares <= 1.0)):
        raise ValueError("found a mean outside [0, 1], or not a number, expected all in [0, 1]")
    return np.log1p(stakes / bound * (shares[..., None] - bound))


def log_evidence(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The evidence as ln E after each of many steps, as `Detector.after` one by one would say.

    Args:
        factors: shape (..., steps, bets).

    Returns:
        Shape (..., steps).

    Examples:
        >>> log_evidence(count_factors(np.array([6, 5, 18, 22, 19, 21]), 6.9)).round(1).tolist()
        [-1.1, -1.3, 4.8, 14.6, 21.7, 30.9]
    """
    sums = np.cumsum(factors, axis=-2)
    # ln M_k is the sum since the best time to have started: the sum less the least one before.
    before = np.concatenate((np.zeros_like(sums[..., :1, :]), sums[..., :-1, :]), axis=-2)
    logs = sums - np.minimum.accumulate(before, axis=-2)
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - math.log(factors.shape[-1]))
