"""The features of a whole stretch of history at once: the offline reading of a declaration.

`sight` puts every decision behind the events it may see; then a window is Polars' rolling group and
a function is a formula over a few aggregates of it, which features share. What needs verdicts is
`verdicts`. No result depends on the order of the input or on the number of threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    KEYS,
    MICROSECOND,
    OUTLIER_FACTOR,
    OUTLIER_REFERENCE,
    PLAIN,
    Feature,
    Function,
    Stream,
    refuse_beyond,
)
from fraud_platform.features.sight import line_up
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.verdicts import Question, answers

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_REFERENCE_US = OUTLIER_REFERENCE // MICROSECOND


def compute(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    since: datetime | None = None,
    features: tuple[Feature, ...] = FEATURES,
    seen: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Every feature of every transaction, as it was at the moment of its decision.

    Args:
        transactions: `schemas.TRANSACTIONS` rows, one per id, in any order; they must reach
            `LOOKBACK` further back than the first row wanted, else old windows are cut. With a
            column `is_outlier`, as `mark_outliers` adds it, the marks are taken from there.
        labels: `schemas.LABELS` rows of these transactions, as much as is known; verdicts that a
            decision could not know yet are ignored for it.
        since: answer only for transactions at or after this time (UTC); None: for all.
        features: what to compute.
        seen: for readers that lag behind the log: seq, card_seen, terminal_seen - the newest log
            position each decision had seen of its card and its terminal. Others saw all before.

    Returns:
        seq, transaction_id, event_timestamp, card_id, terminal_id and one Float64 column per
        feature (null: undefined), sorted by seq.

    Raises:
        PermanentError: an amount is too large for exact sums.
    """
    if any(feature.needs_marks for feature in features):
        transactions = mark_outliers(transactions)
    ordered = transactions.sort("seq")
    times = ordered["event_timestamp"]
    wanted = times.is_not_null() if since is None else times >= since
    history = _numbered(ordered, features).with_columns(is_wanted=wanted)
    verdicts = _numbered_verdicts(ordered, labels)
    tables = [history.filter("is_wanted").select(**{
        feature.name: _PLAIN[feature.function] for feature in features if feature.function in PLAIN
    })]  # fmt: skip
    for entity in ENTITY_COLUMNS:
        mine = [feature for feature in features if feature.entity == entity]
        if mine:
            seeing = _with_seen(history, ordered["seq"], seen, entity)
            tables.append(_of_entity(seeing, verdicts, entity, mine))
    columns = pl.concat(tables, how="horizontal")
    return ordered.filter(wanted).select(
        *KEYS, *(columns[feature.name].fill_nan(None) for feature in features)
    )


def mark_outliers(transactions: pl.DataFrame) -> pl.DataFrame:
    """Add Boolean `is_outlier`: whether a payment was far above the median of its card before it.

    A mark is a fact of the log: it looks at payments of smaller seq only, whatever a decision had
    seen. Rows that are marked already are returned as they are.
    """
    if "is_outlier" in transactions.columns:
        return transactions
    ordered = transactions.sort("seq")
    history = _numbered(ordered, ()).with_columns(is_wanted=pl.lit(value=True))
    line = line_up(_with_seen(history, ordered["seq"], None, "card"), "card", _REFERENCE_US)
    medians = _cut(line, 0, _REFERENCE_US, {"median": pl.median("amount")})
    is_outlier = (OUTLIER_FACTOR * pl.col("median") < _AMOUNT).fill_null(value=False)
    marks = _by_rank(_asked(line, [medians]), {"is_outlier": is_outlier})
    return ordered.with_columns(marks)


def _numbered(ordered: pl.DataFrame, features: tuple[Feature, ...]) -> pl.DataFrame:
    """The payments, given in seq order, as numbers: sorting and cutting them is cheap."""
    refuse_beyond(int(ordered["amount_minor"].abs().max() or 0))  # type: ignore[arg-type]  # Int64
    facts = sorted({feature.where.fact for feature in features if feature.where})
    texts = sorted({feature.value for feature in features if feature.value})
    return ordered.select(
        pl.int_range(pl.len()).alias("rank"),
        pl.col("event_timestamp").dt.epoch("us").alias("time_us"),
        pl.col("amount_minor").alias("amount"),
        *(_codes(column).alias(entity) for entity, column in ENTITY_COLUMNS.items()),
        *(_codes(text).alias(f"{text} code") for text in texts),
        *facts,
    )


def _with_seen(
    history: pl.DataFrame, seqs: pl.Series, seen: pl.DataFrame | None, entity: str
) -> pl.DataFrame:
    """Add what each decision had seen: the log up to `seen`, which is `seen_rank` payments."""
    before = seqs - 1
    if seen is None:
        return history.with_columns(before.alias("seen"), seen_rank="rank")
    told = seqs.to_frame("seq").join(seen, on="seq", how="left", maintain_order="left")
    known = pl.select(pl.min_horizontal(told[f"{entity}_seen"].fill_null(before), before))
    newest = known.to_series().alias("seen")
    ranks = seqs.search_sorted(newest, side="right").cast(pl.Int64).alias("seen_rank")
    return history.with_columns(newest, ranks)


def _numbered_verdicts(ordered: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The verdicts on these payments: rank of the payment, is_fraud, known_us and label_seq."""
    ranks = ordered.select("transaction_id", rank=pl.int_range(pl.len()))
    return labels.join(ranks, on="transaction_id").select(
        "rank",
        is_fraud=pl.col("verdict") == "fraud",
        known_us=pl.col("label_timestamp").dt.epoch("us"),
        label_seq="seq",
    )


def _codes(column: str) -> pl.Expr:
    """Small integers that stand for texts; null for null."""
    return pl.col(column).cast(pl.Categorical).to_physical().cast(pl.Int64)


def _of_entity(
    history: pl.DataFrame, verdicts: pl.DataFrame, entity: str, features: list[Feature]
) -> pl.DataFrame:
    """The features of one kind of entity for the wanted rows, in seq order."""
    line = line_up(history, entity, max(feature.reach_us for feature in features))
    line = line.with_columns(
        place=pl.int_range(pl.len()), amount_squared=pl.col("amount").cast(pl.Int128) ** 2
    )
    needs = _Needs()
    formulas = {
        feature.name: _FORMULAS[feature.stream, feature.function](_Window(feature, needs))
        for feature in features
    }
    line = line.with_columns(**needs.columns)
    windows = [_cut(line, *edges, aggregates) for edges, aggregates in needs.windows.items()]
    windows += [_alike(line, *key).rename({"alike": name}) for name, key in needs.alike.items()]
    asked = _asked(line, windows)
    if needs.questions:
        asked = asked.hstack(answers(line, asked, verdicts, needs.questions))
    return _by_rank(asked, formulas)


def _by_rank(asked: pl.DataFrame, formulas: dict[str, pl.Expr]) -> pl.DataFrame:
    """The formulas' values in seq order."""
    ranks = asked["rank"].to_numpy()
    places = np.full(ranks.max(initial=-1) + 1, -1)
    places[ranks] = np.arange(len(ranks))
    return asked.select(**formulas)[places[places >= 0]]


def _cut(
    line: pl.DataFrame,
    delay_us: int,
    reach_us: int,
    aggregates: dict[str, pl.Expr],
    of: tuple[str, ...] = ("line",),
) -> pl.DataFrame:
    """Aggregates over [t - reach, t - delay) of each row's own line, in the order of the rows."""
    window = line.rolling(
        "time_us",
        period=f"{reach_us - delay_us}i",
        offset=f"-{reach_us}i",
        closed="left",  # strictly before: payments of the same instant do not see each other
        group_by=of,
    )
    return window.agg(**aggregates).select(aggregates.keys())


def _asked(line: pl.DataFrame, windows: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([line, *windows], how="horizontal").filter("is_asked")


def _alike(
    line: pl.DataFrame, value: str, amount: str, delay_us: int, reach_us: int
) -> pl.DataFrame:
    """How many payments in the window have this one's value; null where that is unknown."""
    known = line.select("line", "time_us", "place", value, amount).drop_nulls(value)
    known = known[np.lexsort((known[value].to_numpy(), known["line"].to_numpy()))]
    count = {"alike": pl.col(amount).count()}
    found = _cut(known, delay_us, reach_us, count, of=("line", value))
    alike = np.full(line.height, -1)
    alike[known["place"].to_numpy()] = found["alike"].to_numpy()
    return pl.DataFrame({"alike": alike}).select(pl.col("alike").replace(-1, None))


class _Needs:
    """What the features of one kind of entity have in common: columns, and aggregates by window."""

    def __init__(self) -> None:
        self.columns: dict[str, pl.Expr] = {}
        self.windows: dict[tuple[int, int], dict[str, pl.Expr]] = {}
        self.alike: dict[str, tuple[str, str, int, int]] = {}
        self.questions: dict[str, Question] = {}


@dataclass(frozen=True)
class _Window:
    """One feature's window; an aggregate is worked out once for all who ask for it."""

    feature: Feature
    needs: _Needs

    def __call__(self, aggregate: str, source: str = "amount") -> pl.Expr:
        """An aggregate of the window's events as a number per decision."""
        column = self._column(source)
        window = (self.feature.delay_us, self.feature.reach_us)
        name = f"{aggregate} {column} {window}"
        self.needs.windows.setdefault(window, {})[name] = _AGGREGATES[aggregate](pl.col(column))
        return pl.col(name)

    def _column(self, source: str) -> str:
        """Name of the column to aggregate: null where the feature does not look."""
        where = self.feature.where
        if where is None:
            return source
        name = f"{source} where {where.fact} is {where.equals}"
        self.needs.columns[name] = pl.when(pl.col(where.fact) == where.equals).then(source)
        return name

    def float(self, aggregate: str, source: str = "amount") -> pl.Expr:
        """The same as Float64: the one place where integers end."""
        return self(aggregate, source).cast(pl.Float64)

    def variance(self) -> pl.Expr:
        """Population variance times the squared number of events, exact."""
        count, total = (self(name).cast(pl.Int128) for name in ("count", "sum"))
        return (count * self("sum", "amount_squared") - total * total).cast(pl.Float64)

    def alike(self) -> pl.Expr:
        """Number of the window's payments that share the value of this one."""
        feature = self.feature
        name = f"alike of {feature.name}"
        column = self._column("amount")
        window = (feature.delay_us, feature.reach_us)
        self.needs.alike[name] = (f"{feature.value} code", column, *window)
        return pl.col(name)

    def known(self, about: str) -> pl.Expr:
        """What the window says about known frauds: see `verdicts.Question`."""
        name = f"{about} of {self.feature.name}"
        self.needs.questions[name] = Question(about, self.feature)
        return pl.col(name)

    def known_in_a_row(self, about: str) -> pl.Expr:
        """What the newest payments say: questions that need to know the places seen."""
        name = f"{about} of {self.feature.name}"
        newest, oldest = (self(end, "place").meta.output_name() for end in ("max", "min"))
        self.needs.questions[name] = Question(about, self.feature, newest, oldest)
        return pl.col(name)


_AGGREGATES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "count": lambda column: column.count(),
    "sum": lambda column: column.sum(),
    "min": lambda column: column.min(),
    "max": lambda column: column.max(),
    "median": lambda column: column.median(),
    "distinct": lambda column: column.n_unique() - (column.null_count() > 0),
}

_AMOUNT = pl.col("amount").cast(pl.Float64)


def _over(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """A quotient; null where the denominator is zero or there is none.

    NumPy divides: where the divisor is one number for all rows, Polars multiplies by its
    reciprocal, which is not always the nearest float.
    """
    return pl.map_batches([numerator, denominator], _quotients, return_dtype=pl.Float64)


def _quotients(pair: Sequence[pl.Series]) -> pl.Series:
    numerator, denominator = (series.to_numpy() for series in pair)
    found = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=found, where=denominator != 0)
    return pl.Series(found)


def _seconds_since(then: pl.Expr) -> pl.Expr:
    elapsed = (pl.col("time_us") - then).cast(pl.Float64)
    return _over(elapsed, pl.repeat(1e6, pl.len()))


_OF_PAYMENTS: dict[Function, Callable[[_Window], pl.Expr]] = {
    Function.COUNT: lambda of: of.float("count"),
    Function.SUM: lambda of: of.float("sum"),
    Function.MEAN: lambda of: _over(of.float("sum"), of.float("count")),
    Function.MIN: lambda of: of.float("min"),
    Function.MAX: lambda of: of.float("max"),
    Function.MEDIAN: lambda of: of.float("median"),
    Function.STD: lambda of: _over(of.variance().sqrt(), of.float("count")),
    Function.Z_SCORE: lambda of: _over(
        (pl.col("amount") * of("count") - of("sum")).cast(pl.Float64), of.variance().sqrt()
    ),
    Function.OVER_MEAN: lambda of: _over(_AMOUNT * of.float("count"), of.float("sum")),
    Function.OVER_MEDIAN: lambda of: _over(_AMOUNT, of.float("median")),
    Function.DISTINCT: lambda of: of.float("distinct", f"{of.feature.value} code"),
    Function.IS_FIRST: lambda of: (of.alike() == 0).cast(pl.Float64),
    Function.SECONDS_SINCE_LAST: lambda of: _seconds_since(of("max", "time_us")),
    Function.SECONDS_SINCE_FIRST: lambda of: _seconds_since(of("min", "time_us")),
}

_OF_FRAUDS: dict[Function, Callable[[_Window], pl.Expr]] = {
    Function.COUNT: lambda of: of.known("frauds").cast(pl.Float64),
    Function.RATE: lambda of: _over(of.known("frauds").cast(pl.Float64), of.float("count")),
    Function.SECONDS_SINCE_LAST: lambda of: _seconds_since(of.known("newest_fraud")),
    Function.STREAK_LENGTH: lambda of: of.known_in_a_row("streak").cast(pl.Float64),
    Function.SECONDS_SINCE_STREAK: lambda of: _seconds_since(of.known_in_a_row("streak_start")),
}

_FORMULAS: dict[tuple[Stream, Function], Callable[[_Window], pl.Expr]] = {
    **{(Stream.PAYMENTS, function): formula for function, formula in _OF_PAYMENTS.items()},
    **{(Stream.FRAUDS, function): formula for function, formula in _OF_FRAUDS.items()},
    (Stream.GOOD, Function.SECONDS_SINCE_LAST): lambda of: _seconds_since(
        of.known_in_a_row("newest_good")
    ),
}

_PLAIN: dict[Function, pl.Expr] = {
    Function.AMOUNT: _AMOUNT,
    Function.HOUR_OF_DAY: (pl.col("time_us") // _HOUR_US % 24).cast(pl.Float64),
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: ((pl.col("time_us") // _DAY_US + 3) % 7 >= 5).cast(pl.Float64),
    Function.IS_NIGHT: (pl.col("time_us") // _HOUR_US % 24 <= 6).cast(pl.Float64),
}
