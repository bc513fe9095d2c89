"""The parts of a heal policy: what each may say, and what it may not say by itself.

What belongs here: shapes and the rules of one part. Rules between parts are `policy`.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from fraud_platform.heal.actions import Action, Level
from fraud_platform.heal.conditions import (
    AllOf,
    AtLeast,
    AtMost,
    Blind,
    Breached,
    Condition,
    Fine,
)
from fraud_platform.heal.evidence import Signal, Standing


def require_at_least(bound: float, **found: float) -> None:
    """Raise ValueError unless all are numbers no smaller than the bound; NaN is none."""
    for name, number in found.items():
        if not number >= bound:
            raise ValueError(f"found {name}={number}, expected at least {bound}")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the document: every field is known, nothing is changed after reading."""


class Raise(Part, frozen=True, kw_only=True):
    """How often a cause must hold before it is believed.

    Attributes:
        sights: checks at which it holds,
        of: among so many, the newest included.
    """

    sights: int = 2
    of: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.sights <= self.of <= 10:
            raise ValueError(f"found {self.sights} of {self.of}, expected 1 <= sights <= of <= 10")


class Check(Part, frozen=True, kw_only=True):
    """When evidence counts as new: after so many payments, or so many seconds.

    Attributes:
        rows: payments, at least 1.
        seconds: of payments' time or of the wall's, at least 1.
    """

    rows: int = 100
    seconds: int = 60

    def __post_init__(self) -> None:
        require_at_least(1, rows=self.rows, seconds=self.seconds)


_STANDS: Mapping[Standing, Callable[[Signal], Condition]] = {
    Standing.FINE: Fine,
    Standing.BREACHED: Breached,
    Standing.BLIND: Blind,
}


class Need(Part, frozen=True, kw_only=True):
    """A condition for a rung: how a signal stands, or a bound on a number of it.

    Attributes:
        signal: what is asked.
        standing: it must stand so.
        detail: of which detail the number is; empty: the value.
        at_least: the number is no smaller.
        at_most: the number is no larger.
    """

    signal: Signal
    standing: Standing | None = None
    detail: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.standing is None and self.at_least is None and self.at_most is None:
            raise ValueError(
                f"found a need for {self.signal} that asks nothing, expected standing, at_least "
                "or at_most"
            )

    @property
    def condition(self) -> Condition:
        """The same as a condition of the table."""
        asked: list[Condition] = []
        if self.standing is not None:
            asked.append(_STANDS[self.standing](self.signal))
        if self.at_least is not None:
            asked.append(AtLeast(self.signal, self.at_least, self.detail))
        if self.at_most is not None:
            asked.append(AtMost(self.signal, self.at_most, self.detail))
        return AllOf(tuple(asked))


class Verify(Part, frozen=True, kw_only=True):
    """When a remedy has worked: on payments since, the symptom is gone.

    Attributes:
        fine: signals that must be measured and fine.
        not_breached: signals that must not be breached; they may be blind.
        rows: payments since the act before it can have worked.
        within_minutes: after so long, and three times the rows, what is still breached has failed.
    """

    fine: tuple[Signal, ...] = ()
    not_breached: tuple[Signal, ...] = ()
    rows: int = 3_000
    within_minutes: int = 20

    def __post_init__(self) -> None:
        require_at_least(0, rows=self.rows)
        require_at_least(1, within_minutes=self.within_minutes)
        if not (self.fine or self.not_breached):
            raise ValueError("found a verification of no signal, expected at least one")


class FirstAid(Part, frozen=True, kw_only=True):
    """A safe step at once, taken back when the cause is over.

    Attributes:
        do: the action.
        amounts: its numbers, e.g. `times` of step_up_review.
    """

    do: Action
    amounts: Mapping[str, float] = {}


class Rung(Part, frozen=True, kw_only=True):
    """One remedy of a ladder.

    Attributes:
        do: the action.
        level: how much of it happens without a person.
        needs: it is skipped unless all of these hold.
        once: it waits, and a person is told, until one of these is breached; empty: for nothing.
        amounts: its numbers, e.g. `share` of raise_budget.
        timeout_minutes: an act without an answer for so long has failed.
        lasts_minutes: it ends by itself after so long, by the wall; None: when taken back.
        verify: how this one is verified; None: as the cause says.
    """

    do: Action
    level: Level
    needs: tuple[Need, ...] = ()
    once: tuple[Signal, ...] = ()
    amounts: Mapping[str, float] = {}
    timeout_minutes: int = 10
    lasts_minutes: int | None = None
    verify: Verify | None = None

    def __post_init__(self) -> None:
        require_at_least(1, timeout_minutes=self.timeout_minutes)
        if self.lasts_minutes is not None:
            require_at_least(1, lasts_minutes=self.lasts_minutes)


class Treatment(Part, frozen=True, kw_only=True, rename={"raised": "raise"}):
    """What is done about one cause.

    Attributes:
        raised: how often it must hold; None: as everywhere. Written `raise`.
        clear: after how many clean checks it is over; None: as everywhere.
        first_aid: safe steps, all at once.
        ladder: remedies, one after another, each verified; after two failures a person is called.
        verify: how remedies are verified.
        forbids: actions that nobody may start while it holds, for whatever cause.
        tells: whether a person is called when the ladder has nothing left.
        settle_minutes: so long after its end it still explains others; None: as everywhere if it is
            exact, else not at all.
    """

    raised: Raise | None = None
    clear: int | None = None
    first_aid: tuple[FirstAid, ...] = ()
    ladder: tuple[Rung, ...] = ()
    verify: Verify | None = None
    forbids: tuple[Action, ...] = ()
    tells: Literal["person", "nobody"] = "person"
    settle_minutes: int | None = None

    def __post_init__(self) -> None:
        if self.clear is not None:
            require_at_least(1, clear=self.clear)
        if self.settle_minutes is not None:
            require_at_least(0, settle_minutes=self.settle_minutes)


class Budgets(Part, frozen=True, kw_only=True):
    """Most remedies in any 24 hours of payments; first aid, pages and taking back are free.

    Attributes:
        remedies: altogether.
        per_action: of one action.
        per_cause: for one cause.
        learning: that make or move a model.
        retrains: of these, that make one.
    """

    remedies: int = 6
    per_action: int = 3
    per_cause: int = 4
    learning: int = 2
    retrains: int = 2

    def __post_init__(self) -> None:
        require_at_least(0, **msgspec.structs.asdict(self))


class Bounds(Part, frozen=True, kw_only=True):
    """What no act may exceed, whatever a rung says.

    Attributes:
        disturbed: lowest and highest share of payments to be reviewed or declined.
        audit_factor: most times as many audits.
        unit_factor: largest factor between units.
    """

    disturbed: tuple[float, float] = (0.01, 0.15)
    audit_factor: float = 5.0
    unit_factor: float = 10_000.0

    def __post_init__(self) -> None:
        low, high = self.disturbed
        if not 0.0 < low <= high < 1.0:
            raise ValueError(f"found disturbed={self.disturbed}, expected 0 < low <= high < 1")
        require_at_least(1, audit_factor=self.audit_factor, unit_factor=self.unit_factor)


class Demotion(Part, frozen=True, kw_only=True):
    """When healing has been wrong so often that it must ask.

    Attributes:
        last: verdicts that count.
        rate: share of refuted remedies that is borne.
        confidence: one-sided, of the exact lower bound that must be above it.
    """

    last: int = 20
    rate: float = 0.1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        require_at_least(1, last=self.last)
        if not (0.0 < self.rate < 1.0 and 0.5 <= self.confidence < 1.0):
            raise ValueError(
                f"found rate={self.rate} and confidence={self.confidence}, expected them in (0, 1) "
                "and [0.5, 1)"
            )


class Learning(Part, frozen=True, kw_only=True):
    """When making a model is worth it.

    Attributes:
        horizon_days: a gain counts for so long.
        training_cost_minor: what a training costs, minor units.
        risk_cost_minor: what replacing the model costs in expectation, minor units.
        min_frauds: fewest frauds to learn from, mature or audited.
    """

    horizon_days: float = 7.0
    training_cost_minor: int = 0
    risk_cost_minor: int = 0
    min_frauds: int = 500

    def __post_init__(self) -> None:
        require_at_least(0, **msgspec.structs.asdict(self))
