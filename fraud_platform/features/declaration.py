"""What a feature declaration says: which past it looks at, and what it computes from it.

The list of features is `spec`; how a function is computed is `batch` and `kernel` (whole histories)
and `reading` (one payment at a time). The rules that all of them keep are docs/semantics.md.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import polars as pl

from fraud_platform.errors import PermanentError
from fraud_platform.schemas import CONTEXT_COLUMNS, LARGEST_AMOUNT

MICROSECOND = timedelta(microseconds=1)

KEYS = ("seq", "transaction_id", "event_timestamp", "card_id", "terminal_id")
"""Columns that stand before the features in every table of them."""

ENTITY_COLUMNS = {"card": "card_id", "terminal": "terminal_id"}
"""Entities that have a past, and the column that names them."""

_TEXTS = {name for name, dtype in CONTEXT_COLUMNS.items() if dtype == pl.String}
"""Facts of a payment that are texts."""
_VALUES = _TEXTS | set(ENTITY_COLUMNS.values())

OUTLIER_FACTOR = 3
"""A payment is an outlier when its amount exceeds this many times the median before it."""
OUTLIER_REFERENCE = timedelta(days=30)
"""Length of the card's own past, before a payment, whose median amount judges it."""

SEMANTICS_VERSION = 2
"""Raise it when the meaning of a function changes while its declaration does not."""

CALENDAR_ZONE = "UTC"
"""Zone of hour, night and weekend; a fixed offset, so they are integer arithmetic on epoch time."""


class Function(StrEnum):
    """What is computed; amounts are in minor units of the transaction's currency."""

    AMOUNT = "amount"  # of this transaction, minor units
    HOUR_OF_DAY = "hour_of_day"  # 0..23
    IS_WEEKEND = "is_weekend"  # 1 on Saturday and Sunday
    IS_NIGHT = "is_night"  # 1 from 00:00 to 06:59:59.999999
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    MEDIAN = "median"  # mean of the two middle amounts when their number is even
    STD = "std"  # of the population: 0 for a single payment
    Z_SCORE = "z_score"  # (this amount - mean) / std; null if the std is 0
    OVER_MEAN = "over_mean"  # this amount / mean; null if the mean is 0
    OVER_MEDIAN = "over_median"  # this amount / median; null if the median is 0
    DISTINCT = "distinct"  # different values seen; unknown ones do not count
    IS_FIRST = "is_first"  # 1 if no payment seen has this payment's value; null if it is unknown
    SECONDS_SINCE_LAST = "seconds_since_last"  # newest event seen
    SECONDS_SINCE_FIRST = "seconds_since_first"  # oldest event seen
    RATE = "rate"  # of the payments seen, those in the stream
    STREAK_LENGTH = "streak_length"  # events of the stream after the newest payment outside it
    SECONDS_SINCE_STREAK = "seconds_since_streak"  # start: the oldest event of the streak


class Stream(StrEnum):
    """Which events count, of the payments that a decision sees."""

    PAYMENTS = "payments"  # all of them
    FRAUDS = "frauds"  # known to be fraud at the moment of the decision
    GOOD = "good"  # not known to be fraud at the moment of the decision


PLAIN = frozenset({Function.AMOUNT, Function.HOUR_OF_DAY, Function.IS_WEEKEND, Function.IS_NIGHT})
"""Functions of the transaction alone."""

OF_AMOUNTS = frozenset({
    *(Function.SUM, Function.MEAN, Function.MIN, Function.MAX, Function.MEDIAN, Function.STD),
    *(Function.Z_SCORE, Function.OVER_MEAN, Function.OVER_MEDIAN),
})  # fmt: skip
"""Functions of `amount_minor`."""

OF_VALUES = frozenset({Function.DISTINCT, Function.IS_FIRST})
"""Functions of a column of texts, which the declaration names."""

_STREAK = frozenset({Function.STREAK_LENGTH, Function.SECONDS_SINCE_STREAK})

OFFERED: dict[Stream, frozenset[Function]] = {
    Stream.PAYMENTS: frozenset(Function) - PLAIN - _STREAK - {Function.RATE},
    Stream.FRAUDS: _STREAK | {Function.COUNT, Function.RATE, Function.SECONDS_SINCE_LAST},
    Stream.GOOD: frozenset({Function.SECONDS_SINCE_LAST}),
}
"""Which functions can be asked of which stream."""

_WHEN_NOTHING_IS_SEEN: dict[Function, float] = {
    **dict.fromkeys((Function.COUNT, Function.SUM, Function.DISTINCT, Function.STREAK_LENGTH), 0.0),
    Function.IS_FIRST: 1.0,
}


@dataclass(frozen=True)
class Where:
    """Which payments count: those with this value of a fact that was known at the payment.

    Attributes:
        fact: a text column of `schemas.CONTEXT_COLUMNS`, or "is_outlier".
        equals: the value; a payment whose fact is unknown never counts.
    """

    fact: str
    equals: str | bool

    @property
    def is_sound(self) -> bool:
        """Whether the fact exists and can have this value."""
        if self.fact == "is_outlier":
            return isinstance(self.equals, bool)
        return self.fact in _TEXTS and isinstance(self.equals, str)


OUTLIER, ORDINARY = Where("is_outlier", True), Where("is_outlier", False)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of the model.

    Attributes:
        name: unique; says entity, quantity and window.
        entity: whose past it looks at: a key of `ENTITY_COLUMNS`, or "transaction" for none.
        function: what it computes.
        reason_code: stable short code that decisions carry; never reused for another meaning.
        reason_text: the plain sentence an analyst reads when this feature raised the score.
        stream: which of the payments seen count.
        value: for `OF_VALUES`: the column of texts it looks at.
        window: length of the look-back, or None for a function of the transaction alone.
        delay: gap between the decision and the newest event it may see.
        where: which of the stream's events count; None: all.

    Raises:
        PermanentError: the declaration contradicts itself.
    """

    name: str
    entity: str
    function: Function
    reason_code: str
    reason_text: str
    stream: Stream = Stream.PAYMENTS
    value: str | None = None
    window: timedelta | None = None
    delay: timedelta = timedelta(0)
    where: Where | None = None

    def __post_init__(self) -> None:
        if found := [rule for rule, is_kept in self._rules().items() if not is_kept]:
            raise PermanentError(
                f"Feature {self.name!r} declares function {self.function.value!r} of entity "
                f"{self.entity!r} over {self.stream.value!r} with window {self.window}, delay "
                f"{self.delay}, value {self.value!r} and where {self.where}.",
                hint="; ".join(found) + ".",
            )

    def _rules(self) -> dict[str, bool]:
        is_plain = self.function in PLAIN
        has_past = self.entity in ENTITY_COLUMNS
        return {
            "a function of the transaction alone has entity 'transaction' and no window; all "
            "others have an entity with a past and a window": (
                self.entity == "transaction" and self.window is None
                if is_plain
                else has_past and self.window is not None
            ),
            "a window is longer than nothing": self.window is None or self.window > timedelta(0),
            "a delay is not negative": self.delay >= timedelta(0),
            f"{self.stream.value} offer {sorted(OFFERED[self.stream])}": is_plain
            or self.function in OFFERED[self.stream],
            f"`value` names the column of {sorted(OF_VALUES)}": (self.function in OF_VALUES)
            == (self.value is not None),
            f"`value` is one of {sorted(_VALUES)}": self.value is None or self.value in _VALUES,
            f"`where` compares 'is_outlier' with true or false, or one of {sorted(_TEXTS)} with a "
            "text": self.where is None or self.where.is_sound,
            "streaks and good payments are cut out of all payments": self.where is None
            or (self.function not in _STREAK and self.stream is not Stream.GOOD),
        }

    @property
    def reach_us(self) -> int:
        """Age of the oldest event it may see, microseconds."""
        return ((self.window or timedelta(0)) + self.delay) // MICROSECOND

    @property
    def delay_us(self) -> int:
        """Age of the newest event it may see (exclusive), microseconds."""
        return self.delay // MICROSECOND

    @property
    def default(self) -> float | None:
        """Its value where nothing is seen: 0 for numbers of things, null where undefined."""
        return _WHEN_NOTHING_IS_SEEN.get(self.function)

    @property
    def needs_marks(self) -> bool:
        """Whether it asks which payments were outliers."""
        return self.where is not None and self.where.fact == "is_outlier"

    @property
    def lookback(self) -> timedelta:
        """Age of the oldest payment that can change its value: outliers look back themselves."""
        reach = self.reach_us * MICROSECOND
        return reach + OUTLIER_REFERENCE if self.needs_marks else reach

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its value; wording is not part of it."""
        parts: list[object] = [
            *(self.name, self.entity, self.stream.value, self.function.value, self.value),
            *(self.reach_us, self.delay_us, self.default),
            None if self.where is None else [self.where.fact, self.where.equals],
            [OUTLIER_FACTOR, OUTLIER_REFERENCE // MICROSECOND] if self.needs_marks else None,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def named_once(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """The features, if no two have one name or one reason code.

    Raises:
        PermanentError: two have.
    """
    for taken in ([f.name for f in features], [f.reason_code for f in features]):
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise PermanentError(
                f"found {twice} more than once among the features, expected each once",
                hint="every feature has a name and a reason code of its own",
            )
    return features


def refuse_beyond(largest: int) -> None:
    """Refuse amounts whose sums would not be exact.

    Raises:
        PermanentError: the amount is larger than `schemas.LARGEST_AMOUNT`.
    """
    if largest > LARGEST_AMOUNT:
        raise PermanentError(
            f"found an amount of {largest} minor units, expected at most {LARGEST_AMOUNT}",
            hint="larger amounts are quarantined: see FRAUD_VALIDATION__MAX_AMOUNT_MINOR",
        )


def digest_of(features: tuple[Feature, ...]) -> str:
    """SHA-256 (hex) of a list of features: their definitions, their order and the calendar zone."""
    parts = [SEMANTICS_VERSION, CALENDAR_ZONE, *(feature.digest for feature in features)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
