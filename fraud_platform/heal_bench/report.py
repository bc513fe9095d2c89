"""What the scenario benchmark has found, for people: tables of texts, and the README's headline.

What belongs here: choosing what is told. The numbers are `measures`; the page with its pictures is
`adapters.heal_bench_page`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from fraud_platform.heal_bench.figures import Figure, median
from fraud_platform.heal_bench.measures import (
    MEASURES,
    Measure,
    Verdict,
    against_nothing,
    named,
    recovered,
    windows_kept,
)
from fraud_platform.heal_bench.results import Policy, RunResult

TextTable = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...], ...]]
"""Heading, how to read it, names of the columns, rows of texts."""

TOLD = (Policy.DIAGNOSIS, Policy.RETRAIN_ON_DRIFT, Policy.NONE)
"""The policies side by side; the oracle is the scale."""

NAMES: Mapping[str, str] = {
    Policy.DIAGNOSIS: "healing by diagnosis",
    Policy.RETRAIN_ON_DRIFT: "retrain on drift",
    Policy.NONE: "do nothing",
    Policy.ORACLE: "oracle",
}
"""Policy -> what people call it."""

_NOTHING = "-"


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark as it was run.

    Attributes:
        commit: of the code that ran, and `+` where files differed from it.
        form: `full` or `fast`.
        note: which seeds thresholds were chosen on, and what else one must know.
        results: every run.
    """

    commit: str
    form: str
    note: str
    results: tuple[RunResult, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that was run, ascending."""
        return tuple(sorted({run.seed for run in self.results}))

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Every scenario, in the order in which they were run."""
        return tuple(dict.fromkeys(run.scenario for run in self.results))

    def of(self, policy: str, scenario: str | None = None) -> tuple[RunResult, ...]:
        """The runs of one policy, of all scenarios or of one."""
        return tuple(
            run for run in self.results if run.policy == policy and scenario in (None, run.scenario)
        )

    def premises(self) -> str:
        """One sentence: what was run, and how."""
        return (
            f"{len(self.scenarios)} scenarios, seeds {', '.join(map(str, self.seeds))}, the same "
            f"payments for every policy, {self.form} form, code {self.commit}. {self.note}"
        )


def headline(report: BenchReport) -> TextTable:
    """Every measure of every policy, beside its goal."""
    rows = []
    for measure in MEASURES:
        figures = [measure.figure(policy, report.of(policy)) for policy in TOLD]
        told = [figure_text(figure, measure.form) for figure in figures]
        rows.append((measure.text, goal_text(measure), *told, str(measure.verdict(figures[0]))))
    return (
        "Promises and figures",
        "In brackets 90 % intervals: exact for counts, over seeds for shares of money and of "
        "windows. The last column judges the first policy.",
        ("measure", "goal", *(NAMES[policy] for policy in TOLD), "goal is"),
        tuple(rows),
    )


def verdicts(report: BenchReport) -> Mapping[str, Verdict]:
    """Measure with a goal -> whether healing by diagnosis meets it."""
    runs = report.of(Policy.DIAGNOSIS)
    judged = {m.name: m.verdict(m.figure(Policy.DIAGNOSIS, runs)) for m in MEASURES}
    return {name: verdict for name, verdict in judged.items() if verdict is not Verdict.NO_GOAL}


def by_scenario(report: BenchReport) -> TextTable:
    """One row per scenario: what healing by diagnosis did, and what both were worth."""
    return (
        "By scenario",
        "Of healing by diagnosis; delays are median payments from the onset on. Money is the share "
        "of what is recoverable, or, with a sign, of the cost of doing nothing where nothing is.",
        (
            "scenario",
            "right cause",
            "named",
            "detection",
            "first aid",
            "healed",
            "wrong / forbidden",
            "windows > 5 %",
            "money",
            "money, retrain on drift",
            "acts / pages per run",
        ),
        tuple(_scenario_row(report, name) for name in report.scenarios),
    )


def _scenario_row(report: BenchReport, name: str) -> tuple[str, ...]:
    runs = report.of(Policy.DIAGNOSIS, name)
    count = max(len(runs), 1)
    over = windows_kept(runs).value
    return (
        name,
        ", ".join(sorted({run.truth_cause for run in runs})),
        f"{sum(run.diagnosed == run.truth_cause for run in runs)} of {len(runs)}",
        figure_text(median([run.detection_transactions for run in runs]), ",.0f"),
        figure_text(median([run.first_aid_transactions for run in runs]), ",.0f"),
        figure_text(median([run.healed_transactions for run in runs]), ",.0f"),
        f"{sum(run.wrong for run in runs)} / {sum(run.forbidden for run in runs)}",
        _NOTHING if over is None else f"{1.0 - over:.1%}",
        _money(runs),
        _money(report.of(Policy.RETRAIN_ON_DRIFT, name)),
        f"{sum(run.actions for run in runs) / count:.1f} / "
        f"{sum(run.pages for run in runs) / count:.1f}",
    )


def _money(runs: Sequence[RunResult]) -> str:
    share = recovered(runs)
    if share.value is not None:
        return figure_text(share, ".0%")
    return figure_text(against_nothing(runs), "+.1%")


def confusion(report: BenchReport) -> TextTable:
    """True cause by what was named first, counted in runs of healing by diagnosis."""
    runs = report.of(Policy.DIAGNOSIS)
    counts = Counter((run.truth_cause, _named_first(run)) for run in runs)
    truths = sorted({truth for truth, _ in counts})
    answers = sorted({answer for _, answer in counts} | set(truths) - {"healthy"})
    return (
        "Named causes",
        f"Rows: what was true. Columns: what was named first; {_NONE_NAMED}: nothing was. "
        "Of the runs with a clear harm, the right cause was named in "
        f"{figure_text(named(runs), '.1%')}.",
        ("true cause", *answers),
        tuple(
            (truth, *(str(counts[truth, answer] or "") for answer in answers)) for truth in truths
        ),
    )


_NONE_NAMED = "none"


def _named_first(run: RunResult) -> str:
    return run.diagnosed or _NONE_NAMED


def goal_text(measure: Measure) -> str:
    """A goal in words; empty where there is none."""
    if measure.at_most is not None:
        return f"<= {measure.at_most:{measure.form}}"
    return "" if measure.at_least is None else f">= {measure.at_least:{measure.form}}"


def figure_text(figure: Figure, form: str) -> str:
    """A figure and its interval in words.

    Examples:
        >>> figure_text(Figure(value=0.972, low=0.95, high=0.985, count=40), ".1%")
        '97.2% (95.0% to 98.5%)'
        >>> figure_text(Figure(value=math.inf, count=3), ",.0f"), figure_text(Figure(), ".1%")
        ('never', '-')
    """
    if figure.value is None:
        return _NOTHING
    if math.isinf(figure.value):
        return "never"
    told = f"{figure.value:{form}}"
    if figure.low is None or figure.high is None:
        return told
    return f"{told} ({figure.low:{form}} to {figure.high:{form}})"


def markdown_table(table: TextTable) -> str:
    """A table of plain texts as Markdown, without its heading.

    Examples:
        >>> print(markdown_table(("", "", ("measure", "goal"), (("FPR", "<= 5 %"),))))
        | measure | goal |
        |---|---|
        | FPR | <= 5 % |
    """
    _, _, header, rows = table
    lines = [header, *rows]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    body.insert(1, "|" + "---|" * len(header))
    return "\n".join(body)


def readme_block(report: BenchReport) -> str:
    """The headline as the README shows it."""
    return f"{markdown_table(headline(report))}\n\n{report.premises()}"
