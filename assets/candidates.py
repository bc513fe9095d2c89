"""What every model that is trained here is made into: judged, calibrated, with golden rows.

No assets are declared here; `training` does that.
"""

from dataclasses import dataclass, replace
from datetime import date

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform import fallbacks
from fraud_platform.adapters.model_bundle import Evidence, Lineage
from fraud_platform.adapters.model_cards import card_for
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.adapters.operator import person_of_key
from fraud_platform.adapters.reproduction_run import recipe_here
from fraud_platform.adapters.tables import Tables
from fraud_platform.calibration import (
    Calibration,
    CalibrationPolicy,
    calibrate,
    held_out_probabilities,
)
from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport, evaluate
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Model, matrix, refit
from fraud_platform.settings import Settings
from fraud_platform.training_document import TABLE, TrainingSetDocument

_GOLDEN_ROWS = 256
_REFERENCE_ROWS = 5_000
_ROUNDS_DIVISOR = 2
"""With half of the trees a fallback catches as much (recall at 5 % FPR on the demonstration's data:
0.75 for 0.73 without money, 0.76 for 0.76 without its history, 0.89 for 0.88 without context), and
there are several to fit in every training."""
DOCUMENT = TABLE
STARTED_BY_TAG = "fraud/started_by"
"""Tag of a run: the person who started it, and who therefore cannot approve its model."""


@dataclass(frozen=True)
class Candidate:
    """A trained model, what it and its scores are worth on the test slice, the run, and whose."""

    model: Model
    report: EvaluationReport
    calibration: Calibration
    run_id: str
    trained_by: str = ""


def trainer_of(run: dg.DagsterRun, settings: Settings) -> str:
    """Who trains in a run: whoever's key it runs under, else whom its tag names, else the run.

    A tag is what somebody says of themselves; a key proves it.
    """
    tag = run.tags.get(STARTED_BY_TAG, "").strip()
    return person_of_key(settings) or tag or f"dagster run {run.run_id}"


def documented(day: date, rows: pl.DataFrame, settings: Settings) -> str:
    """Digest of the document that describes exactly these rows."""
    tables = Tables(settings.tables_dir)
    return tables.read_document(DOCUMENT, day, TrainingSetDocument).require(rows)


def judged(
    model: Model, rows: pl.DataFrame, policy: EvaluationPolicy, meaning: CalibrationPolicy
) -> tuple[EvaluationReport, Calibration]:
    """What the model is worth on the test slice, and what its scores mean there."""
    scored = model.scored(rows.filter(pl.col("slice") == "test"))
    return evaluate(_stated(scored, meaning), policy), _calibrated(scored, meaning)


def _fallback_of(
    best: Candidate,
    rows: pl.DataFrame,
    registry: ModelRegistry,
    provenance: Provenance,
    settings: Settings,
) -> Candidate:
    """The candidate's library and parameters on its train rows without some groups, recorded.

    The test rows keep what is in those columns: the model does not look at it.

    Args:
        best: the candidate.
        rows: the training set.
        registry: where the training is recorded.
        provenance: of the training; its `without` says which groups.
        settings: policies of the fit and of the evaluation.
    """
    train = fallbacks.without(rows.filter(pl.col("slice") == "train"), provenance.without)
    known = best.model
    rounds = -(-known.rounds // _ROUNDS_DIVISOR)
    model = refit(known.library, train, known.parameters, rounds, settings.model)
    # No intervals: a fallback is compared with nothing, and they cost more than the fit.
    policy = replace(settings.evaluation, draws=0)
    report, calibration = judged(model, rows, policy, settings.calibration)
    run_id = registry.log_training(model, report, provenance)
    return Candidate(model, report, calibration, run_id)


def train_fallbacks(
    best: Candidate,
    version: str,
    rows: pl.DataFrame,
    registry: ModelRegistry,
    provenance: Provenance,
    settings: Settings,
) -> dict[str, str]:
    """Train and register what stands in for a candidate; what is there already stays.

    Returns:
        The fallbacks' versions by what each does without.
    """
    versions = {name: fallbacks.fallback_version(version, name) for name in fallbacks.FALLBACKS}
    for name, its_version in versions.items():
        if (registry.models_dir / its_version).exists():
            continue
        told = replace(provenance, without=fallbacks.FALLBACKS[name])
        found = _fallback_of(best, rows, registry, told, settings)
        origin = (told.trained_as_of, told.training_set_digest)
        facts = lineage(found, *origin, settings, told.without)
        shown = evidence(found, rows, facts, settings)
        registry.register_fallback(its_version, found.model, facts, shown)
    return versions


def lineage(
    found: Candidate,
    trained_as_of: str,
    training_set_digest: str,
    settings: Settings,
    without: tuple[str, ...] = (),
) -> Lineage:
    """The candidate's part of its bundle's manifest."""
    return Lineage(
        review_threshold=found.report.review_threshold,
        decline_threshold=found.report.decline_threshold,
        trained_as_of=trained_as_of,
        training_set_digest=training_set_digest,
        run_id=found.run_id,
        report=found.report.to_dict(),
        alert_rate_by_hour=found.report.alert_rate_by_hour,
        without=without,
        recipe=recipe_here(settings),
        trained_by=found.trained_by,
    )


def evidence(found: Candidate, rows: pl.DataFrame, facts: Lineage, settings: Settings) -> Evidence:
    """What the candidate's bundle holds beside the model."""
    return Evidence(
        calibration=found.calibration,
        golden=_golden(rows),
        reference=_reference(rows),
        card=card_for(settings, found.model, found.report, found.calibration, facts),
    )


def _stated(scored: pl.DataFrame, policy: CalibrationPolicy) -> pl.DataFrame:
    """With each row's probability as a calibration of other cards' rows states it."""
    stated = held_out_probabilities(
        scored["is_fraud"].to_numpy(),
        scored["score"].to_numpy(),
        scored["card_id"].rank("dense").to_numpy().astype(np.int64),
        policy,
    )
    if stated is None:
        return scored
    return scored.with_columns(pl.Series("probability", stated))


def _calibrated(scored: pl.DataFrame, policy: CalibrationPolicy) -> Calibration:
    """Fitted on the rows that set the thresholds, so both speak of the same genuine payments."""
    return calibrate(
        scored["is_fraud"].to_numpy(),
        scored["score"].to_numpy(),
        policy,
        scored["weight"].to_numpy() if (scored["weight"] != 1.0).any() else None,
    )


def _golden(rows: pl.DataFrame) -> NDArray[np.float64]:
    return matrix(rows.filter(pl.col("slice") == "test").head(_GOLDEN_ROWS), FEATURE_NAMES)


def _reference(rows: pl.DataFrame) -> pl.DataFrame:
    """An even sample of the train rows: every n-th, so the same set gives the same sample."""
    train = rows.filter(pl.col("slice") == "train").select(FEATURE_NAMES)
    return train.gather_every(max(1, train.height // _REFERENCE_ROWS))
