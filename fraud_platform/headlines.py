"""The headline numbers of an evaluation under any weighting of its cards, and their intervals.

What belongs here: what all draws of the bootstrap share, computed once. Which numbers a report
states besides is `evaluation`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.bootstrap import Interval, intervals
from fraud_platform.confusion import Judged
from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.evaluation_curves import precision_at_recalls
from fraud_platform.metrics import CardDays, Ranking
from fraud_platform.money import cost_minor, outcomes_at
from fraud_platform.segments import WorkingPoint

HEADLINES = {
    "average_precision": ("average precision", ".3f"),
    "auc_roc": ("AUC ROC", ".3f"),
    "card_precision_at_k": ("card precision@k", ".3f"),
    "recall_at_fpr_1pct": ("recall at 1 % FPR", ".3f"),
    "recall_at_fpr_5pct": ("recall at 5 % FPR", ".3f"),
    "recall": ("recall at the review threshold", ".3f"),
    "alert_rate": ("alert rate", ".3%"),
    "cost_per_transaction": ("cost per transaction (minor units)", ".1f"),
    "saved_per_transaction": ("saved per transaction (minor units)", ".1f"),
    "value_detection_rate": ("share of the frauds' amount caught", ".3f"),
}
"""Numbers that have an interval: the text and the format of each, in the order of `Headlines`."""


@dataclass(frozen=True)
class Drawn:
    """What the draws say.

    Attributes:
        headlines: an interval for each of `HEADLINES` that exists.
        precision_low: lower ends of precision at `evaluation_curves.RECALLS`.
        precision_high: their upper ends.
    """

    headlines: dict[str, Interval]
    precision_low: tuple[float, ...]
    precision_high: tuple[float, ...]


class Headlines:
    """The numbers as a function of row weights; thresholds stay where they were set.

    Args:
        rows: `event_timestamp`, `card_id`, `is_fraud` and `score`.
        judged: the same rows.
        ranking: of the same rows.
        point: thresholds and prices.
        k: of card precision@k.
    """

    def __init__(
        self, rows: pl.DataFrame, judged: Judged, ranking: Ranking, point: WorkingPoint, k: int
    ) -> None:
        self._ranking, self._days, self._k = ranking, CardDays(rows), k
        self._weights = judged.weights
        _, self._first_of_card = np.unique(judged.cards, return_index=True)
        fraud, amounts = judged.is_fraud, judged.amounts
        alert = judged.scores >= point.review_threshold
        outcomes = outcomes_at(judged.scores, point.review_threshold, point.decline_threshold)
        cost = cost_minor(fraud, amounts, outcomes, point.money)
        loss = point.money.fraud_loss_share * amounts * fraud
        whole = np.ones(fraud.size)
        # Numerators and denominators of the rates, one column each.
        parts = (fraud & alert, fraud, alert, whole, cost, loss - cost, amounts * (fraud & alert))
        self._parts = np.column_stack([*parts, amounts * fraud]).astype(np.float64)

    def __call__(self, weights: NDArray[np.float64]) -> list[float]:
        """All headline numbers, then precision at the recalls of the plot.

        Raises:
            LabelsNotMatureError: a class, or all amount of fraud, has no weight.
        """
        curve = self._ranking.curve(weights)
        times = (weights / self._weights)[self._first_of_card].round().astype(np.int64)
        caught, fraud, alert, whole, cost, saved, found, amount = (weights @ self._parts).tolist()
        ranking = [
            curve.average_precision(),
            curve.auc_roc(),
            self._days.precision(self._k, times),
            curve.recall_at_fpr(0.01),
            curve.recall_at_fpr(0.05),
        ]
        rates = [caught / fraud, alert / whole, cost / whole, saved / whole]
        detected = self._detected(found, amount)
        return [*ranking, *rates, *detected, *precision_at_recalls(curve).tolist()]

    def drawn(self, cards: pl.Series, *, seed: int, draws: int, confidence: float) -> Drawn:
        """Draw cards, and read the intervals off.

        Args:
            cards: the card of each row.
            seed: of the draws.
            draws: number of draws.
            confidence: in (0, 1).
        """
        found = intervals(
            cards, self, seed=seed, draws=draws, confidence=confidence, weights=self._weights
        )
        names = list(HEADLINES)[: None if self._parts[:, -1].any() else -1]
        points = found[len(names) :]
        return Drawn(
            headlines=dict(zip(names, found, strict=False)),
            precision_low=tuple(point.low for point in points),
            precision_high=tuple(point.high for point in points),
        )

    def _detected(self, found: float, amount: float) -> list[float]:
        """The value detection rate, unless all frauds are of nothing."""
        if amount > 0:
            return [found / amount]
        if self._parts[:, -1].any():
            raise LabelsNotMatureError("No amount of fraud among the rows drawn.")
        return []
