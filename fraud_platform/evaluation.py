"""How good scores are, on rows whose labels are mature: one report, which everybody reads.

What belongs here: putting the report together. Its parts are measured by `metrics` (ranking),
`confusion` (counts), `money`, `segments`, `reliability` and `bootstrap`; whether they suffice is
`promotion`; the page is `adapters.evaluation_page`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.bootstrap import Interval
from fraud_platform.confusion import Confusion, Judged, confusion
from fraud_platform.errors import DataContractError
from fraud_platform.evaluation_curves import EvaluationCurves, evaluation_curves
from fraud_platform.headlines import HEADLINES, Drawn, Headlines
from fraud_platform.hourly import shares_by_hour
from fraud_platform.metrics import Curve, Ranking, card_precision
from fraud_platform.money import MoneyPolicy, MoneyReport, money_report
from fraud_platform.proportions import effective_size
from fraud_platform.reliability import Reliability, reliability
from fraud_platform.segments import (
    SegmentPolicy,
    SegmentTable,
    WorkingPoint,
    missing_columns,
    segment_tables,
)
from fraud_platform.training_set import digest

ROW_COLUMNS = ("event_timestamp", "card_id", "amount_minor", "is_fraud")
"""What identifies the judged rows, whatever scored them."""
WEIGHT, PROBABILITY = "weight", "probability"
"""Optional columns: inverse propensity, and the stated chance of fraud."""
FIXED_FPRS = {"fpr_1pct": 0.01, "fpr_5pct": 0.05}
"""False positive rates at which recall is always reported."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPolicy:
    """The working point at which a score is judged, and how sure the answer must be."""

    cards_per_day: int = 100
    """Cards that analysts can check in a day: the k of card precision@k."""
    review_fpr: float = 0.02
    """Share of genuine transactions reviewed or declined, in (0, 1); the same as in
    `decision.DecisionPolicy`, from which the caller sets it."""
    decline_fpr: float = 0.002
    """Share of genuine transactions declined, in (0, review_fpr]."""
    money: MoneyPolicy = field(default_factory=MoneyPolicy)
    """What outcomes cost."""
    segments: SegmentPolicy = field(default_factory=SegmentPolicy)
    """Which parts of the traffic are judged apart."""
    confidence: float = 0.9
    """Of every interval, in (0, 1)."""
    draws: int = 200
    """Draws of cards for the intervals of the headline numbers; 0: no intervals."""
    min_fraud_cards: int = 20
    """Fewest cards with fraud for those intervals to be stated."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decline_fpr <= self.review_fpr < 1.0:
            raise ValueError(
                f"found decline_fpr={self.decline_fpr} and review_fpr={self.review_fpr}, "
                "expected 0 < decline_fpr <= review_fpr < 1"
            )
        if self.cards_per_day < 1 or self.min_fraud_cards < 1 or self.draws < 0:
            raise ValueError(
                f"found cards_per_day={self.cards_per_day}, "
                f"min_fraud_cards={self.min_fraud_cards} and draws={self.draws}, expected at "
                "least 1, 1 and 0"
            )
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"found confidence={self.confidence}, expected 0 < confidence < 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What one model's scores are worth on one set of rows.

    With a column `weight` every rate, cost and ranking number counts rows by it; only card
    precision does not. Rates follow from the counts in `confusions`, costs from `money`.

    Attributes:
        rows_digest: SHA-256 of the judged rows without their scores; equal means same rows.
        rows: number of transactions.
        frauds: how many of them are fraud.
        average_precision: area under the precision-recall curve by steps, in [0, 1].
        auc_roc: chance that a fraud outscores a genuine transaction, ties counting half.
        card_precision_at_k: mean over days of the share of compromised cards among the `k` most
            suspicious ones, cards found on an earlier day left out; its maximum is often below 1.
        k: cards per day.
        recall_at_fpr_1pct: share of frauds caught while at most 1 % of genuine ones are disturbed.
        recall_at_fpr_5pct: the same for 5 %.
        review_threshold: lowest score that is reviewed, at the policy's `review_fpr` on these rows.
        decline_threshold: lowest score that is declined; never below `review_threshold`.
        recall: share of frauds at or above `review_threshold`.
        alert_rate: share of transactions at or above `review_threshold`.
        alert_rate_by_hour: the same by hour of the day, UTC (`hourly.shares_by_hour`).
        cost_per_transaction: what the outcomes cost per transaction, minor units.
        cost_without_model: what approving everything would cost, minor units per transaction.
        fraud_cards: cards with at least one fraud.
        effective_rows: equally weighted rows that would say as much; `rows` without weights.
        effective_frauds: the same for the frauds.
        confusions: counts at the thresholds "review", "decline", "fpr_1pct" and "fpr_5pct".
        money: where the money goes at both thresholds, all rows together.
        intervals: by card, of the headline numbers, by name; empty where too few cards have fraud.
        reliability: of the column `probability`; None without one.
        segments: parts of the traffic, each counted and compared with the rest.
        missing_segments: columns that should cut the traffic and were not there.
        curves: points of every plot.
        policy: what the numbers were made with.
    """

    rows_digest: str
    rows: int
    frauds: int
    average_precision: float
    auc_roc: float
    card_precision_at_k: float
    k: int
    recall_at_fpr_1pct: float
    recall_at_fpr_5pct: float
    review_threshold: float
    decline_threshold: float
    recall: float
    alert_rate: float
    alert_rate_by_hour: tuple[float, ...]
    cost_per_transaction: float
    cost_without_model: float
    fraud_cards: int
    effective_rows: float
    effective_frauds: float
    confusions: Mapping[str, Confusion]
    money: MoneyReport
    intervals: Mapping[str, Interval]
    reliability: Reliability | None
    segments: tuple[SegmentTable, ...]
    missing_segments: tuple[str, ...]
    curves: EvaluationCurves
    policy: EvaluationPolicy

    @property
    def value_detection_rate(self) -> float | None:
        """Share of the frauds' amount at or above `review_threshold`; None: all amounts are 0."""
        return self.confusions["review"].value_detection_rate

    @property
    def saved_per_transaction(self) -> float:
        """What the outcomes save, net of reviews and false declines, minor units."""
        return self.cost_without_model - self.cost_per_transaction

    @property
    def review_recall(self) -> float | None:
        """Share of the frauds that are not declined which is reviewed; None when all are declined.

        Only these are comparable later: what is declined rarely gets a label.
        """
        kept = self.confusions["decline"].missed_weight
        return 1.0 - self.confusions["review"].missed_weight / kept if kept else None

    def to_dict(self) -> dict[str, float]:
        """Every headline number by its name, as plain floats, with the ends of its interval.

        What cannot be judged is left out, and so are the tables.
        """
        names = (*HEADLINES, "rows", "frauds", "fraud_cards", "effective_rows", "effective_frauds")
        names += (
            "k",
            "review_threshold",
            "decline_threshold",
            "cost_without_model",
            "review_recall",
        )
        numbers = {name: getattr(self, name) for name in names}
        for name, found in self.intervals.items():
            numbers |= {f"{name}_low": found.low, f"{name}_high": found.high}
        if self.reliability is not None:
            numbers["expected_calibration_error"] = self.reliability.expected_calibration_error
            numbers["brier"] = self.reliability.brier
            numbers["calibration_slope"] = self.reliability.slope
        return {name: float(value) for name, value in numbers.items() if value is not None}

    def to_markdown(self) -> str:
        """The figures a person asks for first, as a Markdown table."""
        lines = [
            ("rows", f"{self.rows:,}", ""),
            ("frauds", f"{self.frauds:,} on {self.fraud_cards:,} cards", ""),
            *(
                (text, self._shown(name, form), self._span(name, form))
                for name, (text, form) in HEADLINES.items()
            ),
            ("review threshold", f"{self.review_threshold:.5f}", ""),
            ("decline threshold", f"{self.decline_threshold:.5f}", ""),
            ("cost without a model", f"{self.cost_without_model:.1f}", ""),
        ]
        if self.effective_rows < self.rows - 0.5:
            told = f"{self.effective_rows:,.0f}, of the frauds {self.effective_frauds:,.0f}"
            lines.insert(2, ("effective sample size", told, ""))
        body = "\n".join(f"| {name} | {value} | {span} |" for name, value, span in lines)
        head = f"| measure | value | {self.policy.confidence:.0%} interval by card |"
        return f"{head}\n|---|---:|---:|\n{body}\n"

    def _shown(self, name: str, form: str) -> str:
        value = getattr(self, name)
        return "cannot judge" if value is None else format(value, form)

    def _span(self, name: str, form: str) -> str:
        found = self.intervals.get(name)
        if found is None:
            return "cannot judge"
        return f"{found.low:{form}} to {found.high:{form}}"


def evaluate(rows: pl.DataFrame, policy: EvaluationPolicy) -> EvaluationReport:
    """Judge scores on rows with mature labels; thresholds are set on these same rows.

    Two models are compared fairly when both are evaluated on the same rows with the same policy:
    each then disturbs the same share of genuine transactions.

    Args:
        rows: `event_timestamp` (UTC), `card_id`, `amount_minor` (minor units), `is_fraud` and
            `score` (Float64, larger is more suspicious), one row per transaction. Optional:
            `weight` (Float64, more than 0, how many transactions a row stands for), `probability`
            (Float64 in [0, 1], stated chance of fraud, fitted on other rows; all null: none is
            stated) and the columns that `policy.segments` names.
        policy: the working point.

    Raises:
        LabelsNotMatureError: no fraud, or no genuine transaction, among the rows.
        DataContractError: a score, label, amount, card or time is null or not finite, or a weight
            not more than 0, or a part of the probabilities is missing or not in [0, 1].

    Examples:
        >>> from datetime import UTC, datetime
        >>> rows = pl.DataFrame({"event_timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * 3,
        ...     "card_id": ["a", "b", "c"], "amount_minor": [9000, 500, 700],
        ...     "is_fraud": [True, False, False], "score": [0.9, 0.5, 0.1]})
        >>> report = evaluate(rows, EvaluationPolicy(review_fpr=0.5))
        >>> report.review_threshold, report.decline_threshold, report.money.saved_minor
        (0.5, 0.9, 8800.0)
    """
    _require_usable(rows)
    judged = _judged(rows)
    ranking = Ranking(judged.is_fraud, judged.scores)
    curve = ranking.curve(judged.weights if WEIGHT in rows.columns else None)
    point = _working_point(curve, policy)
    confusions = _confusions(judged, curve, point)
    review = confusions["review"]
    money = money_report(review, confusions["decline"], policy.money)
    headlines = Headlines(rows, judged, ranking, point, policy.cards_per_day)
    drawn = _drawn(rows, judged, headlines, policy)
    return EvaluationReport(
        rows_digest=digest(rows.select(n for n in (*ROW_COLUMNS, WEIGHT) if n in rows.columns)),
        rows=rows.height,
        frauds=review.frauds,
        average_precision=curve.average_precision(),
        auc_roc=curve.auc_roc(),
        card_precision_at_k=card_precision(rows, policy.cards_per_day),
        k=policy.cards_per_day,
        recall_at_fpr_1pct=curve.recall_at_fpr(FIXED_FPRS["fpr_1pct"]),
        recall_at_fpr_5pct=curve.recall_at_fpr(FIXED_FPRS["fpr_5pct"]),
        review_threshold=point.review_threshold,
        decline_threshold=point.decline_threshold,
        recall=review.caught_weight / (review.caught_weight + review.missed_weight),
        alert_rate=(review.caught_weight + review.disturbed_weight) / review.weight,
        alert_rate_by_hour=shares_by_hour(
            judged.scores >= point.review_threshold, _hours(rows), judged.weights
        ),
        cost_per_transaction=money.cost_minor / review.weight,
        cost_without_model=money.without_model_minor / review.weight,
        fraud_cards=_fraud_cards(judged),
        effective_rows=effective_size(judged.weights),
        effective_frauds=effective_size(judged.weights[judged.is_fraud]),
        confusions=confusions,
        money=money,
        intervals=drawn.headlines,
        reliability=_reliability(rows, judged, policy),
        segments=segment_tables(rows, judged, point, policy.segments),
        missing_segments=missing_columns(rows, policy.segments),
        curves=evaluation_curves(
            curve, judged, policy.money, (drawn.precision_low, drawn.precision_high)
        ),
        policy=policy,
    )


def _require_usable(rows: pl.DataFrame) -> None:
    unusable = rows.filter(
        pl.any_horizontal(pl.col(name).is_null() for name in ROW_COLUMNS)
        | ~pl.col("score").is_finite().fill_null(value=False)
    ).height
    if unusable:
        raise DataContractError(
            f"{unusable} of {rows.height} rows lack a finite score, a label, an amount, a card or "
            "a time; expected none.",
            hint="evaluate only scored transactions with mature labels.",
        )
    if WEIGHT in rows.columns:
        usable = (pl.col(WEIGHT) > 0) & pl.col(WEIGHT).is_finite()
        weightless = rows.filter(~usable.fill_null(value=False)).height
        if weightless:
            raise DataContractError(
                f"{weightless} of {rows.height} rows have no finite weight above 0; expected none.",
                hint="leave out rows whose label could never have become known.",
            )


def _hours(rows: pl.DataFrame) -> NDArray[np.int64]:
    return rows["event_timestamp"].dt.hour().cast(pl.Int64).to_numpy()


def _judged(rows: pl.DataFrame) -> Judged:
    weighted = WEIGHT in rows.columns
    return Judged(
        is_fraud=rows["is_fraud"].to_numpy().astype(np.bool_),
        scores=rows["score"].cast(pl.Float64).to_numpy(),
        amounts=rows["amount_minor"].to_numpy(),
        weights=rows[WEIGHT].to_numpy() if weighted else np.ones(rows.height),
        cards=rows["card_id"].rank("dense").to_numpy().astype(np.int64) - 1,
    )


def _working_point(curve: Curve, policy: EvaluationPolicy) -> WorkingPoint:
    review = curve.threshold_at_fpr(policy.review_fpr)
    decline = max(review, curve.threshold_at_fpr(policy.decline_fpr))
    return WorkingPoint(review, decline, policy.money, policy.confidence)


def _confusions(judged: Judged, curve: Curve, point: WorkingPoint) -> dict[str, Confusion]:
    thresholds = {"review": point.review_threshold, "decline": point.decline_threshold}
    thresholds |= {name: curve.threshold_at_fpr(fpr) for name, fpr in FIXED_FPRS.items()}
    return {name: confusion(judged, threshold) for name, threshold in thresholds.items()}


def _fraud_cards(judged: Judged) -> int:
    return int(np.unique(judged.cards[judged.is_fraud]).size)


def _drawn(
    rows: pl.DataFrame, judged: Judged, headlines: Headlines, policy: EvaluationPolicy
) -> Drawn:
    """Intervals, unless so few cards have fraud that draws of them would say little."""
    if not policy.draws or _fraud_cards(judged) < policy.min_fraud_cards:
        return Drawn({}, (), ())
    return headlines.drawn(
        rows["card_id"], seed=policy.seed, draws=policy.draws, confidence=policy.confidence
    )


def _reliability(
    rows: pl.DataFrame, judged: Judged, policy: EvaluationPolicy
) -> Reliability | None:
    """Of the stated probabilities; None where none is stated."""
    if PROBABILITY not in rows.columns:
        return None
    unknown = rows[PROBABILITY].null_count()
    if unknown == rows.height:
        return None
    if unknown:
        raise DataContractError(
            f"{unknown} of {rows.height} rows have no probability; expected all of them or none.",
            hint="state probabilities with one calibration for all rows.",
        )
    stated = rows[PROBABILITY].to_numpy()
    return reliability(judged.is_fraud, stated, judged.weights, policy.confidence)
