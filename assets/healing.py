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
from assets.promotion import Following, follow, require_wanted
from assets.signals import LIVE_HEALTH, numbers, passes, severity, spec_of
from assets.timing import DAILY, MATURITY_DAYS, day_of, days_back, end_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_evidence import gather
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.model_bundle import Bundle, Evidence, Lineage
from fraud_platform.adapters.model_cards import card_for
from fraud_platform.adapters.model_contest import alerts, newest_payments
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.errors import NoChampionError, NotReadyError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.heal.doubt import Spans, outside
from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.harm import HarmPolicy
from fraud_platform.model import matrix
from fraud_platform.promotion import PromotionVerdict, judge_cuts
from fraud_platform.promotion_gates import ArtifactFacts
from fraud_platform.recalibration import KNOWN_DAYS, Refreshed, judged_rows, recalibrated
from fraud_platform.settings import Settings

NEWEST = timedelta(days=1)
"""Age of the newest payments, whose share of disturbed ones bounds the cuts."""
_REPLAYED = 2 * NEWEST
"""Older payments are of before the harm: new cuts hardly disturb any of them, and they say nothing
of whom these cuts will."""

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
    champion = _to_recalibrate(context, registry, settings)
    spans = HealLedger(settings.heal_ledger_path).doubtful()
    as_of = end_of(day_of(context.partition_key))
    known = _known(transaction_features, mature_labels, labels, spans, as_of)
    fresh = _refreshed(champion, known, settings)
    require_wanted(context, settings)  # fitting takes its time
    version = _registered(champion, fresh, as_of, context.run.run_id, registry, settings)
    newest = newest_payments(
        event_log, known.features, as_of, settings.promotion, spans, within=_REPLAYED
    )
    found = _met(champion, registry.bundle(version), fresh, newest, known.mature, settings)
    return dg.MaterializeResult(
        value=found, metadata=_followed(found, fresh, context.run.run_id, registry, settings)
    )


@dataclass(frozen=True)
class _Known:
    """Payments outside of spans in doubt.

    Attributes:
        features: all of them.
        judged: those whose truth is known, with it.
        as_of: end of the newest day, UTC.
    """

    features: pl.DataFrame
    judged: pl.DataFrame
    as_of: datetime

    def since(self, age: timedelta) -> pl.DataFrame:
        """The newest of them."""
        return self.features.filter(pl.col("event_timestamp") >= self.as_of - age)

    @property
    def mature(self) -> NDArray[np.float64]:
        """Features of those whose labels came of age; shape (n, k)."""
        return matrix(self.judged.filter("is_mature"), FEATURE_NAMES)


def _known(
    features: pl.DataFrame,
    mature: pl.DataFrame,
    labels: pl.DataFrame,
    spans: Spans,
    as_of: datetime,
) -> _Known:
    sound = outside(features, spans)
    return _Known(sound, judged_rows(sound, mature, labels), as_of)


def _to_recalibrate(
    context: dg.AssetExecutionContext, registry: ModelRegistry, settings: Settings
) -> Bundle:
    require_wanted(context, settings)
    if (champion := registry.champion()) is None:
        raise NoChampionError("found no champion to recalibrate", hint="train a model first")
    return champion


def _refreshed(champion: Bundle, known: _Known, settings: Settings) -> Refreshed:
    """New maps, whose cuts disturb no more than the champion may."""
    return recalibrated(
        champion.model.scored(known.judged),
        champion.model.scored(known.since(NEWEST))["score"].to_numpy(),
        settings.evaluation,
        settings.calibration,
        _borne(champion),
    )


def _borne(champion: Bundle) -> float:
    """Largest share of payments that it may disturb without harm."""
    return HarmPolicy().max_rise * float(champion.manifest.report.get("alert_rate", 1.0))


def _met(
    champion: Bundle,
    bundle: Bundle,
    fresh: Refreshed,
    newest: NDArray[np.float64],
    mature: NDArray[np.float64],
    settings: Settings,
) -> Refresh:
    """Both on the same payments, without labels and with, and what the gates say of it."""
    verdict = judge_cuts(
        ArtifactFacts(problem=None, golden_rows=len(bundle.golden)),
        alerts(bundle, champion, newest),
        alerts(bundle, champion, mature),
        _borne(champion),
        settings.promotion,
    )
    version, replaced = bundle.manifest.version, champion.manifest.version
    return Refresh(version, replaced, fresh.review, fresh.decline, verdict)


def _followed(
    found: Refresh, fresh: Refreshed, run_id: str, registry: ModelRegistry, settings: Settings
) -> dict[str, Any]:
    """Do as the gates say, and what is shown of it."""
    judged = Following(
        version=found.version,
        replacing=found.replaced_version,
        verdict=found.verdict,
        evidence=found.verdict.digest(),
        by=f"dagster run {run_id}",
    )
    proposal = follow(judged, registry, settings)
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
        trained_by=manifest.trained_by,
    )
    evidence = Evidence(
        calibration=fresh.calibration,
        golden=champion.golden,
        reference=champion.reference().drop("score"),
        card=card_for(settings, champion.model, fresh.report, fresh.calibration, lineage),
    )
    return registry.register(champion.model, lineage, evidence)
