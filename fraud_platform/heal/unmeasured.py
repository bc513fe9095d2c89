"""What to say of a cause that can be neither confirmed nor refuted any more.

What belongs here: when that begins, lasts for long, and ends. Orders stay as they are meanwhile:
what nobody can see is not over.
"""

from dataclasses import dataclass

from fraud_platform.heal.causes import BLIND, CAUSES
from fraud_platform.heal.evidence import Evidence, Standing
from fraud_platform.heal.limits import Scene
from fraud_platform.heal.policy import minutes
from fraud_platform.heal.records import Kind
from fraud_platform.heal.state import Episode, Stage


@dataclass(frozen=True)
class Word:
    """A record to write.

    Attributes:
        kind: UNSEEN when it begins and once when it lasts, SEEN when it ends.
        why: what is missing.
        tells: whether a person should hear of it.
    """

    kind: Kind
    why: str = ""
    tells: bool = False


def unmeasured(episode: Episode, is_unsure: bool, scene: Scene) -> Word | None:
    """What changes; None: nothing.

    A person is told once. While everything is blind its own episode tells, and while a remedy is
    being verified its verdict does: after one that changes much, much is measured anew.

    Args:
        episode: an open one.
        is_unsure: whether its cause can be neither confirmed nor refuted now.
        scene: of this tick.
    """
    if not is_unsure:
        return Word(Kind.SEEN) if episode.unseen else None
    missing = f"it can be neither confirmed nor refuted: {_blind(episode, scene.evidence)}"
    if episode.unseen is None:
        return Word(Kind.UNSEEN, missing)
    is_long = episode.unseen.elapsed_us(scene.now) >= minutes(scene.policy.unseen_minutes)
    is_judged = scene.diagnosis.cause == BLIND or episode.stage is Stage.VERIFYING
    if episode.is_missed or is_judged or not is_long:
        return None
    why = f"for {scene.policy.unseen_minutes} minutes {missing}; what is ordered stays"
    return Word(Kind.UNSEEN, why, tells=True)


def _blind(episode: Episode, evidence: Evidence) -> str:
    """The signals of the cause that nobody measured, and why."""
    asked = {s for one in CAUSES if one.name == episode.cause for s in one.when.signals}
    found = [evidence.reading(signal) for signal in sorted(asked)]
    return "; ".join(
        f"{one.signal} is blind ({one.why})" for one in found if one.standing is Standing.BLIND
    )
