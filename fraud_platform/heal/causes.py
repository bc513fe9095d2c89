"""From evidence to a cause: an ordered table, read from the top; the first row that holds acts.

What belongs here: the table as data and how it is read. What is done about a cause is the policy.

How causes that look alike are told apart:

* A broken input against drift: an input that breaks an exact law is broken, however much else has
  moved with it. So breakage stands above drift and explains it.
* A change of unit against inflation: the unit monitor divides by powers of ten and sees whether the
  old distribution comes back; inflation never does. Against cards that are tried with tiny amounts,
  which look like a tenth of usual ones: those come from few devices, and a sender does not.
* Covariate against concept drift: where the error sits. Among what is disturbed, with inputs that
  moved: covariate. Among what was approved, or with inputs at rest: concept.
* A flash sale against an attack: both bring volume, only an attack brings fraud, and audits say so.
  Bots concentrate like an attack, and audits find nothing; before there are audits, an attack is
  told by many cards that pay from few devices, where bots have few cards.
* A bad release against a release into bad times: the old model on the same payments. A change alone
  accuses nobody. A slow machine excuses no release: what a replay shows does not turn on time.
* The model against its data: stored rows must score as they did when they were recorded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fraud_platform.heal.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Blind,
    Breached,
    Condition,
    Fine,
    NotBreached,
    NothingMeasured,
    Seen,
    Silent,
    Storm,
)
from fraud_platform.heal.evidence import TIERS, Evidence, Signal, Standing, Tier

HEALTHY = "healthy"
BLIND = "blind"
UNKNOWN = "unknown"

STORM_SHARE = 0.4
"""Share of the measured invariants above which the measuring itself is doubted."""

_BURST_SHARE = 0.25
"""Share of payments up to which those in another unit may all be of one burst."""

_SHIFTS = ("concept_drift", "covariate_shift", "benign_shift")
_DRIFTS = (*_SHIFTS, UNKNOWN)
_TRAFFIC = ("attack", "bots", "demand_surge")
_SAME_INPUTS = ("covariate_shift", "benign_shift", UNKNOWN)
_OF_A_RELEASE = (*_TRAFFIC, *_DRIFTS)
_STATISTICAL = ("bad_release", *_OF_A_RELEASE)


@dataclass(frozen=True)
class Cause:
    """One row of the table.

    Attributes:
        name: what it is called in policies and records; a name may have two rows.
        when: what must hold.
        advice: what a person should know and do, in one or two sentences.
        explains: names of later rows that hold because of this one, and hence do not act. A name
            that also holds by an earlier row acts by that one.
        leaves: of these, those that go on for a while when this one is over; None: all.
    """

    name: str
    when: Condition
    advice: str
    explains: tuple[str, ...] = ()
    leaves: tuple[str, ...] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it is told by an invariant."""
        return any(TIERS[signal] is Tier.INVARIANT for signal in self.when.signals)


@dataclass(frozen=True)
class Diagnosis:
    """What the table says of one moment.

    Attributes:
        cause: the first row that holds.
        matched: every cause that holds, in the order of the table; empty when healthy.
        standing: those of them that no earlier one explains; the first is `cause`.
        explained: causes that a row that holds explains, wherever they stand themselves: what they
            are told by cannot be trusted to say that they are over.
        places: by cause that holds, the place of its first row.
        refuted: causes that surely do not hold; a cause in neither could not be judged.
        harms: the harm signals that are breached.
        subjects: by cause that holds, what it is about: features, fields, versions, worst first.
    """

    cause: str
    matched: tuple[str, ...]
    standing: tuple[str, ...]
    explained: frozenset[str]
    places: Mapping[str, int]
    refuted: frozenset[str]
    harms: tuple[Signal, ...]
    subjects: Mapping[str, tuple[str, ...]]


def _any_breached(*signals: Signal) -> AnyOf:
    return AnyOf(tuple(Breached(signal) for signal in signals))


_MANY_CARDS_OF_FEW_DEVICES = AllOf(
    (
        Breached(Signal.CONCENTRATION),
        AtLeast(Signal.CONCENTRATION, 0.8, "cards_per_payment"),
        Blind(Signal.AUDITED_SURGE),
    )
)
"""Stolen cards that are tried one after another, told hours before audits can tell."""
_NOT_OF_A_BURST_ALONE = AnyOf(
    (NotBreached(Signal.CONCENTRATION), AtLeast(Signal.UNITS, _BURST_SHARE))
)
_BURST_NOBODY_AUDITED = AllOf((Breached(Signal.CONCENTRATION), Blind(Signal.AUDITED_SURGE)))
_NO_HARM = tuple(
    NotBreached(signal)
    for signal in (
        Signal.DISTURBED_RATE,
        Signal.QUIET_RATE,
        Signal.MISSED_FRAUD,
        Signal.AUDITED_PRECISION,
    )
)


@lru_cache(maxsize=10)
def table(storm_share: float = STORM_SHARE) -> tuple[Cause, ...]:
    """The rows in order.

    Args:
        storm_share: of the measured invariants, in (0, 1].
    """
    return (
        Cause(
            "model_artifact",
            _any_breached(Signal.GOLDEN_ROWS, Signal.ARTIFACT),
            "The model in memory is not the one that was promoted. Write its files again from the "
            "registry; if that does not help, the version before decides.",
            ("configuration_error", "latency", *_STATISTICAL),
        ),
        Cause(
            "configuration_error",
            Breached(Signal.CONFIGURATION),
            "Policy or thresholds are not those that were approved. Restore them; ask who changed "
            "them, and why it was not an approval.",
            _STATISTICAL,
        ),
        Cause(
            BLIND,
            AnyOf((Storm(storm_share), NothingMeasured())),
            "What is measured cannot be believed, or nothing is. Look at the telemetry first: "
            "references, clocks, the tick's own errors.",
            (
                *("latency", "unit_change", "null_flood", "schema_change", "range_break"),
                *("duplicate_feed", "clock_skew", "stale_features", "serving_skew"),
                *("label_pipeline", *_STATISTICAL),
            ),
        ),
        Cause(
            "bad_release",
            # A replay accuses the champion only while it is young.
            AllOf((Breached(Signal.REPLAY), Breached(Signal.CHANGE))),
            "On the same payments the new model does what the old one would not. Roll back, then "
            "look; slow answers do not excuse it, and a slow machine is looked at afterwards.",
            _OF_A_RELEASE,
        ),
        Cause(
            "latency",
            _any_breached(Signal.LATENCY, Signal.ERRORS),
            "Answers are slow or missing. Shed what no decision needs, then look at the machine; "
            "a release that is slow is rolled back.",
        ),
        Cause(
            "unit_change",
            AllOf(
                (Breached(Signal.UNITS), AtLeast(Signal.UNITS, 1.0, "sent"), _NOT_OF_A_BURST_ALONE)
            ),
            "Amounts arrive in another unit. Call the producer; they are divided back, or decided "
            "without, until they are right. Nothing may be learnt from these days.",
            ("range_break", "stale_features", "serving_skew", *_STATISTICAL),
        ),
        Cause(
            "mixed_history",
            AllOf((Breached(Signal.UNITS), AtMost(Signal.UNITS, 0.0, "sent"))),
            "Amounts are right again, and what remembers them is not: windows hold both units. It "
            "is decided without them until those payments have left the windows.",
            ("range_break", "serving_skew", *_STATISTICAL),
        ),
        Cause(
            "null_flood",
            Breached(Signal.NULLS),
            "A field has gone empty. Call the producer; a model that never knew the field decides. "
            "Nothing may be learnt from these days.",
            ("range_break", "serving_skew", *_STATISTICAL),
        ),
        Cause(
            "schema_change",
            _any_breached(Signal.SCHEMA, Signal.CATEGORIES),
            "Columns, types or categories were changed without notice. Agree on the change with "
            "the producer, then map it; until then decide without the field.",
            ("range_break", "serving_skew", *_STATISTICAL),
        ),
        Cause(
            "clock_skew",
            Breached(Signal.CLOCK),
            "Event times run away from arrival times, so every window is wrong. Check the "
            "producer's clock and time zone.",
            ("duplicate_feed", "range_break", "stale_features", "label_pipeline", *_STATISTICAL),
        ),
        Cause(
            "duplicate_feed",
            Breached(Signal.DUPLICATES),
            "Payments arrive twice under new ids, which doubles every count. Have the producer "
            "stop the second feed; counts recover as windows pass.",
            ("serving_skew", *_STATISTICAL),
        ),
        Cause(
            "range_break",
            _any_breached(Signal.RANGES, Signal.CROSS_FIELDS),
            "Values are impossible, or contradict each other. Call the producer; decide without "
            "the fields until they obey their laws again.",
            ("serving_skew", *_STATISTICAL),
        ),
        Cause(
            "stale_features",
            Breached(Signal.FEATURE_AGE),
            "Features do not know the newest past. Fold them again from the log; meanwhile decide "
            "without them.",
            ("serving_skew", *_STATISTICAL),
        ),
        Cause(
            "serving_skew",
            Breached(Signal.PARITY),
            "Served features differ from those recomputed from the log, so the model sees what it "
            "never learnt. Fold again; if it stays, the code differs.",
            _STATISTICAL,
        ),
        Cause(
            "label_pipeline",
            AnyOf((Breached(Signal.LABEL_ARRIVALS), Seen(Signal.LABEL_CONFLICTS))),
            "Verdicts are missing, late or contradict each other. Call whoever sends them; nothing "
            "is learnt and no verdict of labels is believed until they are back.",
            ("concept_drift",),
        ),
        Cause(
            BLIND,
            Silent(Signal.HEARTBEAT),
            "A monitor or the scorer has fallen silent. Exact laws that are still measured still "
            "count; statistics wait until it speaks again.",
            _STATISTICAL,
        ),
        Cause(
            "bad_release",
            Breached(Signal.CANARY),  # a change by itself
            "The cards of the canary fare worse than those of the champion. Stop it, then look.",
            _OF_A_RELEASE,
        ),
        Cause(
            "attack",
            AnyOf(
                (
                    AllOf(
                        (
                            Breached(Signal.AUDITED_SURGE),
                            _any_breached(
                                Signal.CONCENTRATION, Signal.VOLUME, Signal.DISTURBED_RATE
                            ),
                        )
                    ),
                    _MANY_CARDS_OF_FEW_DEVICES,
                )
            ),
            "More is disturbed or paid, and audits find clearly more fraud in it, or very many "
            "cards pay from very few devices. Look at the cards and terminals named; ask for a "
            "second factor there. Do not retrain on it.",
            ("bots", "demand_surge", *_DRIFTS),
            leaves=_SHIFTS,
        ),
        Cause(
            "bots",
            AllOf((Breached(Signal.CONCENTRATION), Fine(Signal.AUDITED_SURGE))),
            "Few cards or terminals make very many payments and audits find no more fraud than "
            "ever: scalping, a test, a broken client. Limit their rate; this is no fraud.",
            ("demand_surge", "covariate_shift", "benign_shift", UNKNOWN),
        ),
        Cause(
            "concept_drift",
            Breached(Signal.MISSED_FRAUD),
            "The same payments mean something else: fraud that the scores do not see. Audit more, "
            "then learn it.",
            _SAME_INPUTS,
        ),
        Cause(
            "demand_surge",
            AllOf((Breached(Signal.VOLUME), NotBreached(Signal.AUDITED_SURGE))),
            "Many more payments and no more fraud among them: a sale or a holiday. Scale; change "
            "no threshold and learn nothing from it.",
            # Alarms that are none come from what counts the week; missed fraud does not.
            _DRIFTS,
            leaves=_SHIFTS,
        ),
        Cause(
            "concept_drift",
            AllOf((Seen(Signal.AUDITED_PRECISION), Fine(Signal.FEATURE_SHIFT))),
            "The same payments mean something else: alarms that are none. Audit more, then learn "
            "it.",
            _SAME_INPUTS,
        ),
        Cause(
            "covariate_shift",
            AllOf(
                (
                    # Where nobody audits it must still be able to be over.
                    AnyOf(
                        (
                            Breached(Signal.DISTURBED_RATE),
                            Breached(Signal.QUIET_RATE),
                            Seen(Signal.AUDITED_PRECISION),
                        )
                    ),
                    Breached(Signal.FEATURE_SHIFT),
                    NotBreached(Signal.MISSED_FRAUD),
                )
            ),
            "Customers pay otherwise than those the model knows, and it does harm. The governor "
            "holds the bound; recalibrate, then retrain with old data kept.",
            (UNKNOWN,),
        ),
        Cause(
            UNKNOWN,
            AnyOf(
                (
                    _any_breached(Signal.DISTURBED_RATE, Signal.QUIET_RATE),
                    # Without audits, or a version before, it must still be able to be over.
                    Seen(Signal.AUDITED_PRECISION),
                    Seen(Signal.REPLAY),
                    _BURST_NOBODY_AUDITED,
                )
            ),
            "Harm, and nothing here explains it. A person must look; more audits are drawn so "
            "that there is something to look at.",
            ("benign_shift",),
        ),
        Cause(
            "benign_shift",
            AllOf((_any_breached(Signal.FEATURE_SHIFT, Signal.SCORE_SHIFT), *_NO_HARM)),
            "Traffic moved and nobody is harmed. Nothing to heal.",
        ),
    )


CAUSES = table()
"""The table, in order. When no row holds, the platform is healthy."""

EXACT = frozenset(cause.name for cause in CAUSES if cause.is_exact) - {BLIND}
"""Causes that an exact law tells; what they did to windows and rates outlasts them."""

NAMES = (*dict.fromkeys(cause.name for cause in CAUSES), HEALTHY)
"""Every answer, in the order of the table."""


def diagnose(evidence: Evidence, causes: Iterable[Cause] = CAUSES) -> Diagnosis:
    """Read the table from the top.

    Examples:
        >>> from fraud_platform.heal.evidence import Reading
        >>> def seen(*signals):
        ...     readings = {s: Reading(signal=s, standing=Standing.BREACHED) for s in signals}
        ...     readings[Signal.HEARTBEAT] = Reading(
        ...         signal=Signal.HEARTBEAT, standing=Standing.FINE)
        ...     return Evidence(readings=readings, event_us=0, now_us=0, rows=1)
        >>> diagnose(seen(Signal.DISTURBED_RATE, Signal.FEATURE_SHIFT)).cause
        'covariate_shift'
        >>> found = diagnose(seen(Signal.DISTURBED_RATE, Signal.FEATURE_SHIFT, Signal.NULLS))
        >>> found.cause, found.matched
        ('null_flood', ('null_flood', 'covariate_shift', 'unknown'))
    """
    answers = [(cause, cause.when.holds(evidence)) for cause in causes]
    held = [cause for cause, answer in answers if answer]
    standing: dict[str, None] = {}
    explained: set[str] = set()
    for cause in held:
        if cause.name not in explained:
            standing[cause.name] = None
        explained.update(cause.explains)
    matched = tuple(dict.fromkeys(cause.name for cause in held))
    places = {cause.name: place for place, (cause, answer) in [*enumerate(answers)][::-1] if answer}
    undecided = {cause.name for cause, answer in answers if answer is None}
    refuted = {cause.name for cause, _ in answers} - undecided - set(matched)
    return Diagnosis(
        cause=next(iter(standing), HEALTHY),
        matched=matched,
        standing=tuple(standing),
        explained=frozenset(explained),
        places=places,
        refuted=frozenset(refuted),
        harms=evidence.breached(Tier.HARM),
        subjects={cause.name: _subjects(cause, evidence) for cause in reversed(held)},
    )


def advice(name: str) -> str:
    """What a person should know about a cause."""
    return " ".join(cause.advice for cause in CAUSES if cause.name == name) or "Nothing to do."


def as_markdown(causes: Iterable[Cause] = CAUSES) -> str:
    """The table for a page of documentation."""
    rows = ["| # | cause | when | what it means |", "|---|---|---|---|"]
    rows += [
        f"| {number} | `{cause.name}` | {cause.when} | {cause.advice} |"
        for number, cause in enumerate(causes, start=1)
    ]
    return "\n".join([*rows, f"| | `{HEALTHY}` | none of these | Nothing to do. |"]) + "\n"


def _subjects(cause: Cause, evidence: Evidence) -> tuple[str, ...]:
    """What the breached signals of a row are about, each once."""
    readings = [evidence.reading(signal) for signal in cause.when.signals]
    named = [s for one in readings if one.standing is Standing.BREACHED for s in one.subjects]
    return tuple(dict.fromkeys(named))
