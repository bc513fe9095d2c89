"""When a cause is believed, when it is over, and what it explains meanwhile.

What belongs here: reading the counted checks. Counting them is `state`, what follows is `tick`.
"""

from fraud_platform.heal.causes import BLIND, Diagnosis, explained_by
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
    settling = {
        cause
        for cause, (at, _) in state.closed.items()
        if evidence.event_us - at < minutes(policy.settling(cause))
    }
    return explained_by(frozenset({*diagnosis.matched, *state.episodes, *settling}))


def _trace(cause: str, state: State) -> Trace:
    return state.traces.get(cause, Trace())
