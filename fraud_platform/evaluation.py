"""How good scores are, on rows whose labels are mature: ranking, cards found, cost.

What belongs here: the report. Its ranking numbers are `metrics`; whether they suffice is
`promotion`; the plots are `adapters.evaluation_plots`.
"""

from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.metrics import Ranking, card_precision
from fraud_platform.training_set import digest

ROW_COLUMNS = ("event_timestamp", "card_id", "amount_minor", "is_fraud")
"""What identifies the judged rows, whatever scored them."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPolicy:
    """The working point at which a score is judged."""

    cards_per_day: int = 100
    """Cards that analysts can check in a day: the k of card precision@k."""
    review_fpr: float = 0.02
    """Share of genuine transactions reviewed or declined, in (0, 1); the same as in
    `decision.DecisionPolicy`, from which the caller sets it."""
    decline_fpr: float = 0.002
    """Share of genuine transactions declined, in (0, review_fpr]."""
    review_cost_minor: int = 200
    """What one alert costs, minor units of the currency."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decline_fpr <= self.review_fpr < 1.0:
            raise ValueError(
                f"found decline_fpr={self.decline_fpr} and review_fpr={self.review_fpr}, "
                "expected 0 < decline_fpr <= review_fpr < 1"
            )
        if self.cards_per_day < 1 or self.review_cost_minor < 0:
            raise ValueError(
                f"found cards_per_day={self.cards_per_day} and "
                f"review_cost_minor={self.review_cost_minor}, expected at least 1 and 0"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What one model's scores are worth on one set of rows.

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
        cost_per_transaction: (amount of missed frauds + alerts x review cost) / rows, minor units.
        cost_without_model: amount of all frauds / rows, minor units.
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
    cost_per_transaction: float
    cost_without_model: float

    def to_dict(self) -> dict[str, float]:
        """Every number by its name, as plain floats (the rows' digest is left out)."""
        numbers = asdict(self)
        del numbers["rows_digest"]
        return {name: float(value) for name, value in numbers.items()}

    def to_markdown(self) -> str:
        """The figures a person asks for first, as a Markdown table."""
        lines = (
            ("rows", f"{self.rows:,}"),
            ("frauds", f"{self.frauds:,} ({self.frauds / self.rows:.3%})"),
            ("average precision", f"{self.average_precision:.3f}"),
            ("AUC ROC", f"{self.auc_roc:.3f}"),
            (f"card precision@{self.k}", f"{self.card_precision_at_k:.3f}"),
            ("recall at 1 % FPR", f"{self.recall_at_fpr_1pct:.3f}"),
            ("recall at 5 % FPR", f"{self.recall_at_fpr_5pct:.3f}"),
            ("recall at the review threshold", f"{self.recall:.3f}"),
            ("alert rate", f"{self.alert_rate:.3%}"),
            ("review threshold", f"{self.review_threshold:.5f}"),
            ("decline threshold", f"{self.decline_threshold:.5f}"),
            ("cost per transaction (minor units)", f"{self.cost_per_transaction:.1f}"),
            ("cost without a model (minor units)", f"{self.cost_without_model:.1f}"),
        )
        body = "\n".join(f"| {name} | {value} |" for name, value in lines)
        return f"| measure | value |\n|---|---:|\n{body}\n"


def evaluate(rows: pl.DataFrame, policy: EvaluationPolicy) -> EvaluationReport:
    """Judge scores on rows with mature labels; thresholds are set on these same rows.

    Two models are compared fairly when both are evaluated on the same rows with the same policy:
    each then disturbs the same share of genuine transactions.

    Args:
        rows: `event_timestamp` (UTC), `card_id`, `amount_minor` (minor units), `is_fraud` and
            `score` (Float64, larger is more suspicious), one row per transaction.
        policy: the working point.

    Raises:
        LabelsNotMatureError: no fraud, or no genuine transaction, among the rows.
        DataContractError: a score, label, amount, card or time is null or not finite.
    """
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
    is_fraud = rows["is_fraud"].to_numpy().astype(np.bool_)
    scores = rows["score"].to_numpy()
    curve = Ranking(is_fraud, scores).curve()
    review = curve.threshold_at_fpr(policy.review_fpr)
    decline = max(review, curve.threshold_at_fpr(policy.decline_fpr))
    alerted = scores >= review
    amounts = rows["amount_minor"].to_numpy()
    missed = int(amounts[is_fraud & ~alerted].sum())
    return EvaluationReport(
        rows_digest=digest(rows.select(ROW_COLUMNS)),
        rows=rows.height,
        frauds=int(is_fraud.sum()),
        average_precision=curve.average_precision(),
        auc_roc=curve.auc_roc(),
        card_precision_at_k=card_precision(rows, policy.cards_per_day),
        k=policy.cards_per_day,
        recall_at_fpr_1pct=curve.recall_at_fpr(0.01),
        recall_at_fpr_5pct=curve.recall_at_fpr(0.05),
        review_threshold=review,
        decline_threshold=decline,
        recall=float(alerted[is_fraud].mean()),
        alert_rate=float(alerted.mean()),
        cost_per_transaction=(missed + policy.review_cost_minor * int(alerted.sum())) / rows.height,
        cost_without_model=int(amounts[is_fraud].sum()) / rows.height,
    )
