"""Champion against challenger on the same rows: promote, shadow only, or reject.

What belongs here: the judgement. Measuring is `evaluation`; moving the alias is
`adapters.model_registry`.
"""

from dataclasses import dataclass
from enum import StrEnum

from fraud_platform.errors import PermanentError
from fraud_platform.evaluation import EvaluationReport


@dataclass(frozen=True, kw_only=True)
class PromotionPolicy:
    """What a challenger must show."""

    min_average_precision: float = 0.10
    """Floor for the first champion, and for every later one."""
    max_average_precision: float = 0.98
    """Above this a leak is likelier than skill: the challenger is rejected."""
    max_average_precision_loss: float = 0.005
    """Non-inferiority margin against the champion on the same rows, absolute."""
    min_average_precision_gain: float = 0.002
    """Gain in average precision that counts as better, absolute; less is noise."""
    min_cost_reduction: float = 0.01
    """Reduction of the cost per transaction that counts as better, relative to the champion's."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_average_precision < self.max_average_precision <= 1.0:
            raise ValueError(
                f"found min_average_precision={self.min_average_precision} and "
                f"max_average_precision={self.max_average_precision}, expected 0 <= min < max <= 1"
            )
        for name in (
            "max_average_precision_loss",
            "min_average_precision_gain",
            "min_cost_reduction",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected 0 to 1")


class PromotionAnswer(StrEnum):
    """What may happen with the challenger."""

    PROMOTE = "promote"
    SHADOW_ONLY = "shadow_only"
    REJECT = "reject"


@dataclass(frozen=True)
class PromotionVerdict:
    """The answer, and the sentences that justify it."""

    answer: PromotionAnswer
    reasons: tuple[str, ...]


def judge(
    challenger: EvaluationReport, champion: EvaluationReport | None, policy: PromotionPolicy
) -> PromotionVerdict:
    """Decide whether the challenger may take over.

    Rejected: above the leak alarm, below the floor, or worse than the champion by more than the
    margin. Otherwise promoted if there is no champion, or if it is better in average precision or
    in cost by at least the policy's step. Otherwise it may only watch.

    Args:
        challenger: its report.
        champion: the champion's report on the same rows, or None while there is no champion.
        policy: the bar.

    Raises:
        PermanentError: the two reports were not made on the same rows.
    """
    found = challenger.average_precision
    if found > policy.max_average_precision:
        return _rejected(
            f"Average precision {found:.3f} is above {policy.max_average_precision:.3f}: a leak of "
            "the label into the features is likelier than skill."
        )
    if found < policy.min_average_precision:
        return _rejected(
            f"Average precision {found:.3f} is below the floor of "
            f"{policy.min_average_precision:.3f}."
        )
    if champion is None:
        return PromotionVerdict(
            PromotionAnswer.PROMOTE,
            (
                f"There is no champion yet, and average precision {found:.3f} reaches the floor of "
                f"{policy.min_average_precision:.3f}.",
            ),
        )
    _require_same_rows(challenger, champion)
    return _against(challenger, champion, policy)


def _against(
    challenger: EvaluationReport, champion: EvaluationReport, policy: PromotionPolicy
) -> PromotionVerdict:
    gain = challenger.average_precision - champion.average_precision
    ranking = (
        f"Average precision {challenger.average_precision:.3f} against the champion's "
        f"{champion.average_precision:.3f} on the same {challenger.rows} rows ({gain:+.3f})"
    )
    if gain < -policy.max_average_precision_loss:
        return _rejected(
            f"{ranking}: a loss beyond the margin of {policy.max_average_precision_loss:.3f}."
        )
    saved = champion.cost_per_transaction - challenger.cost_per_transaction
    cost = (
        f"Cost {challenger.cost_per_transaction:.1f} against {champion.cost_per_transaction:.1f} "
        f"minor units per transaction ({-saved:+.1f})"
    )
    ranks_better = gain >= policy.min_average_precision_gain
    costs_less = saved > 0 and saved >= policy.min_cost_reduction * champion.cost_per_transaction
    reasons = (
        f"{ranking}: {'better' if ranks_better else 'not worse, but not better'}.",
        f"{cost}: {'better' if costs_less else 'not better'}.",
    )
    better = ranks_better or costs_less
    return PromotionVerdict(
        PromotionAnswer.PROMOTE if better else PromotionAnswer.SHADOW_ONLY, reasons
    )


def _rejected(reason: str) -> PromotionVerdict:
    return PromotionVerdict(PromotionAnswer.REJECT, (reason,))


def _require_same_rows(challenger: EvaluationReport, champion: EvaluationReport) -> None:
    if challenger.rows_digest != champion.rows_digest:
        raise PermanentError(
            f"The challenger was judged on {challenger.rows} rows with {challenger.frauds} frauds "
            f"(digest {challenger.rows_digest[:12]}), the champion on {champion.rows} rows with "
            f"{champion.frauds} frauds (digest {champion.rows_digest[:12]}); expected the same.",
            hint="score both models on the test slice of one training set.",
        )
