"""What the decisions of one kind of entity see: every event stands before those that see it.

Sorted by entity, time and rank in the log, a decision sees the run of rows that its window cuts out
of its entity - unless one of those rows entered the log after the decision was made. A late row
overtakes such decisions; they get a *copy* of their entity's events, without the rows they could
not see. Neighbours that arrived one after the other miss the same rows, and share a copy. After
that, windows need to know nothing about arrival.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.errors import PermanentError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MOST_COPIED = 200_000_000
"""Rows of all copies together beyond which memory would end before the answer comes."""


@dataclass(frozen=True)
class _Lined:
    """Events of all entities sorted by (entity, time, rank), as arrays over their places.

    Attributes:
        codes: entity of each place, non-decreasing.
        times: event times, microseconds.
        arrivals: 0, 1, ... of each event among its entity's, in the order of the log.
        seen: how many of its entity's events the decision of each place had seen.
        is_wanted: which places are decisions to be answered.
    """

    codes: Ints
    times: Ints
    arrivals: Ints
    seen: Ints
    is_wanted: Bools

    @classmethod
    def of(cls, ordered: pl.DataFrame, entity: str) -> "_Lined":
        """Number the events of each entity by arrival."""
        codes, ranks = ordered[entity].to_numpy(), ordered["rank"].to_numpy()
        by_arrival = np.lexsort((ranks, codes))
        starts = np.searchsorted(codes, codes)
        arrivals = np.empty(len(codes), np.int64)
        arrivals[by_arrival] = np.arange(len(codes))
        # Entity and rank as one number, ascending in the order of arrival.
        keys = codes[by_arrival] * (len(codes) + 1) + ranks[by_arrival]
        seen = np.searchsorted(keys, codes * (len(codes) + 1) + ordered["seen_rank"].to_numpy())
        return cls(
            codes=codes,
            times=ordered["time_us"].to_numpy(),
            arrivals=arrivals - starts,
            seen=seen - starts,
            is_wanted=ordered["is_wanted"].to_numpy(),
        )


def line_up(history: pl.DataFrame, entity: str, reach_us: int) -> pl.DataFrame:
    """Events of one kind of entity, each decision behind exactly the events it may see.

    Args:
        history: payments with an Int64 column named like `entity` (small non-negative codes),
            time_us, rank (0, 1, ... by seq, ascending), seen_rank and is_wanted, and more.
        entity: the column of codes.
        reach_us: how far back any window looks.

    Returns:
        The columns of history and `line` (whose events belong together) and `is_asked` (the one
        place that answers for a wanted row), sorted by line, time and rank. Rows of a line that are
        earlier than an asked row and within its reach were seen by it.

    Raises:
        PermanentError: the rows arrived in an order that needs too many copies.
    """
    order = np.lexsort((history["time_us"].to_numpy(), history[entity].to_numpy()))
    ordered = history[order]  # by rank within the same instant: the sort is stable
    whole = ordered.with_columns(pl.col(entity).alias("line"), is_asked="is_wanted")
    is_overtaken = _overtaken(ordered, entity)
    if not (is_overtaken & ordered["is_wanted"].to_numpy()).any():
        return whole
    lined = _Lined.of(ordered, entity)
    first, last = _runs(lined, is_overtaken)
    copies = _copies(lined, first, last, reach_us)
    is_asked = lined.is_wanted[copies["place"].to_numpy()] & copies["is_decision"].to_numpy()
    return pl.concat([
        whole.with_columns(is_asked=pl.Series(lined.is_wanted & ~is_overtaken)),
        ordered[copies["place"]].with_columns(copies["line"], is_asked=pl.Series(is_asked)),
    ])  # fmt: skip


def _overtaken(ordered: pl.DataFrame, entity: str) -> Bools:
    """Decisions that come after an event of their entity which they had not seen."""
    keys = ordered[entity].to_numpy() * (ordered.height + 1)
    newest = np.maximum.accumulate(keys + ordered["rank"].to_numpy())
    is_overtaken = np.zeros(ordered.height, np.bool_)
    is_overtaken[1:] = newest[:-1] >= (keys + ordered["seen_rank"].to_numpy())[1:]
    return is_overtaken


def _runs(lined: _Lined, is_overtaken: Bools) -> tuple[Ints, Ints]:
    """First and last place of each run of overtaken decisions that miss the same events.

    Neighbours do, if nothing but the first of them arrived between what the two had seen. Runs
    without a decision to answer are left out.
    """
    follows = np.zeros(len(lined.codes), np.bool_)
    follows[1:] = (
        is_overtaken[1:]
        & is_overtaken[:-1]
        & (lined.codes[1:] == lined.codes[:-1])
        & (lined.seen[1:] == lined.seen[:-1] + 1)
        & (lined.arrivals[:-1] == lined.seen[:-1])
    )
    first = np.flatnonzero(is_overtaken & ~follows)
    last = np.flatnonzero(is_overtaken & ~np.append(follows[1:], False))
    wanted = np.concatenate(([0], np.cumsum(lined.is_wanted)))
    is_asked = wanted[last + 1] > wanted[first]
    return first[is_asked], last[is_asked]


def _copies(lined: _Lined, first: Ints, last: Ints, reach_us: int) -> pl.DataFrame:
    """What each run sees, and the run itself: line, place and is_decision, by line and place."""
    starts = np.searchsorted(lined.codes, lined.codes[first])
    start = first_from(lined.times, starts, first, lined.times[first] - reach_us)
    lengths = last - start + 1
    if lengths.sum() > _MOST_COPIED:
        raise PermanentError(
            f"found rows that arrived so much out of order that {len(first)} groups of decisions "
            f"need {lengths.sum()} copied rows, expected at most {_MOST_COPIED}",
            hint="compute fewer days at once, or ingest old files before new ones",
        )
    run = np.repeat(np.arange(len(first)), lengths)
    place = np.repeat(start, lengths) + count_up(lengths)
    is_decision = place >= first[run]
    is_seen = is_decision | (lined.arrivals[place] < lined.seen[first][run])
    return pl.DataFrame({
        "line": run + int(lined.codes.max()) + 1, "place": place, "is_decision": is_decision,
    }).filter(pl.Series(is_seen))  # fmt: skip


def first_from(times: Ints, starts: Ints, ends: Ints, moments: Ints) -> Ints:
    """First place in each [start, end) whose time is at or after a moment; the end if none is.

    Args:
        times: ascending within every stretch.
        starts: shape (n,).
        ends: shape (n,).
        moments: shape (n,).

    Examples:
        >>> times, start, end = np.array([10, 20, 20, 5]), np.array([0, 3]), np.array([3, 4])
        >>> first_from(times, start, end, np.array([20, 6])).tolist()
        [1, 4]
    """
    first, last = starts.copy(), ends.copy()
    while (is_open := first < last).any():  # all binary searches at once, one step per turn
        middle = (first + last) // 2
        is_earlier = is_open & (times[np.where(is_open, middle, 0)] < moments)
        first = np.where(is_earlier, middle + 1, first)
        last = np.where(is_open & ~is_earlier, middle, last)
    return first


def stretches(codes: Ints, places: Ints) -> tuple[Ints, Ints]:
    """Where the stretch of equal codes around each place starts and ends; codes ascend."""
    mine = codes[places]
    return np.searchsorted(codes, mine), np.searchsorted(codes, mine, side="right")


def count_up(lengths: Ints) -> Ints:
    """0, 1, .. for each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - lengths, lengths)
