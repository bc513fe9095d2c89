"""Why a remedy may not be done now: what forbids it, what it waits for, what is used up.

What belongs here: reasons to wait. That something is impossible is `remedies`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fraud_platform.heal.actions import VERBS, Act, Action, Level
from fraud_platform.heal.causes import BLIND, NAMES, Diagnosis
from fraud_platform.heal.evidence import Evidence, Signal, Standing
from fraud_platform.heal.policy import HealPolicy, minutes
from fraud_platform.heal.policy_parts import Rung
from fraud_platform.heal.records import EVERYTHING, Record
from fraud_platform.heal.state import DAY_US, Episode, Moment, Stage, State
from fraud_platform.proportions import clopper_pearson


@dataclass(frozen=True)
class Scene:
    """Everything that a limit looks at.

    Attributes:
        state: what is true now.
        evidence: what is known now.
        policy: what is allowed.
        diagnosis: what the evidence means.
        explained: causes that hold because of another one, now or not long ago.
    """

    state: State
    evidence: Evidence
    policy: HealPolicy
    diagnosis: Diagnosis
    explained: frozenset[str]

    @property
    def now(self) -> Moment:
        """This tick."""
        return Moment(self.evidence.rows, self.evidence.event_us, self.evidence.now_us)


@dataclass(frozen=True)
class Hold:
    """A reason to wait.

    Attributes:
        why: one sentence that stays the same while the reason does.
        tells: whether a person should hear of it.
    """

    why: str
    tells: bool = False


def hold(scene: Scene, episode: Episode, action: Action) -> Hold | None:
    """The first reason why a remedy of an episode may not be done now, or None."""
    reasons = (_people, _sight, _forbidden, _learning, _in_flight, _cooldown, _budgets)
    found = (reason for one in reasons for reason in one(scene, episode, action))
    return next(found, None)


def waits_for(rung: Rung, evidence: Evidence) -> Hold | None:
    """Why a rung is not called for yet: what it is to end has not begun."""
    if not rung.once or any(evidence.reading(s).standing is Standing.BREACHED for s in rung.once):
        return None
    return Hold(f"{rung.do} waits for a breach of {' or '.join(rung.once)}", tells=True)


def is_paused(state: State, cause: str) -> bool:
    """Whether a person said: hands off."""
    return state.is_killed or EVERYTHING in state.paused or cause in state.paused


def called_off(state: State, act_id: str) -> str:
    """Why an act that was decided on may not be done any more; empty: it may."""
    planned = state.asked.get(act_id)
    if planned is None or planned.act is None:
        return "nobody waits for it any more"
    if state.is_killed:
        return "a person stopped healing"
    # Who paused everything still wants to know.
    is_page = planned.act.action is Action.PAGE
    return "a person paused it" if is_paused(state, planned.cause) and not is_page else ""


def is_too_blind(diagnosis: Diagnosis, action: Action) -> bool:
    """Whether too little is seen for an action: blind, only what is safe is done."""
    return diagnosis.cause == BLIND and not VERBS[action].is_safe


def level_of(scene: Scene, action: Action, level: Level) -> Level:
    """The level of an act now: by policy, maturity, and how often healing was wrong lately."""
    allowed = scene.policy.level_of(action, level)
    if allowed is Level.ACT and not VERBS[action].is_safe and is_demoted(scene):
        return Level.PROPOSE
    return allowed


def is_demoted(scene: Scene) -> bool:
    """Whether remedies were refuted surely more often than is borne."""
    rule = scene.policy.demotion
    verdicts = scene.state.verdicts[-rule.last :]
    wrong = verdicts.count(False)
    if not wrong:
        return False
    # Of a two-sided interval, each end has half of the rest.
    low, _ = clopper_pearson(wrong, len(verdicts), 2 * rule.confidence - 1)
    return low > rule.rate


def remedies(state: State, event_us: int) -> list[Record]:
    """Remedies that were started in the 24 hours before."""
    return [
        record
        for record in state.starts
        if record.rung is not None and event_us - record.event_us < DAY_US
    ]


def _people(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    if is_paused(scene.state, episode.cause):
        yield Hold("a person paused it")


def _sight(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    if is_too_blind(scene.diagnosis, action):
        yield Hold("too little is seen")


def _forbidden(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    """What a cause forbids binds every cause below it, and all causes where models are made."""
    own = NAMES.index(episode.cause)
    causes = {*scene.diagnosis.standing, *scene.state.episodes} - scene.explained
    for cause in sorted(causes - {episode.cause}, key=NAMES.index):
        binds = NAMES.index(cause) < own or VERBS[action].learns
        if binds and action in scene.policy.causes[cause].forbids:
            yield Hold(f"{cause} forbids {action}")


def _learning(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    if not VERBS[action].learns:
        return
    held = [*scene.state.orders.values(), *scene.state.asked.values()]
    if any(one.act and one.act.action is Action.FREEZE_LEARNING for one in held):
        yield Hold("learning is frozen")
    for signal in (Signal.LABEL_ARRIVALS, Signal.LABEL_CONFLICTS):
        if scene.evidence.reading(signal).standing is Standing.BREACHED:
            yield Hold("labels cannot be believed")
    if action is Action.RETRAIN:
        yield from _worth(scene)


def _worth(scene: Scene) -> Iterator[Hold]:
    """Retrain only if E[saving per day] x horizon - training - risk > 0."""
    rule, frauds = scene.policy.learning, scene.evidence.learnable_frauds
    if frauds is not None and frauds < rule.min_frauds:
        yield Hold(f"fewer than {rule.min_frauds} frauds can be learnt from")
    gain, cost = scene.evidence.gain_per_day, rule.training_cost_minor + rule.risk_cost_minor
    if gain is not None and gain * rule.horizon_days <= cost:
        yield Hold(f"within {rule.horizon_days:g} days it would not earn what it costs")


def _in_flight(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    """One remedy at a time; a cause higher in the table does not wait for a lower one."""
    own = NAMES.index(episode.cause)
    for other in scene.state.episodes.values():
        is_higher = NAMES.index(other.cause) < own and other.cause not in scene.explained
        if is_higher and other.planned and _keeps_waiting(other, action):
            yield Hold(f"waits for the remedy of {other.cause}")


def _keeps_waiting(other: Episode, action: Action) -> bool:
    act = other.planned.act if other.planned else None
    if other.stage is Stage.ACTING and act is not None:
        # While a slow act runs nothing has changed yet for anybody's payments.
        return not VERBS[act.action].is_slow or VERBS[action].learns
    return other.stage is Stage.VERIFYING


def _cooldown(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    patience = minutes(scene.policy.cooldown_minutes)
    for record in remedies(scene.state, scene.evidence.event_us):
        is_same = record.act is not None and record.act.action is action
        if is_same and scene.evidence.event_us - record.event_us < patience:
            yield Hold(f"{action} was done less than {scene.policy.cooldown_minutes} minutes ago")


def _budgets(scene: Scene, episode: Episode, action: Action) -> Iterator[Hold]:
    day, budgets = remedies(scene.state, scene.evidence.event_us), scene.policy.budgets
    done = [record.act.action for record in day if record.act is not None]
    learning = [one for one in done if VERBS[one].learns]
    used = {
        "remedies": (len(day), budgets.remedies),
        f"{action}": (done.count(action), budgets.per_action),
        f"{episode.cause}": (
            sum(record.cause == episode.cause for record in day),
            budgets.per_cause,
        ),
    }
    if VERBS[action].learns:
        used["learning"] = (len(learning), budgets.learning)
    if action is Action.RETRAIN:
        used["retrains"] = (done.count(action), budgets.retrains)
    for name, (spent, most) in used.items():
        if spent >= most:
            yield Hold(f"the day's budget of {most} for {name} is used up", tells=True)


def is_claimed(state: State, order: Record) -> bool:
    """Whether all that an order is about is wanted by other episodes, too."""
    return bool(_claims(state, order)) and not unclaimed(state, order)


def unclaimed(state: State, order: Record) -> tuple[str, ...]:
    """The subjects of an order that no other episode wants it for."""
    claimed = {subject for act in _claims(state, order) for subject in act.subjects}
    return tuple(s for s in (order.act.subjects if order.act else ()) if s not in claimed)


def _claims(state: State, order: Record) -> list[Act]:
    """Acts of other episodes, in force or asked for, that the order's inverse would undo."""
    inverse = VERBS[order.act.action].inverse if order.act else None
    others = (*state.orders.values(), *state.asked.values())
    return [
        one.act
        for one in others
        if one.act
        and one.episode != order.episode
        and not one.undoes
        and VERBS[one.act.action].inverse is inverse
    ]
