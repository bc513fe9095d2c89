"""What healing may know at one moment: one reading per signal, and how each of them stands.

What belongs here: names and values. What a reading means together with others is `causes`; who
measures it is a monitor. A signal that nobody measured is blind, never fine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Tier(StrEnum):
    """What a signal may do."""

    INVARIANT = "invariant"  # exact; one sight is enough
    HARM = "harm"  # anytime-valid statistics; the only ones that start an episode by themselves
    ATTRIBUTION = "attribution"  # explains a harm, never starts anything


class Signal(StrEnum):
    """What is watched. A breach means what the comment says."""

    # Invariants
    HEARTBEAT = "heartbeat"  # a monitor or the scorer has fallen silent
    GOLDEN_ROWS = "golden_rows"  # a stored row scores otherwise than when it was recorded
    ARTIFACT = "artifact"  # the model in memory is not the one the history names
    CONFIGURATION = "configuration"  # policy or thresholds are not those that were approved
    SCHEMA = "schema"  # columns, types or categories that were never agreed
    NULLS = "nulls"  # a field is empty more often than in the reference
    RANGES = "ranges"  # values outside of what is possible
    UNITS = "units"  # a quantity is expressed in another unit
    CATEGORIES = "categories"  # a field takes values that the reference never had
    CROSS_FIELDS = "cross_fields"  # two fields contradict each other
    DUPLICATES = "duplicates"  # payments arrive twice under new ids
    CLOCK = "clock"  # event times run away from arrival times
    FEATURE_AGE = "feature_age"  # features do not know the newest past
    PARITY = "parity"  # served features differ from those recomputed
    LABEL_ARRIVALS = "label_arrivals"  # verdicts arrive later or more rarely than the curve says
    LABEL_CONFLICTS = "label_conflicts"  # sources contradict each other more than they ever did

    # Harm
    DISTURBED_RATE = "disturbed_rate"  # more payments reviewed or declined than the policy bears
    QUIET_RATE = "quiet_rate"  # far fewer than ever: a model that has stopped seeing
    ERRORS = "errors"  # requests that got no decision
    LATENCY = "latency"  # answers slower than promised
    MISSED_FRAUD = "missed_fraud"  # more fraud among what was approved than the scores expected
    AUDITED_PRECISION = "audited_precision"  # less fraud among what was disturbed than expected
    CANARY = "canary"  # the canary disturbs more, or fails more often, than its control arm
    REPLAY = "replay"  # on the same payments the champion disturbs more than the one before

    # Attribution
    FEATURE_SHIFT = "feature_shift"  # inputs are distributed otherwise; subjects name them
    SCORE_SHIFT = "score_shift"  # so are the scores
    VOLUME = "volume"  # many more payments than at this hour of other weeks
    CONCENTRATION = "concentration"  # few cards or terminals make unusually many payments
    AUDITED_SURGE = "audited_surge"  # clearly more fraud among what was disturbed than expected
    CHANGE = "change"  # model, thresholds or configuration changed not long ago


_HARMS_FROM, _CLUES_FROM = (
    list(Signal).index(s) for s in (Signal.DISTURBED_RATE, Signal.FEATURE_SHIFT)
)

TIERS: Mapping[Signal, Tier] = {
    **dict.fromkeys(list(Signal)[:_HARMS_FROM], Tier.INVARIANT),
    **dict.fromkeys(list(Signal)[_HARMS_FROM:_CLUES_FROM], Tier.HARM),
    **dict.fromkeys(list(Signal)[_CLUES_FROM:], Tier.ATTRIBUTION),
}
"""Signal -> what it may do."""


class Standing(StrEnum):
    """What a reading says."""

    FINE = "fine"
    BREACHED = "breached"
    BLIND = "blind"  # not measurable now: too few rows, too old, or its source is gone


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One signal at one moment.

    Attributes:
        signal: what was measured.
        standing: what it says.
        value: the number it says it by, in the signal's own unit; None when blind.
        bound: the number it is compared with, or None.
        rows: payments, labels or probes that it rests on.
        measured_us: when, microseconds UTC by the clock of the wall.
        subjects: the features, fields, sources or versions that it is about, worst first.
        details: further numbers, by name (e.g. `factor` of UNITS, `ks_after`, `age_us` of CHANGE).
        why: one sentence for a person, without any card's or customer's data.
    """

    signal: Signal
    standing: Standing
    value: float | None = None
    bound: float | None = None
    rows: int = 0
    measured_us: int = 0
    subjects: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that is known at one tick.

    Attributes:
        readings: at most one per signal; what is missing is blind.
        event_us: the newest payment's time, microseconds UTC: cooldowns, budgets and verification
            run by it, so that history is healed as it happened.
        now_us: the clock of the wall, microseconds UTC: approvals and leases run by it.
        rows: payments since the log began, for "fresh data since".
        champion: version that decides, or None.
        previous: version to go back to, or None.
        challenger: version that waits for promotion, or None.
        fallbacks: groups of features that a fallback model stands ready for.
        orders: digest of the scorer's orders in force.
        money_per_day: cost in minor units per day now, or None when it cannot be told.
        money_interval: its lower and upper end, or None.
        gain_per_day: minor units per day that a retraining would save at most, or None.
        learnable_frauds: frauds, mature or audited, that a training could learn from, or None.
    """

    readings: Mapping[Signal, Reading]
    event_us: int
    now_us: int
    rows: int
    champion: str | None = None
    previous: str | None = None
    challenger: str | None = None
    fallbacks: tuple[str, ...] = ()
    orders: str = ""
    money_per_day: float | None = None
    money_interval: tuple[float, float] | None = None
    gain_per_day: float | None = None
    learnable_frauds: int | None = None

    def reading(self, signal: Signal) -> Reading:
        """The reading of a signal; a blind one if nobody took it.

        Examples:
            >>> evidence = Evidence(readings={}, event_us=0, now_us=0, rows=0)
            >>> str(evidence.reading(Signal.UNITS).standing)
            'blind'
        """
        taken = self.readings.get(signal)
        return taken or Reading(signal=signal, standing=Standing.BLIND, why="nobody measured it")

    def breached(self, tier: Tier | None = None) -> tuple[Signal, ...]:
        """The signals that are breached, of one tier or of all, in the order of `Signal`."""
        return tuple(
            signal
            for signal in Signal
            if self.reading(signal).standing is Standing.BREACHED and tier in (None, TIERS[signal])
        )
