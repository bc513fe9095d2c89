"""How long verdicts take: the share of frauds that is known at an age, from data that is cut off.

Only frauds have a delay, and at `as_of` a fraud is seen only if its delay is at most its age: the
delays are truncated on the right, not censored. The plain distribution of the delays seen is
therefore too short, the more so the younger the payments are; and a Kaplan-Meier curve over all
payments would need to know which of the silent ones are frauds.

Read backwards in time, right truncation is left truncation, for which the product limit is right:
at a delay u those are at risk that could have shown it and did not show a longer one, that is with
delay <= u <= age. With d(u) verdicts of exactly the delay u among n(u) at risk,

    F(x) = product over u > x of (1 - d(u) / n(u)),

which estimates the chance of a delay of at most x among those of at most the horizon, the longest
delay that the data can speak of. What takes longer has left no trace, so it is not in the figure:
F is 1 at the horizon by definition. How many payments each day had does not matter; that delays
have the same distribution on all of them does.

Sources: Lynden-Bell, MNRAS 155 (1971); Woodroofe, Annals of Statistics 13 (1985); Lagakos, Barraj
and De Gruttola, Biometrika 75 (1988), for reporting delays and the variance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.schemas import UTC_MICROSECONDS

Floats = NDArray[np.float64]

ANY = "any"
"""The curve of the first verdict of whatever source."""

FEWEST_AT_RISK = 20
"""Fewest delays at risk at the horizon; a shorter horizon is an honest one."""

DELAY_COLUMNS: dict[str, pl.DataType] = {
    "day": pl.Date(),  # the curve is as of its end
    "label_source": pl.String(),  # one of `labels.SOURCES`, or ANY
    "age_days": pl.Int64(),  # 0, 1, ... up to the horizon
    "share_known": pl.Float64(),  # of the frauds that become known within the horizon
    "low": pl.Float64(),  # pointwise band
    "high": pl.Float64(),
    "frauds": pl.Int64(),  # verdicts that the curve is made of
    "horizon_days": pl.Float64(),
}
"""Columns of `delay_frame`."""


@dataclass(frozen=True)
class DelayCurve:
    """A step function: the share of frauds that is known at an age, given the horizon.

    Attributes:
        days: the delays at which it rises, ascending, shape (n,).
        share: its value from there on, in (0, 1]; the last is 1.
        low: lower end of the pointwise band, shape (n,).
        high: upper end.
        frauds: how many delays it was estimated from.
        horizon_days: the longest delay it can speak of.
    """

    days: Floats
    share: Floats
    low: Floats
    high: Floats
    frauds: int
    horizon_days: float

    def share_known(self, age_days: Floats | float) -> Floats:
        """F at some ages in days; 0 before the first delay seen.

        Examples:
            >>> curve = DelayCurve(np.array([2.0, 9.0]), np.array([0.4, 1.0]), np.array([0.3, 1.0]),
            ...                    np.array([0.5, 1.0]), frauds=50, horizon_days=30.0)
            >>> curve.share_known(np.array([1.0, 2.0, 8.5, 60.0])).tolist()
            [0.0, 0.4, 0.4, 1.0]
        """
        return _at(self.days, self.share, age_days)

    def band(self, age_days: Floats) -> tuple[Floats, Floats]:
        """The pointwise band at some ages in days."""
        return _at(self.days, self.low, age_days), _at(self.days, self.high, age_days)

    def median_days(self) -> float:
        """The age at which half of the frauds are known."""
        return float(self.days[np.searchsorted(self.share, 0.5)])


def delay_curve(
    delay_days: Floats, age_days: Floats, *, confidence: float = 0.95
) -> DelayCurve | None:
    """The share known at each age, from delays that were seen because they were short enough.

    Args:
        delay_days: time from payment to verdict, shape (n,), days >= 0.
        age_days: time from payment to `as_of`, shape (n,); never below the delay.
        confidence: of the pointwise bands, in (0, 1).

    Returns:
        The curve, or None with fewer than `FEWEST_AT_RISK` delays.

    Examples:
        Of forty old frauds half were known after 1 day, half after 9. Of twenty young ones only
        the quick half can have been seen: counted plainly, 30 of 50 would be quick.

        >>> delays = np.array([1.0] * 20 + [9.0] * 20 + [1.0] * 10)
        >>> ages = np.array([30.0] * 40 + [5.0] * 10)
        >>> delay_curve(delays, ages).share_known(np.array([5.0])).round(3).tolist()
        [0.5]
    """
    horizon = _horizon(delay_days, age_days)
    if horizon is None:
        return None
    within = delay_days <= horizon
    delays, ages = np.sort(delay_days[within]), np.sort(age_days[within])
    days, died = np.unique(delays, return_counts=True)
    at_risk = np.searchsorted(delays, days, "right") - np.searchsorted(ages, days, "left")
    # Where all at risk go at once though shorter delays were seen, those would be impossible.
    died = np.minimum(died, at_risk**2 / (at_risk + 1.0))
    log_share = _later(np.log1p(-died / at_risk))
    spread = np.sqrt(_later(died / (at_risk * (at_risk - died))))
    low, high = _bands(log_share, spread, confidence)
    return DelayCurve(days, np.exp(log_share), low, high, delays.size, horizon)


def first_frauds(labels: pl.DataFrame, *, as_of: datetime, history_days: int) -> pl.DataFrame:
    """The first fraud verdict of each source on each payment, and of any source.

    Verdicts that were taken back later count: they did arrive. To leave them out would use what
    became known only afterwards, and more of it for old payments than for young ones.

    Args:
        labels: `schemas.LABELS` rows in any order.
        as_of: only verdicts known before it, UTC.
        history_days: only payments of so many days before `as_of`.

    Returns:
        transaction_id, label_source, event_timestamp, label_timestamp, delay_days and age_days.
    """
    moment = pl.lit(as_of, dtype=UTC_MICROSECONDS)
    known, paid, day = pl.col("label_timestamp"), pl.col("event_timestamp"), timedelta(days=1)
    told = labels.filter(
        pl.col("verdict") == "fraud", known < moment, paid >= moment - timedelta(days=history_days)
    ).select("transaction_id", "label_source", "event_timestamp", "label_timestamp")
    both = pl.concat([told, told.with_columns(label_source=pl.lit(ANY))])
    return (
        both.group_by("transaction_id", "label_source")
        .agg(paid.first(), known.min())
        .with_columns(delay_days=(known - paid) / day, age_days=(moment - paid) / day)
        .sort("transaction_id", "label_source")
    )


def delay_curves(frauds: pl.DataFrame, *, confidence: float) -> dict[str, DelayCurve]:
    """The curve of each source that has enough verdicts, `ANY` first, then by name.

    Args:
        frauds: what `first_frauds` returned.
        confidence: of the pointwise bands.
    """
    curves = {}
    for source in sorted(frauds["label_source"].unique(), key=lambda name: (name != ANY, name)):
        rows = frauds.filter(pl.col("label_source") == source)
        times = (rows["delay_days"].to_numpy(), rows["age_days"].to_numpy())
        if (curve := delay_curve(*times, confidence=confidence)) is not None:
            curves[source] = curve
    return curves


def delay_frame(curves: Mapping[str, DelayCurve], day: date) -> pl.DataFrame:
    """Curves at whole days, as `DELAY_COLUMNS`."""
    frames = [pl.DataFrame(schema=DELAY_COLUMNS)]
    for source, curve in curves.items():
        ages = np.arange(int(curve.horizon_days) + 1, dtype=np.float64)
        low, high = curve.band(ages)
        frame = pl.DataFrame(
            {"age_days": ages, "share_known": curve.share_known(ages), "low": low, "high": high}
        ).with_columns(
            day=pl.lit(day),
            label_source=pl.lit(source),
            frauds=pl.lit(curve.frauds),
            horizon_days=pl.lit(curve.horizon_days),
        )
        frames.append(frame.select(pl.col(n).cast(t) for n, t in DELAY_COLUMNS.items()))
    return pl.concat(frames)


def delay_table(curves: Mapping[str, DelayCurve], ages: Sequence[int]) -> str:
    """Curves as a Markdown table: the share known at some ages in days, with its band."""
    heads = " | ".join(f"known after {age} d" for age in ages)
    lines = [
        f"| source | frauds | horizon, d | half known after, d | {heads} |",
        "|---|" + "--:|" * (3 + len(ages)),
    ]
    for source, curve in curves.items():
        at = np.asarray(ages, np.float64)
        cells = " | ".join(
            "cannot tell" if age > curve.horizon_days else f"{share:.1%} ({low:.1%} to {high:.1%})"
            for age, share, low, high in zip(
                ages, curve.share_known(at), *curve.band(at), strict=True
            )
        )
        lines.append(
            f"| {source} | {curve.frauds} | {curve.horizon_days:.0f} |"
            f" {curve.median_days():.1f} | {cells} |"
        )
    return "\n".join(lines)


def _horizon(delays: Floats, ages: Floats) -> float | None:
    """The longest age at which `FEWEST_AT_RISK` delays are at risk."""
    candidates = np.unique(ages)
    at_risk = np.searchsorted(np.sort(delays), candidates, "right")
    at_risk = at_risk - np.searchsorted(np.sort(ages), candidates, "left")
    enough = np.flatnonzero(at_risk >= FEWEST_AT_RISK)
    return float(candidates[enough[-1]]) if enough.size else None


def _later(values: Floats) -> Floats:
    """At each place the sum of all later values."""
    return np.append(np.cumsum(values[::-1])[::-1][1:], 0.0)


def _bands(log_share: Floats, spread: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Greenwood's variance on the log(-log) scale, so that bands stay within 0 and 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    certain = log_share >= 0
    factor = np.exp(z * spread / np.where(certain, 1.0, -log_share))
    low, high = np.exp(log_share * factor), np.exp(log_share / factor)
    return np.where(certain, 1.0, low), np.where(certain, 1.0, high)


def _at(days: Floats, values: Floats, ages: Floats | float) -> Floats:
    padded = np.concatenate([[0.0], values])
    found: Floats = padded[np.searchsorted(days, ages, "right")]
    return found
