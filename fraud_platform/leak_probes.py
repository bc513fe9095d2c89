"""What a training set gives away that no scorer could know: the measurements, one per kind of leak.

What belongs here: numbers. From where on a number is an alarm is `leaks`.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.engines import Compute
from fraud_platform.metrics import auc_roc, average_precision
from fraud_platform.training_set import feature_columns

_ROWS = 60_000
_BASE_RATE = 0.01
_SUSPECTS = 5
_MISSED = 0.02
_SUPPORT = 20
_PURE = 0.99
_FEWEST_DELAYS = 50
_BOOSTER = {
    "objective": "binary:logistic",
    "max_depth": 4,
    "learning_rate": 0.3,
    "subsample": 1.0,
    "tree_method": "hist",
    "base_score": 0.5,
    "seed": 7,
    "nthread": 1,
    "verbosity": 0,
}
_TREES = 40


def thinned(rows: pl.DataFrame) -> pl.DataFrame:
    """All frauds and an even sample of the genuine rows: enough for every probe, and bounded."""
    genuine = rows.filter(~pl.col("is_fraud"))
    kept = genuine.gather_every(max(1, genuine.height // _ROWS))
    return pl.concat([rows.filter("is_fraud"), kept]).sort("event_timestamp", "transaction_id")


def feature_auc(rows: pl.DataFrame, name: str) -> float:
    """How well one feature alone ranks frauds, in either direction: area under ROC, in [0.5, 1].

    Unknown values are a group of their own, at whichever end they help most.

    Examples:
        >>> rows = pl.DataFrame({"is_fraud": [True, False, False], "x": [None, 1.0, 2.0]})
        >>> feature_auc(rows, "x")
        1.0
    """
    is_fraud = rows["is_fraud"].to_numpy()
    ranks = rows[name].rank("dense").cast(pl.Float64)
    ends = (0.0, float(rows.height + 1))
    areas = [auc_roc(is_fraud, ranks.fill_null(end).to_numpy()) for end in ends]
    return max(max(area, 1.0 - area) for area in areas)


def given_away(rows: pl.DataFrame, name: str) -> float:
    """Largest share of one class that a feature gives away by saying something at all, in [0, 1].

    A label-derived column says one thing of most rows (unknown, zero) and something else of those
    that somebody complained about. Counted are the frauds among the rows with any other value than
    the most frequent one, if at least `_PURE` of these are frauds; and the genuine rows on either
    side, if that side has no fraud where `_SUPPORT` were to be expected.

    Examples:
        >>> told = [1.0] * 30 + [None] * 1970
        >>> rows = pl.DataFrame({"is_fraud": [True] * 60 + [False] * 1940, "x": told})
        >>> given_away(rows, "x")
        0.5
    """
    usual = rows[name].value_counts().sort("count", name, descending=True)[name][0]
    frauds, genuine = int(rows["is_fraud"].sum()), rows.height - int(rows["is_fraud"].sum())
    shares = [0.0]
    for is_usual in (True, False):
        side = rows.filter(pl.col(name).eq_missing(pl.lit(usual, pl.Float64)) == is_usual)
        bad = int(side["is_fraud"].sum())
        if not is_usual and bad >= max(_SUPPORT, _PURE * side.height):
            shares.append(bad / frauds)
        if bad == 0 and side.height * frauds >= _SUPPORT * rows.height:
            shares.append(side.height / genuine)
    return max(shares)


def delay_correlation(frauds: pl.DataFrame, name: str) -> float:
    """How closely a feature follows when the verdict came: |rank correlation|, in [0, 1].

    Within event days, so that what merely grows with the calendar does not count; 0 where all
    verdicts took the same time, or where too few rows know the feature.

    Args:
        frauds: `event_timestamp`, `delay` (of the verdict, any unit) and the feature.
        name: of the feature.
    """
    known = frauds.drop_nulls([name, "delay"])
    if known.height < _FEWEST_DELAYS:
        return 0.0
    day = pl.col("event_timestamp").dt.date()
    sides = known.select(
        ((pl.col(column).rank() - (pl.len() + 1) / 2) / pl.len()).over(day)
        for column in (name, "delay")
    ).to_numpy()
    spread = np.sqrt((sides**2).sum(axis=0)).prod()
    return float(abs(sides.prod(axis=1).sum()) / spread) if spread else 0.0


def time_auc(rows: pl.DataFrame, moment: pl.Expr) -> float:
    """How well the clock alone ranks frauds: area under ROC by the fraud rate of each group.

    Rates are taken from one half of the rows and judged on the other, both ways.

    Args:
        rows: `transaction_id`, `event_timestamp` and `is_fraud`.
        moment: the group, for instance the hour of the day.
    """
    told = rows.select("is_fraud", moment=moment, half=_uniform(rows) < 0.5)
    areas = []
    for half in (True, False):
        learn, judged = told.filter(half=half), told.filter(half=not half)
        base = learn["is_fraud"].mean()
        rate = (pl.col("is_fraud").sum() + 20 * pl.lit(base)) / (pl.len() + 20)
        rates = learn.group_by("moment").agg(rate=rate)
        scores = judged.join(rates, on="moment", how="left", maintain_order="left")["rate"]
        areas.append(auc_roc(judged["is_fraud"].to_numpy(), scores.fill_null(base).to_numpy()))
    return sum(areas) / 2


@dataclass(frozen=True)
class SplitGap:
    """What a small model gains from a random split, and what one feature has to do with it.

    Attributes:
        by_chance: average precision on random rows of the time it was fitted on.
        by_time: average precision on the test slice; both at a fraud rate of 1 %.
        feature: the feature that explains most of the gap; None if none does.
        explained: how much smaller the gap is without that feature.
    """

    by_chance: float
    by_time: float
    feature: str | None = None
    explained: float = 0.0

    @property
    def gap(self) -> float:
        """How much better the model looks on rows of its own time."""
        return self.by_chance - self.by_time


def split_gap(rows: pl.DataFrame) -> SplitGap:
    """Fit on part of the train slice; judge on the rest of it and on the test slice.

    The gap alone is no proof. What fraudsters do comes in episodes and changes: on clean sets of
    the simulation it is 0.4 to 0.7. A leak has a feature that lifts the random split and is worth
    nothing later, so the model's favourite features are left out one by one: a real signal is
    missed on later rows too, and then explains nothing.
    """
    names = feature_columns(rows)
    parts = _split(rows)
    best, favourites = _judged(parts, names)
    whole = best
    for suspect in favourites[:_SUSPECTS]:
        without, _ = _judged(parts, tuple(name for name in names if name != suspect))
        explained = whole.gap - without.gap
        if explained > best.explained and without.by_time >= whole.by_time - _MISSED:
            best = replace(whole, feature=suspect, explained=explained)
    return best


def _split(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    train = rows.filter(pl.col("slice") == "train")
    draw = _uniform(train)
    return train.filter(draw < 2 / 3), train.filter(draw >= 2 / 3), rows.filter(slice="test")


def _judged(
    parts: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], names: tuple[str, ...]
) -> tuple[SplitGap, tuple[str, ...]]:
    """The gap with these features, and the features by their gain in the model, largest first."""
    import xgboost

    learn, *judged = parts
    matrix = xgboost.DMatrix(_matrix(learn, names), learn["is_fraud"].to_numpy(), nthread=1)
    booster = xgboost.train(_BOOSTER, matrix, num_boost_round=_TREES)
    found = [_precision(booster, part, names) for part in judged]
    gains: dict[str, Any] = booster.get_score(importance_type="total_gain")
    order = sorted(gains, key=lambda code: (-float(gains[code]), code))
    return SplitGap(found[0], found[1]), tuple(names[int(code[1:])] for code in order)


def _precision(booster: Any, part: pl.DataFrame, names: tuple[str, ...]) -> float:
    is_fraud = part["is_fraud"].to_numpy()
    share = is_fraud.mean()
    weights = np.where(is_fraud, _BASE_RATE / share, (1 - _BASE_RATE) / (1 - share))
    scores = booster.inplace_predict(_matrix(part, names))
    return average_precision(is_fraud, scores.astype(np.float64), weights)


def _matrix(rows: pl.DataFrame, names: tuple[str, ...]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows.select(names).fill_null(np.nan).to_numpy(), dtype=np.float32)


def _uniform(rows: pl.DataFrame) -> pl.Series:
    """A number in [0, 1) per row, the same for the same rows in the same order."""
    spread = np.random.default_rng(7).permutation(rows.height)
    return pl.Series("uniform", spread / max(rows.height, 1))


def changed_by_the_future(
    rows: pl.DataFrame,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    compute: Compute,
    *,
    moments: int = 3,
    each: int = 50,
) -> dict[str, int]:
    """Features of a sample that differ once everything after their own moment is removed.

    Args:
        rows: a training set; its test slice is sampled.
        transactions: `schemas.TRANSACTIONS` rows that reach `LOOKBACK` behind the sample.
        labels: `schemas.LABELS` of them, as much as is known.
        compute: an engine.
        moments: how often the history is cut.
        each: newest rows before each cut that are compared.

    Returns:
        Feature -> number of sampled rows whose value is another one; without those that agree.
    """
    places = transactions.select("transaction_id", "seq")
    test = rows.filter(slice="test").join(places, on="transaction_id")
    ordered = test.sort("seq")
    changed: Counter[str] = Counter()
    for moment in range(1, moments + 1):
        sample = ordered.head(ordered.height * moment // moments).tail(each)
        last = sample.row(-1, named=True)
        past = transactions.filter(pl.col("seq") <= last["seq"])
        told = labels.filter(pl.col("label_timestamp") <= last["event_timestamp"])
        again = compute(past, told, since=sample["event_timestamp"].min())  # type: ignore[arg-type]  # a time
        pairs = sample.join(again, on="transaction_id", suffix=" again")
        for name in feature_columns(again):
            changed[name] += int(pairs[name].ne_missing(pairs[f"{name} again"]).sum())
    return dict(+changed)
