"""Champion against challenger on the same rows: promote, shadow only, or reject.

What belongs here: which gates are asked, and the conclusion. The gates are `promotion_gates` and
`promotion_backtest`; measuring is `evaluation`; moving a role is `adapters.model_roles`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from fraud_platform.errors import PermanentError
from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport
from fraud_platform.promotion_backtest import (
    Duel,
    backtest_gate,
    gains,
    segment_findings,
    segment_gate,
)
from fraud_platform.promotion_gates import (
    Alerts,
    ArtifactFacts,
    DataFacts,
    GateReport,
    PromotionAnswer,
    artifact_gate,
    data_gate,
    floor_gate,
    replay_gate,
)
from fraud_platform.promotion_policy import PromotionPolicy


@dataclass(frozen=True)
class PromotionVerdict:
    """The answer, and the gates that justify it.

    Attributes:
        answer: the best that every gate leaves open.
        gates: all that were asked, in order.
    """

    answer: PromotionAnswer
    gates: tuple[GateReport, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """What forbids a better answer; for a promotion, what every gate found."""
        return tuple(
            gate.reason
            for gate in self.gates
            if self.answer is PromotionAnswer.PROMOTE or gate.allows is self.answer
        )

    @property
    def is_wider(self) -> bool:
        """Whether the challenger disturbs more payments than the champion, or nobody counted."""
        found = [gate.numbers for gate in self.gates if "champion_alert_rate" in gate.numbers]
        return not any(one["alert_rate"] <= one["champion_alert_rate"] for one in found)

    def digest(self) -> str:
        """SHA-256 of the answer and every number it rests on."""
        gates = [asdict(gate) for gate in self.gates]
        told = json.dumps({"answer": self.answer, "gates": gates}, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """The champion's part of a comparison.

    Attributes:
        report: the champion's, on the rows of the challenger's.
        data: counts of the training set.
        duel: those rows with both models' scores.
        mature: alerts of both bundles on them.
        replayed: alerts of both bundles on the newest payments.
    """

    report: EvaluationReport
    data: DataFacts
    duel: Duel
    mature: Alerts
    replayed: Alerts


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What is asked of a challenger.

    Attributes:
        policy: the bounds.
        point: where both models are compared.
        maturity_days: age at which a label is mature.
    """

    policy: PromotionPolicy
    point: EvaluationPolicy
    maturity_days: int


def judge(
    artifact: ArtifactFacts, report: EvaluationReport, rivals: Rivals | None, bar: Bar
) -> PromotionVerdict:
    """Decide whether the challenger may take over: the best answer that every gate leaves open.

    Args:
        artifact: what loading its bundle showed.
        report: the challenger's evaluation.
        rivals: the champion on the same rows; None: there is none, and only floors count.
        bar: what is asked.

    Raises:
        PermanentError: the two reports were not made on the same rows.
    """
    gates = [artifact_gate(artifact), floor_gate(report, bar.policy)]
    if rivals is not None:
        _require_same_rows(report, rivals.report)
        gates += _against(report, rivals, bar)
    return _concluded(gates)


def judge_cuts(
    artifact: ArtifactFacts,
    replayed: Alerts,
    mature: Alerts,
    borne: float,
    policy: PromotionPolicy,
) -> PromotionVerdict:
    """Decide whether the champion's own trees with new cuts may take over.

    They rank as before, so no backtest can tell them apart; what changes is whom they disturb.

    Args:
        artifact: what loading the new bundle showed.
        replayed: alerts of both on the newest payments.
        mature: alerts of both on payments whose labels came of age.
        borne: largest share of payments that the champion may flag, in [0, 1].
        policy: the bounds.
    """
    return _concluded([artifact_gate(artifact), replay_gate(replayed, mature, policy, borne)])


def _concluded(gates: Sequence[GateReport]) -> PromotionVerdict:
    order = list(PromotionAnswer)
    return PromotionVerdict(max((gate.allows for gate in gates), key=order.index), tuple(gates))


def _against(report: EvaluationReport, rivals: Rivals, bar: Bar) -> list[GateReport]:
    duel, policy = rivals.duel, bar.policy
    new, old = duel.sides(bar.point)
    return [
        data_gate(rivals.data, bar.maturity_days, policy, bar.point.min_fraud_cards),
        backtest_gate(gains(duel, new, old, policy.confidence), report.reliability, policy),
        segment_gate(segment_findings(duel, new, old, policy), policy),
        replay_gate(rivals.replayed, rivals.mature, policy),
    ]


def _require_same_rows(challenger: EvaluationReport, champion: EvaluationReport) -> None:
    if challenger.rows_digest != champion.rows_digest:
        raise PermanentError(
            f"The challenger was judged on {challenger.rows} rows with {challenger.frauds} frauds "
            f"(digest {challenger.rows_digest[:12]}), the champion on {champion.rows} rows with "
            f"{champion.frauds} frauds (digest {champion.rows_digest[:12]}); expected the same.",
            hint="score both models on the test slice of one training set.",
        )
