"""Champion and challenger on the same rows."""

from dataclasses import dataclass

import dagster as dg
import polars as pl

from assets import MODEL_RISK
from assets.timing import DAILY
from assets.training import Challenger
from fraud_platform.adapters.model_registry import CHAMPION, ModelRegistry
from fraud_platform.evaluation import EvaluationReport, evaluate
from fraud_platform.promotion import PromotionVerdict, judge
from fraud_platform.settings import Settings


@dataclass(frozen=True)
class Comparison:
    """Both reports on the same rows, and what the gate says."""

    challenger_version: str
    champion_version: str | None
    challenger: EvaluationReport
    champion: EvaluationReport | None
    verdict: PromotionVerdict
    champion_problem: str | None = None
    """Why the champion could not be loaded and the challenger was judged without it."""

    def to_markdown(self) -> str:
        """Both sides and the verdict, for a person."""
        reasons = "\n".join(f"* {reason}" for reason in self.verdict.reasons)
        sides = [f"#### challenger {self.challenger_version}\n\n{self.challenger.to_markdown()}"]
        if self.champion is not None:
            sides.append(f"#### champion {self.champion_version}\n\n{self.champion.to_markdown()}")
        if self.champion_problem is not None:
            sides.append(f"#### no champion to compare with\n\n{self.champion_problem}")
        return f"**{self.verdict.answer}**\n\n{reasons}\n\n" + "\n".join(sides)


@dg.asset(partitions_def=DAILY, kinds={"polars"}, owners=[MODEL_RISK])
def model_comparison(
    training_set: pl.DataFrame,
    challenger: Challenger,
    registry: dg.ResourceParam[ModelRegistry],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Comparison]:
    """The challenger's and the champion's report on the same test rows, and the gate's verdict.

    A champion that this code cannot load has no report: the challenger is judged like a first one.
    """
    test = training_set.filter(pl.col("slice") == "test")
    champion, problem = registry.usable(CHAMPION)
    report = evaluate(registry.bundle(challenger.version).model.scored(test), settings.evaluation)
    against = (
        None if champion is None else evaluate(champion.model.scored(test), settings.evaluation)
    )
    found = Comparison(
        challenger.version,
        None if champion is None else champion.manifest.version,
        report,
        against,
        judge(report, against, settings.promotion),
        problem,
    )
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fraud/verdict": found.verdict.answer.value,
            "fraud/challenger_average_precision": report.average_precision,
            "fraud/champion_average_precision": against.average_precision if against else None,
            "fraud/champion_problem": problem,
            "fraud/comparison": dg.MetadataValue.md(found.to_markdown()),
        },
    )
