"""Random symptoms, answers, crashes and people: what healing must never do, it never does.

`HEAL_WALKS` sets the number of walks; a night takes ten thousand.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest

from fraud_platform.adapters.heal_policy_file import read_heal_policy
from fraud_platform.heal.actions import VERBS, Action, Level
from fraud_platform.heal.causes import BLIND, CAUSES, EXACT, NAMES
from fraud_platform.heal.controller import Outcome, Plan, answer, decide
from fraud_platform.heal.evidence import Evidence, Signal
from fraud_platform.heal.policy import minutes
from fraud_platform.heal.records import EVERYTHING, PLATFORM, Kind, Record
from fraud_platform.heal.state import DAY_US, START, State, fold, folded
from tests.unit.heal_evidence import evidence

WALKS = int(os.environ.get("HEAL_WALKS", "200"))
TICKS = 60
BATCHES = 10
POLICY = read_heal_policy()
S = Signal
ALONE = [(signal,) for signal in Signal]
FAULTS = [
    (S.UNITS, S.RANGES, S.DISTURBED_RATE, S.FEATURE_SHIFT),
    (S.NULLS, S.DISTURBED_RATE),
    (S.FEATURE_SHIFT, S.DISTURBED_RATE),
    (S.MISSED_FRAUD,),
    (S.REPLAY, S.CHANGE, S.DISTURBED_RATE),
    (S.AUDITED_SURGE, S.CONCENTRATION, S.DISTURBED_RATE),
    (S.VOLUME, S.FEATURE_SHIFT),
    (S.GOLDEN_ROWS, S.DISTURBED_RATE),
    (S.LATENCY, S.CHANGE),
    (S.CLOCK, S.DUPLICATES),
]
FAILURES = {Kind.FAILED, Kind.REFUTED, Kind.RELAPSED}


@dataclass
class Walk:
    """One history: a platform that is watched by nobody but the laws below."""

    rng: np.random.Generator
    records: list[Record] = field(default_factory=list)
    state: State = START
    minute: float = 0.0
    rows: int = 10_000
    faults: list[tuple[Signal, ...]] = field(default_factory=list)
    blind: set[Signal] = field(default_factory=set)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def append(self, record: Record) -> None:
        self.records.append(record)
        self.state = fold(self.state, record)

    def seen(self) -> Evidence:
        """Faults come and go, sight is lost and found, payments pour or trickle."""
        self.minute += float(self.rng.choice([0.1, 1, 5, 30, 240]))
        self.rows += int(self.rng.choice([0, 50, 500, 5_000]))
        if self.chance(0.3):
            known = ALONE if self.chance(0.4) else FAULTS
            self.faults.append(known[self.rng.integers(len(known))])
        self.faults = [fault for fault in self.faults if self.chance(0.85)]
        if self.chance(0.08):
            some = self.rng.choice(
                len(Signal), size=self.rng.integers(1, len(Signal) + 1), replace=False
            )
            self.blind = {list(Signal)[place] for place in some}
        elif self.chance(0.5):
            self.blind = set()
        breached = [signal for fault in self.faults for signal in fault]
        return replace(
            evidence(*breached, blind=self.blind, minute=self.minute, rows=self.rows),
            previous=None if self.chance(0.1) else "2",
            challenger="4" if self.chance(0.3) else None,
            fallbacks=() if self.chance(0.2) else ("money", "context", "fraud_labels"),
            money_per_day=None if self.chance(0.3) else float(self.rng.normal(1_000, 300)),
            learnable_frauds=None if self.chance(0.5) else int(self.rng.integers(0, 2_000)),
        )

    def people(self, now: Evidence) -> None:
        """Approve, in time or not; pause, resume, kill, revive."""
        base = Record(
            kind=Kind.APPROVED, event_us=now.event_us, now_us=now.now_us, rows=now.rows, by="ann"
        )
        for proposal in [*self.state.proposals.values()]:
            told = proposal.record
            if self.chance(0.3):
                self.append(
                    msgspec.structs.replace(
                        base, act=told.act, cause=told.cause, episode=told.episode
                    )
                )
        if self.chance(0.06):
            causes = [*self.state.episodes, EVERYTHING]
            cause = causes[self.rng.integers(len(causes))]
            kind = Kind.PAUSED if self.chance(0.4) else Kind.RESUMED
            self.append(msgspec.structs.replace(base, kind=kind, cause=cause))
        if self.chance(0.03):
            kind = Kind.KILLED if self.chance(0.3) else Kind.REVIVED
            self.append(msgspec.structs.replace(base, kind=kind))

    def carry_out(self, plan: Plan, now: Evidence, *, failing: float) -> None:
        """The tick may die after any record or act; slow acts answer some time, or never."""
        dies_at = int(self.rng.integers(0, len(plan.records) + 1)) if self.chance(0.1) else None
        for record in plan.records[:dies_at]:
            self.append(record)
        if dies_at is not None:
            return
        for act in plan.acts:
            if failing and self.chance(0.7 if VERBS[act.action].is_slow else 0.1):
                continue
            outcome = Outcome(is_done=not self.chance(failing), why="as chance has it")
            self.append(answer(self.state.asked[act.act_id], outcome, now))


def causes_of(state: State) -> dict[str, str]:
    return {act_id: record.cause for act_id, record in state.asked.items()}


def started(records: list[Record]) -> list[Record]:
    """PLANNED records of remedies."""
    return [one for one in records if one.kind is Kind.PLANNED and one.rung is not None]


def nothing_unsafe_is_done_blind(before: State, now: Evidence, plan: Plan) -> None:
    if plan.diagnosis.cause == BLIND:
        assert all(VERBS[act.action].is_safe for act in plan.acts)


def nothing_forbidden_is_started(before: State, now: Evidence, plan: Plan) -> None:
    for record in started(list(plan.records)):
        place = NAMES.index(record.cause)
        for cause in plan.diagnosis.standing:
            if NAMES.index(cause) < place or VERBS[record.act.action].learns:
                assert record.act.action not in POLICY.causes[cause].forbids
        if VERBS[record.act.action].learns:
            frozen = [one.act.action for one in before.orders.values()]
            assert Action.FREEZE_LEARNING not in frozen
            assert not {S.LABEL_ARRIVALS, S.LABEL_CONFLICTS} & set(now.breached())


def hands_are_off_what_a_person_paused(before: State, now: Evidence, plan: Plan) -> None:
    assert not (before.is_killed and (plan.acts or plan.records))
    after = causes_of(after_of(before, plan))
    for act in plan.acts:
        is_paused = EVERYTHING in before.paused or after[act.act_id] in before.paused
        assert act.action is Action.PAGE or not is_paused


def what_is_proved_waits_for_nothing_below_it(before: State, now: Evidence, plan: Plan) -> None:
    """What an exact law or a replay shows begins an episode at once, and only a higher cause's
    remedy, which has its time, is in its way."""
    if before.is_killed:
        return
    after = after_of(before, plan)
    for cause in PROVABLE & set(plan.diagnosis.matched):
        if cause in after.episodes:
            held = after.episodes[cause].held.removeprefix("waits for the remedy of ")
            assert held not in NAMES or NAMES.index(held) < NAMES.index(cause)
        else:  # one that is back after its remedy was taken back begins anew at the next look
            is_back = cause in before.episodes
            assert is_back or is_explained_from_above(cause, before, now, plan), cause


PROVABLE = {c for c in EXACT if POLICY.sights(c).sights == 1} | {"bad_release"}


def is_explained_from_above(cause: str, before: State, now: Evidence, plan: Plan) -> bool:
    """By a row that holds, or by any of an episode that is open or was not long ago."""
    places = [place for place, row in enumerate(CAUSES) if row.when.holds(now)]
    own = next(place for place in places if CAUSES[place].name == cause)
    lately = {name for name, (at, _) in before.closed.items() if is_settling(name, at, now)}
    others = {*before.episodes, *lately} - set(plan.diagnosis.matched)
    return any(
        cause in row.explains and (place in places or row.name in others)
        for place, row in enumerate(CAUSES[:own])
    )


def is_settling(cause: str, closed_us: int, now: Evidence) -> bool:
    return now.event_us - closed_us < minutes(POLICY.settling(cause))


def a_plan_is_a_function(before: State, now: Evidence, plan: Plan) -> None:
    assert decide(before, now, POLICY) == plan


def a_bolder_level_does_all_that_a_meeker_one_does(
    before: State, now: Evidence, plan: Plan
) -> None:
    """But for what then waits because something bolder is under way or used up the budget."""
    bold = helping(before, plan)
    for level in (Level.PROPOSE, Level.ALERT, Level.OBSERVE):
        found = decide(before, now, msgspec.structs.replace(POLICY, maturity=level))
        meek = helping(before, found)
        assert {meek[one] for one in meek.keys() - bold.keys()} <= waiting(before, plan)
        plan, bold = found, meek


def helping(state: State, plan: Plan) -> dict[str, str]:
    """Act -> cause, without pages and what takes an act back."""
    asked = after_of(state, plan).asked
    return {
        act.act_id: asked[act.act_id].cause
        for act in plan.acts
        if act.action is not Action.PAGE and not asked[act.act_id].undoes
    }


def waiting(state: State, plan: Plan) -> set[str]:
    return {cause for cause, one in after_of(state, plan).episodes.items() if one.held}


def after_of(state: State, plan: Plan) -> State:
    for record in plan.records:
        state = fold(state, record)
    return state


LAWS: tuple[Callable[[State, Evidence, Plan], None], ...] = (
    nothing_unsafe_is_done_blind,
    nothing_forbidden_is_started,
    hands_are_off_what_a_person_paused,
    what_is_proved_waits_for_nothing_below_it,
)
DEAR_LAWS = (a_plan_is_a_function, a_bolder_level_does_all_that_a_meeker_one_does)


def no_budget_is_exceeded(records: list[Record]) -> None:
    remedies = started(records)
    budgets = POLICY.budgets
    for record in remedies:
        day = [r for r in remedies if 0 <= record.event_us - r.event_us < DAY_US]
        actions = Counter(r.act.action for r in day)
        learning = [r for r in day if VERBS[r.act.action].learns]
        assert len(day) <= budgets.remedies
        assert max(actions.values()) <= budgets.per_action
        assert max(Counter(r.cause for r in day).values()) <= budgets.per_cause
        assert len(learning) <= budgets.learning
        assert actions[Action.RETRAIN] <= budgets.retrains


def no_remedy_is_repeated_in_an_episode(records: list[Record]) -> None:
    tried = Counter((one.episode, one.act.action) for one in started(records))
    assert not tried or max(tried.values()) == 1
    failed = Counter(failed_remedies(records))
    assert not failed or max(failed.values()) <= 2


def failed_remedies(records: list[Record]) -> Iterator[str]:
    ids = {one.act.act_id for one in started(records)}
    for one in records:
        if one.kind in FAILURES and one.act.act_id in ids:
            yield one.episode


def every_remedy_is_judged_or_a_person_is_called(records: list[Record]) -> None:
    ids = {one.act.act_id: one.episode for one in started(records)}
    done = {one.act.act_id for one in records if one.kind is Kind.DONE} & set(ids)
    judged = {one.act.act_id for one in records if one.kind in {Kind.VERIFIED, Kind.REFUTED}}
    assert done <= judged


def who_proposes_waits_for_a_person(records: list[Record]) -> None:
    for one in started(records):
        assert (one.level is Level.PROPOSE) == (one.by != PLATFORM)


def the_state_is_the_fold_of_what_was_written(walk: Walk) -> None:
    text = msgspec.json.encode(walk.records)
    assert folded(msgspec.json.decode(text, type=list[Record])) == walk.state


def calm_down(walk: Walk) -> None:
    """Everything is fine for weeks and people let go: nothing may be left behind."""
    at = walk.records[-1] if walk.records else None
    if at is not None:
        for kind in (Kind.REVIVED, Kind.RESUMED):
            walk.append(
                Record(
                    kind=kind, event_us=at.event_us, now_us=at.now_us, cause=EVERYTHING, by="ann"
                )
            )
    for _ in range(120):
        walk.minute, walk.rows = walk.minute + 1_500, walk.rows + 20_000
        now = evidence(minute=walk.minute, rows=walk.rows, money_per_day=None)
        walk.carry_out(decide(walk.state, now, POLICY), now, failing=0.0)
        if not walk.state.episodes:
            break
    assert not walk.state.episodes
    assert not walk.state.orders
    assert not walk.state.asked


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_random_walk_breaks_a_law(batch: int):
    for number in range(WALKS // BATCHES):
        walk = Walk(np.random.default_rng([batch, number]))
        for tick in range(TICKS):
            now = walk.seen()
            walk.people(now)
            plan = decide(walk.state, now, POLICY)
            for law in LAWS if tick % 6 else (*LAWS, *DEAR_LAWS):
                law(walk.state, now, plan)
            walk.carry_out(plan, now, failing=0.2)
        the_state_is_the_fold_of_what_was_written(walk)
        calm_down(walk)
        no_budget_is_exceeded(walk.records)
        no_remedy_is_repeated_in_an_episode(walk.records)
        every_remedy_is_judged_or_a_person_is_called(walk.records)
        who_proposes_waits_for_a_person(walk.records)
