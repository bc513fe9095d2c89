"""Champion and challenger on the same rows."""

import hashlib
from dataclasses import dataclass

import dagster as dg
import polars as pl

from assets import MODEL_RISK
from assets.timing import DAILY, day_of, days_back, end_of
from assets.training import Challenger
from fraud_platform.adapters.evaluation_page import comparison_markdown
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.adapters.model_contest import Ground, newest_payments, rivals
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.model_roles import CHAMPION
from fraud_platform.adapters.page import Table
from fraud_platform.errors import BundleIntegrityError
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.promotion import Bar, PromotionVerdict, judge
from fraud_platform.promotion_gates import ArtifactFacts
from fraud_platform.recipe import why_unclean
from fraud_platform.settings import Settings


@dataclass(frozen=True)
class Comparison:
    """Both reports on the same rows, and what the gates say."""

    challenger_version: str
    champion_version: str | None
    challenger: EvaluationReport
    champion: EvaluationReport | None
    verdict: PromotionVerdict
    champion_problem: str | None = None
    """Why the champion could not be loaded and the challenger was judged without it."""
    replacing: str | None = None
    """Whom the registry named champion then, whether it could be loaded or not."""

    def digest(self) -> str:
        """SHA-256 of who was compared, on which rows, and what every gate found."""
        told = (
            self.challenger_version,
            self.champion_version,
            self.challenger.rows_digest,
            self.verdict.digest(),
        )
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def to_markdown(self) -> str:
        """The gates, and both reports side by side with their plots, for a person."""
        problem = () if self.champion_problem is None else (self.champion_problem,)
        return comparison_markdown(
            self.challenger,
            self.champion,
            names=(f"version {self.challenger_version}", f"version {self.champion_version}"),
            verdict=(f"Answer: {self.verdict.answer}.", *self.verdict.reasons, *problem),
            tables=(
                Table(
                    "Gates",
                    "",
                    ("gate", "outcome", "reason"),
                    tuple((g.name, str(g.outcome), g.reason) for g in self.verdict.gates),
                ),
            ),
        )


@dg.asset(
    partitions_def=DAILY,
    ins={"transaction_features": dg.AssetIn(partition_mapping=days_back(1))},
    kinds={"polars"},
    owners=[MODEL_RISK],
)
def model_comparison(  # noqa: PLR0913 -- what an asset reads are its arguments
    context: dg.AssetExecutionContext,
    training_set: pl.DataFrame,
    challenger: Challenger,
    transaction_features: pl.DataFrame,
    registry: dg.ResourceParam[ModelRegistry],
    event_log: dg.ResourceParam[EventLog],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Comparison]:
    """The challenger against the champion: the same mature rows, the same newest payments.

    Payments of the time when an input was broken are among neither.
    A champion that this code cannot load has no report: the challenger is judged like a first one.
    """
    as_of = end_of(day_of(context.partition_key))
    spans = HealLedger(settings.heal_ledger_path).doubtful()
    newest = newest_payments(event_log, transaction_features, as_of, settings.promotion, spans)
    found = _compared(challenger, Ground(training_set, newest, as_of), registry, settings)
    against = found.champion
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fraud/verdict": found.verdict.answer.value,
            "fraud/gates": {gate.name: gate.outcome.value for gate in found.verdict.gates},
            "fraud/comparison_digest": found.digest(),
            "fraud/challenger_average_precision": found.challenger.average_precision,
            "fraud/champion_average_precision": against.average_precision if against else None,
            "fraud/champion_problem": found.champion_problem,
            "fraud/comparison": dg.MetadataValue.md(found.to_markdown()),
        },
    )


def _compared(
    asking: Challenger, ground: Ground, registry: ModelRegistry, settings: Settings
) -> Comparison:
    replacing = registry.alias(CHAMPION)
    champion, problem = registry.usable(CHAMPION)
    challenger, artifact = _loaded(registry, asking.version, settings)
    against = None
    if champion is not None and challenger is not None:
        against = rivals(challenger, champion, ground, settings.evaluation)
    bar = Bar(
        policy=settings.promotion,
        point=settings.evaluation,
        maturity_days=settings.labels.maturity_days,
    )
    return Comparison(
        asking.version,
        None if champion is None else champion.manifest.version,
        asking.report,
        None if against is None else against.report,
        judge(artifact, asking.report, against, bar),
        problem,
        replacing,
    )


def _loaded(
    registry: ModelRegistry, version: str, settings: Settings
) -> tuple[Bundle | None, ArtifactFacts]:
    """The challenger's bundle, or why it is refused."""
    try:
        bundle = registry.bundle(version)
    except BundleIntegrityError as error:
        return None, ArtifactFacts(problem=error.message, golden_rows=0)
    unclean = (
        why_unclean(bundle.manifest.recipe) if settings.promotion.clean_code_required else None
    )
    return bundle, ArtifactFacts(problem=unclean, golden_rows=len(bundle.golden))
