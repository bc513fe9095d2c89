"""Is a canary worse than its control? A verdict as data, from counts of adverse events alone.

What belongs here: the question and its answer. Who assigns traffic, and what follows, is elsewhere.
An adverse event is a block, an error or a complaint. Given that one happened, the only question is
in which arm; so the verdict holds for any rate, at any hour, however often it is asked.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from fraud_platform.stats.sequential import canary_share, share_evidence


class Verdict(StrEnum):
    """What the counts say."""

    HARMFUL = "harmful"
    """The canary's rate is more than `max_ratio` times the control's: stop it."""
    HARMLESS = "harmless"
    """Its rate is less than `harmful_ratio` times the control's: go on."""
    INCONCLUSIVE = "inconclusive"
    """Not enough is known: wait."""
    BLIND = "blind"
    """An arm serves nothing, so silence means nothing: neither go on nor blame the canary."""


@dataclass(frozen=True, kw_only=True)
class CanaryPolicy:
    """What counts as harm, and how often the verdict may be wrong.

    Raises:
        ValueError: a value is out of its range.
    """

    max_ratio: float = 1.2
    """Ratio of the canary's rate to the control's that is tolerated, above 0."""
    harmful_ratio: float = 2.0
    """Ratio that must not pass; above `max_ratio`."""
    false_stop: float = 1e-3
    """Chance that a canary within `max_ratio` is ever called harmful."""
    false_pass: float = 0.1
    """Chance that a canary at or above `harmful_ratio` is ever called harmless."""
    min_events: int = 30
    """Adverse events in both arms before a canary may pass. A stop needs no minimum: a handful of
    events, nearly all on the small arm, is evidence, and errs as rarely."""

    def __post_init__(self) -> None:
        if not 0.0 < self.max_ratio < self.harmful_ratio:
            raise ValueError(
                f"found max_ratio={self.max_ratio} and harmful_ratio={self.harmful_ratio}, "
                "expected 0 < max_ratio < harmful_ratio"
            )
        if not (0.0 < self.false_stop < 1.0 and 0.0 < self.false_pass < 1.0):
            raise ValueError(
                f"found false_stop={self.false_stop} and false_pass={self.false_pass}, "
                "expected both in (0, 1)"
            )
        if self.min_events < 1:
            raise ValueError(f"found min_events={self.min_events}, expected at least 1")


@dataclass(frozen=True)
class Arm:
    """One arm since the start of the comparison.

    Attributes:
        requests: served, >= 0.
        events: adverse among them, at most `requests`. Count each card once: events of one card
            come together and fall into one arm, so they are not independent.

    Raises:
        ValueError: the counts contradict each other.
    """

    requests: int
    events: int

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.requests:
            raise ValueError(f"found {self.events} events in {self.requests} requests")


@dataclass(frozen=True)
class CanaryReport:
    """The verdict with its evidence.

    Attributes:
        verdict: what the counts say.
        events: adverse events in both arms.
        harm: ln of the evidence that the ratio exceeds `max_ratio`; stops at -ln(false_stop).
        safety: ln of the evidence that it is below `harmful_ratio`; passes at -ln(false_pass).
    """

    verdict: Verdict
    events: int
    harm: float
    safety: float


def judge_canary(canary: Arm, control: Arm, traffic: float, policy: CanaryPolicy) -> CanaryReport:
    """Compare a canary with its control.

    Each adverse event falls on the canary with chance p(rho) = w rho / (1 - w + w rho), where rho
    is the ratio of the rates (`sequential.canary_share`). Harm is the evidence against p <=
    p(max_ratio), safety that against p >= p(harmful_ratio). Errors, over all looks together: a
    canary within `max_ratio` is called harmful with a chance of at most `false_stop`; one at or
    above `harmful_ratio` is called harmless with a chance of at most `false_pass`. Assumption:
    requests go to the canary with chance `traffic`, events are independent, and so are cards.

    Harm is told before safety, should both be certain.

    Args:
        canary: counts of the new version.
        control: counts of the old one over the same time.
        traffic: w, the canary's share of the traffic of both arms by assignment, in (0, 1).
        policy: what counts as harm.

    Examples:
        >>> judge_canary(Arm(500, 70), Arm(4_500, 225), 0.1, CanaryPolicy()).verdict
        <Verdict.HARMFUL: 'harmful'>
        >>> judge_canary(Arm(500, 24), Arm(4_500, 226), 0.1, CanaryPolicy()).verdict
        <Verdict.HARMLESS: 'harmless'>
        >>> judge_canary(Arm(0, 0), Arm(4_500, 225), 0.1, CanaryPolicy()).verdict
        <Verdict.BLIND: 'blind'>
    """
    events = canary.events + control.events
    harm = share_evidence(canary.events, events, canary_share(traffic, policy.max_ratio))
    allowed = canary_share(traffic, policy.harmful_ratio)
    safety = share_evidence(control.events, events, 1.0 - allowed)
    told = (float(harm), float(safety))
    return CanaryReport(_verdict(canary, control, told, policy), events, *told)


def _verdict(canary: Arm, control: Arm, told: tuple[float, float], policy: CanaryPolicy) -> Verdict:
    harm, safety = told
    if not (canary.requests and control.requests):
        return Verdict.BLIND
    if harm >= -math.log(policy.false_stop):
        return Verdict.HARMFUL
    enough = canary.events + control.events >= policy.min_events
    passes = enough and safety >= -math.log(policy.false_pass)
    return Verdict.HARMLESS if passes else Verdict.INCONCLUSIVE
