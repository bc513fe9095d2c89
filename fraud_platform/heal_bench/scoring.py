"""From what a policy did in a run to the numbers that are told of it.

What belongs here: measuring against the truth. What the numbers mean is `results`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fraud_platform.heal.actions import VERBS, Action
from fraud_platform.heal.causes import BLIND, HEALTHY, UNKNOWN
from fraud_platform.heal.evidence import TIERS, Signal, Tier
from fraud_platform.heal.records import Kind
from fraud_platform.heal_bench.baselines import Answer
from fraud_platform.heal_bench.dealt import Dealt, costs, exploration_minor
from fraud_platform.heal_bench.faults import Scenario
from fraud_platform.heal_bench.loop import Journal
from fraud_platform.heal_bench.results import Policy, RunResult
from fraud_platform.heal_bench.stage import Stage
from fraud_platform.heal_bench.world import Bools, Floats

MAX_FPR = 0.05
_NEAR = 1.05
_STEPS_PER_CHECK = 4
_NOBODY_NOTICES = frozenset({Action.OBSERVE, Action.PAGE})
_UNDOES = frozenset(verb.inverse for verb in VERBS.values() if verb.inverse is not None)
_WELL = frozenset({HEALTHY, "benign_shift"})


@dataclass(frozen=True)
class Deeds:
    """What a policy noticed, said and did, each with the row at which it happened.

    Attributes:
        noticed: that something is wrong.
        named: causes.
        acted: acts that were done.
        held: the governor held.
        retrains: trainings begun.
        pages: times that a person was called.
    """

    noticed: tuple[int, ...] = ()
    named: tuple[tuple[int, str], ...] = ()
    acted: tuple[tuple[int, Action], ...] = ()
    held: tuple[int, ...] = ()
    retrains: tuple[int, ...] = ()
    pages: int = 0


@dataclass(frozen=True)
class Bill:
    """Costs of the payments of one run, minor units, shape (n,) each."""

    none: Floats
    oracle: Floats


@dataclass(frozen=True)
class Scored:
    """A stage with what does not depend on the policy."""

    scenario: Scenario
    stage: Stage
    bill: Bill = field(repr=False)

    def result(self, policy: Policy, dealt: Dealt, deeds: Deeds, cpu: float = 0.0) -> RunResult:
        """The numbers of one policy.

        Args:
            policy: who decided.
            dealt: the decisions.
            deeds: what it did.
            cpu: processor seconds that it took.
        """
        stage, scenario, first = self.stage, self.scenario, self.stage.onset
        cost = costs(stage, dealt)
        fprs = window_fprs(stage, dealt.blocked, stage.draft.ground.size.check)
        acts = [action for _, action in deeds.acted if action not in _NOBODY_NOTICES]
        innocent = stage.draft.takeover is not None and stage.draft.takeover.is_innocent
        return RunResult(
            scenario=scenario.name,
            seed=stage.draft.ground.seed,
            severity=stage.draft.severity,
            onset="ramp" if stage.draft.is_ramp else "abrupt",
            policy=policy,
            truth_cause=scenario.cause,
            harmful=scenario.harmful,
            diagnosed=_name([cause for row, cause in deeds.named if row >= first]),
            detection_transactions=_after(deeds.noticed, first),
            first_aid_transactions=_after(_aid(deeds), first),
            healed_transactions=healed(
                cost[first:], self.bill.oracle[first:], stage.draft.ground.size.check
            ),
            remedies=tuple(str(action) for action in dict.fromkeys(acts)),
            wrong=sum(self._is_wrong(row, action) for row, action in deeds.acted),
            forbidden=sum(
                row >= first and action in scenario.forbidden for row, action in deeds.acted
            ),
            windows=len(fprs),
            windows_over=sum(fpr > MAX_FPR for fpr in fprs),
            worst_window_fpr=max(fprs, default=0.0),
            window_fprs=fprs,
            false_alarms=self._false_alarms(deeds),
            healthy_days=self._healthy_days(),
            canaries=int(innocent),
            canaries_rolled_back=int(innocent and Action.ROLL_BACK in acts),
            cost_minor=round(float(cost[first:].sum())),
            oracle_cost_minor=round(float(self.bill.oracle[first:].sum())),
            none_cost_minor=round(float(self.bill.none[first:].sum())),
            exploration_minor=round(exploration_minor(stage, dealt, first)),
            pages=deeds.pages,
            actions=len(acts),
            retrains=len(deeds.retrains),
            cpu_seconds=cpu,
        )

    def _is_wrong(self, row: int, action: Action) -> bool:
        """Neither allowed nor forbidden; taking something back is never wrong by itself."""
        if action in _UNDOES:
            return False
        if row < self.stage.onset:
            return action not in _ALWAYS_RIGHT
        return not self.scenario.allows(action) and action not in self.scenario.forbidden

    def _false_alarms(self, deeds: Deeds) -> int:
        """Episodes and trainings while nothing was wrong."""
        until = self.stage.rows if self.scenario.is_control else self.stage.onset
        named = sum(row < until and cause not in _WELL for row, cause in deeds.named)
        return named + sum(row < until for row in deeds.retrains)

    def _healthy_days(self) -> float:
        stage = self.stage
        last = stage.rows - 1 if self.scenario.is_control else stage.onset
        span_us = stage.arrived_us[min(last, stage.rows - 1)] - stage.arrived_us[0]
        return float(span_us) / 86_400e6


_ALWAYS_RIGHT = frozenset({Action.OBSERVE, Action.PAGE, Action.FREEZE_LEARNING})


def _name(causes: Sequence[str]) -> str | None:
    """The first cause of a harm that was named, else what else was said first.

    `unknown` is no name, and that nobody is harmed is true while a fault still grows; how late a
    name comes is told by the delays.
    """
    said = [cause for cause in causes if cause != BLIND]
    names = [cause for cause in said if cause not in _WELL | {UNKNOWN}]
    return next(iter(names + said), None)


def deeds_of(journal: Journal, onset: int) -> Deeds:
    """What healing did, from its ledger.

    What was breached just before the onset is no detection, however long it lasts; an episode that
    begins is one, whatever it rests on.
    """
    told = [(row, signal) for row, signal in journal.harmed if _tier(signal) != Tier.ATTRIBUTION]
    last = max((row for row, _ in told if row <= onset), default=-1)
    stale = {signal for row, signal in told if row == last and onset - row < 1_000}
    noticed = [row for row, signal in told if row < onset or signal not in stale]
    done = [
        (row, record.act.action)
        for row, record in journal.records
        if record.kind is Kind.DONE and record.act is not None
    ]
    named = [(row, r.cause) for row, r in journal.records if r.kind is Kind.DIAGNOSED]
    noticed += [row for row, cause in named if cause not in _WELL]
    return Deeds(
        noticed=tuple(sorted(noticed)),
        named=tuple(named),
        acted=tuple(done),
        held=tuple(journal.held),
        retrains=tuple(journal.retrains),
        pages=journal.pages,
    )


def deeds_of_recipe(answer: Answer) -> Deeds:
    """What the public recipe did: it names nothing, and its only act is to train."""
    return Deeds(
        noticed=answer.alarms,
        acted=tuple((row, Action.RETRAIN) for row in answer.retrains),
        retrains=answer.retrains,
    )


def window_fprs(stage: Stage, blocked: Bools, check: int) -> tuple[float, ...]:
    """Share of the genuine payments of each whole check after the onset that were blocked.

    A check is as many payments as come in 6 hours of a mean day, so that nights are not judged by
    a handful of them.
    """
    found = []
    for begin in range(stage.onset, stage.rows - check + 1, check):
        rows = slice(begin, begin + check)
        genuine = ~stage.is_fraud[rows] & stage.counts[rows]
        found.append(float(blocked[rows][genuine].mean()))
    return tuple(found)


def healed(cost: Floats, oracle: Floats, check: int) -> int | None:
    """Payments until the cost of a whole check is within 5 % of the oracle's, or None.

    Args:
        cost: of each payment after the onset.
        oracle: the oracle's.
        check: payments of a check.

    Examples:
        >>> import numpy as np
        >>> oracle = np.ones(12)
        >>> healed(np.array([9.0] * 4 + [1.0] * 8), oracle, check=4)
        4
        >>> healed(np.full(12, 9.0), oracle, check=4) is None
        True
    """
    for begin in range(0, cost.size - check + 1, max(1, check // _STEPS_PER_CHECK)):
        rows = slice(begin, begin + check)
        if cost[rows].sum() <= _NEAR * oracle[rows].sum():
            return begin
    return None


def _after(rows: Iterable[int], onset: int) -> int | None:
    return next((row - onset for row in sorted(rows) if row >= onset), None)


def _aid(deeds: Deeds) -> Sequence[int]:
    quiet = _NOBODY_NOTICES | {Action.FREEZE_LEARNING} | _UNDOES
    return [row for row, action in deeds.acted if action not in quiet] + list(deeds.held)


def _tier(signal: str) -> Tier:
    return TIERS[Signal(signal)]
