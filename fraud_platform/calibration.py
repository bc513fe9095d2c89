"""What a score means: the chance of fraud, and how many genuine payments score as high.

What belongs here: fitting both maps on judged rows, reading them for one score or many. Fit them on
the rows that the thresholds were chosen on (`evaluation.evaluate`), never on rows the model was
trained on: there it knows the answers, and both maps would flatter it. The file is
`adapters.model_bundle`'s.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import DataContractError, LabelsNotMatureError

EXACT_TAIL = 2_000
"""The expected FPR is exact for every score that at most this many genuine rows reach."""
RESOLUTION = 0.01
"""Below, it may fall short of the exact share by at most this part of itself, never exceed it."""


@dataclass(frozen=True, kw_only=True)
class CalibrationPolicy:
    """When a probability may be stated at all."""

    min_frauds: int = 50
    """Fewest frauds, and fewest genuine rows, to fit a probability on; with fewer it is unknown.
    At 50 the mean alone is known to about 28 % (two standard errors)."""

    def __post_init__(self) -> None:
        if self.min_frauds < 1:
            raise ValueError(f"found min_frauds={self.min_frauds}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Both maps as plain numbers, so that a file can hold them.

    A score that is not a number, or not in [0, 1], has no meaning and is refused by every method.

    Attributes:
        frauds: fraudulent rows it was fitted on.
        genuine: genuine rows it was fitted on, at least 1.
        knots: scores between which the probability is linear, ascending from 0 to 1; empty when
            there were too few rows to state a probability.
        chances: the probability at each knot, in (0, 1), never falling.
        steps: scores of genuine rows, ascending.
        reached: how many genuine rows score at least each step, by weight where rows have one;
            falling, the first is `genuine`.

    Raises:
        DataContractError: the numbers do not fit together.
    """

    frauds: int
    genuine: int
    knots: tuple[float, ...]
    chances: tuple[float, ...]
    steps: tuple[float, ...]
    reached: tuple[float, ...]

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise DataContractError(
                f"The calibration contradicts itself: {'; '.join(problems)}.",
                hint="fit it again on the rows that the thresholds were chosen on.",
            )

    def probability(self, score: float) -> float | None:
        """The chance that a payment with this score is fraud.

        It holds for traffic with the fitted rows' mix and share of fraud.

        Returns:
            In (0, 1), never falling with the score; None when too few rows were there to say.

        Raises:
            DataContractError: the score is not in [0, 1].

        Examples:
            >>> maps = Calibration(frauds=50, genuine=50, knots=(0.0, 0.5, 1.0),
            ...     chances=(0.01, 0.01, 0.9), steps=(0.2, 0.5), reached=(50, 1))
            >>> maps.probability(0.25), round(maps.probability(0.75), 3)
            (0.01, 0.455)
        """
        _require_score(score)
        if not self.knots:
            return None
        # The last knot is 1, so only a score of 1 has no knot to its right.
        right = min(bisect_right(self.knots, score), len(self.knots) - 1)
        start, low, high = self.knots[right - 1], self.chances[right - 1], self.chances[right]
        # Rounding must not lift a point above the segment's end: the next would then be lower.
        return min(low + (high - low) * ((score - start) / (self.knots[right] - start)), high)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """`probability` of each score, the same bits; shape (n,) to shape (n,), or None for all."""
        _require_scores(scores)
        if not self.knots:
            return None
        knots, chances = self._probability_arrays
        right = np.minimum(np.searchsorted(knots, scores, side="right"), knots.size - 1)
        start, low, high = knots[right - 1], chances[right - 1], chances[right]
        found: NDArray[np.float64] = np.minimum(
            low + (high - low) * ((scores - start) / (knots[right] - start)), high
        )
        return found

    def lowest_score(self, probability: float) -> float:
        """The lowest score whose `probability` is at least this; infinite where there is none.

        Examples:
            >>> maps = Calibration(frauds=50, genuine=50, knots=(0.0, 0.5, 1.0),
            ...     chances=(0.01, 0.01, 0.91), steps=(0.2, 0.5), reached=(50, 1))
            >>> round(maps.lowest_score(0.46), 6), maps.lowest_score(0.92)
            (0.75, inf)
        """
        if (self.probability(1.0) or 0.0) < probability:
            return math.inf
        if (self.probability(0.0) or 0.0) >= probability:
            return 0.0
        low, high = 0.0, 1.0
        while low < (middle := (low + high) / 2.0) < high:
            reaches = (self.probability(middle) or 0.0) >= probability
            low, high = (low, middle) if reaches else (middle, high)
        return high

    def expected_fpr(self, score: float) -> float:
        """The share of genuine payments that score at least this.

        It is what `metrics.threshold_at_fpr` bounds: at the threshold for a share f it is at
        most f. Exact in the tail (`EXACT_TAIL`), to `RESOLUTION` below.

        Returns:
            In [0, 1], never rising with the score, 1 at score 0; 0 means none of `genuine`.

        Raises:
            DataContractError: the score is not in [0, 1].

        Examples:
            >>> maps = Calibration(frauds=0, genuine=50, knots=(), chances=(), steps=(0.2, 0.5),
            ...     reached=(50, 1))
            >>> [maps.expected_fpr(score) for score in (0.0, 0.2, 0.3, 0.5, 0.6)]
            [1.0, 1.0, 0.02, 0.02, 0.0]
        """
        _require_score(score)
        step = bisect_left(self.steps, score)
        return self.reached[step] / self.genuine if step < len(self.steps) else 0.0

    @cached_property
    def _probability_arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.knots), np.array(self.chances)

    def _problems(self) -> Iterator[str]:
        # NaN fails every comparison, so each line also refuses what is not a number.
        if self.frauds < 0 or self.genuine < 1:
            yield f"found {self.frauds} frauds and {self.genuine} genuine rows"
        if len(self.knots) != len(self.chances) or len(self.steps) != len(self.reached):
            yield "found lists of different lengths"
        if not (_ascend(self.knots) and _ascend(self.steps)):
            yield "found scores that do not ascend within [0, 1]"
        if self.knots and (self.knots[0], self.knots[-1]) != (0.0, 1.0):
            yield f"found knots from {self.knots[0]} to {self.knots[-1]}, expected from 0 to 1"
        if not all(low <= high for low, high in pairwise((0.0, *self.chances, 1.0))):
            yield "found probabilities that fall or leave (0, 1)"
        elif {0.0, 1.0} & set(self.chances):
            yield "found a probability of 0 or 1"
        falling = all(high > low for high, low in pairwise((*self.reached, 0)))
        if not falling or self.reached[:1] != (self.genuine,):
            yield f"found counts that do not fall from {self.genuine} to above 0"


def calibrate(
    is_fraud: NDArray[np.bool_],
    scores: NDArray[np.float64],
    policy: CalibrationPolicy,
    weights: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit both maps on rows with mature labels that the model was not trained on.

    The probability is the never falling step function that fits the rows best (isotonic
    regression, by pooling adjacent violators), linear between its steps. Two invented rows keep it
    honest at its ends: one at score 0 and one at score 1, each half a fraud. So a lowest block of n
    rows without fraud is given (0 + 1/2) / (n + 1), Jeffreys' estimate, instead of 0, a highest
    block of n frauds (n + 1/2) / (n + 1) instead of 1, and a score far above all that were seen is
    drawn towards 1/2. Everything between is untouched, and the mean over the rows differs from the
    share of frauds by less than 1 / rows.

    Weights change the expected FPR only. Rows of one score became known with nearly the same
    chance, so the share of frauds among them is the same with weights and without.

    Args:
        is_fraud: shape (n,).
        scores: shape (n,), in [0, 1].
        policy: when to state a probability.
        weights: shape (n,), above 0, how many payments each row stands for; None for ones.

    Raises:
        LabelsNotMatureError: there is no genuine row.
        DataContractError: a score is not in [0, 1], or the shapes differ.

    Examples:
        >>> maps = calibrate(np.array([False, False, True]), np.array([0.1, 0.2, 0.9]),
        ...     CalibrationPolicy(min_frauds=1))
        >>> round(maps.probability(0.1), 4), maps.probability(0.9), maps.expected_fpr(0.2)
        (0.1667, 0.75, 0.5)
    """
    _require_scores(scores)
    if is_fraud.shape != scores.shape:
        raise DataContractError(f"Found {is_fraud.size} labels for {scores.size} scores.")
    frauds = int(is_fraud.sum())
    genuine = int(is_fraud.size) - frauds
    if not genuine:
        raise LabelsNotMatureError(
            f"No genuine transaction among {scores.size} rows; an expected FPR needs some.",
            hint="wait for more mature labels, or judge a longer window.",
        )
    known = min(frauds, genuine) >= policy.min_frauds
    knots = tuple(_knots(is_fraud, scores)) if known else ()
    steps, reached = _steps(scores[~is_fraud], None if weights is None else weights[~is_fraud])
    return Calibration(
        frauds=frauds,
        genuine=genuine,
        knots=tuple(score for score, _ in knots),
        chances=tuple(chance for _, chance in knots),
        steps=steps,
        reached=reached,
    )


def held_out_probabilities(
    is_fraud: NDArray[np.bool_],
    scores: NDArray[np.float64],
    blocks: NDArray[np.int64],
    policy: CalibrationPolicy,
) -> NDArray[np.float64] | None:
    """Each row's probability by the calibration of rows that have nothing to do with it.

    Blocks with even and with odd numbers are calibrated apart, and each half is given what the
    other half states: so the probabilities can be judged on the rows at hand. They are somewhat
    worse than those of a calibration of all rows.

    Args:
        is_fraud: shape (n,).
        scores: shape (n,), in [0, 1].
        blocks: shape (n,), rows of one block stay together, for instance those of one card.
        policy: when to state a probability, of each half.

    Returns:
        Shape (n,), in (0, 1); None if a half states none.

    Raises:
        LabelsNotMatureError: a half has no genuine row.
        DataContractError: a score is not in [0, 1].

    Examples:
        >>> truth, scores = np.array([True, True, False, False]), np.array([0.9, 0.8, 0.1, 0.2])
        >>> policy = CalibrationPolicy(min_frauds=1)
        >>> held_out_probabilities(truth, scores, np.array([0, 1, 0, 1]), policy).round(2).tolist()
        [0.75, 0.69, 0.25, 0.31]
    """
    found = np.empty(scores.size)
    odd = blocks % 2 == 1
    for half in (odd, ~odd):
        stated = calibrate(is_fraud[~half], scores[~half], policy).probabilities(scores[half])
        if stated is None:
            return None
        found[half] = stated
    return found


def _knots(
    is_fraud: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Iterator[tuple[float, float]]:
    """Both ends of every pooled block of scores, with the block's share of frauds.

    Counts are doubled integers, so that the invented halves are exact and so is every comparison.
    """
    seen, place = np.unique(np.concatenate(([0.0], scores, [1.0])), return_inverse=True)
    halves = np.concatenate(([1], 2 * is_fraud.astype(np.int64), [1]))
    frauds = np.zeros(seen.size, dtype=np.int64)
    np.add.at(frauds, place, halves)
    rows = 2 * np.bincount(place)
    blocks: list[tuple[float, float, int, int]] = []
    levels = zip(seen.tolist(), frauds.tolist(), rows.tolist(), strict=True)
    for score, level_fraud, level_rows in levels:
        first, fraud, count = score, level_fraud, level_rows
        while blocks and blocks[-1][2] * count >= fraud * blocks[-1][3]:
            first, _, earlier_fraud, earlier_rows = blocks.pop()
            fraud, count = fraud + earlier_fraud, count + earlier_rows
        blocks.append((first, score, fraud, count))
    for first, last, fraud, count in blocks:
        yield first, fraud / count
        if last > first:
            yield last, fraud / count


def _steps(
    genuine: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Distinct genuine scores with the rows at or above them: all in the tail, enough below.

    Below the tail a step may be left out when the count at the next higher one that stays is within
    `RESOLUTION` of its own, and a score between them is given that lower count.
    """
    order = np.argsort(genuine)
    seen, first = np.unique(genuine[order], return_index=True)
    rows = genuine.size - first  # falling
    reached = rows if weights is None else _weighed(weights[order])[first]
    place = min(int(np.searchsorted(-rows, -EXACT_TAIL)), seen.size - 1)
    kept = list(range(place, seen.size))
    while place:
        within = -reached[place] * (1.0 + RESOLUTION)
        place = min(int(np.searchsorted(-reached, within)), place - 1)
        kept.append(place)
    kept.sort()
    return tuple(seen[kept].tolist()), tuple(reached[kept].tolist())


def _weighed(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight from each row on, as a number of rows of mean weight; exact for the first."""
    whole = np.cumsum(weights[::-1])[::-1]
    found: NDArray[np.float64] = whole / whole[0] * weights.size
    return found


def _ascend(scores: tuple[float, ...]) -> bool:
    return all(0.0 <= score <= 1.0 for score in scores) and all(a < b for a, b in pairwise(scores))


def _require_score(score: float) -> None:
    if not 0.0 <= score <= 1.0:
        raise DataContractError(f"Found the score {score}; expected a number in [0, 1].")


def _require_scores(scores: NDArray[np.float64]) -> None:
    unusable = int(np.sum(~((scores >= 0.0) & (scores <= 1.0))))
    if scores.ndim != 1 or unusable:
        raise DataContractError(
            f"Found scores of shape {scores.shape}, {unusable} of them not in [0, 1]; expected a "
            "list of numbers in [0, 1]."
        )
