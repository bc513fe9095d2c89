"""The champion: the version that decides, and the catalogue of what it looks at."""

import time
from dataclasses import dataclass

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING, MODEL_RISK
from assets.candidates import trainer_of
from assets.evaluation import Comparison
from assets.timing import DAILY, WHEN_UPSTREAM_IS_SOUND
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.feature_store import FeatureStore
from fraud_platform.adapters.heal_runs import ACT_TAG, why_not_finished
from fraud_platform.adapters.model_bundle import Bundle, load_bundle
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.errors import BundleIntegrityError, NoChampionError, NotReadyError
from fraud_platform.promotion import PromotionVerdict
from fraud_platform.promotion_gates import PromotionAnswer
from fraud_platform.settings import Settings


@dataclass(frozen=True)
class Reign:
    """Who decides after one gate, and whether that is new."""

    version: str
    previous_version: str | None
    was_promoted: bool


@dataclass(frozen=True, kw_only=True)
class Following:
    """What the gates said of a version.

    Attributes:
        version: that was judged.
        replacing: whom the registry named champion then, or None.
        verdict: of the gates.
        evidence: digest of what the verdict rests on.
        by: who moves it.
        trainer: who started the run; of a bundle that names its own, that one counts.
    """

    version: str
    replacing: str | None
    verdict: PromotionVerdict
    evidence: str
    by: str
    trainer: str = ""


@dataclass(frozen=True)
class Catalogue:
    """What Feast lists after one champion, and how many entities got new values."""

    champion_version: str
    features: int
    pushed_rows: dict[str, int]


@dg.asset(
    partitions_def=DAILY,
    kinds={"mlflow"},
    owners=[MODEL_RISK],
)
def champion(
    context: dg.AssetExecutionContext,
    model_comparison: Comparison,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Reign]:
    """The version that scorers serve, moved only by the gates' verdict, or proposed to a person.

    The alias moves in the registry, the bundle is published to scorers, and each swaps in memory.
    """
    require_wanted(context, settings)
    proposal = follow(_judged(model_comparison, context.run, settings), registry, settings)
    reigning = _reigning(model_comparison, registry)
    version = reigning.manifest.version
    return dg.MaterializeResult(
        value=Reign(
            version,
            model_comparison.champion_version,
            version != model_comparison.champion_version,
        ),
        metadata={
            "fraud/champion_version": version,
            "fraud/previous_version": model_comparison.champion_version or "none",
            "fraud/verdict": model_comparison.verdict.answer.value,
            "fraud/waits_for_approval": proposal,
            "fraud/model_digest": reigning.manifest.model_digest,
            "fraud/average_precision": reigning.manifest.report["average_precision"],
        },
    )


def require_wanted(context: dg.AssetExecutionContext, settings: Settings) -> None:
    """Nothing may be learnt while healing froze it, nor for an act that is over.

    Raises:
        NotReadyError: it is so.
    """
    if frozen := why_frozen(settings.orders_path):
        raise NotReadyError(f"found that {frozen}", hint="wait until healing thaws it")
    act_id = context.run.tags.get(ACT_TAG)
    if over := why_not_finished(settings.heal_ledger_path, act_id, time.time_ns() // 1000):
        raise NotReadyError(f"found that {over}", hint="`fraud-platform heal status` says more")


def _judged(comparison: Comparison, run: dg.DagsterRun, settings: Settings) -> Following:
    return Following(
        version=comparison.challenger_version,
        replacing=comparison.replacing,
        verdict=comparison.verdict,
        evidence=comparison.digest(),
        by=f"dagster run {run.run_id}",
        trainer=trainer_of(run, settings),
    )


def follow(judged: Following, registry: ModelRegistry, settings: Settings) -> str | None:
    """Do as the gates say; the digest of what is proposed, if a person must approve it.

    Where a rollout is wanted, its first cards are all that a promotion gives to a challenger.
    """
    answer, version, replacing = judged.verdict.answer, judged.version, judged.replacing
    why = " ".join(judged.verdict.reasons)
    mandate = Mandate(
        by=judged.by, why=why, evidence=judged.evidence, origin=judged.by, trainer=judged.trainer
    )
    if answer is PromotionAnswer.REJECT:
        registry.dismiss(version, mandate)
        return None
    if answer is PromotionAnswer.SHADOW_ONLY:
        # Finishes a move that was killed on its way, for which this verdict is no reason.
        registry.publish(Mandate(by=judged.by))
        return None
    if registry.docket.rules().is_required:
        wider = judged.verdict.is_wider
        return registry.propose(version, mandate, replacing=replacing, is_wider=wider)
    if settings.rollout.is_on and replacing and registry.alias("champion") == replacing:
        registry.set_challenger(version, mandate)
        share = read_deployment(settings.models_dir).canary_share  # a repeated run takes none away
        registry.set_canary(max(share, settings.rollout.steps[0]), mandate)
    else:
        registry.promote(version, mandate, replacing=replacing)
    return None


def _reigning(comparison: Comparison, registry: ModelRegistry) -> Bundle:
    found = registry.champion()
    if found is None:
        raise NoChampionError(
            f"found no champion, the gate said: {' '.join(comparison.verdict.reasons)}",
            hint="approve a proposal (`fraud-platform models show`), or look at model_comparison: "
            "more or better labels may be needed",
        )
    return found


@dg.asset_check(asset=champion, partitions_def=DAILY, blocking=True)
def champion_passes_its_golden_rows(
    champion: Reign, registry: dg.ResourceParam[ModelRegistry]
) -> dg.AssetCheckResult:
    """The published bundle is intact, the champion's, and scores its golden rows to the bit."""
    pointer = read_deployment(registry.models_dir).champion
    problem = "nothing is published"
    if pointer is not None:
        try:
            published = load_bundle(registry.models_dir / pointer.path)
            problem = "" if published.manifest.version == champion.version else "another version"
        except BundleIntegrityError as error:
            problem = error.message
    return dg.AssetCheckResult(
        passed=not problem, metadata={"version": champion.version, "problem": problem or "none"}
    )


@dg.asset(
    partitions_def=DAILY,
    automation_condition=WHEN_UPSTREAM_IS_SOUND,
    kinds={"feast"},
    owners=[DATA_ENGINEERING],
)
def feature_catalogue(
    champion: Reign,
    transaction_features: pl.DataFrame,
    feature_store: dg.ResourceParam[FeatureStore],
) -> dg.MaterializeResult[Catalogue]:
    """Feast's view of the features: entities, views, one service per champion, newest batch values.

    For people and batch consumers; it follows the champion by itself, and no decision waits for it.
    """
    listed = feature_store.apply(champion.version)
    pushed = feature_store.push(transaction_features)
    found = Catalogue(champion.version, listed, pushed)
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fraud/champion_version": champion.version,
            "fraud/features": listed,
            "fraud/pushed_rows": pushed,
        },
    )
