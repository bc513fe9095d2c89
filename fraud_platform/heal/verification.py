"""Has a remedy worked? Judged on payments since the act, by the symptom and by the money.

What belongs here: the verdict. What follows from it is `controller`.
"""

from dataclasses import dataclass

from fraud_platform.heal.evidence import Evidence, Reading, Standing
from fraud_platform.heal.policy import HealPolicy, minutes
from fraud_platform.heal.policy_parts import Verify
from fraud_platform.heal.records import Money
from fraud_platform.heal.state import Episode, Moment

_PATIENCE = 3
"""A remedy has failed only after so many times the payments that it needs to succeed, because what
tells the end of a harm takes its time; and after so many times its time whatever was seen."""


@dataclass(frozen=True)
class Verdict:
    """What came of a remedy.

    Attributes:
        is_healed: the symptom is gone and a day costs no more.
        why: one sentence.
        money: change of cost per day since it was planned, or None when it cannot be told.
    """

    is_healed: bool
    why: str
    money: Money | None = None


def judged(episode: Episode, evidence: Evidence, policy: HealPolicy) -> Verdict | None:
    """The verdict on the remedy that an episode is verifying; None: too early to tell."""
    if episode.planned is None or episode.planned.act is None:
        return None
    verify = policy.verification(episode.cause, episode.planned.act.action)
    money = _change(episode, evidence)
    fresh = evidence.rows - episode.since.rows
    elapsed = episode.since.elapsed_us(Moment(evidence.rows, evidence.event_us, evidence.now_us))
    wrong = symptoms(verify, evidence) or _dearer(episode, evidence, policy)
    if fresh >= verify.rows and not wrong:
        return Verdict(True, f"{fresh} payments since: {_names(verify)} in order", money)
    within = minutes(verify.within_minutes)
    is_enough = fresh >= _PATIENCE * verify.rows and not unseen(verify, evidence)
    if elapsed >= within and (is_enough or elapsed >= _PATIENCE * within):
        return Verdict(False, wrong or f"{fresh} payments since, {verify.rows} were needed", money)
    return None


def symptoms(verify: Verify, evidence: Evidence) -> str:
    """Which signals are not as they must be; empty: none."""
    wrong = [evidence.reading(s) for s in verify.fine]
    wrong = [one for one in wrong if one.standing is not Standing.FINE]
    others = [evidence.reading(s) for s in verify.not_breached]
    wrong += [one for one in others if one.standing is Standing.BREACHED]
    return ", ".join(_state_of(one) for one in wrong)


def _state_of(reading: Reading) -> str:
    is_blind = reading.standing is Standing.BLIND and reading.why
    return f"{reading.signal} is {reading.standing}" + (f" ({reading.why})" if is_blind else "")


def breached(verify: Verify, evidence: Evidence) -> tuple[Reading, ...]:
    """Which of them are breached."""
    found = (evidence.reading(signal) for signal in (*verify.fine, *verify.not_breached))
    return tuple(one for one in found if one.standing is Standing.BREACHED)


def unseen(verify: Verify, evidence: Evidence) -> bool:
    """Whether what must be fine cannot be measured, and nothing else is breached."""
    blind = [s for s in verify.fine if evidence.reading(s).standing is Standing.BLIND]
    return bool(blind) and not breached(verify, evidence)


def _dearer(episode: Episode, evidence: Evidence, policy: HealPolicy) -> str:
    """Whether a day surely costs more than before, and more than is borne."""
    change = _change(episode, evidence)
    if change is None or episode.planned is None or episode.planned.money_per_day is None:
        return ""
    surely = change.per_day if change.low is None else change.low
    bearable = policy.cost_tolerance * abs(episode.planned.money_per_day)
    return "a day costs more than before" if surely > bearable else ""


def _change(episode: Episode, evidence: Evidence) -> Money | None:
    """Cost of a day now less that when the remedy was planned, each at its worst for an end."""
    planned, now = episode.planned, evidence.money_per_day
    if planned is None or planned.money_per_day is None or now is None:
        return None
    change = now - planned.money_per_day
    if planned.money_interval is None or evidence.money_interval is None:
        return Money(per_day=change)
    (low, high), (before_low, before_high) = evidence.money_interval, planned.money_interval
    return Money(per_day=change, low=low - before_high, high=high - before_low)


def _names(verify: Verify) -> str:
    return ", ".join((*verify.fine, *verify.not_breached))
