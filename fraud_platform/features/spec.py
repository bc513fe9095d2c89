"""The features, declared once as data; `batch` and `rings` are two readings of this list.

A new feature is one line in `FEATURES`. How a function is computed from past events is `batch`
(whole histories) and `rings` (one payment at a time); both must agree to the bit.

What a windowed value means, for a decision d at time t with window w and delay D:

* an event e of the same entity is seen when `t - D - w <= e.time < t - D` and `e.seq < d.seq`:
  half-open, strictly before, and never before it arrived; payments of the same instant do not see
  each other;
* a fraud verdict on e counts when e is seen, the verdict was known (`known <= t` and
  `label.seq < d.seq`) and no later verdict (by known time, then seq), also known, says otherwise;
* state is int64, a float is made once, at the end; an empty count, sum or distinct is 0, an empty
  mean, maximum, ratio, rate or time-since is null.

The log gives a label a larger seq than its transaction; both readings rely on that.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from fraud_platform.errors import PermanentError

MICROSECOND = timedelta(microseconds=1)

CALENDAR_ZONE = "UTC"
"""Zone of hour, night and weekend; a fixed offset, so they are integer arithmetic on epoch time."""

LATENESS = timedelta(days=7)
"""How far behind the newest event a decision may be and still find its whole window."""

SEMANTICS_VERSION = 1
"""Raise it when the meaning of a function changes while its declaration does not."""


class Function(StrEnum):
    """What is computed; amounts are in minor units of the transaction's currency."""

    AMOUNT = "amount"  # of this transaction, minor units
    HOUR_OF_DAY = "hour_of_day"  # 0..23
    IS_WEEKEND = "is_weekend"  # 1 on Saturday and Sunday
    IS_NIGHT = "is_night"  # 1 from 00:00 to 06:59:59.999999
    COUNT = "count"  # transactions seen
    AMOUNT_SUM = "amount_sum"
    AMOUNT_MEAN = "amount_mean"
    AMOUNT_MAX = "amount_max"
    AMOUNT_OVER_MEAN = "amount_over_mean"  # this amount / mean amount seen; null if the mean is 0
    DISTINCT_PARTNERS = "distinct_partners"  # terminals of a card, cards of a terminal
    IS_NEW_PARTNER = "is_new_partner"  # 1 if no transaction seen has this card and this terminal
    SECONDS_SINCE_LAST = "seconds_since_last"  # since the newest transaction seen
    FRAUD_COUNT = "fraud_count"  # transactions seen that are known to be fraud
    FRAUD_RATE = "fraud_rate"  # of the transactions seen; not yet labelled ones count as genuine


UNWINDOWED = frozenset(
    {Function.AMOUNT, Function.HOUR_OF_DAY, Function.IS_WEEKEND, Function.IS_NIGHT}
)
"""Functions of the transaction alone."""


@dataclass(frozen=True)
class Feature:
    """One input of the model.

    Attributes:
        name: `{entity}_{quantity}_{window}`, with `_delayed` at the end behind the label delay.
        entity: whose past it looks at: "card", "terminal", or "transaction" for none.
        function: what it computes.
        reason_code: stable short code that decisions carry; never reused for another meaning.
        reason_text: the plain sentence an analyst reads when this feature raised the score.
        window: length of the look-back, or None for a function of the transaction alone.
        delay: gap between the decision and the newest event it may see.

    Raises:
        PermanentError: the declaration contradicts itself.
    """

    name: str
    entity: str
    function: Function
    reason_code: str
    reason_text: str
    window: timedelta | None = None
    delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        plain = self.function in UNWINDOWED
        if plain != (self.window is None) or plain != (self.entity == "transaction"):
            raise PermanentError(
                f"Feature {self.name!r} declares function {self.function.value!r} of entity "
                f"{self.entity!r} with window {self.window}.",
                hint="Functions of the transaction alone have entity 'transaction' and no window; "
                "all others have an entity with a past and a window.",
            )

    @property
    def reach_us(self) -> int:
        """Age of the oldest event it may see, microseconds."""
        return ((self.window or timedelta(0)) + self.delay) // MICROSECOND

    @property
    def delay_us(self) -> int:
        """Age of the newest event it may see (exclusive), microseconds."""
        return self.delay // MICROSECOND

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its value; wording is not part of it."""
        parts = [self.name, self.entity, self.function.value, self.reach_us, self.delay_us]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_WEEK, _MONTH = 7 * _DAY, 30 * _DAY
_LABEL_DELAY = 7 * _DAY  # younger frauds are mostly not known yet: their share would mislead
_F = Function

_SPANS = {_HOUR: ("1h", "hour"), _DAY: ("1d", "day"), _WEEK: ("7d", "7 days")} | {
    _MONTH: ("30d", "30 days")
}
_AT = {"card": "with this card", "terminal": "at this terminal"}
_PARTNER = {"card": "terminal", "terminal": "card"}
_WORDING: dict[Function, tuple[str, str]] = {
    _F.COUNT: ("transaction_count", "Number of payments {at} {when}."),
    _F.AMOUNT_SUM: ("amount_sum", "Total amount paid {at} {when}."),
    _F.AMOUNT_MEAN: ("amount_mean", "Average amount paid {at} {when}."),
    _F.AMOUNT_MAX: ("amount_max", "Largest amount paid {at} {when}."),
    _F.AMOUNT_OVER_MEAN: ("amount_over_mean", "This amount against the average {at} {when}."),
    _F.DISTINCT_PARTNERS: ("distinct_{partner}s", "Different {partner}s seen {at} {when}."),
    _F.IS_NEW_PARTNER: ("is_new_{partner}", "No payment of this card at this terminal {when}."),
    _F.SECONDS_SINCE_LAST: ("seconds_since_last", "Time since the last payment {at} {when}."),
    _F.FRAUD_COUNT: ("fraud_count", "Number of known frauds {at} {when}."),
    _F.FRAUD_RATE: ("fraud_rate", "Share of known frauds among payments {at} {when}."),
}


def _windowed(
    entity: str, function: Function, window: timedelta, code: str, delay: timedelta = 0 * _DAY
) -> Feature:
    """Declare a feature over an entity's past; its name and sentence follow from the rest."""
    label, words = _SPANS[window]
    when = f"in the {words} that ended {delay.days} days ago" if delay else f"in the last {words}"
    quantity, sentence = (
        text.format(at=_AT[entity], partner=_PARTNER[entity], when=when)
        for text in _WORDING[function]
    )
    name = f"{entity}_{quantity}_{label}" + ("_delayed" if delay else "")
    return Feature(name, entity, function, code, sentence, window, delay)


def _plain(function: Function, code: str, sentence: str) -> Feature:
    """Declare a feature of the transaction alone."""
    return Feature(f"transaction_{function}", "transaction", function, code, sentence)


FEATURES: tuple[Feature, ...] = (
    _plain(_F.AMOUNT, "P01", "The amount itself."),
    _plain(_F.HOUR_OF_DAY, "P02", "The hour of the day."),
    _plain(_F.IS_WEEKEND, "P03", "Whether the payment was made at a weekend."),
    _plain(_F.IS_NIGHT, "P04", "Whether the payment was made at night."),
    _windowed("card", _F.COUNT, _HOUR, "C01"),
    _windowed("card", _F.COUNT, _DAY, "C02"),
    _windowed("card", _F.COUNT, _WEEK, "C03"),
    _windowed("card", _F.COUNT, _MONTH, "C04"),
    _windowed("card", _F.AMOUNT_SUM, _DAY, "C05"),
    _windowed("card", _F.AMOUNT_MEAN, _DAY, "C06"),
    _windowed("card", _F.AMOUNT_MEAN, _WEEK, "C07"),
    _windowed("card", _F.AMOUNT_MEAN, _MONTH, "C08"),
    _windowed("card", _F.AMOUNT_MAX, _MONTH, "C09"),
    _windowed("card", _F.AMOUNT_OVER_MEAN, _MONTH, "C10"),
    _windowed("card", _F.DISTINCT_PARTNERS, _HOUR, "C11"),
    _windowed("card", _F.DISTINCT_PARTNERS, _DAY, "C12"),
    _windowed("card", _F.DISTINCT_PARTNERS, _WEEK, "C13"),
    _windowed("card", _F.SECONDS_SINCE_LAST, _MONTH, "C14"),
    _windowed("card", _F.IS_NEW_PARTNER, _MONTH, "C15"),
    _windowed("terminal", _F.COUNT, _DAY, "T01"),
    _windowed("terminal", _F.COUNT, _DAY, "T02", _LABEL_DELAY),
    _windowed("terminal", _F.COUNT, _WEEK, "T03", _LABEL_DELAY),
    _windowed("terminal", _F.COUNT, _MONTH, "T04", _LABEL_DELAY),
    _windowed("terminal", _F.FRAUD_COUNT, _WEEK, "T05", _LABEL_DELAY),
    _windowed("terminal", _F.FRAUD_COUNT, _MONTH, "T06", _LABEL_DELAY),
    _windowed("terminal", _F.FRAUD_RATE, _DAY, "T07", _LABEL_DELAY),
    _windowed("terminal", _F.FRAUD_RATE, _WEEK, "T08", _LABEL_DELAY),
    _windowed("terminal", _F.FRAUD_RATE, _MONTH, "T09", _LABEL_DELAY),
)
"""All features, in the order of the model's columns."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
"""Names of `FEATURES`, in the same order."""

MONEY_NAMES: tuple[str, ...] = tuple(
    feature.name
    for feature in FEATURES
    if feature.function
    in {Function.AMOUNT, Function.AMOUNT_SUM, Function.AMOUNT_MEAN, Function.AMOUNT_MAX}
)
"""Features in minor units of money: a change of unit shows in them."""

CALENDAR_NAMES: tuple[str, ...] = tuple(
    feature.name
    for feature in FEATURES
    if feature.function in {Function.HOUR_OF_DAY, Function.IS_WEEKEND, Function.IS_NIGHT}
)
"""Features that follow the clock: one day of them never looks like a month of them."""

LOOKBACK: timedelta = max(feature.reach_us for feature in FEATURES) * MICROSECOND
"""Age of the oldest event that any feature may see: history needed before the first row wanted."""


def digest_of(features: tuple[Feature, ...]) -> str:
    """SHA-256 (hex) of a list of features: their definitions, their order and the calendar zone."""
    parts = [SEMANTICS_VERSION, CALENDAR_ZONE, *(feature.digest for feature in features)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def spec_digest() -> str:
    """Digest of `FEATURES`: a model only runs on the features it was trained on.

    Examples:
        >>> len(spec_digest())
        64
    """
    return digest_of(FEATURES)
