"""When a cause is believed, when it is over, and what it explains meanwhile.

What belongs here: reading the counted checks. Counting them is `state`, what follows is `tick`.
"""

from functools import lru_cache

from fraud_platform.heal.causes import BLIND, CAUSES, Diagnosis
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.policy import HealPolicy, minutes
from fraud_platform.heal.state import CLEAN, DAY_US, Moment, State, Trace

_BACK_OFF = 4
"""A cause that came back within a day must stay away twice as long, so many times at most."""


def is_new(now: Moment, state: State, diagnosis: Diagnosis, policy: HealPolicy) -> bool:
    """Whether there is enough new evidence to count, or a first sight of what one sight is."""
    since, check = state.checked, policy.check
    if now.rows - since.rows >= check.rows:
        return True
    if since.elapsed_us(now) >= check.seconds * 1_000_000:
        return True
    return any(
        policy.sights(cause).sights == 1 and _trace(cause, state).held[-1:] != (True,)
        for cause in diagnosis.matched
    )


def is_raised(cause: str, state: State, policy: HealPolicy) -> bool:
    """Whether a cause held at enough of the last checks, and at the newest."""
    rule, held = policy.sights(cause), _trace(cause, state).held
    return held[-1:] == (True,) and held[-rule.of :].count(True) >= rule.sights


def is_cleared(
    cause: str, state: State, evidence: Evidence, policy: HealPolicy, diagnosis: Diagnosis
) -> bool:
    """Whether a cause has surely been away for long enough; longer each time it comes back."""
    at, times = state.closed.get(cause, (0, 0))
    again = min(times, _BACK_OFF) if evidence.event_us - at < DAY_US else 0
    needed = min(policy.clean_checks(cause) * 2**again, CLEAN)
    is_seen = diagnosis.cause != BLIND and cause in diagnosis.refuted
    return is_seen and _trace(cause, state).clean >= needed


def explained(
    state: State, evidence: Evidence, policy: HealPolicy, diagnosis: Diagnosis
) -> frozenset[str]:
    """Causes that follow from others: from what holds, is being healed, or has just ended."""
    return diagnosis.explained | _remembered(state, evidence, policy, diagnosis)


def stands(
    cause: str, state: State, evidence: Evidence, policy: HealPolicy, diagnosis: Diagnosis
) -> bool:
    """Whether a cause holds by a row that neither what holds nor any other episode explains.

    What stands above a row explains it, what stands below does not: a release that does on the same
    payments what the one before would not is no consequence of the sender's clock.
    """
    if cause not in diagnosis.standing:
        return False
    return cause not in _remembered(state, evidence, policy, diagnosis, diagnosis.places[cause])


def _remembered(
    state: State,
    evidence: Evidence,
    policy: HealPolicy,
    diagnosis: Diagnosis,
    above: int | None = None,
) -> frozenset[str]:
    """What follows from causes that do not hold now: being healed, or over not long ago.

    Of a cause that holds only the rows that hold explain, and the diagnosis has those.
    """
    settling = {
        cause
        for cause, (at, _) in state.closed.items()
        if evidence.event_us - at < minutes(policy.settling(cause))
    }
    is_open, is_over = (
        frozenset(names).difference(diagnosis.matched) for names in (state.episodes, settling)
    )
    return explained_by(is_open, above) | explained_by(is_over, above, is_over=True)


@lru_cache(maxsize=1_000)
def explained_by(
    names: frozenset[str], above: int | None = None, *, is_over: bool = False
) -> frozenset[str]:
    """Every cause that holds because of one of these.

    Args:
        names: of causes.
        above: only their rows above this place of the table; None: all.
        is_over: whether they are over, and only what they leave is explained.

    Examples:
        >>> sorted(explained_by(frozenset({"attack"})))[:2]
        ['benign_shift', 'bots']
        >>> "bad_release" in explained_by(frozenset({"clock_skew"}), above=3)
        False
    """
    rows = (cause for cause in CAUSES[:above] if cause.name in names)
    return frozenset(
        one
        for cause in rows
        for one in (cause.explains if cause.leaves is None or not is_over else cause.leaves)
    )


def _trace(cause: str, state: State) -> Trace:
    return state.traces.get(cause, Trace())
