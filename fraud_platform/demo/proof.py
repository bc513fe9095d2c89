"""What the demonstration shows at its end: two models on the same days, by the truth."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from fraud_platform.adapters.model_bundle import Bundle

_LAST_DAYS = 3


def card(bundle: Bundle) -> dict[str, object]:
    """What a bundle promised on its own test rows."""
    manifest = bundle.manifest
    return {
        "version": manifest.version,
        "library": manifest.library,
        "trained_as_of": manifest.trained_as_of,
        "model_digest": manifest.model_digest,
        **manifest.report,
    }


def before_and_after(
    features: pl.DataFrame, payments: pl.DataFrame, before: Bundle, after: Bundle
) -> dict[str, object]:
    """Recall and alerts of both models on the newest days, which neither was trained on.

    Args:
        features: feature rows; the newest `_LAST_DAYS` days of them are used.
        payments: transaction_id and is_fraud: the truth, also what no label told yet.
        before: the first champion.
        after: the last one.
    """
    last = features["event_timestamp"].dt.date().to_list()
    newest = max(last)
    first = newest - timedelta(days=_LAST_DAYS - 1)
    truth = payments.select("transaction_id", "is_fraud")
    rows = features.filter(pl.col("event_timestamp").dt.date() >= first).join(
        truth, on="transaction_id"
    )
    return {
        "first_day": str(first),
        "last_day": str(newest),
        "rows": rows.height,
        "frauds": int(rows["is_fraud"].sum()),
        "before": _caught(rows, before),
        "after": _caught(rows, after),
    }


def span(first: date, last: date) -> tuple[datetime, datetime]:
    """The moments from the start of one day to the end of another, UTC."""
    start, end = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in (first, last))
    return start, end + timedelta(days=1)


def _caught(rows: pl.DataFrame, bundle: Bundle) -> dict[str, float | None]:
    alert = pl.col("score") >= bundle.manifest.review_threshold
    scored = bundle.model.scored(rows).with_columns(alert=alert)
    return {
        "recall": scored.filter("is_fraud").select(pl.col("alert").mean()).item(),
        "alert_rate": scored.select(pl.col("alert").mean()).item(),
    }
