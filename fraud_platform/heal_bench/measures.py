"""What the scenario benchmark promises: each measure with its goal, and what it is over runs.

What belongs here: numbers of one policy's runs. How they are shown is `report`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from fraud_platform.heal_bench.figures import Figure, mean_ratio, median, rate, share
from fraud_platform.heal_bench.results import Policy, RunResult

Runs = Sequence[RunResult]
"""Of one policy."""

INCIDENT = "incident"
"""Scenarios of the drift that the platform was built against begin with this."""
QUARTER = "quarter_incident"
"""The same drift with a quarter of its payments: a window of the cap is as long as a check."""

_CLEAR = 0.3
"""Severity from which on a cause must be named."""

_WORTH_HEALING = 0.02
"""Share of the cost of doing nothing that must be recoverable: below, shares of it are noise."""


class Verdict(StrEnum):
    """A figure against its goal."""

    MET = "met"
    MISSED = "missed"
    CANNOT_JUDGE = "cannot judge"
    NO_GOAL = ""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number that is told of every policy.

    Attributes:
        name: for programs.
        text: for people.
        form: how a value is written, for `format`.
        of: computes it from the runs of one policy.
        at_most: the goal, where less is better.
        at_least: the goal, where more is better.
        of_others: whether policies that do not diagnose have it, too.
        needs: counts below this cannot meet the goal: a single miss would break it.
    """

    name: str
    text: str
    form: str
    of: Callable[[Runs], Figure]
    at_most: float | None = None
    at_least: float | None = None
    of_others: bool = True
    needs: float = 1

    def figure(self, policy: str, runs: Runs) -> Figure:
        """The number of one policy; without a value where the policy has no such thing."""
        return self.of(runs) if self.of_others or policy == Policy.DIAGNOSIS else Figure()

    def verdict(self, figure: Figure) -> Verdict:
        """A miss is a miss; to meet a goal takes enough to have been able to miss it.

        Examples:
            >>> canaries = Measure(name="", text="", form="", of=_rolled_back, at_most=0.001,
            ...     needs=1_000)
            >>> str(canaries.verdict(share(0, 20))), str(canaries.verdict(share(1, 20)))
            ('cannot judge', 'missed')
        """
        if self.at_most is None and self.at_least is None:
            return Verdict.NO_GOAL
        if figure.value is None:
            return Verdict.CANNOT_JUDGE
        too_much = self.at_most is not None and figure.value > self.at_most
        if too_much or (self.at_least is not None and figure.value < self.at_least):
            return Verdict.MISSED
        return Verdict.MET if figure.count >= self.needs else Verdict.CANNOT_JUDGE


def windows_kept(runs: Runs) -> Figure:
    """Share of 6-hour windows in which at most 5 % of legitimate payments were disturbed."""
    found = _over_seeds(runs, lambda run: run.windows - run.windows_over, lambda run: run.windows)
    return found if found.high is None else replace(found, high=min(found.high, 1.0))


def named(runs: Runs) -> Figure:
    """Share of the runs with a clear harm whose first diagnosis is the truth."""
    clear = [run for run in runs if run.harmful and run.severity >= _CLEAR]
    return share(sum(run.diagnosed == run.truth_cause for run in clear), len(clear))


def recovered(runs: Runs) -> Figure:
    """Share of the recoverable money that was recovered, the mean over scenarios.

    A scenario in which doing nothing costs hardly more than the oracle counts for nothing here.
    """
    by_name = {run.scenario: [r for r in runs if r.scenario == run.scenario] for run in runs}
    worth = [run for name in by_name for run in by_name[name] if _is_worth_healing(by_name[name])]
    return _over_seeds(worth, _saved, lambda run: run.none_cost_minor - run.oracle_cost_minor)


def recovered_together(runs: Runs) -> Figure:
    """The same of all scenarios as one sum: no scenario with little at stake weighs much in it."""
    one = [msgspec.structs.replace(run, scenario="all") for run in _harmful(runs)]
    return _over_seeds(one, _saved, lambda run: run.none_cost_minor - run.oracle_cost_minor)


def against_nothing(runs: Runs) -> Figure:
    """What was saved as a share of what doing nothing costs; negative: it cost more."""
    return _over_seeds(runs, _saved, lambda run: run.none_cost_minor)


def false_alarms(runs: Runs) -> Figure:
    """Episodes or retrainings begun while nothing was wrong, per 30 healthy days."""
    healthy_days = sum(run.healthy_days for run in runs)
    return rate(sum(run.false_alarms for run in runs), healthy_days, per_days=30.0)


def _saved(run: RunResult) -> float:
    return run.none_cost_minor - run.cost_minor


def _is_worth_healing(runs: Runs) -> bool:
    nothing = sum(run.none_cost_minor for run in runs)
    recoverable = nothing - sum(run.oracle_cost_minor for run in runs)
    return all(run.harmful for run in runs) and recoverable >= _WORTH_HEALING * nothing


def _over_seeds(
    runs: Runs, part: Callable[[RunResult], float], whole: Callable[[RunResult], float]
) -> Figure:
    names, seeds = sorted({run.scenario for run in runs}), sorted({run.seed for run in runs})
    parts = [[0.0] * len(seeds) for _ in names]
    wholes = [[0.0] * len(seeds) for _ in names]
    for run in runs:
        at = names.index(run.scenario), seeds.index(run.seed)
        parts[at[0]][at[1]] += part(run)
        wholes[at[0]][at[1]] += whole(run)
    return mean_ratio(parts, wholes)


def _incident(runs: Runs) -> list[RunResult]:
    return [run for run in runs if run.scenario.startswith(INCIDENT)]


def _worst_window(runs: Runs) -> Figure:
    found = _incident(runs)
    if not found:
        return Figure()
    return Figure(value=max(run.worst_window_fpr for run in found), count=len(found))


def _harmful(runs: Runs) -> list[RunResult]:
    return [run for run in runs if run.harmful]


def _rolled_back(runs: Runs) -> Figure:
    return share(sum(run.canaries_rolled_back for run in runs), sum(run.canaries for run in runs))


def _worst_scenario(runs: Runs) -> Figure:
    each = [
        against_nothing([run for run in runs if run.scenario == name])
        for name in sorted({run.scenario for run in runs})
    ]
    return min(
        (found for found in each if found.value is not None),
        key=lambda found: found.value or 0.0,
        default=Figure(),
    )


def _per_run(runs: Runs, count: Callable[[RunResult], int]) -> Figure:
    if not runs:
        return Figure()
    return Figure(value=sum(map(count, runs)) / len(runs), count=len(runs))


MEASURES = (
    Measure(
        name="windows_kept",
        text="incident's drift: 6-hour windows with FPR <= 5 %",
        form=".1%",
        of=lambda runs: windows_kept(_incident(runs)),
        at_least=0.98,
        needs=2,
    ),
    Measure(
        name="windows_kept_quarter",
        text="the same with a quarter of its payments",
        form=".1%",
        of=lambda runs: windows_kept([run for run in runs if run.scenario == QUARTER]),
    ),
    Measure(
        name="worst_window",
        text="incident's drift: highest FPR of a window",
        form=".1%",
        of=_worst_window,
    ),
    Measure(
        name="detection",
        text="harmful fault to detection, median payments",
        form=",.0f",
        of=lambda runs: median([run.detection_transactions for run in _harmful(runs)]),
        at_most=3_000,
        needs=10,
    ),
    Measure(
        name="first_aid",
        text="harmful fault to first aid, median payments",
        form=",.0f",
        of=lambda runs: median([run.first_aid_transactions for run in _harmful(runs)]),
    ),
    Measure(
        name="healed",
        text="harmful fault to healed, median payments",
        form=",.0f",
        of=lambda runs: median([run.healed_transactions for run in _harmful(runs)]),
    ),
    Measure(
        name="named",
        text="cause named right at first (severity >= 0.3)",
        form=".1%",
        of=named,
        at_least=0.9,
        of_others=False,
        needs=10,
    ),
    Measure(
        name="forbidden",
        text="runs with a remedy that the truth forbids",
        form=".1%",
        of=lambda runs: share(sum(run.forbidden > 0 for run in runs), len(runs)),
        at_most=0.01,
        needs=100,
    ),
    Measure(
        name="false_alarms",
        text="false alarms per 30 healthy days",
        form=".2f",
        of=false_alarms,
        at_most=1.0,
        needs=30,
    ),
    Measure(
        name="canaries",
        text="innocent releases rolled back",
        form=".2%",
        of=_rolled_back,
        at_most=0.001,
        needs=1_000,
    ),
    Measure(
        name="recovered",
        text="recoverable money recovered, mean over scenarios",
        form=".0%",
        of=recovered,
        at_least=0.8,
        needs=2,
    ),
    Measure(
        name="recovered_together",
        text="recoverable money recovered, all scenarios in one sum",
        form=".0%",
        of=recovered_together,
    ),
    Measure(
        name="worst_scenario",
        text="worst scenario: money saved, share of the cost of doing nothing",
        form="+.1%",
        of=_worst_scenario,
        at_least=-0.02,
        needs=2,
    ),
    Measure(
        name="pages",
        text="people called, per run",
        form=".1f",
        of=lambda runs: _per_run(runs, lambda run: run.pages),
    ),
    Measure(
        name="retrains",
        text="trainings, per run",
        form=".1f",
        of=lambda runs: _per_run(runs, lambda run: run.retrains),
    ),
)
"""In the order in which they are told. Those with a goal are the promise of the platform."""
