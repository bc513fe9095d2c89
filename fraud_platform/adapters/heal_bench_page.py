"""What the scenario benchmark shows to people: promises, causes, and what each policy was worth."""

from collections.abc import Iterator, Sequence

from fraud_platform.adapters.page import Page, Table
from fraud_platform.adapters.svg_bars import Bars
from fraud_platform.adapters.svg_chart import Axis, Chart, Line
from fraud_platform.heal_bench.measures import against_nothing
from fraud_platform.heal_bench.report import (
    NAMES,
    TOLD,
    BenchReport,
    by_scenario,
    confusion,
    headline,
)
from fraud_platform.heal_bench.results import Policy, RunResult

_BOUND = 0.05
_HOURS = 6
_IN_ONE_PICTURE = 12


def bench_page(report: BenchReport) -> str:
    """The report as a self-contained HTML document."""
    return Page(
        title="Healing, by injected faults",
        paragraphs=[report.premises()],
        tables=[
            Table(*made) for made in (headline(report), confusion(report), by_scenario(report))
        ],
        charts=[*_windows(report), *_money(report)],
    ).html()


def headline_markdown(report: BenchReport) -> str:
    """The promises alone as Markdown, for Dagster's metadata."""
    return Page("", [report.premises()], [Table(*headline(report))], [*_windows(report)]).markdown()


def _windows(report: BenchReport) -> Iterator[Chart]:
    """False positive rate over time under the incident's drift, one picture per scenario."""
    for name in report.scenarios:
        lines = []
        for style, policy in enumerate(TOLD):
            runs = [run for run in report.of(policy, name) if run.window_fprs]
            if runs:
                lines.append(_over_time(NAMES[policy], runs, style))
        if not lines:
            continue
        days = max(line.x[-1] for line in lines)
        top = max(max(line.high) for line in lines)
        lines.append(Line("", (0.0, days), (_BOUND, _BOUND), style=2))
        yield Chart(
            f"False positive rate, {name}",
            f"By windows of {_HOURS} hours from the onset on: mean of the seeds, and in the band "
            f"their lowest and highest. The line across is {_BOUND:.0%}.",
            Axis("days since the onset", 0.0, days),
            Axis("share of legitimate payments disturbed", 0.0, max(top, 2 * _BOUND) * 1.05),
            tuple(lines),
        )


def _over_time(name: str, runs: Sequence[RunResult], style: int) -> Line:
    together = list(zip(*(run.window_fprs for run in runs), strict=False))
    return Line(
        name,
        [(place + 1) * _HOURS / 24 for place in range(len(together))],
        [sum(values) / len(values) for values in together],
        [min(values) for values in together],
        [max(values) for values in together],
        # The third style is dotted, which is the bound's.
        style if style < 2 else style + 1,
    )


def _money(report: BenchReport) -> Iterator[Bars]:
    """What each policy saved of the cost of doing nothing, the oracle beside them."""
    policies = (Policy.DIAGNOSIS, Policy.RETRAIN_ON_DRIFT, Policy.ORACLE)
    groups = [
        (name, [against_nothing(report.of(policy, name)).value for policy in policies])
        for name in report.scenarios
    ]
    for first in range(0, len(groups), _IN_ONE_PICTURE):
        yield Bars(
            "Money saved, share of the cost of doing nothing",
            "By scenario: missed fraud, false blocks and reviews. To the left of the line a policy "
            "costs more than doing nothing.",
            tuple(NAMES[policy] for policy in policies),
            groups[first : first + _IN_ONE_PICTURE],
        )
