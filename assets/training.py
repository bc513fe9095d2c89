"""From mature labels to candidates: the training set, one model per library, the challenger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets import MODEL_RISK
from assets.candidates import (
    DOCUMENT,
    Candidate,
    documented,
    evidence,
    judged,
    lineage,
    train_fallbacks,
    trainer_of,
)
from assets.checks import judge
from assets.timing import (
    DAILY,
    LOOKBACK_DAYS,
    MATURITY_DAYS,
    SPAN_DAYS,
    day_of,
    days_back,
    end_of,
)
from fraud_platform import training_set as training_sets
from fraud_platform.adapters.approved_moves import propose_fallbacks
from fraud_platform.adapters.evaluation_page import evaluation_markdown
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.adapters.model_roles import CHAMPION
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.adapters.study_store import StudyStore
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import NotReadyError
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.events import moment_of
from fraud_platform.features.engines import compute_by
from fraud_platform.heal.doubt import Spans, in_doubt, outside
from fraud_platform.leaks import look_for_leaks
from fraud_platform.model import Model, fit, study_key
from fraud_platform.search import Trial
from fraud_platform.settings import Settings
from fraud_platform.training_document import LeftOut, TrainingSetDocument, document


@dataclass(frozen=True)
class Challenger:
    """The registered candidate that asks to become champion."""

    version: str
    library: str
    run_id: str
    report: EvaluationReport


@dg.asset(
    partitions_def=DAILY,
    ins={
        "transaction_features": dg.AssetIn(
            partition_mapping=days_back(MATURITY_DAYS + SPAN_DAYS - 1, MATURITY_DAYS)
        ),
        "mature_labels": dg.AssetIn(partition_mapping=days_back(SPAN_DAYS - 1)),
        "validated_transactions": dg.AssetIn(
            partition_mapping=days_back(MATURITY_DAYS + SPAN_DAYS - 1, MATURITY_DAYS)
        ),
    },
    kinds={"polars", "parquet"},
    owners=[MODEL_RISK],
)
def training_set(
    context: dg.AssetExecutionContext,
    transaction_features: pl.DataFrame,
    mature_labels: pl.DataFrame,
    validated_transactions: pl.DataFrame,
    tables: dg.ResourceParam[Tables],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Features and truth as known on this day, cut by time into train, delay and test.

    One row per transaction whose label came of age; nothing younger is in it, and nothing of the
    time when the heal ledger says that an input was broken. Beside the rows a document says what
    they were made of, and what was left out.
    """
    if frozen := why_frozen(settings.orders_path):
        raise NotReadyError(f"found that {frozen}", hint="wait until healing thaws it")
    day, spans = day_of(context.partition_key), HealLedger(settings.heal_ledger_path).doubtful()
    inputs = {
        "transaction_features": transaction_features,
        "mature_labels": mature_labels,
        "validated_transactions": validated_transactions,
    }
    rows, told = _made(inputs, spans, end_of(day), settings)
    tables.write_document(DOCUMENT, day, told)
    return dg.MaterializeResult(
        value=rows.with_columns(partition_day=pl.lit(day)), metadata=_shown(told)
    )


@dg.asset_check(
    asset=training_set,
    partitions_def=DAILY,
    blocking=True,
)
def no_training_label_is_from_the_future(
    context: dg.AssetCheckExecutionContext,
    training_set: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
) -> dg.AssetCheckResult:
    """Every fraud of the set has a verdict that the log knew by the end of the set's day."""
    as_of = end_of(day_of(context.partition_key))
    known = event_log.labels(as_of - timedelta(days=MATURITY_DAYS + SPAN_DAYS), as_of).filter(
        pl.col("verdict") == "fraud"
    )
    frauds = training_set.filter("is_fraud")
    unknown = frauds.join(known, on="transaction_id", how="anti")
    return judge(context, lambda _: unknown.height)


@dg.asset_check(asset=training_set, partitions_def=DAILY, blocking=True)
def the_training_set_leaks_nothing(
    context: dg.AssetCheckExecutionContext,
    training_set: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Nothing in the set knows the label or the future: six kinds of leak are looked for."""
    # Dagster gives a check the tables of its own day only.
    tables, days = Tables(settings.tables_dir), _history(day_of(context.partition_key))
    found = look_for_leaks(
        training_set,
        tables.read("validated_transactions", days),
        tables.read("labels", days),
        compute=compute_by(settings.feature_engine),
        policy=settings.leaks,
    )
    judged = judge(context, lambda _: len(found.alarms))
    alarms = [alarm.to_text() for alarm in found.alarms]
    return dg.AssetCheckResult(
        passed=judged.passed,
        metadata={**judged.metadata, "alarms": alarms, "largest": found.largest},
    )


@dg.asset(
    partitions_def=DAILY,
    kinds={"xgboost", "mlflow"},
    owners=[MODEL_RISK],
)
def xgboost_model(
    context: dg.AssetExecutionContext,
    training_set: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
    mlflow: dg.ResourceParam[Any],
) -> dg.MaterializeResult[Candidate]:
    """Gradient-boosted trees by XGBoost, parameters searched, judged on the test slice."""
    return _trained(
        "xgboost",
        training_set,
        registry,
        settings,
        _of_run(context, training_set, settings, mlflow),
    )


@dg.asset(
    partitions_def=DAILY,
    kinds={"lightgbm", "mlflow"},
    owners=[MODEL_RISK],
)
def lightgbm_model(
    context: dg.AssetExecutionContext,
    training_set: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
    mlflow: dg.ResourceParam[Any],
) -> dg.MaterializeResult[Candidate]:
    """Gradient-boosted trees by LightGBM, parameters searched, judged on the test slice."""
    return _trained(
        "lightgbm",
        training_set,
        registry,
        settings,
        _of_run(context, training_set, settings, mlflow),
    )


@dg.asset(partitions_def=DAILY, kinds={"mlflow"}, owners=[MODEL_RISK])
def challenger(
    context: dg.AssetExecutionContext,
    training_set: pl.DataFrame,
    xgboost_model: Candidate,
    lightgbm_model: Candidate,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Challenger]:
    """The candidate with the higher average precision, registered and sealed as a bundle.

    It carries golden rows, which every scorer must score to the same bits before it serves.
    """
    day = day_of(context.partition_key)
    best = max(xgboost_model, lightgbm_model, key=lambda c: c.report.average_precision)
    digest = documented(day, training_set, settings)
    facts = lineage(best, end_of(day).isoformat(), digest, settings)
    shown = evidence(best, training_set, facts, settings)
    version = registry.register(best.model, facts, shown)
    registry.set_challenger(version)
    return dg.MaterializeResult(
        value=Challenger(version, best.model.library, best.run_id, best.report),
        metadata={
            "fraud/version": version,
            "fraud/library": best.model.library,
            "fraud/model_digest": best.model.digest,
            "fraud/average_precision": best.report.average_precision,
            "mlflow/run_id": best.run_id,
        },
    )


@dataclass(frozen=True)
class Fallbacks:
    """What stands in for one challenger, should it become champion.

    Attributes:
        challenger: its version.
        versions: the fallbacks' versions by what each does without.
    """

    challenger: str
    versions: dict[str, str]


@dg.asset(partitions_def=DAILY, kinds={"mlflow"}, owners=[MODEL_RISK])
def fallback_models(  # noqa: PLR0913 -- what an asset reads are its arguments
    context: dg.AssetExecutionContext,
    training_set: pl.DataFrame,
    xgboost_model: Candidate,
    lightgbm_model: Candidate,
    challenger: Challenger,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Fallbacks]:
    """Models that do without groups of features, for when these are not to be trusted.

    The challenger's library and parameters on the same rows, with nothing known of the groups; no
    search. Scorers get them with the challenger, once it is champion.
    """
    day = day_of(context.partition_key)
    best = xgboost_model if challenger.library == "xgboost" else lightgbm_model
    provenance = Provenance(
        training_set_digest=documented(day, training_set, settings),
        trained_as_of=end_of(day).isoformat(),
        code_commit=settings.code_commit,
        dagster_run_id=context.run.run_id,
        parent_run_id=challenger.run_id,
    )
    version = challenger.version
    versions = train_fallbacks(best, version, training_set, registry, provenance, settings)
    _stand_by(registry, version, Mandate(by=f"dagster run {context.run.run_id}"))
    return dg.MaterializeResult(
        value=Fallbacks(version, versions), metadata={"fraud/versions": versions}
    )


def _stand_by(registry: ModelRegistry, version: str, mandate: Mandate) -> None:
    """Give new fallbacks to the scorers of a champion, and ask for their approval where needed."""
    if registry.usable(CHAMPION)[1] is None:  # a damaged champion is to be replaced, not published
        registry.publish(mandate)
    if registry.docket.rules().is_required:
        propose_fallbacks(registry, version, mandate)


@dataclass(frozen=True)
class _Run:
    """The Dagster and the MLflow run of a training, what it learns from, and who wants it."""

    as_of: str
    training_set_digest: str
    dagster_run_id: str
    mlflow_run_id: str
    trained_by: str


def _of_run(
    context: dg.AssetExecutionContext, rows: pl.DataFrame, settings: Settings, mlflow: Any
) -> _Run:
    day = day_of(context.partition_key)
    digest = documented(day, rows, settings)
    return _Run(
        as_of=end_of(day).isoformat(),
        training_set_digest=digest,
        dagster_run_id=context.run.run_id,
        mlflow_run_id=mlflow.active_run().info.run_id,
        trained_by=trainer_of(context.run, settings),
    )


def _history(day: date) -> list[date]:
    """What the windows of the test slice look back on, and all that was said about it since."""
    back = LOOKBACK_DAYS + MATURITY_DAYS + SPAN_DAYS
    return [day - timedelta(days=age) for age in range(back, -1, -1)]


def _made(
    inputs: Mapping[str, pl.DataFrame], spans: Spans, as_of: datetime, settings: Settings
) -> tuple[pl.DataFrame, TrainingSetDocument]:
    """The rows of a training set, and the document that describes them."""
    labels = inputs["mature_labels"]
    known = {**inputs, "mature_labels": outside(labels, spans)}
    rows = training_sets.build(*known.values(), as_of=as_of, policy=settings.training)
    told = document(
        rows,
        inputs,
        as_of=as_of,
        training=settings.training,
        labels=settings.labels,
        left_out=_left_out(labels, spans),
    )
    return rows, told


def _left_out(mature_labels: pl.DataFrame, spans: Spans) -> tuple[LeftOut, ...]:
    """What the document says of the labels that spans in doubt keep out."""
    return tuple(
        LeftOut(
            why=span.cause,
            since=moment_of(span.since_us),
            until=None if span.until_us is None else moment_of(span.until_us),
            rows=rows,
        )
        for span, rows in in_doubt(mature_labels, spans).items()
    )


def _shown(told: TrainingSetDocument) -> dict[str, Any]:
    """The document's headlines, and its digest."""
    return {
        "dagster/row_count": sum(part.rows for part in told.slices),
        "fraud/rows_by_slice": {part.name: part.rows for part in told.slices},
        "fraud/effective_rows_by_slice": {
            part.name: part.effective_sample_size for part in told.slices
        },
        "fraud/frauds": sum(part.frauds for part in told.slices),
        "fraud/left_out_in_doubt": sum(part.rows for part in told.left_out),
        "fraud/training_set_digest": told.digest,
        "fraud/feature_spec_digest": told.feature_spec_digest,
    }


def _trained(
    library: str, rows: pl.DataFrame, registry: ModelRegistry, settings: Settings, run: _Run
) -> dg.MaterializeResult[Candidate]:
    """Fit one library's model, judge it on the test slice and record both in MLflow."""
    model, trials = _fitted(library, rows, settings, run.training_set_digest)
    is_cut = len(trials) < settings.model.trials
    report, calibration = judged(model, rows, settings.evaluation, settings.calibration)
    provenance = Provenance(
        training_set_digest=run.training_set_digest,
        trained_as_of=run.as_of,
        code_commit=settings.code_commit,
        dagster_run_id=run.dagster_run_id,
        parent_run_id=run.mlflow_run_id,
        is_search_cut=is_cut,
    )
    run_id = registry.log_training(model, report, provenance, trials)
    return dg.MaterializeResult(
        value=Candidate(model, report, calibration, run_id, run.trained_by),
        metadata={
            "fraud/average_precision": report.average_precision,
            "fraud/auc_roc": report.auc_roc,
            f"fraud/card_precision_at_{report.k}": report.card_precision_at_k,
            "fraud/rounds": model.rounds,
            "fraud/trials": len(trials),
            "fraud/trials_pruned": sum(trial.is_pruned for trial in trials),
            "fraud/is_search_cut": is_cut,
            "fraud/model_digest": model.digest,
            "fraud/calibrated_on_frauds": calibration.frauds,
            "fraud/states_probability": bool(calibration.knots),
            "fraud/evaluation": dg.MetadataValue.md(evaluation_markdown(report, library)),
            "mlflow/run_id": run_id,
        },
    )


def _fitted(
    library: str, rows: pl.DataFrame, settings: Settings, training_set_digest: str
) -> tuple[Model, tuple[Trial, ...]]:
    """The model and the trials behind it; those that an interrupted training made count."""
    key = study_key(library, training_set_digest, settings.model)
    with StudyStore(settings.studies_dir).study(key) as study:
        model = fit(library, rows, settings.model, study)
        return model, study.trials()[: settings.model.trials]
