"""How well healing heals, by injected faults: started by hand, about no day of yours."""

import dagster as dg

from assets import MODEL_RISK
from fraud_platform.adapters.heal_bench_page import headline_markdown
from fraud_platform.adapters.heal_bench_run import run_bench, write_report
from fraud_platform.heal_bench.report import verdicts
from fraud_platform.settings import Settings


class HealingBenchmarkConfig(dg.Config):
    """What to run; the default takes minutes, all of it hours."""

    fast: bool = True
    """One scenario of each kind, under one seed."""
    seeds: list[int] | None = None
    """Of the worlds; none given: those that no constant was chosen on."""
    processes: int = 1
    """At a time."""


@dg.asset(kinds={"polars"}, owners=[MODEL_RISK])
def healing_benchmark(
    context: dg.AssetExecutionContext,
    config: HealingBenchmarkConfig,
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Faults in simulated worlds, healed by diagnosis, by retraining on drift, and by nobody.

    Says what the promises of healing are worth with the policy that is shipped. Needs nothing of
    the other assets, and nothing waits for it; `fraud-platform heal bench` is the same.
    """
    report = run_bench(
        is_fast=config.fast,
        seeds=config.seeds or (),
        scenarios=(),
        processes=config.processes,
        told=context.log.info,
    )
    page = write_report(settings.home / "benchmarks", report)
    return dg.MaterializeResult(
        metadata={
            "fraud/promises": dg.MetadataValue.md(headline_markdown(report)),
            "fraud/page": dg.MetadataValue.path(page),
            "fraud/code_commit": report.commit,
            **{f"fraud/{name}": str(verdict) for name, verdict in verdicts(report).items()},
        }
    )
