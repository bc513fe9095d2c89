"""Which verdicts were known at a given moment, and from when on silence means genuine.

What belongs here: the meaning of a set of verdicts. Which transactions are old enough to ask is the
caller's choice (it passes exactly those); which rows a model learns from is `training_set`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.schemas import MATURE_LABELS, UTC_MICROSECONDS


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """When a transaction without a verdict may be called genuine."""

    maturity_days: int = 7
    """Days after the transaction's day until "no fraud verdict" counts as genuine."""

    def __post_init__(self) -> None:
        if self.maturity_days < 0:
            raise ValueError(f"found maturity_days={self.maturity_days}, expected at least 0")


def mature(transactions: pl.DataFrame, labels: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """The label of each of these transactions, from the verdicts known before `as_of`.

    Of all verdicts with `label_timestamp` < `as_of` the latest decides (by `label_timestamp`, then
    `seq`): `fraud` means fraud; `genuine`, `withdrawn` and no verdict at all mean genuine. The
    caller passes only transactions that are old enough for silence to count, for instance those of
    the day that lies `LabelPolicy.maturity_days` before the day that ends at `as_of`.

    Args:
        transactions: one row per transaction; needs `transaction_id`, `event_timestamp` and
            `card_id`, other columns are ignored.
        labels: `schemas.LABELS` rows in any order; verdicts about other transactions are ignored.
        as_of: the moment the answer pretends it is, UTC: the first moment after a partition's day.

    Returns:
        `schemas.MATURE_LABELS`, one row per transaction, in the order of `transactions`.

    Raises:
        DataContractError: a transaction did not happen before `as_of`, or appears twice.

    Examples:
        >>> from datetime import UTC
        >>> day = datetime(2026, 1, 1, tzinfo=UTC)
        >>> paid = pl.DataFrame({"transaction_id": ["a", "b"], "event_timestamp": [day, day],
        ...                      "card_id": ["c", "c"]})
        >>> verdicts = pl.DataFrame({"seq": [7], "transaction_id": ["b"], "verdict": ["fraud"],
        ...                          "label_timestamp": [datetime(2026, 1, 3, tzinfo=UTC)]})
        >>> mature(paid, verdicts, as_of=datetime(2026, 1, 8, tzinfo=UTC))["is_fraud"].to_list()
        [False, True]
    """
    _refuse_future_or_repeated(transactions, as_of)
    deciding = (
        labels.filter(pl.col("label_timestamp") < as_of)
        .sort("label_timestamp", "seq")
        .unique("transaction_id", keep="last", maintain_order=True)
        .select("transaction_id", "verdict", "label_timestamp")
    )
    return (
        transactions.select("transaction_id", "event_timestamp", "card_id")
        .join(deciding, on="transaction_id", how="left", maintain_order="left")
        .with_columns(
            is_fraud=(pl.col("verdict") == "fraud").fill_null(value=False),
            as_of_timestamp=pl.lit(as_of, dtype=UTC_MICROSECONDS),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in MATURE_LABELS.columns.items())
    )


def mature_by_day(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    maturity_days: int,
    first: date,
    last: date,
) -> pl.DataFrame:
    """What becomes mature on each of some days: day D settles the transactions of D - maturity.

    Each day is judged by what was known at its own end, so a range gives the same rows as its days
    one by one.

    Args:
        transactions: at least those of the days `first - maturity_days` to `last - maturity_days`;
            others are ignored.
        labels: at least all verdicts on them that were known before the end of `last`.
        maturity_days: whole days of silence that count as genuine.
        first: first as-of day, UTC.
        last: last as-of day, UTC, included.

    Returns:
        `schemas.MATURE_LABELS`, in the order of `transactions` within each day.
    """
    settled = [MATURE_LABELS.empty()]
    event_day = pl.col("event_timestamp").dt.date()
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        due = transactions.filter(event_day == day - timedelta(days=maturity_days))
        end = datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)
        verdicts = labels.join(due, on="transaction_id", how="semi")
        settled.append(mature(due, verdicts, as_of=end))
    return pl.concat(settled)


def _refuse_future_or_repeated(transactions: pl.DataFrame, as_of: datetime) -> None:
    future = transactions.filter(pl.col("event_timestamp") >= as_of).height
    if future:
        raise DataContractError(
            f"{future} of {transactions.height} transactions did not happen before as_of "
            f"{as_of.isoformat()}; a label cannot be older than its transaction.",
            hint="pass only transactions whose maturity has passed at as_of.",
        )
    repeated = transactions.height - transactions["transaction_id"].n_unique()
    if repeated:
        raise DataContractError(
            f"{repeated} transaction ids appear more than once; expected one row each.",
            hint="deduplicate the transactions first (validated_transactions has unique ids).",
        )
