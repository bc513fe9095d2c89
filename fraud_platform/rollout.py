"""A canary on its way to all cards: who belongs to which arm, and when the next step is due.

What belongs here: the arms, their comparison and the ramp, as pure functions. Who counts is
`heal.harm`, who moves the share is a sensor.
"""

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


def control_share(canary_share: float) -> float:
    """The share of cards in the control arm: as many as the canary's, as far as there are any.

    Examples:
        >>> control_share(0.05), control_share(0.75), control_share(1.0)
        (0.05, 0.25, 0.0)
    """
    return min(canary_share, 1.0 - canary_share)


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
