"""What a model's card says, taken from its training, its evaluation and what healing cannot see.

What belongs here: from reports to fields. Which fields there are, and which must be told, is
`model_card`.
"""

from fraud_platform.calibration import Calibration
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.features.spec import spec_digest
from fraud_platform.model import Model
from fraud_platform.model_card import (
    CardCalibration,
    CardData,
    CardFairness,
    CardLineage,
    CardSegment,
    CardSlice,
    FailureMode,
    ModelCard,
)
from fraud_platform.recipe import Recipe
from fraud_platform.segments import Fairness, Segment, SegmentTable
from fraud_platform.training_document import TrainingSetDocument

PURPOSE = (
    "Says how suspicious a card payment is, so that a policy approves it, gives it to a person or "
    "declines it within the payment's own time."
)
LIMITS = (
    "Not for decisions on credit, on prices, or on closing an account: nothing was judged for "
    "these, and the law asks for more where a score leads to them.",
    "Not for payments of another kind than those it was trained on: what it knows is the period "
    "and the parts of the traffic named below.",
    "The score is no probability; the calibration says what it means, on the rows that set the "
    "thresholds.",
    "Frauds that nobody reported within the labels' time count as genuine, in training and in "
    "every figure here.",
)
FAILURE_MODES = (
    FailureMode(
        name="new_fraud",
        what="A new pattern of fraud that changes no input is named late or never (3 of 5 runs of "
        "the healing benchmark); audits and reports tell of it, not the model.",
    ),
    FailureMode(
        name="credential_stuffing",
        what="A burst from stolen accounts is named in 4 of 5 runs, and under the cap costs a "
        "little more than without: its first frauds look like false alarms.",
    ),
    FailureMode(
        name="label_flips",
        what="Wrong verdicts among the labels are not named by healing (0 of 5 runs), and a "
        "retraining learns them.",
    ),
    FailureMode(
        name="scalping",
        what="Bots that buy as customers do are named in 3 of 5 runs; to the model they are "
        "customers.",
    ),
)
"""Names are the scenarios of the healing benchmark; a test holds the counts to its figures."""


def data_of(told: TrainingSetDocument) -> CardData:
    """What a card says of a training set, from its document."""
    first = min(part.first_day for part in told.slices)
    last = max(part.last_day for part in told.slices)
    return CardData(
        as_of=told.as_of.isoformat(),
        period=f"{first} to {last}",
        training_set_digest=told.digest,
        slices=tuple(
            CardSlice(
                name=part.name,
                first_day=f"{part.first_day}",
                last_day=f"{part.last_day}",
                rows=part.rows,
                frauds=part.frauds,
            )
            for part in told.slices
        ),
        left_out=tuple(
            f"{span.rows} payments from {span.since:%Y-%m-%d %H:%M} UTC, because of {span.why}"
            for span in told.left_out
        ),
    )


def data_until(as_of: str, training_set_digest: str) -> CardData:
    """What is still known of a training set whose document is gone."""
    return CardData(as_of=as_of, period=f"up to {as_of}", training_set_digest=training_set_digest)


def lineage_of(
    model: Model,
    report: EvaluationReport,
    run_id: str,
    training_set_digest: str,
    recipe: Recipe | None,
    trees_of: str = "",
) -> CardLineage:
    """The digests of a card."""
    return CardLineage(
        run_id=run_id,
        model_digest=model.digest,
        training_set_digest=training_set_digest,
        judged_rows_digest=report.rows_digest,
        feature_spec_digest=spec_digest(),
        trees_of=trees_of,
        recipe=recipe,
    )


def card_of(
    model: Model,
    report: EvaluationReport,
    calibration: Calibration,
    data: CardData,
    lineage: CardLineage,
    without: tuple[str, ...] = (),
) -> ModelCard:
    """The card of a model that has no version yet, and of which nothing was decided.

    Args:
        model: which.
        report: what it is worth on the test slice.
        calibration: what its scores mean there.
        data: what it learnt from.
        lineage: its digests.
        without: groups of features that it does without.
    """
    return ModelCard(
        library=f"{model.library} {model.library_version}, {model.rounds} trees",
        purpose=PURPOSE,
        limits=LIMITS,
        data=data,
        features=model.feature_names,
        without=without,
        metrics=report.to_dict(),
        groups=tuple(cut.column for cut in report.policy.segments.cuts),
        segments=tuple(_segment(t.column, s) for t in report.segments for s in t.segments),
        unjudged=report.missing_segments,
        fairness=tuple(map(_fairness, report.segments)),
        calibration=_calibration(calibration, report),
        failure_modes=FAILURE_MODES,
        lineage=lineage,
    )


def _segment(column: str, found: Segment) -> CardSegment:
    rate = found.false_positive_rate
    return CardSegment(
        column=column,
        name=found.name,
        rows=found.review.rows,
        frauds=found.review.frauds,
        recall=None if found.recall is None else found.recall.estimate,
        false_positive_rate=None if rate is None else rate.estimate,
    )


def _fairness(table: SegmentTable) -> CardFairness:
    return CardFairness(
        column=table.column,
        verdict=table.verdict.value,
        gaps=tuple(
            part.name
            for part in table.segments
            if Fairness.GAP in (part.fpr_ratio.verdict, part.decline_ratio.verdict)
        ),
    )


def _calibration(found: Calibration, report: EvaluationReport) -> CardCalibration:
    stated = report.reliability
    return CardCalibration(
        frauds=found.frauds,
        genuine=found.genuine,
        states_probability=bool(found.knots),
        expected_calibration_error=None if stated is None else stated.expected_calibration_error,
        brier=None if stated is None else stated.brier,
        slope=None if stated is None else stated.slope,
    )
