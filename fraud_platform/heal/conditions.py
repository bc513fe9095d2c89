"""Conditions on the evidence as values, so that a table of them can be read, printed and tested.

What belongs here: the words a table of causes, or a policy, may ask in. A condition answers yes,
no, or None when what it asks about was not measured: not measured is neither.
"""

from dataclasses import dataclass
from typing import Protocol

from fraud_platform.heal.evidence import TIERS, Evidence, Reading, Signal, Standing, Tier


class Condition(Protocol):
    """What a row of a table asks."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What it speaks for: the signals whose breach is a reason to say yes."""

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes, no, or None: cannot be told."""


@dataclass(frozen=True)
class Breached:
    """The signal was measured and is out of bounds."""

    signal: Signal

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signal itself."""
        return (self.signal,)

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes, no, or None when it is blind."""
        standing = evidence.reading(self.signal).standing
        return None if standing is Standing.BLIND else standing is Standing.BREACHED

    def __str__(self) -> str:
        return f"`{self.signal}` breached"


@dataclass(frozen=True)
class Seen:
    """The signal was seen out of bounds; where nobody looked it was not."""

    signal: Signal

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signal itself."""
        return (self.signal,)

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        return evidence.reading(self.signal).standing is Standing.BREACHED

    def __str__(self) -> str:
        return f"`{self.signal}` seen breached"


@dataclass(frozen=True)
class Fine:
    """The signal was measured and is within bounds."""

    signal: Signal
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes, no, or None when it is blind."""
        standing = evidence.reading(self.signal).standing
        return None if standing is Standing.BLIND else standing is Standing.FINE

    def __str__(self) -> str:
        return f"`{self.signal}` fine"


@dataclass(frozen=True)
class Blind:
    """Nobody could measure the signal."""

    signal: Signal
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        return evidence.reading(self.signal).standing is Standing.BLIND

    def __str__(self) -> str:
        return f"`{self.signal}` blind"


@dataclass(frozen=True)
class NotBreached:
    """The signal is fine, or nobody could measure it."""

    signal: Signal
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        return evidence.reading(self.signal).standing is not Standing.BREACHED

    def __str__(self) -> str:
        return f"`{self.signal}` not breached"


@dataclass(frozen=True)
class AtLeast:
    """A number of the signal, its value or a detail of it, is at least so large."""

    signal: Signal
    number: float
    detail: str = ""
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes, no, or None when the number is not known."""
        found = number_of(evidence.reading(self.signal), self.detail)
        return None if found is None else found >= self.number

    def __str__(self) -> str:
        return f"`{self.signal}` {self.detail or 'value'} >= {self.number:g}"


@dataclass(frozen=True)
class AtMost:
    """A number of the signal, its value or a detail of it, is at most so large."""

    signal: Signal
    number: float
    detail: str = ""
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes, no, or None when the number is not known."""
        found = number_of(evidence.reading(self.signal), self.detail)
        return None if found is None else found <= self.number

    def __str__(self) -> str:
        return f"`{self.signal}` {self.detail or 'value'} <= {self.number:g}"


@dataclass(frozen=True)
class _Several:
    """Conditions that are asked together."""

    conditions: tuple[Condition, ...]

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Those of all of them."""
        return tuple(signal for one in self.conditions for signal in one.signals)


class AnyOf(_Several):
    """At least one of the conditions holds."""

    def holds(self, evidence: Evidence) -> bool | None:
        """Yes if one says yes, no if all say no, else None."""
        answers = [one.holds(evidence) for one in self.conditions]
        return True if True in answers else None if None in answers else False

    def __str__(self) -> str:
        return " or ".join(
            f"({one})" if isinstance(one, AllOf) else str(one) for one in self.conditions
        )


class AllOf(_Several):
    """Every one of the conditions holds."""

    def holds(self, evidence: Evidence) -> bool | None:
        """No if one says no, yes if all say yes, else None."""
        answers = [one.holds(evidence) for one in self.conditions]
        return False if False in answers else None if None in answers else True

    def __str__(self) -> str:
        return " and ".join(
            f"({one})" if isinstance(one, AnyOf) else str(one) for one in self.conditions
        )


@dataclass(frozen=True)
class Storm:
    """Too many laws are broken at once to be believed: it is the measuring that is broken.

    Only invariants are counted. Harm and attribution move together whenever anything happens;
    exact laws about different things do not.

    Attributes:
        share: of the invariants that were measured, more than this share is breached.
        least: and at least so many.
    """

    share: float
    least: int = 5
    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        standings = [evidence.reading(s).standing for s in Signal if TIERS[s] is Tier.INVARIANT]
        measured = sum(standing is not Standing.BLIND for standing in standings)
        breached = standings.count(Standing.BREACHED)
        return breached >= self.least and breached > self.share * measured

    def __str__(self) -> str:
        return f"at least {self.least} and more than {self.share:.0%} of all invariants breached"


@dataclass(frozen=True)
class NothingMeasured:
    """There are payments, and neither an invariant nor a harm was measured."""

    signals: tuple[Signal, ...] = ()

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        return evidence.rows > 0 and all(
            evidence.reading(signal).standing is Standing.BLIND
            for signal in Signal
            if TIERS[signal] is not Tier.ATTRIBUTION
        )

    def __str__(self) -> str:
        return "no invariant and no harm measured"


@dataclass(frozen=True)
class Silent:
    """There are payments, and the signal is breached or blind."""

    signal: Signal

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signal itself."""
        return (self.signal,)

    def holds(self, evidence: Evidence) -> bool:
        """Yes or no."""
        return evidence.rows > 0 and evidence.reading(self.signal).standing is not Standing.FINE

    def __str__(self) -> str:
        return f"`{self.signal}` breached or blind"


def number_of(reading: Reading, detail: str = "") -> float | None:
    """A reading's value, or one of its details; None when it is blind or does not have it."""
    if reading.standing is Standing.BLIND:
        return None
    return reading.details.get(detail) if detail else reading.value
