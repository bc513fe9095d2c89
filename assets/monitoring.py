"""How the champion does on each day: drift, performance, and the diagnosis that heals."""

from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets import MODEL_RISK
from assets.timing import (
    DAILY,
    HEALTH_DAYS,
    MATURITY_DAYS,
    ONE_RUN,
    days_back,
    days_of,
)
from fraud_platform.adapters.drift_page import write_drift_page
from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.model_roles import CHAMPION, PREVIOUS_CHAMPION
from fraud_platform.drift import DRIFT_COLUMNS, measure_by_day
from fraud_platform.features.spec import CALENDAR_NAMES
from fraud_platform.health import Champion, assess, health_frame
from fraud_platform.performance import PERFORMANCE_COLUMNS, outcomes_by_day, undeclined
from fraud_platform.settings import Settings


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"polars", "parquet", "evidently"},
    owners=[MODEL_RISK],
)
def drift_report(
    context: dg.AssetExecutionContext,
    transaction_features: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """PSI and KS of every feature and of the score against the champion's training rows.

    One row per feature and day; days too small to judge have none. For people, Evidently's page of
    the newest day is saved under the reports folder.
    """
    champion, problem = registry.usable(CHAMPION)
    if champion is None:
        return _without_champion({**DRIFT_COLUMNS, "day": pl.Date()}, problem)
    reference = champion.reference().drop(CALENDAR_NAMES)
    scored = champion.model.scored(transaction_features)
    found = measure_by_day(reference, scored, settings.drift)
    for (day,), rows in found.group_by("day"):
        context.add_asset_metadata(_drift_metadata(rows), partition_key=str(day))
    page = _drift_page(found, reference, scored, settings)
    return dg.MaterializeResult(
        value=found.with_columns(partition_day="day"),
        metadata={"fraud/champion_version": champion.manifest.version, "fraud/page": page},
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    ins={"transaction_features": dg.AssetIn(partition_mapping=days_back(MATURITY_DAYS))},
    kinds={"polars", "parquet"},
    owners=[MODEL_RISK],
)
def performance_report(
    context: dg.AssetExecutionContext,
    transaction_features: pl.DataFrame,
    mature_labels: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Alerts of the champion on the day's payments, and its hits and misses on those come of age.

    Hits and misses leave out what the champion declines: no label would tell. Counts only, every
    rate follows from them. One row per day for the champion, and one for the previous champion on
    the same rows: would it have done better?
    """
    champion, problem = registry.usable(CHAMPION)
    if champion is None:
        return _without_champion(PERFORMANCE_COLUMNS, problem)
    previous, problem = registry.usable(PREVIOUS_CHAMPION)
    found = _outcomes(champion, previous, transaction_features, mature_labels)
    wanted = found.filter(pl.col("day").is_in(days_of(list(context.partition_keys))))
    for row in wanted.filter(pl.col("model_version") == champion.manifest.version).to_dicts():
        day = str(row.pop("day"))
        context.add_asset_metadata({f"fraud/{k}": v for k, v in row.items()}, partition_key=day)
    return dg.MaterializeResult(
        value=wanted.with_columns(partition_day="day"), metadata={"fraud/champion_problem": problem}
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    ins={"performance_report": dg.AssetIn(partition_mapping=days_back(HEALTH_DAYS - 1))},
    kinds={"polars", "parquet"},
    owners=[MODEL_RISK],
)
def health_report(
    context: dg.AssetExecutionContext,
    drift_report: pl.DataFrame,
    performance_report: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """The diagnosis of each day, by labels that came of age, with its facts, one row per day.

    Healing itself looks every few seconds (sensor `heal`) and takes this for what only days tell.
    """
    champion, problem = registry.usable(CHAMPION)
    previous, previous_problem = registry.usable(PREVIOUS_CHAMPION)
    expected = _expected(champion, previous)
    policies = (settings.drift, settings.health)
    reports = [
        assess(day, drift_report, performance_report, expected, policies)
        for day in days_of(list(context.partition_keys))
    ]
    for report in reports:
        context.add_asset_metadata(
            {
                "fraud/cause": report.cause,
                "fraud/champion_version": report.facts.champion_version or "none",
                "fraud/report": dg.MetadataValue.md(report.to_markdown()),
            },
            partition_key=str(report.day),
        )
    return dg.MaterializeResult(
        value=health_frame(reports).with_columns(partition_day="day"),
        metadata={"fraud/champion_problem": problem or previous_problem},
    )


def _outcomes(
    champion: Bundle, previous: Bundle | None, features: pl.DataFrame, labels: pl.DataFrame
) -> pl.DataFrame:
    """What both would have done, judged on the payments that the champion does not decline."""
    judged = [bundle for bundle in (champion, previous) if bundle is not None]
    scores = [bundle.model.scored(features) for bundle in judged]
    known = undeclined(scores[0], labels, decline=champion.manifest.decline_threshold)
    return pl.concat(
        outcomes_by_day(
            scored,
            known,
            version=bundle.manifest.version,
            review=bundle.manifest.review_threshold,
        )
        for bundle, scored in zip(judged, scores, strict=True)
    )


def _expected(champion: Bundle | None, previous: Bundle | None) -> Champion | None:
    """What the champion promised on its own test rows."""
    if champion is None:
        return None
    manifest = champion.manifest
    return Champion(
        version=manifest.version,
        alert_rate=manifest.report["alert_rate"],
        recall=manifest.report.get("review_recall"),
        trained_on=date.fromisoformat(manifest.trained_as_of[:10]) - timedelta(days=1),
        previous_version=None if previous is None else previous.manifest.version,
    )


def _without_champion(
    columns: dict[str, pl.DataType], problem: str | None
) -> dg.MaterializeResult[pl.DataFrame]:
    return dg.MaterializeResult(
        value=pl.DataFrame(schema=columns).with_columns(partition_day="day"),
        metadata={"fraud/champion_version": "none", "fraud/champion_problem": problem},
    )


def _drift_metadata(rows: pl.DataFrame) -> dict[str, object]:
    """The numbers of one day, and its features as a table, worst first."""
    table = "\n".join(
        f"| {r['feature']} | {r['psi']:.3f} | {r['ks']:.3f} | {r['null_share']:.1%} |"
        for r in rows.iter_rows(named=True)
    )
    return {
        "fraud/max_psi": rows["psi"].max(),
        "fraud/drifted_feature": rows["feature"][0],
        "fraud/drift": dg.MetadataValue.md(
            f"| feature | PSI | KS | null |\n|---|--:|--:|--:|\n{table}"
        ),
    }


def _drift_page(
    found: pl.DataFrame, reference: pl.DataFrame, scored: pl.DataFrame, settings: Settings
) -> dg.MetadataValue:
    """Save Evidently's page of the newest measured day and link it."""
    if found.is_empty():
        return dg.MetadataValue.text(f"no day has {settings.drift.min_rows} transactions")
    newest = found["day"].to_list()[-1]
    path = settings.reports_dir.resolve() / "drift" / f"{newest}.html"
    rows = scored.filter(pl.col("event_timestamp").dt.date() == newest)
    return dg.MetadataValue.path(write_drift_page(reference, rows, path))
