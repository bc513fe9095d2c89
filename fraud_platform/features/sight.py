"""What the decisions of one kind of entity see: every event stands before those that see it.

Sorted by entity, time and seq, a decision sees the run of rows that its window cuts out of its
entity - unless one of those rows entered the log after the decision was made. A late row overtakes
such decisions; they get a *copy* of their entity's events, without the rows they could not see.
Decisions that miss the same rows share a copy. After that, windows need to know nothing about seq.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Lined:
    """Events of all entities sorted by (entity, time, seq), as arrays over their places.

    Attributes:
        codes: entity of each place, non-decreasing.
        times: event times, microseconds.
        ranks: place of each payment among all of the log.
        seen: how many payments of the log the decision of each place had seen.
        is_wanted: which places are decisions to be answered.
    """

    codes: Ints
    times: Ints
    ranks: Ints
    seen: Ints
    is_wanted: NDArray[np.bool_]


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
    """
    order = np.lexsort((history["time_us"].to_numpy(), history[entity].to_numpy()))
    ordered = history[order]  # by rank within the same instant: the sort is stable
    lined = _Lined(
        codes=ordered[entity].to_numpy(),
        times=ordered["time_us"].to_numpy(),
        ranks=ordered["rank"].to_numpy(),
        seen=ordered["seen_rank"].to_numpy(),
        is_wanted=ordered["is_wanted"].to_numpy(),
    )
    whole = ordered.with_columns(pl.col(entity).alias("line"), is_asked="is_wanted")
    decisions, unseen = _overtakings(lined, reach_us)
    if not decisions.size:
        return whole
    copies = _copies(lined, decisions, unseen, reach_us)
    is_asked = lined.is_wanted.copy()
    is_asked[decisions] = False
    return pl.concat([
        whole.with_columns(is_asked=pl.Series(is_asked)),
        ordered[copies["place"]].with_columns(copies["line"], copies["is_asked"]),
    ])  # fmt: skip


def _overtakings(lined: _Lined, reach_us: int) -> tuple[Ints, Ints]:
    """Pairs (place of a wanted decision, place of an earlier event it had not seen), sorted."""
    size = len(lined.codes)
    if not size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ranks, seen = lined.ranks, lined.seen
    keys = lined.codes * (size + 1)
    least_seen = np.minimum.accumulate((keys + seen)[::-1])[::-1]  # of this place and later ones
    last = np.searchsorted(least_seen, keys + ranks, side="right") - 1
    late = np.flatnonzero(last > np.arange(size))
    lengths = (last - np.arange(size))[late]
    events = np.repeat(late, lengths)
    decisions = events + 1 + count_up(lengths)
    is_unseen = (
        (seen[decisions] <= ranks[events])
        & lined.is_wanted[decisions]
        & (lined.times[decisions] > lined.times[events])
        & (lined.times[decisions] - lined.times[events] <= reach_us)
    )
    decisions, events = decisions[is_unseen], events[is_unseen]
    order = np.lexsort((events, decisions))
    return decisions[order], events[order]


def _copies(lined: _Lined, decisions: Ints, unseen: Ints, reach_us: int) -> pl.DataFrame:
    """Places of the copied events: line, place, is_asked; sorted by line and place."""
    missed = (
        pl.DataFrame({"decision": decisions, "unseen": unseen})
        .group_by("decision", maintain_order=True)
        .agg("unseen")
        .with_columns(code=pl.Series(lined.codes).gather(pl.Series(np.unique(decisions))))
    )
    is_new = (missed["unseen"] != missed["unseen"].shift()) | (
        missed["code"] != missed["code"].shift()
    )
    missed = missed.with_columns(copy=is_new.fill_null(value=True).cum_sum().cast(pl.Int64) - 1)
    spans = missed.group_by("copy", maintain_order=True).agg(
        pl.col("decision").first().alias("first"),
        pl.col("decision").last().alias("last"),
        pl.col("unseen").first(),
    )
    first = spans["first"].to_numpy()
    oldest = lined.times[first] - reach_us
    start = first_from(lined.times, stretches(lined.codes, first)[0], first, oldest)
    lengths = spans["last"].to_numpy() - start + 1
    copied = pl.DataFrame({
        "copy": np.repeat(spans["copy"].to_numpy(), lengths),
        "place": np.repeat(start, lengths) + count_up(lengths),
    })  # fmt: skip
    asked = missed.select("copy", place="decision", is_asked=pl.lit(value=True))
    return (
        copied.join(
            spans.select("copy", place="unseen").explode("place"), ["copy", "place"], "anti"
        )
        .join(asked, ["copy", "place"], "left")
        .sort("copy", "place")
        .select(
            pl.col("is_asked").fill_null(value=False),
            "place",
            line=pl.col("copy") + int(lined.codes.max()) + 1,
        )
    )


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
