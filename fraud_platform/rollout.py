"""A canary on its way to all cards: who belongs to which arm, and when the next step is due.

What belongs here: the arms, their comparison and the ramp, as pure functions. Who counts is
`heal.harm`, who moves the share is a sensor.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import msgspec

from fraud_platform.stats.canary import Arm, CanaryPolicy, CanaryReport, Verdict, judge_canary

CHAMPION_ARM, CANARY_ARM, CONTROL_ARM, NO_ARM = "champion", "canary", "control", "none"
"""Who decides on a card: the champion; the challenger; the champion on as many other cards, which
the challenger's are compared with; no model."""

DISTURBED = CanaryPolicy(max_ratio=1.2, harmful_ratio=2.0, false_stop=5e-4)
"""How the disturbed cards of both arms are compared."""
FAILED = CanaryPolicy(max_ratio=1.5, harmful_ratio=3.0, false_stop=5e-4)
"""How the cards are compared on which a model failed. Both together stop a sound canary with a
chance of at most 1 in 1,000."""


_MINUTE_US = 60_000_000
_LONGEST_LOOK_US = 5 * _MINUTE_US
"""Of a longer time between two looks nobody knows what it was like."""


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """How a challenger gets to decide on all cards."""

    is_on: bool = False
    """Whether a challenger that passes the gates first decides on a growing share of the cards;
    off: it is promoted at once, and a canary's share is set by hand."""
    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    """Shares of the cards, one after the other, rising, each in (0, 0.5]; then it is promoted."""
    min_minutes: float = 10.0
    """Shortest time of a step, minutes in which the scorer told how it is."""
    min_payments: int = 300
    """Fewest payments of the canary in a step."""
    min_events: int = 30
    """With fewer disturbed cards in both arms a step goes on, unless what there is already speaks
    against harm."""
    stale_seconds: float = 60.0
    """A scorer that has told nothing for so long is not seen, seconds: the ramp pauses."""

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in pairwise((0.0, *self.steps)))
        if not (self.steps and rising and self.steps[-1] <= 0.5):
            raise ValueError(
                f"found steps={self.steps}, expected shares that rise within (0, 0.5]: beyond half "
                "of the cards no control arm is as large"
            )
        for name in ("min_minutes", "min_payments", "min_events", "stale_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least 0")


def control_share(canary_share: float) -> float:
    """The share of cards in the control arm: as many as the canary's, as far as there are any.

    Examples:
        >>> control_share(0.05), control_share(0.75), control_share(1.0)
        (0.05, 0.25, 0.0)
    """
    return min(canary_share, 1.0 - canary_share)


def compared_traffic(canary_share: float) -> float:
    """The canary's share of the cards of both arms; 1/2 until it has half of all cards.

    Examples:
        >>> compared_traffic(0.01), compared_traffic(0.75)
        (0.5, 0.75)
    """
    return canary_share / (canary_share + control_share(canary_share))


def arm_at(place: float, canary_share: float) -> str:
    """The arm of a card, by its place in the hash space of the challenger.

    The canary grows from 0 upwards and its control from 1 downwards, so that a card that is in an
    arm stays in it while the canary grows.

    Args:
        place: in [0, 1).
        canary_share: in [0, 1].

    Examples:
        >>> [arm_at(place, 0.05) for place in (0.0, 0.049, 0.05, 0.94, 0.95)]
        ['canary', 'canary', 'champion', 'champion', 'control']
    """
    if place < canary_share:
        return CANARY_ARM
    control = control_share(canary_share)
    return CONTROL_ARM if control and place >= 1.0 - control else CHAMPION_ARM


class ArmCount(msgspec.Struct, frozen=True):
    """What one arm has seen.

    Attributes:
        payments: decided.
        disturbed: cards with a payment that was to be reviewed or declined, each once.
        failed: cards with a payment that the arm's model gave no usable score, each once.
    """

    payments: int = 0
    disturbed: int = 0
    failed: int = 0

    def plus(self, more: "ArmCount") -> "ArmCount":
        """Both together."""
        return ArmCount(
            self.payments + more.payments,
            self.disturbed + more.disturbed,
            self.failed + more.failed,
        )


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A canary and its control arm since the comparison began.

    Attributes:
        key: names the candidate, the champion and the policy; evidence is of one key only.
        candidate: the challenger's version.
        traffic: the canary's share of the cards of both arms, in (0, 1).
        canary: counts.
        control: counts.
    """

    key: str
    candidate: str
    traffic: float
    canary: ArmCount = ArmCount()
    control: ArmCount = ArmCount()

    def plus(self, canary: ArmCount, control: ArmCount) -> "Comparison":
        """With more counts."""
        return msgspec.structs.replace(
            self, canary=self.canary.plus(canary), control=self.control.plus(control)
        )


def comparison_key(*digests: str) -> str:
    """Names a comparison by the models that it compares and the rules that they decide by."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def worst_report(comparison: Comparison) -> CanaryReport:
    """The verdict on a canary by disturbed and by failed cards; whichever is worse.

    Failures that never happen say nothing, so only disturbed cards can find a canary harmless.

    Examples:
        >>> seen = Comparison(key="k", candidate="2", traffic=0.5)
        >>> worst_report(seen).verdict
        <Verdict.BLIND: 'blind'>
        >>> worst_report(seen.plus(ArmCount(500, 25, 25), ArmCount(500, 25, 0))).verdict
        <Verdict.HARMFUL: 'harmful'>
    """
    canary, control = comparison.canary, comparison.control
    by_failed = judge_canary(
        Arm(canary.payments, canary.failed),
        Arm(control.payments, control.failed),
        comparison.traffic,
        FAILED,
    )
    if by_failed.verdict is Verdict.HARMFUL:
        return by_failed
    return judge_canary(
        Arm(canary.payments, canary.disturbed),
        Arm(control.payments, control.disturbed),
        comparison.traffic,
        DISTURBED,
    )


class Step(StrEnum):
    """What is to be done about a canary now."""

    WAIT = "wait"  # the step has not lasted long enough, or shown enough
    PAUSE = "pause"  # nothing can be seen, or something else is wrong: the share stays
    ADVANCE = "advance"  # the next share
    STOP = "stop"  # it does harm: none of the cards
    FINISH = "finish"  # it may be promoted


class Ramp(msgspec.Struct, frozen=True, kw_only=True):
    """How far a canary is; what is remembered from one look to the next.

    Attributes:
        key: of the comparison; another one begins anew.
        share: of the cards in this step.
        payments: of the canary before this step.
        watched_us: for how long this step was watched, microseconds.
        seen_us: when it was looked at last, microseconds UTC; 0: it could not be seen.
    """

    key: str = ""
    share: float = 0.0
    payments: int = 0
    watched_us: int = 0
    seen_us: int = 0


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What is known about a canary at one look.

    Attributes:
        now_us: microseconds UTC of the wall.
        share: of the cards that it decides on, above 0.
        comparison: its counts; None: the scorer tells of none.
        written_us: when the scorer told so, microseconds UTC.
        obstacle: why it may not get more cards now whatever its counts say, or "".
    """

    now_us: int
    share: float
    comparison: Comparison | None
    written_us: int = 0
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What is to be done, and what to remember.

    Attributes:
        step: what.
        share: of the cards afterwards.
        ramp: for the next look.
        why: a sentence for people.
    """

    step: Step
    share: float
    ramp: Ramp
    why: str


def next_move(ramp: Ramp, sight: Sight, policy: RolloutPolicy) -> Move:
    """What follows for a canary that decides on a share of the cards.

    It may be asked at any time and as often as wanted: the evidence is valid at every look, and
    over the whole ramp a sound canary is stopped with a chance of at most 1 in 1,000. Time that
    nobody watched does not count. A pause ends by itself.

    Args:
        ramp: what the last look left; `Ramp()` before the first.
        sight: what is known now.
        policy: the steps.

    Examples:
        >>> seen = Comparison(key="k", candidate="2", traffic=0.5,
        ...     canary=ArmCount(400, 20), control=ArmCount(400, 21))
        >>> sight = Sight(now_us=1, share=0.01, comparison=seen)
        >>> move = next_move(Ramp(key="k", share=0.01, watched_us=600_000_000), sight,
        ...     RolloutPolicy())
        >>> move.step, move.share
        (<Step.ADVANCE: 'advance'>, 0.05)
    """
    found = sight.comparison
    if found is None or sight.now_us - sight.written_us > policy.stale_seconds * 1_000_000:
        unseen = msgspec.structs.replace(ramp, seen_us=0)
        return Move(step=Step.PAUSE, share=sight.share, ramp=unseen, why="the scorer tells nothing")
    report = worst_report(found)
    if report.verdict is Verdict.HARMFUL:
        why = f"canary {found.candidate} does harm: {_counts(found)}"
        return Move(step=Step.STOP, share=0.0, ramp=Ramp(), why=why)
    ramp = _looked(ramp, sight, found)
    idle = "an arm has no payments" if report.verdict is Verdict.BLIND else ""
    if sight.obstacle or idle:
        why = sight.obstacle or idle
        return Move(step=Step.PAUSE, share=sight.share, ramp=ramp, why=why)
    return _onward(ramp, found, report, policy)


def _looked(ramp: Ramp, sight: Sight, found: Comparison) -> Ramp:
    """The ramp with the time since the last look; of another step or comparison, begun anew."""
    if (ramp.key, ramp.share) != (found.key, sight.share):
        payments = found.canary.payments if ramp.key == found.key else 0
        return Ramp(key=found.key, share=sight.share, payments=payments, seen_us=sight.now_us)
    passed = sight.now_us - ramp.seen_us if ramp.seen_us and not sight.obstacle else 0
    watched = ramp.watched_us + min(max(passed, 0), _LONGEST_LOOK_US)
    return msgspec.structs.replace(ramp, watched_us=watched, seen_us=sight.now_us)


def _lacking(ramp: Ramp, found: Comparison, report: CanaryReport, policy: RolloutPolicy) -> str:
    """What the step still needs, or ""."""
    minutes, payments = ramp.watched_us / _MINUTE_US, found.canary.payments - ramp.payments
    if minutes < policy.min_minutes:
        return f"{minutes:.1f} of {policy.min_minutes:g} minutes"
    if payments < policy.min_payments:
        return f"{payments} of {policy.min_payments} payments"
    if report.events < policy.min_events and report.harm >= 0.0:
        return f"{report.events} of {policy.min_events} disturbed cards"
    return ""


def _onward(ramp: Ramp, found: Comparison, report: CanaryReport, policy: RolloutPolicy) -> Move:
    if lacking := _lacking(ramp, found, report, policy):
        return Move(step=Step.WAIT, share=ramp.share, ramp=ramp, why=lacking)
    told = f"canary {found.candidate}: {_counts(found)}"
    share = next((step for step in policy.steps if step > ramp.share), None)
    if share is not None:
        begun = Ramp(
            key=found.key, share=share, payments=found.canary.payments, seen_us=ramp.seen_us
        )
        return Move(step=Step.ADVANCE, share=share, ramp=begun, why=told)
    if report.verdict is Verdict.HARMLESS:
        return Move(step=Step.FINISH, share=ramp.share, ramp=ramp, why=f"{told}; harmless")
    why = f"{told}; not yet surely harmless"
    return Move(step=Step.WAIT, share=ramp.share, ramp=ramp, why=why)


def _counts(found: Comparison) -> str:
    canary, control = found.canary, found.control
    return (
        f"{canary.disturbed} disturbed and {canary.failed} failed cards in {canary.payments} "
        f"payments, {control.disturbed} and {control.failed} in {control.payments} of its control"
    )
