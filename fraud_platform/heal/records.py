"""What healing saw, did and was told, one record after another.

What belongs here: the record. What is true after all of them is `state`; that nobody can change
them is the ledger.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from fraud_platform.heal.actions import Act, Action, Level
from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing

EVERYTHING = "*"
"""In place of a cause: all of them."""
PLATFORM = "platform"
"""Who did it, when no person did."""


class Kind(StrEnum):
    """What a record says."""

    CHECKED = "checked"  # new evidence changed what is suspected
    DIAGNOSED = "diagnosed"  # a cause is believed; an episode begins
    PROPOSED = "proposed"  # an act waits for a person
    APPROVED = "approved"  # by a person
    REJECTED = "rejected"  # by a person: this remedy is not for this episode
    EXPIRED = "expired"  # nobody answered in time, or the reason is gone
    PLANNED = "planned"  # an act is to be carried out, from now until DONE or FAILED
    DONE = "done"  # it was carried out
    FAILED = "failed"  # it could not be
    VERIFIED = "verified"  # the symptom is gone on fresh payments
    REFUTED = "refuted"  # it is not
    RELAPSED = "relapsed"  # it was, and is back
    SKIPPED = "skipped"  # a rung that is not possible here
    HELD = "held"  # a rung that may not be taken now
    UNSEEN = "unseen"  # the cause can be neither confirmed nor refuted; again once: for long
    SEEN = "seen"  # it can be again
    LIFTED = "lifted"  # an order is no longer this episode's; another still needs it
    ESCALATED = "escalated"  # a person must act
    CLOSED = "closed"  # the cause is gone and everything is taken back
    PAUSED = "paused"  # by a person: nothing new for a cause
    RESUMED = "resumed"
    KILLED = "killed"  # by a person: nothing at all
    REVIVED = "revived"


class Numbers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reading as a record keeps it: see `evidence.Reading`."""

    standing: Standing
    value: float | None = None
    bound: float | None = None
    rows: int = 0
    subjects: tuple[str, ...] = ()


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Minor units per day that a remedy changed, below 0 saved; an interval where one is known.

    Attributes:
        per_day: the estimate.
        low: lower end, or None.
        high: upper end, or None.
    """

    per_day: float
    low: float | None = None
    high: float | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the ledger.

    Attributes:
        kind: what it says.
        event_us: newest payment's time, microseconds UTC.
        now_us: the wall's time, microseconds UTC.
        rows: payments since the log began.
        episode: names the episode, `cause@event_us`; empty: of none.
        cause: of the episode, or of a pause.
        matched: every cause that held.
        unsure: causes that could not be judged.
        evidence: signal -> numbers, of all that was measured.
        policy: digest of the heal policy.
        act: what is done, proposed, approved or judged.
        inverse: what would undo it.
        undoes: act id that this act takes back; empty: none.
        rung: place in the ladder; None: first aid, a page, or taking back.
        level: how it happens.
        by: `platform`, or a person's subject.
        before: what it was, as the actuator says.
        after: what it is now.
        money: change of cost by a verified or refuted remedy; None: cannot be told.
        money_per_day: cost per day when it was written, minor units.
        money_interval: its lower and upper end.
        would_have: level -> what would have happened at it.
        why: one sentence for a person.
        expires_us: until when a proposal waits or a pause lasts, by the wall; None: for ever.
    """

    kind: Kind
    event_us: int
    now_us: int
    rows: int = 0
    episode: str = ""
    cause: str = ""
    matched: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    evidence: Mapping[Signal, Numbers] = {}
    policy: str = ""
    act: Act | None = None
    inverse: Action | None = None
    undoes: str = ""
    rung: int | None = None
    level: Level | None = None
    by: str = PLATFORM
    before: str = ""
    after: str = ""
    money: Money | None = None
    money_per_day: float | None = None
    money_interval: tuple[float, float] | None = None
    would_have: Mapping[int, str] = {}
    why: str = ""
    expires_us: int | None = None


def numbers_of(evidence: Evidence) -> dict[Signal, Numbers]:
    """All that was measured, as a record keeps it."""
    return {
        reading.signal: _numbers(reading)
        for reading in evidence.readings.values()
        if reading.standing is not Standing.BLIND
    }


def _numbers(reading: Reading) -> Numbers:
    return Numbers(
        standing=reading.standing,
        value=reading.value,
        bound=reading.bound,
        rows=reading.rows,
        subjects=reading.subjects,
    )
