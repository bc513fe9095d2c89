"""The rows a model learns from and is judged on: a point-in-time join, split by time.

What belongs here: which rows, with which label, in which slice. What a verdict means is `labels`,
what a feature is worth is `features`, what is done with the rows is `model` and `evaluation`.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.selective_labels import training_weights

DESCRIPTION_COLUMNS = (
    "transaction_id",
    "event_timestamp",
    "card_id",
    "amount_minor",
    "is_fraud",
    "slice",
    "propensity",
    "weight",
)
"""What a training set says of each row beside its features."""

_NOT_FEATURES = (*DESCRIPTION_COLUMNS, "seq", "terminal_id")


@dataclass(frozen=True, kw_only=True)
class TrainingPolicy:
    """How the mature past is cut into train, delay and test."""

    train_days: int = 21
    """Days of transactions that models are fitted on."""
    min_train_days: int = 7
    """Fewest days of them; while the history is that short, training starts with what there is."""
    delay_days: int = 7
    """Days left out between train and test: in production their labels would not be known yet."""
    test_days: int = 7
    """The newest mature days; no model sees them before it is judged on them."""
    min_train_frauds: int = 50
    """Fewest frauds in the train slice; below, training waits (`LabelsNotMatureError`)."""
    min_test_frauds: int = 20
    """Fewest frauds in the test slice; below, nothing can be compared."""
    max_weight: float = 50.0
    """Most payments that one row may stand for, where only some became known by chance, >= 1."""

    @property
    def fewest_days(self) -> int:
        """Days of mature labels below which nothing can be trained."""
        return self.min_train_days + self.delay_days + self.test_days

    def __post_init__(self) -> None:
        least = {"delay_days": 0, "min_train_days": 1, "test_days": 1}
        least |= {"min_train_frauds": 1, "min_test_frauds": 1, "max_weight": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        if self.train_days < self.min_train_days:
            raise ValueError(
                f"found train_days={self.train_days}, expected at least "
                f"min_train_days={self.min_train_days}"
            )


def build(
    features: pl.DataFrame,
    mature_labels: pl.DataFrame,
    amounts: pl.DataFrame,
    *,
    as_of: datetime,
    policy: TrainingPolicy,
) -> pl.DataFrame:
    """Join features and labels by transaction and cut them by event day (UTC).

    The newest day with a mature label is the last test day; `test_days`, `delay_days` and up to
    `train_days` follow backwards without a hole. Two rules keep the future out:

    * a label counts only if it was mature at `as_of` (`as_of_timestamp` <= `as_of`);
    * a row of the train slice counts only if its label was mature when the test slice began. A
      model trained on that day could not have known more, neither that a later verdict says fraud
      nor that silence means genuine. So the row is left out whole, fraud or not: to keep only the
      genuine ones, or to call the late frauds genuine, would both bend the base rate. With
      `delay_days` >= the labels' maturity nothing is lost; otherwise the newest train days are.

    What was declined and not explored has no label and is not there; what was explored stands for
    the others by its `weight` (see `selective_labels.training_weights`), in each slice for itself.

    Args:
        features: one row per transaction: `transaction_id` and the features (Float64 or null), as
            `features.batch.compute` returns them. Its `seq`, `event_timestamp`, `card_id` and
            `terminal_id` are ignored: time and card come from the label's row.
        mature_labels: `schemas.MATURE_LABELS` of all days that may fall into the slices.
        amounts: `transaction_id` and `amount_minor` (Int64, minor units), for instance the
            validated transactions; other columns are ignored.
        as_of: the moment the answer pretends it is, inclusive, UTC.
        policy: lengths of the slices and the fewest frauds in them.

    Returns:
        `DESCRIPTION_COLUMNS` and then the features in their order in `features`; `slice` is
        "train", "delay" or "test"; `propensity` is the chance that the label became known, and
        `weight` has a mean of 1 in each slice; sorted by `event_timestamp`, `transaction_id`.

    Raises:
        LabelsNotMatureError: too few mature days, or too few frauds in train or test.
        DataContractError: a labelled transaction has no features or no amount, an id repeats, or a
            feature is not Float64.
    """
    known = mature_labels.filter(pl.col("as_of_timestamp") <= as_of).with_columns(
        day=pl.col("event_timestamp").dt.date()
    )
    cut = _cut(known, policy, as_of)
    sliced = known.filter(pl.col("day") >= cut.train_start).with_columns(slice=cut.expression())
    late = (pl.col("slice") == "train") & (pl.col("as_of_timestamp") > cut.test_start_timestamp())
    rows = _joined(_weighed(sliced.filter(~late), policy.max_weight), features, amounts)
    _require_frauds(rows, policy)
    return rows


def feature_columns(frame: pl.DataFrame) -> tuple[str, ...]:
    """The features of a training set or of a features frame, in order.

    Examples:
        >>> feature_columns(pl.DataFrame({"transaction_id": ["a"], "slice": ["test"], "x": [1.0]}))
        ('x',)
    """
    return tuple(name for name in frame.columns if name not in _NOT_FEATURES)


def digest(frame: pl.DataFrame) -> str:
    """SHA-256 (hex) of a frame's names, dtypes and values, in the given order of columns and rows.

    Equal frames have equal digests on every machine; any changed, moved, added or missing value,
    also a null instead of a zero, changes it. Floats count by their bits.

    Examples:
        >>> zero, unknown = pl.Series("x", [0.0]), pl.Series("x", [None], dtype=pl.Float64)
        >>> digest(zero.to_frame()) == digest(unknown.to_frame())
        False
    """
    state = hashlib.sha256(f"{frame.height} rows".encode())
    for column in frame.iter_columns():
        state.update(f"|{column.name!r}:{column.dtype}|".encode())
        state.update(column.is_null().to_numpy().tobytes())
        state.update(_value_bytes(column))
    return state.hexdigest()


def _value_bytes(column: pl.Series) -> bytes:
    if column.dtype == pl.String:
        # Lengths first: the boundary between two texts is part of the value.
        lengths = column.str.len_bytes().fill_null(0).cast(pl.Int64).to_numpy()
        return lengths.astype("<i8").tobytes() + "".join(column.fill_null("")).encode()
    if column.dtype.is_temporal():
        column = column.to_physical()
    kinds = ((pl.Boolean, "u1"), (pl.Float64, "<f8"), (pl.Float32, "<f4"))
    kind = next((code for dtype, code in kinds if column.dtype == dtype), "<i8")
    empty = pl.Series([0]).cast(column.dtype)[0]
    return column.fill_null(empty).to_numpy().astype(kind).tobytes()


@dataclass(frozen=True)
class _Cut:
    train_start: date
    delay_start: date
    test_start: date

    def expression(self) -> pl.Expr:
        day = pl.col("day")
        return (
            pl.when(day >= self.test_start)
            .then(pl.lit("test"))
            .when(day >= self.delay_start)
            .then(pl.lit("delay"))
            .otherwise(pl.lit("train"))
        )

    def test_start_timestamp(self) -> pl.Expr:
        return pl.lit(self.test_start).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _cut(known: pl.DataFrame, policy: TrainingPolicy, as_of: datetime) -> _Cut:
    first, last = known["day"].min(), known["day"].max()
    needed = policy.fewest_days
    days = (last - first).days + 1 if isinstance(first, date) and isinstance(last, date) else 0
    if not isinstance(last, date) or not isinstance(first, date) or days < needed:
        raise LabelsNotMatureError(
            f"{days} days have mature labels at {as_of.isoformat()}; expected at least {needed} "
            f"({policy.min_train_days} train, {policy.delay_days} delay, {policy.test_days} test).",
            hint=f"wait {needed - days} more days, or make the slices of TrainingPolicy shorter.",
        )
    test_start = last - timedelta(days=policy.test_days - 1)
    delay_start = test_start - timedelta(days=policy.delay_days)
    return _Cut(
        train_start=max(first, delay_start - timedelta(days=policy.train_days)),
        delay_start=delay_start,
        test_start=test_start,
    )


def _weighed(labels: pl.DataFrame, max_weight: float) -> pl.DataFrame:
    """Add `weight`, in each slice for itself."""
    weight = pl.col("propensity").map_batches(
        lambda chance: pl.Series(training_weights(chance.to_numpy(), max_weight=max_weight)),
        return_dtype=pl.Float64,
    )
    return labels.with_columns(weight=weight.over("slice"))


def _joined(labels: pl.DataFrame, features: pl.DataFrame, amounts: pl.DataFrame) -> pl.DataFrame:
    names = feature_columns(features)
    wrong = {
        name: str(features[name].dtype) for name in names if features[name].dtype != pl.Float64
    }
    if wrong:
        raise DataContractError(f"Features must be Float64; found {wrong}.")
    _require_unique(labels, "mature labels")
    _require_unique(features, "features")
    wanted = labels.select("transaction_id")
    values = features.select("transaction_id", *names)
    money = amounts.select("transaction_id", "amount_minor")
    for what, frame in (("features", values), ("an amount", money)):
        missing = wanted.join(frame, on="transaction_id", how="anti").height
        if missing:
            raise DataContractError(
                f"{missing} of {wanted.height} mature transactions have no row with {what}.",
                hint="materialize the upstream tables for all days of the slices first.",
            )
    money = money.join(wanted, on="transaction_id", how="semi")
    _require_unique(money, "amounts")
    joined = labels.join(money, on="transaction_id").join(values, on="transaction_id")
    return joined.select(*DESCRIPTION_COLUMNS, *names).sort("event_timestamp", "transaction_id")


def _require_unique(frame: pl.DataFrame, what: str) -> None:
    repeated = frame.height - frame["transaction_id"].n_unique()
    if repeated:
        raise DataContractError(
            f"{repeated} transaction ids repeat in the {what}; expected one row each."
        )


def _require_frauds(rows: pl.DataFrame, policy: TrainingPolicy) -> None:
    needed = {"train": policy.min_train_frauds, "test": policy.min_test_frauds}
    for name, least in needed.items():
        part = rows.filter(pl.col("slice") == name)
        found = int(part["is_fraud"].sum())
        if found < least:
            raise LabelsNotMatureError(
                f"The {name} slice has {found} known frauds among {part.height} transactions; "
                f"expected at least {least}.",
                hint="wait for more verdicts, lengthen the slice, or lower "
                f"TrainingPolicy.min_{name}_frauds.",
            )
