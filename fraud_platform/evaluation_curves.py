"""What the plots of an evaluation show, as plain numbers.

What belongs here: sampling curves of any length down to a page's worth of points. Drawing them is
`adapters.evaluation_page`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_platform.confusion import Judged
from fraud_platform.metrics import Curve
from fraud_platform.money import APPROVE, DECLINE, REVIEW, MoneyPolicy, cost_minor

RECALLS: NDArray[np.float64] = np.linspace(0.01, 1.0, 100)
"""Where precision is read."""
_FPRS = np.linspace(0.0, 1.0, 101) ** 3
"""Where recall is read: dense where thresholds are set."""
_ACTED_UPON = np.geomspace(1e-4, 1.0, 81)
_BARS = 40


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Rows by score.

    Attributes:
        edges: of the bars, ascending, one more than bars.
        frauds: fraudulent rows in each bar.
        genuine: genuine rows in each bar.
    """

    edges: tuple[float, ...]
    frauds: tuple[int, ...]
    genuine: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MoneyCurve:
    """What acting upon the most suspicious payments saves, whatever the policy's thresholds are.

    Attributes:
        acted_upon: share of all payments, ascending, in (0, 1].
        thresholds: the lowest score acted upon.
        reviewed_minor: saved net by reviewing them, minor units per payment.
        declined_minor: saved net by declining them, minor units per payment.
    """

    acted_upon: tuple[float, ...]
    thresholds: tuple[float, ...]
    reviewed_minor: tuple[float, ...]
    declined_minor: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluationCurves:
    """Points of every plot.

    Attributes:
        precision: at each of `RECALLS`, shape (100,).
        precision_low: lower end of its interval by card; empty without intervals.
        precision_high: its upper end; empty without intervals.
        false_positive_rates: ascending, in [0, 1].
        recall: the best at each of them.
        histogram: rows by score.
        money: saved by the share acted upon.
    """

    precision: tuple[float, ...]
    precision_low: tuple[float, ...]
    precision_high: tuple[float, ...]
    false_positive_rates: tuple[float, ...]
    recall: tuple[float, ...]
    histogram: Histogram
    money: MoneyCurve


def precision_at_recalls(curve: Curve) -> NDArray[np.float64]:
    """Precision at the highest threshold that reaches each of `RECALLS`, shape (100,)."""
    places = np.searchsorted(curve.caught, RECALLS * curve.caught[-1] * (1 - 1e-12))
    return np.asarray(curve.precision[np.minimum(places, curve.precision.size - 1)])


def evaluation_curves(
    curve: Curve,
    judged: Judged,
    money: MoneyPolicy,
    band: tuple[tuple[float, ...], tuple[float, ...]],
) -> EvaluationCurves:
    """Sample every curve.

    Args:
        curve: of the judged rows.
        judged: the rows.
        money: prices.
        band: lower and upper ends of precision at `RECALLS`; both empty without intervals.
    """
    return EvaluationCurves(
        precision=tuple(precision_at_recalls(curve).tolist()),
        precision_low=band[0],
        precision_high=band[1],
        false_positive_rates=tuple(_FPRS.tolist()),
        recall=tuple(curve.recall_at_fpr(fpr) for fpr in _FPRS.tolist()),
        histogram=_histogram(judged),
        money=_money(judged, money),
    )


def _histogram(judged: Judged) -> Histogram:
    scores = judged.scores
    edges = np.histogram_bin_edges(scores, _BARS)
    frauds, _ = np.histogram(scores[judged.is_fraud], edges)
    genuine, _ = np.histogram(scores[~judged.is_fraud], edges)
    return Histogram(
        edges=tuple(edges.tolist()),
        frauds=tuple(frauds.tolist()),
        genuine=tuple(genuine.tolist()),
    )


def _money(judged: Judged, policy: MoneyPolicy) -> MoneyCurve:
    def costs(outcome: int) -> NDArray[np.float64]:
        outcomes = np.full(judged.scores.size, outcome, dtype=np.int8)
        return cost_minor(judged.is_fraud, judged.amounts, outcomes, policy)

    order = np.argsort(-judged.scores, kind="stable")
    weights = judged.weights[order]
    seen = np.cumsum(weights) / weights.sum()
    # Equal scores are acted upon together.
    ends = np.append(np.flatnonzero(np.diff(judged.scores[order])), order.size - 1)
    places = np.unique(ends[np.minimum(np.searchsorted(seen[ends], _ACTED_UPON), ends.size - 1)])
    approved = costs(APPROVE)

    def saved(outcome: int) -> tuple[float, ...]:
        gains = weights * (approved - costs(outcome))[order]
        return tuple((np.cumsum(gains)[places] / weights.sum()).tolist())

    return MoneyCurve(
        acted_upon=tuple(seen[places].tolist()),
        thresholds=tuple(judged.scores[order][places].tolist()),
        reviewed_minor=saved(REVIEW),
        declined_minor=saved(DECLINE),
    )
