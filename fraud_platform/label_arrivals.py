"""Whether verdicts still come: arrivals against what past payments lead to expect.

What belongs here: the expectation and the judgement. How long verdicts take is `label_delays`.

The days before the window tell how long a source takes (its delay curve F) and how many verdicts a
payment leads to. With N(c) payments on day c, those of the window's w days ending at T bring

    rate * sum over c of N(c) * (F(T - c) - F(T - w - c))

verdicts, where rate = verdicts before the window / sum over c of N(c) * F(T - w - c). Both counts
being Poisson, the window's share of all is binomial given their sum, so the interval around
observed / expected also knows how little the past may say.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import polars as pl

from fraud_platform.label_delays import DelayCurve, delay_curves, first_frauds
from fraud_platform.labels import LabelPolicy
from fraud_platform.proportions import wilson
from fraud_platform.schemas import UTC_MICROSECONDS


class Feed(StrEnum):
    """What the arrivals of one source say about its feed."""

    ARRIVING = "arriving"
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    """Even none at all would be no surprise: too little history, or too few payments."""


ARRIVAL_COLUMNS: dict[str, pl.DataType] = {
    "day": pl.Date(),  # the last of the window's
    "label_source": pl.String(),  # one of `labels.SOURCES`, or `label_delays.ANY`
    "arrived": pl.Int64(),  # first fraud verdicts that became known in the window
    "expected": pl.Float64(),  # null when nothing can be expected
    "share": pl.Float64(),  # arrived / expected
    "low": pl.Float64(),  # interval around `share`
    "high": pl.Float64(),
    "feed": pl.String(),  # a `Feed`
}
"""Columns of `judge_arrivals`."""


def judge_arrivals(
    labels: pl.DataFrame, payments: pl.DataFrame, *, as_of: datetime, policy: LabelPolicy
) -> pl.DataFrame:
    """Compare the arrivals of the last `arrival_days` days with their expectation, by source.

    A source has stopped when fewer than `min_arrival_share` of the expected verdicts came and the
    interval excludes that all was as before. Fewer frauds look the same; a person must look.

    Args:
        labels: `schemas.LABELS` of all verdicts known in the last `delay_history_days`.
        payments: day (Date) and payments (Int64): how many payments each day had.
        as_of: end of the window, UTC midnight.
        policy: the window, the confidence and the bound.

    Returns:
        `ARRIVAL_COLUMNS`, one row per source that ever sent a verdict, by name; none without any.
    """
    opened = as_of - timedelta(days=policy.arrival_days)
    history = policy.delay_history_days
    frauds = first_frauds(labels, as_of=as_of, history_days=history)
    past = first_frauds(labels, as_of=opened, history_days=history - policy.arrival_days)
    curves = delay_curves(past, confidence=policy.arrival_confidence)
    first = (as_of - timedelta(days=history)).date()
    paid = payments.filter(pl.col("day") >= first)
    rows = []
    for source in sorted(frauds["label_source"].unique()):
        told = frauds.filter(pl.col("label_source") == source)
        now = told.filter(pl.col("label_timestamp") >= opened)
        row = {"label_source": source, "arrived": now.height, "feed": Feed.UNKNOWN.value}
        if (curve := curves.get(source)) is not None:
            # A delay beyond the horizon is not in the expectation, so it is not counted either.
            arrived = now.filter(pl.col("delay_days") <= curve.horizon_days).height
            row |= _judged(arrived, curve, _exposure(paid, curve, opened, as_of), policy)
        rows.append(row | {"day": (as_of - timedelta(days=1)).date()})
    return pl.DataFrame(rows, schema=ARRIVAL_COLUMNS)


def arrival_table(arrivals: pl.DataFrame) -> str:
    """`judge_arrivals` as a Markdown table."""
    head = "| source | arrived | expected | share | interval | feed |\n|---|--:|--:|--:|---|---|"
    lines = [
        f"| {r['label_source']} | {r['arrived']} | "
        + (
            "| | | "
            if r["expected"] is None
            else f"{r['expected']:.1f} | {r['share']:.2f} | {r['low']:.2f} to {r['high']:.2f} | "
        )
        + f"{r['feed']} |"
        for r in arrivals.to_dicts()
    ]
    return "\n".join([head, *lines])


def _exposure(
    payments: pl.DataFrame, curve: DelayCurve, opened: datetime, as_of: datetime
) -> tuple[float, float]:
    """Payments times the chance that their verdict came before the window, and within it."""
    noon = pl.col("day").cast(UTC_MICROSECONDS) + timedelta(hours=12)
    numbers = payments["payments"].to_numpy().astype(np.float64)
    known = [
        curve.share_known(
            payments.select((moment - noon) / timedelta(days=1)).to_series().to_numpy()
        )
        for moment in (pl.lit(end, dtype=UTC_MICROSECONDS) for end in (opened, as_of))
    ]
    before, by_now = (float(numbers @ share) for share in known)
    return before, by_now - before


def _judged(
    arrived: int, curve: DelayCurve, exposure: tuple[float, float], policy: LabelPolicy
) -> dict[str, object]:
    before, window = exposure
    if not before or not window:
        return {"arrived": arrived}
    expected = curve.frauds / before * window

    def share_of(count: int) -> tuple[float, float]:
        low, high = wilson(count, count + curve.frauds, policy.arrival_confidence)
        return low / (1 - low) * before / window, high / (1 - high) * before / window

    low, high = share_of(arrived)
    _, high_of_none = share_of(0)
    if high_of_none >= 1:
        feed = Feed.UNKNOWN
    elif high < 1 and arrived < policy.min_arrival_share * expected:
        feed = Feed.STOPPED
    else:
        feed = Feed.ARRIVING
    shares = {"share": arrived / expected, "low": low, "high": high}
    return {"arrived": arrived, "expected": expected, **shares, "feed": feed.value}
