"""Both models on the same mature rows: what each would have cost, on the whole and by segment.

What belongs here: gates G2 and G3. Both models work at the same point: thresholds that disturb the
same share of the genuine rows, so that neither looks better by declining more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.bootstrap import Interval, intervals
from fraud_platform.evaluation import EvaluationPolicy
from fraud_platform.metrics import Curve, Ranking
from fraud_platform.money import APPROVE, DECLINE, REVIEW, MoneyPolicy, cost_minor
from fraud_platform.paired import change, holm
from fraud_platform.promotion_gates import (
    GateReport,
    PromotionAnswer,
    cannot_judge,
    failed,
    passed,
)
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.reliability import Reliability

WATCHED_FPR = 0.05
_DRAWS, _SEED = 200, 5
_NORMAL = NormalDist()
_LEVEL = 0.05
_OUTCOMES = (APPROVE, REVIEW, DECLINE)
_MIN_FALSE_ALERTS = 50
_POOLED = "the rest"


@dataclass(frozen=True, eq=False, kw_only=True)
class Duel:
    """The rows of a backtest, with the scores of both models.

    Attributes:
        rows: `card_id`, `amount_minor`, `is_fraud`, and `weight` if rows count differently.
        new_scores: the challenger's, shape (n,).
        old_scores: the champion's, shape (n,).
        segments: a column of names per way to cut the rows; n rows.
    """

    rows: pl.DataFrame
    new_scores: NDArray[np.float64]
    old_scores: NDArray[np.float64]
    segments: pl.DataFrame

    @cached_property
    def is_fraud(self) -> NDArray[np.bool_]:
        """The truth of each row."""
        return self.rows["is_fraud"].to_numpy()

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """What each row counts."""
        if "weight" not in self.rows.columns:
            return np.ones(self.rows.height)
        return self.rows["weight"].to_numpy()

    def sides(self, point: EvaluationPolicy) -> tuple["Side", "Side"]:
        """The challenger and the champion at one working point."""
        prices = np.stack([self._prices(outcome, point.money) for outcome in _OUTCOMES])
        new = Side(self.is_fraud, self.new_scores, point, prices)
        return new, Side(self.is_fraud, self.old_scores, point, prices)

    def _prices(self, outcome: int, money: MoneyPolicy) -> NDArray[np.float64]:
        outcomes = np.full(self.rows.height, outcome, dtype=np.int8)
        return cost_minor(self.is_fraud, self.rows["amount_minor"].to_numpy(), outcomes, money)


class Side:
    """One model on the rows; sorted once for all weightings.

    Args:
        is_fraud: shape (n,).
        scores: shape (n,).
        point: the working point.
        prices: what each row costs when approved, reviewed and declined, shape (3, n).
    """

    def __init__(
        self,
        is_fraud: NDArray[np.bool_],
        scores: NDArray[np.float64],
        point: EvaluationPolicy,
        prices: NDArray[np.float64],
    ) -> None:
        self._ranking = Ranking(is_fraud, scores)
        self._scores = scores
        self._point = point
        self._prices = prices

    def worth(self, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        """Cost, average precision and recall at `WATCHED_FPR`, thresholds chosen on these weights.

        Args:
            weights: what each row counts, shape (n,).
        """
        curve = self._ranking.curve(weights)
        cost = float(np.sum(weights * self._cost(curve)))  # no BLAS: its threads cost more
        return cost, curve.average_precision(), curve.recall_at_fpr(WATCHED_FPR)

    def at_point(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The cost of each row times its weight, and whether it is reviewed or declined."""
        curve = self._ranking.curve(weights)
        is_alert = self._scores >= curve.threshold_at_fpr(self._point.review_fpr)
        return weights * self._cost(curve), is_alert

    def _cost(self, curve: Curve) -> NDArray[np.float64]:
        review = curve.threshold_at_fpr(self._point.review_fpr)
        decline = curve.threshold_at_fpr(self._point.decline_fpr)
        approved, reviewed, declined = self._prices
        found: NDArray[np.float64] = np.where(self._scores >= review, reviewed, approved)
        is_declined = self._scores >= decline
        found[is_declined] = declined[is_declined]
        return found


@dataclass(frozen=True)
class Gains:
    """What the challenger gains over the champion, each with its interval.

    Attributes:
        saved: share of the champion's cost.
        average_precision: absolute.
        recall: share of frauds caught at `WATCHED_FPR`, absolute.
    """

    saved: Interval
    average_precision: Interval
    recall: Interval

    @property
    def ranks_better(self) -> bool:
        """Whether it surely ranks better, over all scores and at the watched share."""
        return self.average_precision.low > 0.0 and self.recall.low > 0.0

    def numbers(self) -> dict[str, float]:
        """All of them by name."""
        return {
            f"{name}{end}": getattr(interval, part)
            for name, interval in vars(self).items()
            for end, part in (("", "estimate"), ("_low", "low"), ("_high", "high"))
        }


def gains(duel: Duel, new: Side, old: Side, confidence: float) -> Gains:
    """The differences of both sides, with intervals over cards.

    Each draw of cards chooses its own thresholds, as another week would have. The draws give the
    spread, and the normal distribution the ends: two hundred draws know the middle nine tenths well
    and the outermost hundredth not at all.

    Args:
        duel: the rows.
        new: the challenger's side.
        old: the champion's side.
        confidence: one-sided, of each end of the intervals, above 0.5.
    """

    def statistic(weights: NDArray[np.float64]) -> Sequence[float]:
        ours, theirs = new.worth(weights), old.worth(weights)
        saved = 1.0 - ours[0] / theirs[0] if theirs[0] > 0.0 else -float(ours[0] > 0.0)
        return [saved, ours[1] - theirs[1], ours[2] - theirs[2]]

    found = intervals(
        duel.rows["card_id"], statistic, seed=_SEED, draws=_DRAWS, weights=duel.weights
    )
    return Gains(*(_stretched(interval, confidence) for interval in found))


def _stretched(found: Interval, confidence: float) -> Interval:
    """The interval of this one-sided confidence by the normal distribution, its spread kept."""
    drawn = _NORMAL.inv_cdf(0.5 + found.confidence / 2.0)
    reach = _NORMAL.inv_cdf(confidence) * (found.high - found.low) / (2.0 * drawn)
    low, high = found.estimate - reach, found.estimate + reach
    return Interval(low, found.estimate, high, 2.0 * confidence - 1.0)


def backtest_gate(found: Gains, stated: Reliability | None, policy: PromotionPolicy) -> GateReport:
    """G2: surely cheaper, or surely better at ranking and cheaper here; nothing surely worse.

    Args:
        found: from `gains`, at the policy's confidence.
        stated: how the challenger's probabilities fare; None: it states none.
        policy: the bounds.
    """
    numbers = found.numbers()
    if stated is not None and stated.slope is not None:
        numbers |= {"calibration_slope": stated.slope}
    saved = found.saved
    cost = f"Cost {-saved.estimate:+.1%} ({-saved.high:+.1%} to {-saved.low:+.1%})"
    worse = _surely_worse(found, policy)
    if worse is not None:
        return failed("backtest", f"{cost}: {worse}.", numbers)
    doubt = _doubt(found, policy) or _miscalibrated(stated, policy)
    if doubt is not None:
        return cannot_judge("backtest", f"{cost}: {doubt}.", numbers)
    better = _better(found)
    if better is not None:
        return passed("backtest", f"{cost}: {better}.", numbers)
    return _not_cheaper(cost, numbers, saved.low > -policy.margin, policy)


def _doubt(found: Gains, policy: PromotionPolicy) -> str | None:
    """A ranking that points the other way than the cost, though perhaps by chance."""
    gain = found.average_precision.estimate
    if gain >= -policy.max_average_precision_loss:
        return None
    return f"average precision {gain:+.3f} speaks against it"


def _better(found: Gains) -> str | None:
    """In what the challenger is surely better, if in anything that counts.

    Money rests on a few large frauds and is known long after the ranking is, so a ranking that is
    surely better needs no more of it than to point the same way.
    """
    if found.saved.low > 0.0:
        return "surely cheaper than the champion"
    if found.ranks_better and found.saved.estimate > 0.0:
        gain = found.average_precision.estimate
        return f"surely ranks better (average precision {gain:+.3f}), and cheaper on these rows"
    return None


def _not_cheaper(
    cost: str, numbers: dict[str, float], is_not_inferior: bool, policy: PromotionPolicy
) -> GateReport:
    if is_not_inferior and policy.promote_refresh:
        return passed("backtest", f"{cost}: surely not inferior, a refresh.", numbers)
    close = "not inferior, but not surely cheaper" if is_not_inferior else "too close to tell"
    return cannot_judge("backtest", f"{cost}: {close}.", numbers)


def _surely_worse(found: Gains, policy: PromotionPolicy) -> str | None:
    """What is worse by more than its bound and not by chance."""
    if found.saved.high < 0.0:
        return "surely dearer than the champion"
    losses = (
        ("average precision", found.average_precision, policy.max_average_precision_loss),
        (f"recall at {WATCHED_FPR:.0%} FPR", found.recall, policy.max_recall_loss),
    )
    for name, gain, bound in losses:
        if gain.estimate < -bound and gain.high < 0.0:
            return f"{name} {gain.estimate:+.3f}, a loss beyond {bound:.3f}"
    return None


def _miscalibrated(stated: Reliability | None, policy: PromotionPolicy) -> str | None:
    """What is wrong with the slope; with fewer frauds than judge a segment it is mostly noise."""
    if stated is None or stated.slope is None:
        return None
    most = policy.max_calibration_slope
    seen = sum(part.frauds for part in stated.bins)
    if seen < policy.min_segment_frauds or 1.0 / most <= stated.slope <= most:
        return None
    return f"calibration slope {stated.slope:.2f}, expected {1.0 / most:.2f} to {most:.2f}"


@dataclass(frozen=True)
class SegmentFinding:
    """One segment under both models.

    Attributes:
        name: "column: value".
        frauds: rows that are fraud.
        loss: how much dearer the challenger is there, relative; NaN while unknown.
        loss_chance: p-value of "no dearer than the policy's bound".
        fpr_ratio: false alerts of the challenger per one of the champion; infinite where only the
            challenger has some, NaN where neither has.
        fpr_chance: p-value of "no more than the policy's bound"; 1 where both have too few false
            alerts to tell, or where the segment is surely cheaper for them.
    """

    name: str
    frauds: int
    loss: float
    loss_chance: float
    fpr_ratio: float
    fpr_chance: float


def segment_findings(
    duel: Duel, new: Side, old: Side, policy: PromotionPolicy
) -> tuple[SegmentFinding, ...]:
    """Each segment's change of cost and of false alerts; small segments are taken together."""
    ours, theirs = new.at_point(duel.weights), old.at_point(duel.weights)
    both = _Pair(
        cards=duel.rows["card_id"],
        is_fraud=duel.is_fraud,
        cost=(ours[0], theirs[0]),
        false=(duel.weights * ours[1] * ~duel.is_fraud, duel.weights * theirs[1] * ~duel.is_fraud),
    )
    found = []
    for column in duel.segments.columns:
        names = _pooled(duel.segments[column], duel.is_fraud, policy.min_segment_frauds)
        for name in sorted(set(names.to_list())):
            inside = (names == name).to_numpy()
            if int(duel.is_fraud[inside].sum()) >= policy.min_segment_frauds:
                found.append(both.within(f"{column}: {name}", inside, policy))
    return tuple(found)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pair:
    """Costs and false alerts of the challenger and the champion by row, times the row's weight."""

    cards: pl.Series
    is_fraud: NDArray[np.bool_]
    cost: tuple[NDArray[np.float64], NDArray[np.float64]]
    false: tuple[NDArray[np.float64], NDArray[np.float64]]

    def within(
        self, name: str, inside: NDArray[np.bool_], policy: PromotionPolicy
    ) -> SegmentFinding:
        cards = self.cards.filter(pl.Series(inside))
        cost = change(cards, self.cost[0][inside], self.cost[1][inside])
        false = change(cards, self.false[0][inside], self.false[1][inside])
        struck, before = (int(np.sum(side[inside] > 0.0)) for side in self.false)
        fpr_ratio, most = 1.0 + false.ratio, policy.max_segment_fpr_ratio
        fpr_chance = false.chance_below(most - 1.0)
        if struck and not before:
            # Each of these cards had, at the bound, this chance to be the challenger's alone.
            alone = int(cards.filter(pl.Series(self.false[0][inside] > 0.0)).n_unique())
            fpr_ratio, fpr_chance = math.inf, (most / (1.0 + most)) ** alone
        pays_off = math.isfinite(cost.ratio) and cost.chance_below(0.0) > 1.0 - _LEVEL
        # Where fraud moves to, alerts must follow; there the segment itself is cheaper for it.
        if pays_off or max(struck, before) < _MIN_FALSE_ALERTS:
            fpr_chance = 1.0
        return SegmentFinding(
            name=name,
            frauds=int(self.is_fraud[inside].sum()),
            loss=cost.ratio,
            loss_chance=cost.chance_below(policy.max_segment_loss),
            fpr_ratio=fpr_ratio,
            fpr_chance=fpr_chance,
        )


def segment_gate(found: tuple[SegmentFinding, ...], policy: PromotionPolicy) -> GateReport:
    """G3: no segment surely pays for the rest, neither in money nor in false alerts (Holm)."""
    numbers: dict[str, float] = {}
    for each in found:
        numbers |= {f"{each.name}, loss": each.loss, f"{each.name}, FPR ratio": each.fpr_ratio}
    if not found:
        least = policy.min_segment_frauds
        return cannot_judge(
            "segments", f"No segment has {least} frauds.", numbers, PromotionAnswer.PROMOTE
        )
    chances = [c for each in found for c in (each.loss_chance, each.fpr_chance)]
    fallen = holm(chances, _LEVEL)
    reasons = [
        *(
            f"{each.name} costs {each.loss:+.1%}"
            for each, is_worse in zip(found, fallen[::2], strict=True)
            if is_worse
        ),
        *(
            f"{each.name} has {each.fpr_ratio:.2f} times the false alerts"
            for each, is_worse in zip(found, fallen[1::2], strict=True)
            if is_worse
        ),
    ]
    if reasons:
        return failed("segments", f"{'; '.join(reasons)}.", numbers)
    worst = max(found, key=lambda each: each.loss)
    return passed(
        "segments",
        f"Of {len(found)} segments none pays; most {worst.name} {worst.loss:+.1%}.",
        numbers,
    )


def _pooled(names: pl.Series, is_fraud: NDArray[np.bool_], least: int) -> pl.Series:
    """Names as text, those with fewer frauds than `least` replaced by one name."""
    told = names.cast(pl.String).fill_null("unknown")
    frauds = told.filter(pl.Series(is_fraud)).value_counts(name="frauds")
    large = frauds.filter(pl.col("frauds") >= least)[told.name].to_list()
    kept: pl.Series = pl.select(
        pl.when(told.is_in(large)).then(told).otherwise(pl.lit(_POOLED))
    ).to_series()
    return kept
