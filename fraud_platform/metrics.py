"""How well scores rank rows with mature labels: precision, recall, pairs in order, cards found.

What belongs here: numbers that follow from labels, scores and row weights alone. Whoever asks for
one number calls the functions; whoever asks for several, or weights the same rows many times, sorts
once (`Ranking`) and reads the rest from curves. Where a number needs a class that no row has, the
answer is `LabelsNotMatureError`: more verdicts can still come.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.errors import LabelsNotMatureError

Weights = NDArray[np.float64] | None
"""One number >= 0 per row, the rows that it stands for; None: each row stands for itself."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What each threshold catches and disturbs, under one weighting of the rows.

    Attributes:
        thresholds: the distinct scores, highest first, shape (m,).
        caught: fraud at or above each threshold: rows, or their weight.
        alerts: all rows at or above it, or their weight.
    """

    thresholds: NDArray[np.float64]
    caught: NDArray[np.int64] | NDArray[np.float64]
    alerts: NDArray[np.int64] | NDArray[np.float64]

    def average_precision(self) -> float:
        """See the function of this name."""
        self._require_both_classes()
        gain = np.diff(self.caught, prepend=0) / self.caught[-1]
        return float(np.sum(gain * self.precision))

    def auc_roc(self) -> float:
        """See the function of this name."""
        self._require_both_classes()
        false, caught = self.disturbed, self.caught
        new_false, new_caught = np.diff(false, prepend=0), np.diff(caught, prepend=0)
        # Pairs in half units: each genuine loses to the frauds above it and halves with its ties.
        halves = np.sum(new_false * (2 * caught - new_caught))
        return float(halves / (2 * false[-1].item() * caught[-1].item()))

    def threshold_at_fpr(self, fpr: float) -> float:
        """See the function of this name."""
        step = self._step_at_fpr(fpr)
        if step < 0:
            return float(np.nextafter(self.thresholds[0], np.inf))
        return float(self.thresholds[step])

    def recall_at_fpr(self, fpr: float) -> float:
        """See the function of this name."""
        step = self._step_at_fpr(fpr)
        self._require_both_classes()
        return float(self.caught[step] / self.caught[-1]) if step >= 0 else 0.0

    @cached_property
    def disturbed(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """Genuine rows at or above each threshold, or their weight."""
        return self.alerts - self.caught

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Share of fraud at or above each threshold; 0 where only rows without weight are."""
        return np.divide(
            self.caught, self.alerts, out=np.zeros(self.alerts.size), where=self.alerts > 0
        )

    def _step_at_fpr(self, fpr: float) -> int:
        """Place of the lowest threshold that disturbs at most `fpr`; -1: none does."""
        genuine = self.disturbed[-1]
        if not genuine > 0:
            raise LabelsNotMatureError(f"No genuine transaction among {self.alerts[-1]:g} rows.")
        # Disturbing never falls with the threshold. The slack takes up what rounding adds.
        return int(np.searchsorted(self.disturbed, fpr * genuine + 1e-9, side="right")) - 1

    def _require_both_classes(self) -> None:
        if not (self.caught[-1] > 0 and self.disturbed[-1] > 0):
            raise LabelsNotMatureError(
                f"{self.caught[-1]:g} frauds among {self.alerts[-1]:g} rows; ranking needs both "
                "classes.",
                hint="wait for more mature labels, or judge a longer window.",
            )


class Ranking:
    """Rows in the order of their scores: one sort, which every weighting shares.

    Args:
        is_fraud: shape (n,), n > 0.
        scores: shape (n,), finite.

    Examples:
        >>> ranking = Ranking(np.array([True, False, True]), np.array([0.9, 0.5, 0.2]))
        >>> ranking.curve().caught.tolist(), ranking.curve(np.array([2.0, 1, 1])).alerts.tolist()
        ([1, 1, 2], [2.0, 3.0, 4.0])
    """

    def __init__(self, is_fraud: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        if not scores.size:
            raise LabelsNotMatureError("No row to rank; expected frauds and genuine transactions.")
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._last_of_ties = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
        self._thresholds = ranked[self._last_of_ties]
        self._is_fraud = is_fraud[self._order]

    def curve(self, weights: Weights = None) -> Curve:
        """What each threshold catches when each row counts `weights` times.

        Args:
            weights: shape (n,), in the order of the rows given, or None for ones.
        """
        last = self._last_of_ties
        if weights is None:
            caught = np.cumsum(self._is_fraud, dtype=np.int64)[last]
            return Curve(self._thresholds, caught, (last + 1).astype(np.int64))
        ranked = weights[self._order]
        caught_weight = np.cumsum(ranked * self._is_fraud)[last]
        # Two sums rather than a difference, so that what is disturbed never falls by rounding.
        disturbed = np.cumsum(ranked * ~self._is_fraud)[last]
        return Curve(self._thresholds, caught_weight, caught_weight + disturbed)


def average_precision(
    is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], weights: Weights = None
) -> float:
    """Sum over distinct scores, highest first, of precision x gain in recall.

    Equal scores are one step: their order cannot help or hurt.

    Args:
        is_fraud: shape (n,).
        scores: shape (n,), finite.
        weights: shape (n,), >= 0; None for ones.

    Returns:
        In (0, 1]; a random order gives about the share of frauds.

    Raises:
        LabelsNotMatureError: one of the two classes is missing.

    Examples:
        >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.2]))
        0.8333333333333333
    """
    return Ranking(is_fraud, scores).curve(weights).average_precision()


def auc_roc(
    is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], weights: Weights = None
) -> float:
    """Chance that a random fraud scores above a random genuine transaction, ties counting half.

    Raises:
        LabelsNotMatureError: one of the two classes is missing.

    Examples:
        >>> auc_roc(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
        0.75
    """
    return Ranking(is_fraud, scores).curve(weights).auc_roc()


def threshold_at_fpr(
    is_fraud: NDArray[np.bool_],
    scores: NDArray[np.float64],
    fpr: float,
    weights: Weights = None,
) -> float:
    """The lowest seen score t such that at most `fpr` of the genuine rows have score >= t.

    Where even the highest score is shared by too many genuine rows, the next float above it:
    nothing is caught rather than too many disturbed.

    Args:
        is_fraud: shape (n,).
        scores: shape (n,), finite.
        fpr: share of genuine rows, by weight, that may be at or above the threshold, in [0, 1].
        weights: shape (n,), >= 0; None for ones.

    Raises:
        LabelsNotMatureError: there is no genuine row.

    Examples:
        >>> threshold_at_fpr(np.array([True, False, False]), np.array([0.9, 0.5, 0.1]), 0.5)
        0.5
    """
    return Ranking(is_fraud, scores).curve(weights).threshold_at_fpr(fpr)


def recall_at_fpr(
    is_fraud: NDArray[np.bool_],
    scores: NDArray[np.float64],
    fpr: float,
    weights: Weights = None,
) -> float:
    """Share of frauds at or above `threshold_at_fpr`, in [0, 1].

    Examples:
        >>> recall_at_fpr(np.array([True, True, False]), np.array([0.9, 0.2, 0.5]), 0.0)
        0.5
    """
    return Ranking(is_fraud, scores).curve(weights).recall_at_fpr(fpr)


def card_precision(rows: pl.DataFrame, k: int) -> float:
    """Card precision@k: how much of the analysts' daily effort meets truly compromised cards.

    Per UTC day: leave out cards already found on an earlier day (among that day's k and truly
    fraudulent), give each card its highest score and whether any of its transactions is fraud, and
    count the compromised ones among the k highest, divided by k. Then the mean over the days that
    occur. Equal scores are ordered by card id. A day with fewer than k cards still divides by k.

    Args:
        rows: `event_timestamp`, `card_id`, `is_fraud`, `score`.
        k: cards checked per day, at least 1.

    Source:
        Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, ch. 4.
    """
    return CardDays(rows).precision(k)


class CardDays:
    """Cards by day in the order of suspicion: one sort, which every draw of cards shares.

    Args:
        rows: `event_timestamp`, `card_id`, `is_fraud`, `score`; at least one.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        days = (
            rows.group_by(pl.col("event_timestamp").dt.date().alias("day"), "card_id")
            .agg(pl.col("score").max(), pl.col("is_fraud").any())
            .sort("day", "score", "card_id", descending=[False, True, False])
            .with_columns(card=pl.col("card_id").rank("dense").cast(pl.Int64) - 1)
        )
        self._days = [
            (day["card"].to_numpy(), day["is_fraud"].to_numpy())
            for day in days.partition_by("day", maintain_order=True)
        ]
        self._cards = rows["card_id"].n_unique()

    def precision(self, k: int, times: NDArray[np.int64] | None = None) -> float:
        """Card precision@k when each card exists `times` times, each of them checked for itself.

        Args:
            k: cards checked per day, at least 1.
            times: shape (cards,), in the order of the card ids; None for once each.
        """
        left = np.ones(self._cards, dtype=np.int64) if times is None else times.copy()
        precisions = []
        for cards, is_fraud in self._days:
            there = left[cards]
            checked = np.clip(k - (np.cumsum(there) - there), 0, there)
            compromised = np.where(is_fraud, checked, 0)
            precisions.append(int(compromised.sum()) / k)
            left[cards] -= compromised
        return math.fsum(precisions) / len(precisions)
