"""Compiled `sight`: every decision stands behind exactly the payments it may see.

The same lines and copies as `sight` makes, as arrays. A *rank* is the position of a payment in the
log, a *place* its position in the lines.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Flags = NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)


class Lines(NamedTuple):
    """Runs of payments, each sorted by time and rank.

    Attributes:
        starts: first place of each line, and the end of the last: one more than there are lines.
        ranks: of each place.
    """

    starts: Ints
    ranks: Places


def line_up(
    codes: Places, times: Ints, seen: Places, is_wanted: Flags, reach_us: int
) -> tuple[Lines, Flags]:
    """Lines of the entities, then copies for decisions that a late payment overtook.

    Args:
        codes: entity of each payment, by rank; small and not negative.
        times: event time of each payment, microseconds.
        seen: how many payments of the log each decision had seen.
        is_wanted: which payments are decisions to be answered.
        reach_us: how far back any window looks.

    Returns:
        The lines, and per place whether it answers for its payment: one place of each wanted one.
    """
    starts = np.zeros(int(codes.max(initial=-1)) + 2, np.int64)
    lines = Lines(starts, _sort(codes, times, starts, np.empty(len(codes), np.int32)))
    is_overtaken = _overtaken(lines, seen, np.zeros(len(codes), np.bool_))
    is_asked = taken(is_wanted, lines.ranks)
    if not (is_overtaken & is_asked).any():
        return lines, is_asked
    starts, places, is_asked_copy = _copies(lines, times, seen, is_wanted, is_overtaken, reach_us)
    copied = Lines(
        starts=np.concatenate([lines.starts, lines.starts[-1] + starts[1:]]),
        ranks=np.concatenate([lines.ranks, lines.ranks[places]]),
    )
    return copied, np.concatenate([is_asked & ~is_overtaken, is_asked_copy])


def kept(lines: Lines, is_kept: Flags) -> Lines:
    """The same lines with some of their places only."""
    return lines if is_kept.all() else Lines(*_kept(lines.starts, lines.ranks, is_kept))


def taken(values: NDArray[Value], places: Places) -> NDArray[Value]:
    """Values at places: `values[places]`, which takes three times as long."""
    return _take(values, places, np.empty(len(places), values.dtype))


@compiled
def _take(values: NDArray[Value], places: Places, found: NDArray[Value]) -> NDArray[Value]:
    for at in range(len(places)):
        found[at] = values[places[at]]
    return found


@compiled
def edges(askers: Ints, now: Ints, starts: Ints, times: Ints, age_us: int, found: Places) -> Places:
    """First place at or after `now - age` in each asker's own line: where a window begins or ends.

    Args:
        askers: starts of the lines of those who ask.
        now: their times.
        starts: starts of the same lines of those who are seen.
        times: their times.
        age_us: age of what stands at the edge.
        found: where to answer.
    """
    for line in range(len(askers) - 1):
        place, end = starts[line], starts[line + 1]
        for asker in range(askers[line], askers[line + 1]):
            oldest = now[asker] - age_us
            while place < end and times[place] < oldest:
                place += 1
            found[asker] = place
    return found


@compiled
def _sort(codes: Places, times: Ints, starts: Ints, ranks: Places) -> Places:
    """Fill starts and ranks: counted by code, then sorted by time where the log was not."""
    for code in codes:
        starts[code + 1] += 1
    starts[:] = np.cumsum(starts)
    following = starts.copy()
    for rank in range(len(codes)):
        ranks[following[codes[rank]]] = rank
        following[codes[rank]] += 1
    for line in range(len(starts) - 1):
        mine = ranks[starts[line] : starts[line + 1]]
        for at in range(1, len(mine)):
            if times[mine[at]] < times[mine[at - 1]]:
                mine[:] = mine[np.argsort(times[mine], kind="mergesort")]
                break
    return ranks


@compiled
def _overtaken(lines: Lines, seen: Places, found: Flags) -> Flags:
    """Which places come after a payment of their line that they had not seen."""
    for line in range(len(lines.starts) - 1):
        newest = -1  # rank among the places before
        for place in range(lines.starts[line], lines.starts[line + 1]):
            rank = lines.ranks[place]
            found[place] = newest >= seen[rank]
            newest = max(newest, rank)
    return found


@compiled
def _copies(
    lines: Lines, times: Ints, seen: Places, is_wanted: Flags, is_overtaken: Flags, reach_us: int
) -> tuple[Ints, Places, Flags]:
    """Starts, places and is_asked of the copies: neighbours that miss the same share one."""
    starts = [np.int64(0)]
    places, is_asked = [np.int32(0) for _ in range(0)], [False for _ in range(0)]
    for line in range(len(lines.starts) - 1):
        begin, end = lines.starts[line], lines.starts[line + 1]
        if not is_overtaken[begin:end].any():
            continue
        arrivals = np.sort(lines.ranks[begin:end])
        first = begin
        while first < end:
            last = _last_alike(lines.ranks, seen, is_overtaken, arrivals, first, end)
            if is_overtaken[first] and is_wanted[lines.ranks[first : last + 1]].any():
                now = lines.ranks[first]
                start = first
                while start > begin and times[lines.ranks[start - 1]] >= times[now] - reach_us:
                    start -= 1
                for place in range(start, last + 1):
                    if place >= first or lines.ranks[place] < seen[now]:
                        places.append(np.int32(place))
                        is_asked.append(place >= first and is_wanted[lines.ranks[place]])
                starts.append(np.int64(len(places)))
            first = last + 1
    return np.array(starts), np.array(places, np.int32), np.array(is_asked)


@compiled
def _last_alike(
    ranks: Places, seen: Places, is_overtaken: Flags, arrivals: Places, first: int, end: int
) -> int:
    """Last of the neighbours from `first` on that miss the same: see `sight`."""
    last = first
    while last + 1 < end and is_overtaken[last] and is_overtaken[last + 1]:
        known = np.searchsorted(arrivals, seen[ranks[last]])
        known_next = np.searchsorted(arrivals, seen[ranks[last + 1]])
        if known_next != known + 1 or np.searchsorted(arrivals, ranks[last]) != known:
            break
        last += 1
    return last


@compiled
def _kept(starts: Ints, ranks: Places, is_kept: Flags) -> tuple[Ints, Places]:
    fewer, left = np.zeros(len(starts), np.int64), np.empty(is_kept.sum(), np.int32)
    size = 0
    for line in range(len(starts) - 1):
        for place in range(starts[line], starts[line + 1]):
            if is_kept[place]:
                left[size] = ranks[place]
                size += 1
        fewer[line + 1] = size
    return fewer, left
