"""Past payments with their features and mature labels, out of the tables.

What belongs here: reading, and refusing what cannot be judged. The counting is `backtest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.adapters.tables import Tables
from fraud_platform.backtest import ROW_COLUMNS
from fraud_platform.backtest_side import Period
from fraud_platform.errors import LabelsNotMatureError, NotReadyError, PermanentError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.labels import standing
from fraud_platform.model import matrix
from fraud_platform.schemas import MATURE_LABELS

_DAY = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Past:
    """The payments of a period.

    Attributes:
        rows: `backtest.ROW_COLUMNS`.
        features: shape (n, k), in the order of `FEATURE_NAMES`.
        period: which payments, and by which labels.
    """

    rows: pl.DataFrame
    features: NDArray[np.float64]
    period: Period


def newest_labels(tables: Tables) -> date:
    """The newest day as of which labels are known.

    Raises:
        LabelsNotMatureError: the home has no mature labels.
    """
    days = tables.days("mature_labels")
    if not days:
        raise LabelsNotMatureError(
            "found no day of mature_labels, expected at least one",
            hint="let the daily run compute it (`fraud-platform up`).",
        )
    return days[-1]


def read_past(tables: Tables, first: date, last: date, *, as_of: date, maturity_days: int) -> Past:
    """The payments of some days, and what was known of them at the end of another.

    A label counts once it came of age (`mature_labels`), and is then what stands at `as_of`: a
    verdict that became known later corrects it. One that was taken back leaves its payment without
    a label, and counts among the censored.

    Args:
        tables: the home's.
        first: first day of the payments, UTC.
        last: last day, included.
        as_of: labels are those known at the end of this day.
        maturity_days: after so many days a label comes of age.

    Raises:
        PermanentError: `first` is after `last`.
        LabelsNotMatureError: no payment of the period has a mature label at `as_of`.
        NotReadyError: a day of a table is missing, or was made by other code.
    """
    if first > last:
        raise PermanentError(
            f"found a period from {first} to {last}, expected its first day before its last",
            hint="exchange the two days",
        )
    days = [first + age * _DAY for age in range((last - first).days + 1)]
    payments = _payments(tables, days)
    features = _features(tables, days, payments)
    labels = _labels(tables, days, as_of, maturity_days)
    is_old = pl.col("event_timestamp").dt.date() + maturity_days * _DAY <= as_of
    rows = payments.join(labels, on="transaction_id", how="left", maintain_order="left")
    rows = rows.with_columns(is_old=is_old).select(*ROW_COLUMNS)
    if rows["is_fraud"].is_null().all():
        raise _immature(first, last, as_of, maturity_days)
    return Past(rows, features, Period(first, last, _end_of(as_of)))


def _payments(tables: Tables, days: Sequence[date]) -> pl.DataFrame:
    present = tables.days("validated_transactions")
    if present and not (present[0] <= days[0] and days[-1] <= present[-1]):
        raise NotReadyError(
            f"found payments of {present[0]} to {present[-1]}, expected {days[0]} to {days[-1]}",
            hint="ask for days among them, or materialize the others",
        )
    names = ("transaction_id", "event_timestamp", "card_id", "amount_minor", "currency")
    return tables.read("validated_transactions", days).select(names)


def _features(tables: Tables, days: Sequence[date], payments: pl.DataFrame) -> NDArray[np.float64]:
    """The features of the payments, in their order."""
    table = tables.read("transaction_features", days)
    _require_columns(table, "transaction_features", ("transaction_id", *FEATURE_NAMES))
    if not table["transaction_id"].equals(payments["transaction_id"]):
        ids = payments.select("transaction_id")
        table = ids.join(table, on="transaction_id", how="inner", maintain_order="left")
    if table.height != payments.height:
        raise NotReadyError(
            f"found features of {table.height:,} of {payments.height:,} payments, expected all",
            hint=f"materialize transaction_features for {days[0]} to {days[-1]} again",
        )
    return matrix(table, FEATURE_NAMES)


def _labels(tables: Tables, days: Sequence[date], as_of: date, maturity_days: int) -> pl.DataFrame:
    """transaction_id, is_fraud and propensity of what came of age until `as_of`."""
    due = [day + maturity_days * _DAY for day in days if day + maturity_days * _DAY <= as_of]
    if not due:
        raise _immature(days[0], days[-1], as_of, maturity_days)
    _require_days(tables, "mature_labels", due)
    mature = tables.read("mature_labels", due)
    _require_columns(mature, "mature_labels", tuple(MATURE_LABELS.columns))
    heard = [days[0] + age * _DAY for age in range((as_of - days[0]).days + 1)]
    _require_days(tables, "labels", heard)
    said = tables.read("labels", heard).join(mature, on="transaction_id", how="semi")
    now = standing(said, as_of=_end_of(as_of)).select("transaction_id", stands="is_fraud")
    silent = (pl.col("label_source") == "implied") & ~pl.col("is_fraud")
    return (
        mature.join(now, on="transaction_id", how="left")
        .select(
            "transaction_id",
            "propensity",
            is_fraud=pl.coalesce("stands", pl.when(silent).then(pl.lit(value=False))),
        )
        .drop_nulls("is_fraud")
    )


def _require_days(tables: Tables, name: str, days: Sequence[date]) -> None:
    """Refuse also what lies before the first day or behind the last, where nothing was asked."""
    missing = sorted(set(days) - set(tables.days(name)))
    if missing:
        raise NotReadyError(
            f"found {len(missing)} of {len(days)} days of {name} missing, first {missing[0]}",
            hint=f"materialize {name} for {missing[0]} to {missing[-1]}",
        )


def _require_columns(table: pl.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise NotReadyError(
            f"found {name} without {', '.join(missing[:5])}: another version of the code made it",
            hint=f"materialize {name} for these days again",
        )


def _immature(first: date, last: date, as_of: date, maturity_days: int) -> LabelsNotMatureError:
    return LabelsNotMatureError(
        f"no payment of {first} to {last} has a mature label at the end of {as_of}",
        hint=f"labels come of age after {maturity_days} days: ask for payments up to "
        f"{as_of - maturity_days * _DAY}, or for labels of a later day (--as-of)",
    )


def _end_of(day: date) -> datetime:
    return datetime.combine(day + _DAY, time(), UTC)
