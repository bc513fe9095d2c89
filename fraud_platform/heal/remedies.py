"""From a rung of a policy and the evidence to one act with its subjects and numbers, or why not.

What belongs here: what an act is done to, and whether it is possible at all. Whether it may be done
now is `limits`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from fraud_platform.fallbacks import FALLBACKS, GROUPS, groups_of, smallest
from fraud_platform.heal.actions import Act, Action, Level
from fraud_platform.heal.evidence import Evidence, Signal
from fraud_platform.heal.policy_parts import Bounds, FirstAid, Rung
from fraud_platform.heal.reference import AMOUNT
from fraud_platform.schemas import CONTEXT_COLUMNS

_MINUTE_US = 60_000_000
_FIELDS: Mapping[str, str] = {
    "amount_minor": "money",
    **dict.fromkeys(CONTEXT_COLUMNS, "context"),
}
"""Field of a payment -> the group of features that rests on it."""
_HISTORY = "amount_history"
"""While a unit is divided out of payments, what remembers them is set aside (`orders.Orders`)."""


class Impossible(Exception):  # noqa: N818 -- a reason, not an error: the next rung is asked
    """An action has nothing to act on here."""


def act_for(
    step: FirstAid | Rung, episode: str, subjects: Sequence[str], evidence: Evidence, bounds: Bounds
) -> Act:
    """The act of a rung.

    Args:
        step: what the policy says.
        episode: its name; the same rung of the same episode is the same act for ever.
        subjects: what the cause is about.
        evidence: versions, fallbacks and numbers.
        bounds: what no act may exceed.

    Raises:
        Impossible: there is nothing to act on; the message says what is missing.
    """
    chosen = _SUBJECTS.get(step.do, _no_subjects)(tuple(subjects), evidence)
    amounts = dict(step.amounts)
    if step.do is Action.INVERT_UNIT:
        amounts["factor"] = _factor(evidence, bounds)
    lasts = step.lasts_minutes if isinstance(step, Rung) else None
    return Act(
        act_id=act_id(episode, step.do, chosen),
        action=step.do,
        subjects=chosen,
        amounts=amounts,
        until_us=None if lasts is None else evidence.now_us + lasts * _MINUTE_US,
        replacing=(evidence.champion or "") if step.do is Action.ROLL_BACK else "",
    )


def act_id(episode: str, action: Action, subjects: Sequence[str]) -> str:
    """Names an act by what it is, so that asking twice is asking once.

    Examples:
        >>> act_id("latency@7", Action.SHED, ())
        'shed-ec5d8defbfa1'
    """
    told = "\x1f".join((episode, action, *subjects))
    return f"{action}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def words(act: Act) -> str:
    """The act for a person.

    Examples:
        >>> words(Act(act_id="x", action=Action.STEP_UP_REVIEW, amounts={"times": 3.0}))
        'step_up_review times=3'
    """
    numbers = [f"{name}={number:g}" for name, number in act.amounts.items()]
    return " ".join([act.action.value, *act.subjects, *numbers])


def would_have(act: Act, approval_minutes: int) -> dict[int, str]:
    """What each level would do about it."""
    told = words(act)
    return {
        int(Level.OBSERVE): f"write down that {told} was called for",
        int(Level.ALERT): f"call a person, who may do {told}",
        int(Level.PROPOSE): f"propose {told} and wait {approval_minutes} minutes for a person",
        int(Level.ACT): f"do {told} at once",
    }


_Choice = Callable[[tuple[str, ...], Evidence], tuple[str, ...]]


def _no_subjects(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    return ()


def _named(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    return subjects


def _units(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    if AMOUNT not in evidence.reading(Signal.UNITS).subjects:
        raise Impossible("what payments say themselves is in its unit")
    _require_fallback((_HISTORY,), evidence)
    return (AMOUNT,)


def _groups(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    direct = {_FIELDS.get(name, name) for name in subjects}
    wanted = tuple(group for group in GROUPS if group in {*direct, *groups_of(subjects)})
    if not wanted:
        raise Impossible(f"no group of features rests on {', '.join(subjects) or 'anything'}")
    _require_fallback(wanted, evidence)
    return wanted


def _require_fallback(groups: tuple[str, ...], evidence: Evidence) -> None:
    """One model must do without all of them; two that each lack one group are of no use."""
    lacking = {name: FALLBACKS.get(name, ()) for name in evidence.fallbacks}
    if smallest(lacking, groups) is None:
        raise Impossible(f"no fallback model does without {', '.join(groups)}")


def _champion(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    if evidence.champion is None:
        raise Impossible("no model decides")
    return (evidence.champion,)


def _previous(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    if evidence.previous is None or evidence.previous == evidence.champion:
        raise Impossible("there is no version to go back to")
    return (evidence.previous,)


def _challenger(subjects: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    return (evidence.challenger,) if evidence.challenger else subjects


_SUBJECTS: Mapping[Action, _Choice] = {
    Action.QUARANTINE: _groups,
    Action.INVERT_UNIT: _units,
    Action.RELOAD_MODEL: _champion,
    Action.RECALIBRATE: _champion,
    Action.ROLL_BACK: _previous,
    Action.STOP_CANARY: _challenger,
    Action.REFOLD: _named,
}


def _factor(evidence: Evidence, bounds: Bounds) -> float:
    factor = evidence.reading(Signal.UNITS).details.get("factor")
    if factor is None or not 1 / bounds.unit_factor <= factor <= bounds.unit_factor:
        raise Impossible(f"found a factor of {factor}, nothing to divide by within bounds")
    return factor
