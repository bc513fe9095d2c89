"""The gates of a promotion that need no second model's costs: artifact, data, floor, replay.

Each is a pure function to a `GateReport`; `promotion` draws the conclusion. The gates that compare
costs are `promotion_backtest`. Gates that need live traffic (canary, late verdict) are no part.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.evaluation import EvaluationReport
from fraud_platform.paired import mcnemar
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.proportions import clopper_pearson

NOT_CHANCE = 0.01
"""A difference counts as no chance when it were rarer than this between equal models."""
_SURE = 0.95
_TWO_SIDED_95 = NormalDist().inv_cdf((1.0 + _SURE) / 2.0)
_SECONDS_A_DAY = 86_400.0


class PromotionAnswer(StrEnum):
    """What may happen with the challenger, best first."""

    PROMOTE = "promote"
    SHADOW_ONLY = "shadow_only"
    REJECT = "reject"


class GateOutcome(StrEnum):
    """What a gate found; too little to go by is neither passed nor failed."""

    PASSED = "passed"
    FAILED = "failed"
    CANNOT_JUDGE = "cannot judge"


@dataclass(frozen=True)
class GateReport:
    """One gate's finding.

    Attributes:
        name: of the gate.
        outcome: passed, failed or cannot judge.
        allows: the best answer that this gate leaves open.
        reason: one sentence with the numbers that decided.
        numbers: by name; what is unknown or infinite is left out, since JSON has no word for it.
    """

    name: str
    outcome: GateOutcome
    allows: PromotionAnswer
    reason: str
    numbers: dict[str, float]


def passed(name: str, reason: str, numbers: dict[str, float]) -> GateReport:
    """A gate that leaves the promotion open."""
    return GateReport(name, GateOutcome.PASSED, PromotionAnswer.PROMOTE, reason, _known(numbers))


def failed(
    name: str,
    reason: str,
    numbers: dict[str, float],
    allows: PromotionAnswer = PromotionAnswer.REJECT,
) -> GateReport:
    """A gate that the challenger does not pass."""
    return GateReport(name, GateOutcome.FAILED, allows, reason, _known(numbers))


def cannot_judge(
    name: str,
    reason: str,
    numbers: dict[str, float],
    allows: PromotionAnswer = PromotionAnswer.SHADOW_ONLY,
) -> GateReport:
    """A gate with too little to go by."""
    return GateReport(name, GateOutcome.CANNOT_JUDGE, allows, reason, _known(numbers))


def _known(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


@dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """What loading the challenger's bundle showed; measured by whoever loads it.

    Attributes:
        problem: why the bundle was refused (digest, golden rows, features), or None.
        golden_rows: rows whose scores were compared bit by bit.
    """

    problem: str | None
    golden_rows: int


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Counts of a training set.

    Attributes:
        train_rows: rows of the train slice.
        train_frauds: frauds among them.
        test_rows: rows of the test slice.
        test_frauds: frauds among them.
        test_fraud_cards: cards that have any of those.
        embargo_days: whole days without rows of either between the last train and first test day.
        youngest_days: age of the newest test row at `as_of`, days.
    """

    train_rows: int
    train_frauds: int
    test_rows: int
    test_frauds: int
    test_fraud_cards: int
    embargo_days: int
    youngest_days: float


def data_facts(training_set: pl.DataFrame, as_of: datetime) -> DataFacts:
    """Count a training set as `training_set.build` returns it."""
    train = training_set.filter(pl.col("slice") == "train")
    test = training_set.filter(pl.col("slice") == "test")
    day = pl.col("event_timestamp").dt.date()
    last, first = train.select(day.max()).item(), test.select(day.min()).item()
    newest = test.select(pl.col("event_timestamp").max()).item()
    return DataFacts(
        train_rows=train.height,
        train_frauds=int(train["is_fraud"].sum()),
        test_rows=test.height,
        test_frauds=int(test["is_fraud"].sum()),
        test_fraud_cards=test.filter("is_fraud")["card_id"].n_unique(),
        embargo_days=(first - last).days - 1,
        youngest_days=(as_of - newest).total_seconds() / _SECONDS_A_DAY,
    )


def artifact_gate(facts: ArtifactFacts) -> GateReport:
    """G0: the bundle is what was sealed, and scores its golden rows to the bit.

    Examples:
        >>> str(artifact_gate(ArtifactFacts(problem=None, golden_rows=256)).outcome)
        'passed'
    """
    numbers = {"golden_rows": float(facts.golden_rows)}
    if facts.problem is not None:
        return failed("artifact", f"The bundle is refused: {facts.problem}", numbers)
    if not facts.golden_rows:
        return cannot_judge("artifact", "The bundle holds no golden rows.", numbers)
    return passed(
        "artifact",
        f"Every digest and feature is as declared; {facts.golden_rows} golden rows score to the "
        "same bits.",
        numbers,
    )


def data_gate(
    facts: DataFacts, maturity_days: int, policy: PromotionPolicy, min_fraud_cards: int
) -> GateReport:
    """G1: labels of age, a time split with embargo, and enough rows and frauds to compare on.

    Args:
        facts: counts of the training set.
        maturity_days: age at which a label is mature.
        policy: fewest rows and frauds.
        min_fraud_cards: fewest cards among those with fraud. The backtest's intervals come from
            draws of cards: frauds on a handful of them make intervals that are far too short.
    """
    numbers = {name: float(value) for name, value in vars(facts).items()}
    if facts.youngest_days < maturity_days:
        return failed(
            "data",
            f"A test row is {facts.youngest_days:.1f} days old; labels are mature after "
            f"{maturity_days}.",
            numbers,
        )
    if facts.embargo_days < policy.min_embargo_days:
        return failed(
            "data",
            f"{facts.embargo_days} days lie between train and test; expected at least "
            f"{policy.min_embargo_days}.",
            numbers,
        )
    found = f"{facts.test_frauds} frauds on {facts.test_fraud_cards} cards among "
    found += f"{facts.test_rows:,} mature test rows"
    too_few = facts.test_rows < policy.min_rows or facts.test_frauds < policy.min_frauds
    if too_few or facts.test_fraud_cards < min_fraud_cards:
        least = f"{policy.min_frauds} on {min_fraud_cards} among {policy.min_rows:,}"
        return cannot_judge("data", f"{found}; a comparison needs {least}.", numbers)
    return passed("data", f"{found}, {facts.embargo_days} days after the last train day.", numbers)


def floor_gate(report: EvaluationReport, policy: PromotionPolicy) -> GateReport:
    """The floor that holds for the first champion too, and the alarm above all skill."""
    found = report.average_precision
    numbers = {"average_precision": found}
    if found > policy.max_average_precision:
        return failed(
            "floor",
            f"Average precision {found:.3f} is above {policy.max_average_precision:.3f}: a leak of "
            "the label into the features is likelier than skill.",
            numbers,
        )
    floor = f"the floor of {policy.min_average_precision:.3f}"
    if found < policy.min_average_precision:
        return failed("floor", f"Average precision {found:.3f} is below {floor}.", numbers)
    return passed("floor", f"Average precision {found:.3f} reaches {floor}.", numbers)


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """What both models flag among the same payments, each with its own review threshold.

    Attributes:
        new: whether the challenger flags each payment, shape (n,).
        old: whether the champion does, shape (n,).
    """

    new: NDArray[np.bool_]
    old: NDArray[np.bool_]

    @property
    def only_new(self) -> int:
        """Payments that only the challenger flags."""
        return int(np.sum(self.new & ~self.old))

    @property
    def only_old(self) -> int:
        """Payments that only the champion flags."""
        return int(np.sum(self.old & ~self.new))

    @property
    def ratio(self) -> float:
        """Alerts of the challenger per alert of the champion; NaN while it has none."""
        before = int(self.old.sum())
        return int(self.new.sum()) / before if before else math.nan

    @property
    def variance(self) -> float:
        """Of the ratio's logarithm, from the payments that only one of them flags."""
        product = int(self.new.sum()) * int(self.old.sum())
        return (self.only_new + self.only_old) / product if product else math.inf


def replay_gate(
    replayed: Alerts, mature: Alerts, policy: PromotionPolicy, borne: float = 0.0
) -> GateReport:
    """G4: the newest payments through both models, without labels.

    An alert rate that changes by more than the policy allows, and not by chance (exact McNemar
    test), must be explained: the mature rows, whose costs the backtest has judged, show the same
    change within the same bound, as far as both samples can tell. New cuts of the champion's own
    trees may also take alerts away that it never had before: back to what was borne of it, up to
    chance.

    Args:
        replayed: alerts on the newest payments.
        mature: alerts of the same thresholds on the rows of the backtest.
        policy: the bounds.
        borne: largest share of payments that the champion may flag, in [0, 1]; 0: nobody says.
    """
    rows, more, fewer = replayed.new.size, replayed.only_new, replayed.only_old
    chance, known = mcnemar(more, fewer), mature.ratio
    numbers = {
        "rows": float(rows),
        "only_challenger": float(more),
        "only_champion": float(fewer),
        "p_value": chance,
        "alert_rate": float(replayed.new.mean()) if rows else math.nan,
        "champion_alert_rate": float(replayed.old.mean()) if rows else math.nan,
        "alert_ratio": replayed.ratio,
        "mature_alert_ratio": known,
    }
    found = f"Of the {rows:,} newest payments only the challenger flags {more}, only the champion "
    found += f"{fewer} (p = {chance:.2g})"
    if rows < policy.min_replay_rows:
        return cannot_judge(
            "replay", f"{found}: at least {policy.min_replay_rows:,} are needed.", numbers
        )
    within = abs(replayed.ratio - 1.0) <= policy.max_alert_change
    if within or chance >= NOT_CHANCE:
        return passed("replay", f"{found}: the alert rate stays.", numbers)
    change = f"alerts change {_step(replayed.ratio)}"
    if why := _explanation(replayed, mature, policy.max_alert_change, borne):
        return passed("replay", f"{found}: {change}, {why}.", numbers)
    why = f"which the mature rows ({_step(known)}) do not explain"
    return failed("replay", f"{found}: {change}, {why}.", numbers, PromotionAnswer.SHADOW_ONLY)


def _step(ratio: float) -> str:
    return "from none" if math.isnan(ratio) else f"by {ratio - 1.0:+.0%}"


def _explanation(replayed: Alerts, mature: Alerts, bound: float, borne: float) -> str:
    if _is_explained(replayed, mature, bound):
        return f"as on the mature rows ({_step(mature.ratio)})"
    is_back = _is_back(replayed, mature, bound, borne)
    return f"back, up to chance, to the {borne:.2%} that were borne" if is_back else ""


def _is_explained(replayed: Alerts, mature: Alerts, bound: float) -> bool:
    """Whether both ratios may be within the bound of each other, at 95 %."""
    if not (replayed.ratio > 0.0 and mature.ratio > 0.0):
        return False
    apart = abs(math.log(replayed.ratio / mature.ratio))
    noise = _TWO_SIDED_95 * math.sqrt(replayed.variance + mature.variance)
    return apart - noise <= math.log1p(bound)


def _is_back(replayed: Alerts, mature: Alerts, bound: float, borne: float) -> bool:
    """Whether alerts only fall, to what the champion has on the mature rows up to what was borne.

    As far as the payments can tell, at 95 %: of a thousand the rate alone says little. Where nobody
    says what was borne nothing is back: no alert at all would always be.
    """
    if not borne or replayed.only_new or not mature.old.size:
        return False
    low, high = clopper_pearson(float(replayed.new.sum()), replayed.new.size, _SURE)
    return low <= borne and high >= float(mature.old.mean()) / (1.0 + bound)
