"""What a whole table of validated transactions must satisfy; single rows are `validation`.

Each function counts offending rows: zero for a sound table.
"""

from datetime import timedelta

import polars as pl

from fraud_platform.card_number import masked
from fraud_platform.validation import ValidationPolicy, transaction_schema


def schema_failures(valid: pl.DataFrame, policy: ValidationPolicy) -> int:
    """Failures of the pandera schema: columns, dtypes, nulls, unique ids and every rule."""
    from pandera.errors import SchemaErrors

    try:
        transaction_schema(policy).validate(valid, lazy=True)
    except SchemaErrors as error:
        return max(1, int(error.failure_cases.height))
    return 0


def repeated_ids(valid: pl.DataFrame) -> int:
    """Rows beyond the first under each transaction id."""
    return valid.height - valid["transaction_id"].n_unique()


def from_the_future(valid: pl.DataFrame, policy: ValidationPolicy) -> int:
    """Rows whose payment happened after the platform received it, beyond the tolerance."""
    latest = pl.col("received_timestamp") + timedelta(seconds=policy.future_tolerance_seconds)
    return valid.filter(pl.col("event_timestamp") > latest).height


def lost_rows(raw: pl.DataFrame, valid: pl.DataFrame, quarantined: pl.DataFrame) -> int:
    """Raw rows neither valid nor quarantined; quarantine masks ids that look like cards."""
    missing = raw.join(valid, on="transaction_id", how="anti")
    shown = missing.with_columns(masked(missing["transaction_id"]))
    return shown.join(quarantined, on="transaction_id", how="anti").height
