"""Windows as intervals of decisions, and what can be computed over such intervals.

`batch` lines up decisions so that along the line both event time and seq only grow. Whatever a
decision may see - a past transaction, a known fraud - is then seen by an unbroken run of decisions:
an interval [start, end) of places in the line. All functions here take intervals and answer one
number per place; everything is int64, so the result is exact and independent of the order of work.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NOTHING: int = np.iinfo(np.int64).min
"""What `covering_max` answers where no interval covers a place."""


@dataclass(frozen=True)
class Line:
    """Decisions of many entities, one entity after the other, each in order of time and seq.

    Attributes:
        rows: shape (n,), which row of the table stands at each place.
        codes: shape (n,), the entity of each place, non-decreasing.
        times: sorted distinct event times of all places, microseconds.
        keys: shape (n,), (entity, time) as one increasing number.
        seq_keys: shape (n,), (entity, seq rank) as one increasing number.
        seq_range: number that exceeds every seq rank.
    """

    rows: Ints
    codes: Ints
    times: Ints
    keys: Ints
    seq_keys: Ints
    seq_range: int

    @classmethod
    def of(cls, rows: Ints, codes: Ints, times: Ints, seq_range: int) -> "Line":
        """Line up decisions given as rows already sorted by (entity, time, seq).

        Args:
            rows: shape (n,), row numbers; a row's number is its seq rank.
            codes: shape (n,), entity of each.
            times: shape (n,), event time of each, microseconds.
            seq_range: number of rows of the table, plus one.
        """
        in_order = np.sort(times)  # np.unique hashes first, which costs more than this sort
        distinct = in_order[np.flatnonzero(np.diff(in_order, prepend=in_order[:1] - 1))]
        # Ranks instead of times: entity and microseconds do not fit into 63 bits together.
        keys = codes * (len(distinct) + 1) + np.searchsorted(distinct, times)
        return cls(rows, codes, distinct, keys, codes * seq_range + rows, seq_range)

    def first_from(self, codes: Ints, times: Ints) -> Ints:
        """Place of each entity's first decision at or after a time; its run's end if none is."""
        ranks = np.searchsorted(self.times, times)
        return np.searchsorted(self.keys, codes * (len(self.times) + 1) + ranks)

    def first_seeing(self, codes: Ints, seq_ranks: Ints) -> Ints:
        """Place of each entity's first decision whose seq rank is at least the one given."""
        return np.searchsorted(self.seq_keys, codes * self.seq_range + seq_ranks)


def covering_sum(start: Ints, end: Ints, values: Ints | None, places: int) -> Ints:
    """Sum of the values (their number, without values) of the intervals that cover each place.

    Args:
        start: shape (n,), first place of each interval.
        end: shape (n,), place after the last; an interval with end <= start covers nothing.
        values: shape (n,), or None to count intervals.
        places: length of the line.

    Returns:
        shape (places,).

    Examples:
        >>> covering_sum(np.array([0, 1]), np.array([2, 3]), np.array([5, 7]), places=4).tolist()
        [5, 12, 7, 0]
    """
    end = np.maximum(start, end)
    if values is None:
        steps = np.bincount(start, minlength=places + 1) - np.bincount(end, minlength=places + 1)
    else:
        steps = np.zeros(places + 1, np.int64)
        np.add.at(steps, start, values)
        np.subtract.at(steps, end, values)
    return np.cumsum(steps[:places], dtype=np.int64)


def covering_max(start: Ints, end: Ints, values: Ints, places: int) -> Ints:
    """Largest value of the intervals that cover each place; `NOTHING` where none does.

    A sparse table read backwards: an interval of length n is two overlapping stretches of the
    largest power of two that fits; then each level hands its values down to the two halves.

    Args:
        start: shape (n,), first place of each interval.
        end: shape (n,), place after the last; an interval with end <= start covers nothing.
        values: shape (n,).
        places: length of the line.

    Returns:
        shape (places,).

    Examples:
        >>> covering_max(np.array([0, 1]), np.array([2, 3]), np.array([5, 7]), places=3).tolist()
        [5, 7, 7]
    """
    covers = end > start
    start, end, values = start[covers], end[covers], values[covers]
    levels = np.frexp((end - start).astype(np.float64))[1] - 1  # floor(log2(length)), exact
    largest = np.full(places, NOTHING, np.int64)
    for level in range(int(levels.max(initial=0)), -1, -1):
        if level < levels.max(initial=0):
            half = 1 << level
            handed_down = largest.copy()
            np.maximum(handed_down[half:], largest[: places - half], out=handed_down[half:])
            largest = handed_down
        here = levels == level
        np.maximum.at(largest, start[here], values[here])
        np.maximum.at(largest, end[here] - (1 << level), values[here])
    return largest


def covering_groups(start: Ints, end: Ints, groups: Ints, places: int) -> Ints:
    """Number of different groups among the intervals that cover each place.

    Within a group overlapping intervals are cut so that they no longer overlap; then it is a count.

    Args:
        start: shape (n,), first place of each interval; non-decreasing within a group.
        end: shape (n,), place after the last; an interval with end <= start covers nothing.
        groups: shape (n,), group of each interval, non-decreasing.
        places: length of the line.

    Returns:
        shape (places,).

    Examples:
        >>> start, end = np.array([0, 1, 2]), np.array([3, 4, 4])
        >>> covering_groups(start, end, np.array([0, 0, 1]), places=4).tolist()
        [1, 1, 2, 2]
    """
    covered = np.maximum.accumulate(groups * (places + 1) + np.maximum(start, end))
    before = np.concatenate(([np.int64(0)], covered[:-1])) - groups * (places + 1)
    return covering_sum(np.maximum(start, before), end, None, places)
