"""The standard features, one line each: the inputs of every model.

What the words of a line mean is `declaration`; nothing else needs to know that a line was added.
"""

from datetime import timedelta
from functools import cache

from fraud_platform.features.declaration import (
    OF_AMOUNTS,
    ORDINARY,
    OUTLIER,
    PLAIN,
    Feature,
    Function,
    Stream,
    Where,
    digest_of,
    named_once,
)

LATENESS = timedelta(days=7)
"""How far behind the newest event a decision may be and still find its whole window."""

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_WEEK, _FORTNIGHT, _MONTH, _QUARTER = 7 * _DAY, 14 * _DAY, 30 * _DAY, 90 * _DAY
_LABEL_DELAY = 7 * _DAY  # younger frauds are mostly not known yet: their share would mislead
_F, _S = Function, Stream

_SPANS = {
    _HOUR: ("1h", "hour"),
    _DAY: ("1d", "day"),
    _WEEK: ("7d", "7 days"),
    _FORTNIGHT: ("14d", "14 days"),
    _MONTH: ("30d", "30 days"),
    _QUARTER: ("90d", "90 days"),
}
_AT = {"card": "with this card", "terminal": "at this terminal"}
_VALUES = {
    "card_id": ("card", "cards"),
    "terminal_id": ("terminal", "terminals"),
    "country": ("country", "countries"),
    "device_id": ("device", "devices"),
    "merchant_category": ("merchant category", "merchant categories"),
}
_EVENTS = {_S.PAYMENTS: "payment", _S.FRAUDS: "fraud", _S.GOOD: "good payment"}
"""What one event of a stream is called."""

_WORDING: dict[Function, tuple[str, str]] = {
    _F.COUNT: ("{event}_count", "Number of {event}s {at} {when}."),
    _F.SUM: ("amount_sum", "Total amount paid {at} {when}."),
    _F.MEAN: ("amount_mean", "Average amount paid {at} {when}."),
    _F.MIN: ("amount_min", "Smallest amount paid {at} {when}."),
    _F.MAX: ("amount_max", "Largest amount paid {at} {when}."),
    _F.MEDIAN: ("amount_median", "Median amount paid {at} {when}."),
    _F.STD: ("amount_std", "Spread of the amounts paid {at} {when}."),
    _F.Z_SCORE: ("amount_z_score", "Spreads between this amount and the average {at} {when}."),
    _F.OVER_MEAN: ("amount_over_mean", "This amount against the average {at} {when}."),
    _F.OVER_MEDIAN: ("amount_over_median", "This amount against the median {at} {when}."),
    _F.DISTINCT: ("distinct_{values}", "Different {values} seen {at} {when}."),
    _F.IS_FIRST: ("is_new_{value}", "No payment {at} {when} had this {value}."),
    _F.SECONDS_SINCE_LAST: ("seconds_since_last_{event}", "Time since the last {event} {at}."),
    _F.SECONDS_SINCE_FIRST: ("seconds_since_first_{event}", "Time since the first {event} {at}."),
    _F.RATE: ("{event}_rate", "Share of known {event}s among payments {at} {when}."),
    _F.STREAK_LENGTH: ("{event}_streak_length", "Payments in the running row of {event}s {at}."),
    _F.SECONDS_SINCE_STREAK: ("seconds_since_{event}_streak", "Age of the row of {event}s {at}."),
}


def _windowed(  # noqa: PLR0913 -- one argument per part of a declaration
    entity: str,
    function: Function,
    window: timedelta,
    code: str,
    *,
    delay: timedelta = timedelta(0),
    stream: Stream = _S.PAYMENTS,
    value: str | None = None,
    where: Where | None = None,
) -> Feature:
    """Declare a feature over an entity's past; its name and sentence follow from the rest."""
    label, words = _SPANS[window]
    when = f"in the {words} that ended {delay.days} days ago" if delay else f"in the last {words}"
    singular, plural = _VALUES.get(value or "", (value, f"{value}s"))
    event = _event(stream, where)
    naming, wording = _WORDING[function]
    if where is not None and "{event}" not in naming:
        naming, wording = naming + "_of_{event}s", wording[:-1] + ", of {event}s only."
    quantity, sentence = (
        text.format(at=_AT[entity], when=when, event=event, value=singular, values=plural)
        for text in (naming, wording)
    )
    name = f"{entity}_{quantity}_{label}".replace(" ", "_") + ("_delayed" if delay else "")
    return Feature(
        name=name,
        entity=entity,
        function=function,
        reason_code=code,
        reason_text=sentence,
        stream=stream,
        value=value,
        window=window,
        delay=delay,
        where=where,
    )


def _event(stream: Stream, where: Where | None) -> str:
    """What one of the events that count is called; outliers are far above the card's median."""
    if where is None:
        return _EVENTS[stream]
    if where == OUTLIER:
        return "outlier" if stream is _S.PAYMENTS else f"outlying {_EVENTS[stream]}"
    kind = "ordinary" if where == ORDINARY else f"{where.equals} {where.fact.replace('_', ' ')}"
    return f"{kind} {_EVENTS[stream]}"


def _plain(function: Function, code: str, sentence: str) -> Feature:
    """Declare a feature of the transaction alone."""
    return Feature(
        name=f"transaction_{function}",
        entity="transaction",
        function=function,
        reason_code=code,
        reason_text=sentence,
    )


FEATURES: tuple[Feature, ...] = named_once(
    (
        _plain(_F.AMOUNT, "P01", "The amount itself."),
        _plain(_F.HOUR_OF_DAY, "P02", "The hour of the day."),
        _plain(_F.IS_WEEKEND, "P03", "Whether the payment was made at a weekend."),
        _plain(_F.IS_NIGHT, "P04", "Whether the payment was made at night."),
        _windowed("card", _F.COUNT, _HOUR, "C01"),
        _windowed("card", _F.COUNT, _DAY, "C02"),
        _windowed("card", _F.COUNT, _WEEK, "C03"),
        _windowed("card", _F.COUNT, _MONTH, "C04"),
        _windowed("card", _F.SUM, _DAY, "C05"),
        _windowed("card", _F.MEAN, _DAY, "C06"),
        _windowed("card", _F.MEAN, _WEEK, "C07"),
        _windowed("card", _F.MEAN, _MONTH, "C08"),
        _windowed("card", _F.MAX, _MONTH, "C09"),
        _windowed("card", _F.OVER_MEAN, _MONTH, "C10"),
        _windowed("card", _F.DISTINCT, _HOUR, "C11", value="terminal_id"),
        _windowed("card", _F.DISTINCT, _DAY, "C12", value="terminal_id"),
        _windowed("card", _F.DISTINCT, _WEEK, "C13", value="terminal_id"),
        _windowed("card", _F.SECONDS_SINCE_LAST, _MONTH, "C14"),
        _windowed("card", _F.IS_FIRST, _MONTH, "C15", value="terminal_id"),
        _windowed("card", _F.MIN, _MONTH, "C16"),
        _windowed("card", _F.STD, _MONTH, "C17"),
        _windowed("card", _F.Z_SCORE, _QUARTER, "C18"),
        _windowed("card", _F.OVER_MEDIAN, _QUARTER, "C19"),
        _windowed("card", _F.SECONDS_SINCE_FIRST, _DAY, "C20"),
        _windowed("card", _F.COUNT, _WEEK, "C21", where=OUTLIER),
        _windowed("card", _F.COUNT, _FORTNIGHT, "C22", where=OUTLIER),
        _windowed("card", _F.SECONDS_SINCE_LAST, _FORTNIGHT, "C23", where=OUTLIER),
        _windowed("card", _F.DISTINCT, _WEEK, "C24", value="country"),
        _windowed("card", _F.IS_FIRST, _QUARTER, "C25", value="country"),
        _windowed("terminal", _F.COUNT, _DAY, "T01"),
        _windowed("terminal", _F.COUNT, _DAY, "T02", delay=_LABEL_DELAY),
        _windowed("terminal", _F.COUNT, _WEEK, "T03", delay=_LABEL_DELAY),
        _windowed("terminal", _F.COUNT, _MONTH, "T04", delay=_LABEL_DELAY),
        _windowed("terminal", _F.COUNT, _WEEK, "T05", delay=_LABEL_DELAY, stream=_S.FRAUDS),
        _windowed("terminal", _F.COUNT, _MONTH, "T06", delay=_LABEL_DELAY, stream=_S.FRAUDS),
        _windowed("terminal", _F.RATE, _DAY, "T07", delay=_LABEL_DELAY, stream=_S.FRAUDS),
        _windowed("terminal", _F.RATE, _WEEK, "T08", delay=_LABEL_DELAY, stream=_S.FRAUDS),
        _windowed("terminal", _F.RATE, _MONTH, "T09", delay=_LABEL_DELAY, stream=_S.FRAUDS),
        _windowed("terminal", _F.DISTINCT, _DAY, "T10", value="card_id"),
        _windowed("terminal", _F.OVER_MEAN, _MONTH, "T11"),
        _windowed(
            "terminal",
            _F.COUNT,
            _FORTNIGHT,
            "T12",
            delay=_LABEL_DELAY,
            stream=_S.FRAUDS,
            where=ORDINARY,
        ),
        _windowed(
            "terminal",
            _F.COUNT,
            _MONTH,
            "T13",
            delay=_LABEL_DELAY,
            stream=_S.FRAUDS,
            where=ORDINARY,
        ),
        _windowed(
            "terminal", _F.SECONDS_SINCE_LAST, _MONTH, "T14", delay=_LABEL_DELAY, stream=_S.FRAUDS
        ),
        _windowed(
            "terminal", _F.SECONDS_SINCE_LAST, _MONTH, "T15", delay=_LABEL_DELAY, stream=_S.GOOD
        ),
        _windowed(
            "terminal", _F.STREAK_LENGTH, _MONTH, "T16", delay=_LABEL_DELAY, stream=_S.FRAUDS
        ),
        _windowed(
            "terminal", _F.SECONDS_SINCE_STREAK, _MONTH, "T17", delay=_LABEL_DELAY, stream=_S.FRAUDS
        ),
    )
)
"""All features, in the order of the model's columns."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
"""Names of `FEATURES`, in the same order."""

_IN_MONEY = OF_AMOUNTS - {Function.Z_SCORE, Function.OVER_MEAN, Function.OVER_MEDIAN}

MONEY_NAMES: tuple[str, ...] = tuple(
    feature.name for feature in FEATURES if feature.function in {Function.AMOUNT, *_IN_MONEY}
)
"""Features in minor units of money: a change of unit shows in them."""

CALENDAR_NAMES: tuple[str, ...] = tuple(
    feature.name for feature in FEATURES if feature.function in PLAIN - {Function.AMOUNT}
)
"""Features that follow the clock: one day of them never looks like a month of them."""

LOOKBACK: timedelta = max((feature.lookback for feature in FEATURES), default=timedelta(0))
"""Age of the oldest event that any feature may see: history needed before the first row wanted."""


@cache
def spec_digest() -> str:
    """Digest of `FEATURES`: a model only runs on the features it was trained on.

    Examples:
        >>> len(spec_digest())
        64
    """
    return digest_of(FEATURES)
