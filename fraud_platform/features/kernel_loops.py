"""Compiled functions of windows: one pass over all decisions each.

Decisions stand in the order of their lines, and the edges of their windows only move forward, so a
pass adds and forgets every payment once. Each pass fills one column: decision i answers at
`slots[i]`. NaN stands for null.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Floats = NDArray[np.float64]

_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000


class Asked(NamedTuple):
    """The decisions, line by line.

    Attributes:
        starts: first decision of each line, and the end of the last.
        ranks: of their payments.
        times: when they were made, microseconds.
        amounts: of their payments.
        seen: the newest log position they had seen, by rank.
        slots: where they answer.
    """

    starts: Ints
    ranks: Places
    times: Ints
    amounts: Ints
    seen: Ints
    slots: Places


class Window(NamedTuple):
    """What each decision sees: places first..last-1; both never decrease."""

    first: Places
    last: Places


@compiled
def own_amounts(times: Ints, amounts: Ints, wanted: Places, out: Floats) -> None:
    """Amounts of the wanted payments."""
    for slot in range(len(wanted)):
        out[slot] = amounts[wanted[slot]]


@compiled
def hours(times: Ints, amounts: Ints, wanted: Places, out: Floats) -> None:
    """Hours of the day."""
    for slot in range(len(wanted)):
        out[slot] = times[wanted[slot]] // _HOUR_US % 24


@compiled
def weekends(times: Ints, amounts: Ints, wanted: Places, out: Floats) -> None:
    """Whether it was Saturday or Sunday; day 0 of the epoch was a Thursday, weekday 3."""
    for slot in range(len(wanted)):
        out[slot] = (times[wanted[slot]] // _DAY_US + 3) % 7 >= 5


@compiled
def nights(times: Ints, amounts: Ints, wanted: Places, out: Floats) -> None:
    """Whether it was before seven o'clock."""
    for slot in range(len(wanted)):
        out[slot] = times[wanted[slot]] // _HOUR_US % 24 <= 6


@compiled
def running(amounts: Ints, sums: Ints) -> Ints:
    """Sum of the amounts before each place, and of all; the first is 0."""
    sums[0] = 0
    for place in range(len(amounts)):
        sums[place + 1] = sums[place] + amounts[place]
    return sums


@compiled
def counts(asked: Asked, window: Window, out: Floats) -> None:
    """Number of payments."""
    for at in range(len(asked.slots)):
        out[asked.slots[at]] = window.last[at] - window.first[at]


@compiled
def totals(asked: Asked, window: Window, sums: Ints, out: Floats) -> None:
    """Sum of the amounts."""
    for at in range(len(asked.slots)):
        out[asked.slots[at]] = float(sums[window.last[at]] - sums[window.first[at]])


@compiled
def means(asked: Asked, window: Window, sums: Ints, out: Floats) -> None:
    """Mean of the amounts."""
    for at in range(len(asked.slots)):
        first, last = window.first[at], window.last[at]
        mean = float(sums[last] - sums[first]) / float(last - first) if first < last else np.nan
        out[asked.slots[at]] = mean


@compiled
def over_means(asked: Asked, window: Window, sums: Ints, out: Floats) -> None:
    """Own amount over the mean."""
    for at in range(len(asked.slots)):
        first, last = window.first[at], window.last[at]
        scaled, total = float(asked.amounts[at]) * float(last - first), sums[last] - sums[first]
        out[asked.slots[at]] = scaled / float(total) if total != 0 else np.nan


@compiled
def extremes(asked: Asked, window: Window, amounts: Ints, sign: int, out: Floats) -> None:
    """Largest (sign 1) or smallest (sign -1) amount."""
    queue = np.empty(len(amounts), np.int32)  # places whose amounts decrease: the head is largest
    head = tail = after = 0
    for at in range(len(asked.slots)):
        while after < window.last[at]:
            while tail > head and sign * amounts[queue[tail - 1]] <= sign * amounts[after]:
                tail -= 1
            queue[tail] = after
            tail += 1
            after += 1
        while head < tail and queue[head] < window.first[at]:
            head += 1
        out[asked.slots[at]] = amounts[queue[head]] if head < tail else np.nan


@compiled
def distincts(asked: Asked, window: Window, codes: Places, size: int, out: Floats) -> None:
    """Number of different values; -1 is none."""
    if size == 0:  # no payment has a value
        out[:] = 0.0
        return
    uses = np.zeros(size, np.int32)
    start = end = different = 0
    for at in range(len(asked.slots)):
        while start < end and start < window.first[at]:
            if codes[start] >= 0:
                uses[codes[start]] -= 1
                different -= uses[codes[start]] == 0
            start += 1
        if start < window.first[at]:
            start = end = window.first[at]
        while end < window.last[at]:
            if codes[end] >= 0:
                different += uses[codes[end]] == 0
                uses[codes[end]] += 1
            end += 1
        out[asked.slots[at]] = different


@compiled
def firsts(
    asked: Asked, window: Window, codes: Places, own: Places, size: int, out: Floats
) -> None:
    """Whether no payment seen has the own value; -1 is none."""
    if size == 0:  # no payment has a value
        out[:] = np.nan
        return
    uses = np.zeros(size, np.int32)
    start = end = 0
    for at in range(len(asked.slots)):
        while start < end and start < window.first[at]:
            if codes[start] >= 0:
                uses[codes[start]] -= 1
            start += 1
        if start < window.first[at]:
            start = end = window.first[at]
        while end < window.last[at]:
            if codes[end] >= 0:
                uses[codes[end]] += 1
            end += 1
        out[asked.slots[at]] = np.nan if own[at] < 0 else 1.0 if uses[own[at]] == 0 else 0.0


@compiled
def newest(window: Window, places: Places) -> Places:
    """Place of the newest payment seen; -1, as it was before, is none."""
    for at in range(len(places)):
        if window.first[at] < window.last[at]:
            places[at] = window.last[at] - 1
    return places


@compiled
def oldest(window: Window, places: Places) -> Places:
    """Place of the oldest payment seen; -1, as it was before, is none."""
    for at in range(len(places)):
        if window.first[at] < window.last[at]:
            places[at] = window.first[at]
    return places


@compiled
def seconds_since(asked: Asked, times: Ints, places: Places, out: Floats) -> None:
    """Age of the event at a place, seconds; -1 is none."""
    for at in range(len(asked.slots)):
        place = places[at]
        age = float(asked.times[at] - times[place]) / 1e6 if place >= 0 else np.nan
        out[asked.slots[at]] = age


@compiled
def numbers(asked: Asked, found: Places, out: Floats) -> None:
    """A number that was found for each decision."""
    for at in range(len(asked.slots)):
        out[asked.slots[at]] = found[at]


@compiled
def shares(asked: Asked, window: Window, found: Places, out: Floats) -> None:
    """Share of the payments seen."""
    for at in range(len(asked.slots)):
        count = window.last[at] - window.first[at]
        out[asked.slots[at]] = float(found[at]) / float(count) if count else np.nan
