"""The handbook's payments with everything that a model of a fold may need, as one table."""

from datetime import UTC, datetime, time

import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.features import batch
from fraud_platform.features.journal import Journal
from fraud_platform.handbook.challenger import FEATURE_NAMES, declared
from fraud_platform.handbook.inputs import inputs
from fraud_platform.handbook.protocol import TEST, VALIDATION, WEEK

FIRST_DAY = min(VALIDATION).train_start
LAST_DAY = max(TEST).judged_start + WEEK
"""The day after the last judged one."""


def rows(log: Journal) -> pl.DataFrame:
    """Every payment from the first day that teaches to the last judged one.

    Args:
        log: the handbook's data, its frauds known seven days after the payment.

    Returns:
        `protocol.ROW_COLUMNS`, `inputs.INPUTS` and `challenger.FEATURE_NAMES`, in order of time.

    Raises:
        DataContractError: the log does not reach over the handbook's weeks.
    """
    since = datetime.combine(FIRST_DAY, time(), UTC)
    _require_weeks(log.transactions["event_timestamp"])
    known = log.labels.filter(pl.col("verdict") == "fraud")["transaction_id"].implode()
    payments = log.transactions.select(
        "seq",
        "event_timestamp",
        "card_id",
        "terminal_id",
        "amount_minor",
        is_fraud=pl.col("transaction_id").is_in(known),
    )
    features = batch.compute(log.transactions, log.labels, since=since, features=declared())
    return (
        payments.hstack(inputs(payments))
        .join(features.select("seq", *FEATURE_NAMES), "seq", "inner", maintain_order="left")
        .drop("seq", "terminal_id", "amount_minor")
    )


def _require_weeks(times: pl.Series) -> None:
    days = times.dt.date().unique().to_list()
    missing = (LAST_DAY - FIRST_DAY).days - sum(FIRST_DAY <= day < LAST_DAY for day in days)
    if missing:
        raise DataContractError(
            f"found {min(days, default='no day')} to {max(days, default='no day')}, with {missing}"
            f" days missing, expected every day from {FIRST_DAY} to before {LAST_DAY}",
            hint="the protocol is about the handbook's simulated data: raw data, one file.",
        )
