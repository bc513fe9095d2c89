"""The features of a whole stretch of history at once: the offline reading of `spec`.

Each function of `spec` is one entry of a table here, over what the decisions see (`lines`). Late
rows need no special case, and no result depends on the order of the input or on the number of
threads.
"""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.intervals import NOTHING, Ints
from fraud_platform.features.lines import Log, Seen, lines
from fraud_platform.features.spec import FEATURES, UNWINDOWED, Feature, Function

Floats = NDArray[np.float64]

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_KEYS = ("seq", "transaction_id", "event_timestamp", "card_id", "terminal_id")


def compute(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    since: datetime | None = None,
    features: tuple[Feature, ...] = FEATURES,
) -> pl.DataFrame:
    """Every feature of every transaction, as it was at the moment of its decision.

    Args:
        transactions: `schemas.TRANSACTIONS` rows, one per id, in any order; they must reach
            `LOOKBACK` further back than the first row wanted, else old windows are cut.
        labels: `schemas.LABELS` rows of these transactions, as much as is known; verdicts that a
            decision could not know yet are ignored for it.
        since: answer only for transactions at or after this time (UTC); None: for all.
        features: what to compute.

    Returns:
        seq, transaction_id, event_timestamp, card_id, terminal_id and one Float64 column per
        feature (null: undefined), sorted by seq.
    """
    history = transactions.select(*_KEYS, "amount_minor").sort("seq")
    wanted = np.ones(history.height, dtype=np.bool_)
    if since is not None:
        wanted = (history["event_timestamp"] >= since).to_numpy()
    log = Log.of(history, labels)
    answered = history.select(_KEYS).filter(pl.Series("wanted", wanted, pl.Boolean))
    columns = {
        feature.name: _PLAIN[feature.function](log)[wanted]
        for feature in features
        if feature.function in UNWINDOWED
    }
    for kind in dict.fromkeys(_kind(feature) for feature in features if feature.window):
        mine = [feature for feature in features if _kind(feature) == kind]
        columns |= _windowed_columns(log, kind, mine, np.flatnonzero(wanted))
    return answered.with_columns(
        pl.Series(feature.name, columns[feature.name]).fill_nan(None) for feature in features
    )


def _kind(feature: Feature) -> str:
    """Whose transactions the window is cut from: novelty looks at one card at one terminal."""
    return "pair" if feature.function is Function.IS_NEW_PARTNER else feature.entity


def _windowed_columns(
    log: Log, kind: str, features: list[Feature], wanted: Ints
) -> dict[str, Floats]:
    """Values of the wanted rows, by feature name, for features of one kind of entity."""
    columns = {feature.name: np.empty(len(wanted)) for feature in features}
    reach_us = max(feature.reach_us for feature in features)
    for seen in lines(log, kind, wanted, reach_us):
        places = np.searchsorted(wanted, seen.line.rows)
        for feature in features:
            columns[feature.name][places] = _WINDOWED[feature.function](seen, feature)
    return columns


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotients; NaN where the denominator is zero."""
    quotients: Floats = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotients, where=denominator != 0)
    return quotients


def _float(values: Ints) -> Floats:
    converted: Floats = values.astype(np.float64)
    return converted


def _amount_sum(seen: Seen, feature: Feature) -> Floats:
    return _float(seen.sum(feature, seen.log.amounts[seen.rows]))


def _amount_mean(seen: Seen, feature: Feature) -> Floats:
    return _divide(_amount_sum(seen, feature), _float(seen.sum(feature)))


def _amount_max(seen: Seen, feature: Feature) -> Floats:
    largest = seen.max(feature, seen.log.amounts[seen.rows])
    return np.where(largest == NOTHING, np.nan, _float(largest))


def _amount_over_mean(seen: Seen, feature: Feature) -> Floats:
    amounts = _float(seen.log.amounts[seen.line.rows])
    return _divide(amounts * _float(seen.sum(feature)), _amount_sum(seen, feature))


def _seconds_since_last(seen: Seen, feature: Feature) -> Floats:
    newest = seen.max(feature, seen.times)
    elapsed = np.where(newest == NOTHING, 0, seen.log.times[seen.line.rows] - newest)
    return np.where(newest == NOTHING, np.nan, _float(elapsed) / 1e6)


_WINDOWED: dict[Function, Callable[[Seen, Feature], Floats]] = {
    Function.COUNT: lambda seen, feature: _float(seen.sum(feature)),
    Function.AMOUNT_SUM: _amount_sum,
    Function.AMOUNT_MEAN: _amount_mean,
    Function.AMOUNT_MAX: _amount_max,
    Function.AMOUNT_OVER_MEAN: _amount_over_mean,
    Function.DISTINCT_PARTNERS: lambda seen, feature: _float(seen.distinct_partners(feature)),
    Function.IS_NEW_PARTNER: lambda seen, feature: (seen.sum(feature) == 0).astype(np.float64),
    Function.SECONDS_SINCE_LAST: _seconds_since_last,
    Function.FRAUD_COUNT: lambda seen, feature: _float(seen.frauds(feature)),
    Function.FRAUD_RATE: lambda seen, feature: _divide(
        _float(seen.frauds(feature)), _float(seen.sum(feature))
    ),
}

_PLAIN: dict[Function, Callable[[Log], Floats]] = {
    Function.AMOUNT: lambda log: _float(log.amounts),
    Function.HOUR_OF_DAY: lambda log: _float(log.times // _HOUR_US % 24),
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: lambda log: ((log.times // _DAY_US + 3) % 7 >= 5).astype(np.float64),
    Function.IS_NIGHT: lambda log: (log.times // _HOUR_US % 24 <= 6).astype(np.float64),
}
