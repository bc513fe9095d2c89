"""The champion: the version that decides."""

from dataclasses import dataclass

import dagster as dg

from assets import MODEL_RISK
from assets.evaluation import Comparison
from assets.timing import DAILY
from fraud_platform.adapters.model_bundle import load_bundle, read_pointer
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.errors import BundleIntegrityError, NoChampionError
from fraud_platform.promotion import PromotionAnswer


@dataclass(frozen=True)
class Reign:
    """Who decides after one gate, and whether that is new."""

    version: str
    previous_version: str | None
    was_promoted: bool


@dg.asset(
    partitions_def=DAILY,
    kinds={"mlflow"},
    owners=[MODEL_RISK],
)
def champion(
    model_comparison: Comparison, registry: dg.ResourceParam[ModelRegistry]
) -> dg.MaterializeResult[Reign]:
    """The version that scorers serve, moved only by the gate's verdict.

    The alias moves in the registry, the bundle is published to scorers, and each swaps in memory.
    """
    if model_comparison.verdict.answer is PromotionAnswer.PROMOTE:
        registry.promote(model_comparison.challenger_version)
    else:
        registry.publish()  # heals a move that was killed between alias and pointer
    reigning = registry.champion()
    if reigning is None:
        raise NoChampionError(
            f"found no champion, the gate said: {' '.join(model_comparison.verdict.reasons)}",
            hint="look at model_comparison; more or better labels may be needed",
        )
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
            "fraud/model_digest": reigning.manifest.model_digest,
            "fraud/average_precision": reigning.manifest.report["average_precision"],
        },
    )


@dg.asset_check(asset=champion, partitions_def=DAILY, blocking=True)
def champion_passes_its_golden_rows(
    champion: Reign, registry: dg.ResourceParam[ModelRegistry]
) -> dg.AssetCheckResult:
    """The published bundle is intact, the champion's, and scores its golden rows to the bit."""
    pointer = read_pointer(registry.models_dir)
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
