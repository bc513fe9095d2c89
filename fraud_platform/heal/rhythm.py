"""When payments come: the sender's clock against ours, and how many against other weeks.

What belongs here: readings that rest on the times of payments alone.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import (
    HOUR_US,
    Floats,
    Reference,
    blind,
    delay_minutes,
    event_us,
    hour_of_week,
    standing_of,
)

Counts = NDArray[np.int64]

_LIVE_MINUTES = 60.0
"""Payments that took longer to arrive, as a median, came from files: no clock can be read off."""
_RUSH = 1_000
"""Newest payments that show a rush before it has filled the window."""
_EXPLAINED = 0.75
"""Share of what is unusual about the hours that another clock must explain."""
_LEAST_SPAN_HOURS = 12
"""A shorter window shows too little of a day to tell one hour from another."""


def clock(reference: Reference, window: pl.DataFrame) -> Reading:
    """Do event times run away from arrival times, or does the day seem to begin at another hour?

    Live payments tell by the time they took to arrive. Payments from files tell by the hours of
    the day, if half a day is there: the shift that makes the counts likeliest, by how much, if it
    explains most of what is unusual about them.

    Returns:
        CLOCK; value and bound in minutes of delay, or in nats a payment; `shift_hours` of the
        details says by how many hours the sender's clock is ahead of the reference's.
    """
    policy = reference.policy
    usual, now = reference.delay_minutes, delay_minutes(window)
    if usual is not None and now is not None and abs(usual) < _LIVE_MINUTES:
        shift = usual - now  # a clock that is ahead makes payments arrive sooner
        return Reading(
            signal=Signal.CLOCK,
            standing=standing_of(abs(shift) > policy.max_clock_shift_minutes),
            value=abs(shift),
            bound=policy.max_clock_shift_minutes,
            rows=window.height,
            subjects=("event_timestamp",) if abs(shift) > policy.max_clock_shift_minutes else (),
            details={"shift_hours": shift / 60.0},
            why=f"payments arrive {now:.1f} minutes after their time, {usual:.1f} are usual",
        )
    return _by_the_hour(reference, window)


def volume(reference: Reference, window: pl.DataFrame) -> Reading:
    """Are there many more payments than at these hours of other weeks?

    Returns:
        VOLUME; value is the ratio of payments to those expected over the window's time, or over
        that of its newest 1,000: a rush shows before it has filled the window.
    """
    policy = reference.policy
    parts = [window, window.tail(_RUSH)]
    usual = [float(_expected(reference, part).sum()) for part in parts]
    if window.height < policy.min_rows or not min(usual) > 0.0:
        return blind(Signal.VOLUME, "too few payments, or no day of reference", window.height)
    ratio, rows, expected = max(
        (part.height / many, part.height, many) for part, many in zip(parts, usual, strict=True)
    )
    return Reading(
        signal=Signal.VOLUME,
        standing=standing_of(ratio > policy.max_volume_ratio),
        value=ratio,
        bound=policy.max_volume_ratio,
        rows=rows,
        why=f"{rows} payments where {expected:.0f} are usual",
    )


def _by_the_hour(reference: Reference, window: pl.DataFrame) -> Reading:
    policy, times = reference.policy, event_us(window)
    span = int(times[-1] - times[0]) // HOUR_US if times.size else 0
    rates = reference.rates
    if times.size < policy.min_rows or span < _LEAST_SPAN_HOURS or np.isnan(rates).any():
        return blind(Signal.CLOCK, "no live payments, and less than half a day of others")
    hours, covered = _covered(times)
    counts = np.bincount(times // HOUR_US - hours[0], minlength=hours.size)
    told = [_likelihood(counts, rates[hour_of_week(hours - s)] * covered) for s in range(-12, 13)]
    shift = int(np.argmax(told)) - 12
    gain = (max(told) - told[12]) / times.size
    # Payments that came in bursts fit no hours, and those of no other clock, either.
    unusual = (_likelihood(counts, counts.astype(np.float64)) - told[12]) / times.size
    is_shifted = gain > max(policy.min_clock_gain, _EXPLAINED * unusual)
    return Reading(
        signal=Signal.CLOCK,
        standing=standing_of(is_shifted),
        value=gain,
        bound=policy.min_clock_gain,
        rows=window.height,
        subjects=("event_timestamp",) if is_shifted else (),
        details={"shift_hours": float(shift)} if is_shifted else {},
        why=f"the hours of the day fit best when moved by {shift}" if is_shifted else "as usual",
    )


def _likelihood(counts: Counts, expected: Floats) -> float:
    """Of the hours of so many payments, whatever their number."""
    share = np.maximum(expected, 1e-3 * expected.max()) / expected.sum()
    return float(counts @ np.log(share))


def _expected(reference: Reference, window: pl.DataFrame) -> Floats:
    """Payments that are usual in each hour that the window covers, in part at both ends."""
    if window.height < 2 or np.isnan(reference.rates).any():
        return np.zeros(1)
    hours, covered = _covered(event_us(window))
    return np.asarray(reference.rates[hour_of_week(hours)] * covered)


def _covered(times: Counts) -> tuple[Counts, Floats]:
    """Hours since 1970 that some times span, and which part of each, shape (hours,)."""
    first, last = int(times.min()), int(times.max())
    hours = np.arange(first // HOUR_US, last // HOUR_US + 1)
    opened = np.maximum(hours * HOUR_US, first)
    closed = np.minimum((hours + 1) * HOUR_US, last)
    return hours, (closed - opened) / HOUR_US
