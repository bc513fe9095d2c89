"""What healing sees, signal by signal, and the champion with cuts of what is known now."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets import MODEL_RISK
from assets.promotion import Following, follow
from assets.signals import LIVE_HEALTH, numbers, passes, severity, spec_of
from assets.timing import DAILY, MATURITY_DAYS, day_of, days_back, end_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_evidence import gather
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_runs import ACT_TAG, why_not_finished
from fraud_platform.adapters.model_bundle import Bundle, Evidence, Lineage
from fraud_platform.adapters.model_contest import alerts, newest_payments
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.errors import NoChampionError, NotReadyError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.heal.doubt import outside
from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.harm import HarmPolicy
from fraud_platform.model import matrix
from fraud_platform.promotion import PromotionVerdict, judge_cuts
from fraud_platform.promotion_gates import ArtifactFacts
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.recalibration import KNOWN_DAYS, Refreshed, judged_rows, recalibrated
from fraud_platform.settings import Settings

NEWEST = timedelta(days=1)
"""Age of the newest payments, whose share of disturbed ones bounds the cuts."""

live_health = dg.AssetSpec(
    LIVE_HEALTH,
    description="How the platform is right now, one check per signal. The sensor heal reports what "
    "changed and writes every diagnosis and remedy to the heal ledger.",
    owners=[MODEL_RISK],
    kinds={"python"},
)


@dg.multi_asset_check(specs=[spec_of(signal) for signal in Signal])
def every_signal_is_well(
    settings: dg.ResourceParam[Settings], event_log: dg.ResourceParam[EventLog]
) -> Iterator[dg.AssetCheckResult]:
    """Look at every signal now, and do nothing about it."""
    spans = HealLedger(settings.heal_ledger_path).doubtful()
    evidence = gather(settings, event_log, time.time_ns() // 1000, spans)
    if evidence is None:
        raise NotReadyError(
            "found no champion, or no payment: no signal can be told",
            hint="the label sensor trains the first model when enough labels came of age",
        )
    for signal in Signal:
        reading = evidence.reading(signal)
        yield dg.AssetCheckResult(
            asset_key=LIVE_HEALTH,
            check_name=signal.value,
            passed=passes(reading),
            severity=severity(signal),
            metadata=numbers(reading),
        )


@dataclass(frozen=True)
class Refresh:
    """A champion with new cuts, the version that it is made of, and what the gates say of it."""

    version: str
    replaced_version: str
    review_threshold: float
    decline_threshold: float
    verdict: PromotionVerdict


@dg.asset(
    partitions_def=DAILY,
    ins={
        "transaction_features": dg.AssetIn(
            partition_mapping=days_back(MATURITY_DAYS + KNOWN_DAYS - 1)
        ),
        "mature_labels": dg.AssetIn(partition_mapping=days_back(KNOWN_DAYS - 1)),
        "labels": dg.AssetIn(partition_mapping=days_back(MATURITY_DAYS)),
    },
    kinds={"mlflow", "polars"},
    owners=[MODEL_RISK],
)
def recalibrated_champion(  # noqa: PLR0913 -- what an asset reads are its arguments
    context: dg.AssetExecutionContext,
    transaction_features: pl.DataFrame,
    mature_labels: pl.DataFrame,
    labels: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    event_log: dg.ResourceParam[EventLog],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Refresh]:
    """The champion's trees with probabilities and cuts of the newest judged payments.

    Judged are payments whose labels came of age, and younger ones that somebody looked at. The
    version is registered, verified by its golden rows, and both versions meet on the newest
    payments; only then does it follow the champion it was made of, as any promotion does. The
    fallbacks of its trees stand in for it.
    """
    champion = _to_recalibrate(registry, settings)
    as_of = end_of(day_of(context.partition_key))
    spans = HealLedger(settings.heal_ledger_path).doubtful()
    features = outside(transaction_features, spans)
    judged = judged_rows(features, mature_labels, labels)
    fresh = _refreshed(champion, judged, features, as_of, settings)
    _require_wanted(context, settings)  # fitting takes its time
    version = _registered(champion, fresh, as_of, context.run.run_id, registry, settings)
    newest = newest_payments(
        event_log, _since(features, as_of - 2 * NEWEST), as_of, settings.promotion, spans
    )
    mature = matrix(judged.filter("is_mature"), FEATURE_NAMES)
    verdict = _judged(champion, registry.bundle(version), newest, mature, settings.promotion)
    found = Refresh(version, champion.manifest.version, fresh.review, fresh.decline, verdict)
    proposal = follow(
        Following(
            version=version,
            replacing=champion.manifest.version,
            verdict=verdict,
            evidence=verdict.digest(),
            by=f"dagster run {context.run.run_id}",
        ),
        registry,
        settings,
    )
    return dg.MaterializeResult(value=found, metadata=_shown(found, fresh, registry, proposal))


def _to_recalibrate(registry: ModelRegistry, settings: Settings) -> Bundle:
    if frozen := why_frozen(settings.orders_path):
        raise NotReadyError(f"found that {frozen}", hint="wait until healing thaws it")
    if (champion := registry.champion()) is None:
        raise NoChampionError("found no champion to recalibrate", hint="train a model first")
    return champion


def _refreshed(
    champion: Bundle,
    judged: pl.DataFrame,
    features: pl.DataFrame,
    as_of: datetime,
    settings: Settings,
) -> Refreshed:
    """New maps, whose cuts disturb no more than the champion may."""
    newest = _since(features, as_of - NEWEST)
    return recalibrated(
        champion.model.scored(judged),
        champion.model.scored(newest)["score"].to_numpy(),
        settings.evaluation,
        settings.calibration,
        _borne(champion),
    )


def _since(features: pl.DataFrame, start: datetime) -> pl.DataFrame:
    return features.filter(pl.col("event_timestamp") >= start)


def _borne(champion: Bundle) -> float:
    """Largest share of payments that it may disturb without harm."""
    return HarmPolicy().max_rise * float(champion.manifest.report.get("alert_rate", 1.0))


def _judged(
    champion: Bundle,
    fresh: Bundle,
    newest: NDArray[np.float64],
    mature: NDArray[np.float64],
    policy: PromotionPolicy,
) -> PromotionVerdict:
    """What the gates say of both on the same payments, without labels and with."""
    return judge_cuts(
        ArtifactFacts(problem=None, golden_rows=len(fresh.golden)),
        alerts(fresh, champion, newest),
        alerts(fresh, champion, mature),
        _borne(champion),
        policy,
    )


def _shown(
    found: Refresh, fresh: Refreshed, registry: ModelRegistry, proposal: str | None
) -> dict[str, Any]:
    return {
        "fraud/verdict": found.verdict.answer.value,
        "fraud/gates": {gate.name: gate.outcome.value for gate in found.verdict.gates},
        "fraud/reasons": list(found.verdict.reasons),
        "fraud/waits_for_approval": proposal,
        "fraud/champion_version": registry.alias("champion"),
        "fraud/version": found.version,
        "fraud/replaced_version": found.replaced_version,
        "fraud/review_threshold": fresh.review,
        "fraud/decline_threshold": fresh.decline,
        "fraud/disturbed_share": fresh.disturbed,
        "fraud/calibrated_on_frauds": fresh.calibration.frauds,
    }


def _require_wanted(context: dg.AssetExecutionContext, settings: Settings) -> None:
    act_id = context.run.tags.get(ACT_TAG)
    if over := why_not_finished(settings.heal_ledger_path, act_id, time.time_ns() // 1000):
        raise NotReadyError(f"found that {over}", hint="`fraud-platform heal status` says more")


def _registered(
    champion: Bundle,
    fresh: Refreshed,
    as_of: datetime,
    run_id: str,
    registry: ModelRegistry,
    settings: Settings,
) -> str:
    """The version, with a run of its own in the registry."""
    manifest = champion.manifest
    provenance = Provenance(
        training_set_digest=manifest.training_set_digest,
        trained_as_of=as_of.isoformat(),
        code_commit=settings.code_commit,
        dagster_run_id=run_id,
    )
    lineage = Lineage(
        review_threshold=fresh.review,
        decline_threshold=fresh.decline,
        trained_as_of=as_of.isoformat(),
        training_set_digest=manifest.training_set_digest,
        run_id=registry.log_training(champion.model, fresh.report, provenance),
        report={**fresh.report.to_dict(), "alert_rate": fresh.disturbed},
        trees_of=manifest.trees_of or manifest.version,
        alert_rate_by_hour=fresh.disturbed_by_hour,
    )
    evidence = Evidence(
        calibration=fresh.calibration,
        golden=champion.golden,
        reference=champion.reference().drop("score"),
    )
    return registry.register(champion.model, lineage, evidence)
