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
    decisions, unseen = _overtakings(lines, times, seen, is_wanted, reach_us)
    is_asked = taken(is_wanted, lines.ranks)
    if not decisions.size:
        return lines, is_asked
    is_asked[decisions] = False
    starts, places, is_asked_copy = _copies(lines, times, decisions, unseen, reach_us)
    copied = Lines(
        starts=np.concatenate([lines.starts, lines.starts[-1] + starts[1:]]),
        ranks=np.concatenate([lines.ranks, lines.ranks[places]]),
    )
    return copied, np.concatenate([is_asked, is_asked_copy])


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
def _overtakings(
    lines: Lines, times: Ints, seen: Places, is_wanted: Flags, reach_us: int
) -> tuple[Places, Places]:
    """Pairs (place of a wanted decision, place of an earlier payment it had not seen)."""
    decisions, unseen = [np.int32(0) for _ in range(0)], [np.int32(0) for _ in range(0)]
    for line in range(len(lines.starts) - 1):
        newest = -1  # rank among the places before
        for place in range(lines.starts[line], lines.starts[line + 1]):
            rank = lines.ranks[place]
            if newest >= seen[rank] and is_wanted[rank]:
                before = place - 1
                while (
                    before >= lines.starts[line]
                    and times[rank] - times[lines.ranks[before]] <= reach_us
                ):
                    other = lines.ranks[before]
                    if other >= seen[rank] and times[other] < times[rank]:
                        decisions.append(np.int32(place))
                        unseen.append(np.int32(before))
                    before -= 1
            newest = max(newest, rank)
    return np.array(decisions, np.int32), np.array(unseen, np.int32)


@compiled
def _copies(
    lines: Lines, times: Ints, decisions: Places, unseen: Places, reach_us: int
) -> tuple[Ints, Places, Flags]:
    """Starts, places and is_asked of the copies: decisions that miss the same share one."""
    starts = [np.int64(0)]
    places, is_asked = [np.int32(0) for _ in range(0)], [False for _ in range(0)]
    heads = _heads(decisions)  # first pair of each decision
    group = 0
    while group < len(heads) - 1:
        after = group + 1
        while after < len(heads) - 1 and _are_alike(unseen, heads, group, after):
            after += 1
        first, last = decisions[heads[group]], decisions[heads[after - 1]]
        line = np.searchsorted(lines.starts, first, side="right") - 1
        oldest = times[lines.ranks[first]] - reach_us
        place = first
        while place > lines.starts[line] and times[lines.ranks[place - 1]] >= oldest:
            place -= 1
        missed, asker = heads[group + 1] - 1, group  # a decision's pairs: the newest come first
        for copied in range(place, last + 1):
            if missed >= heads[group] and unseen[missed] == copied:
                missed -= 1
                continue
            places.append(np.int32(copied))
            is_asked.append(asker < after and decisions[heads[asker]] == copied)
            asker += is_asked[-1]
        starts.append(np.int64(len(places)))
        group = after
    return np.array(starts), np.array(places, np.int32), np.array(is_asked)


@compiled
def _heads(values: Places) -> Ints:
    """Where each run of equal values begins, and the end."""
    is_head = np.ones(len(values) + 1, np.bool_)
    is_head[1:-1] = values[1:] != values[:-1]
    return np.flatnonzero(is_head)


@compiled
def _are_alike(values: Places, heads: Ints, one: int, other: int) -> bool:
    """Whether two runs hold the same values."""
    left, right = values[heads[one] : heads[one + 1]], values[heads[other] : heads[other + 1]]
    return len(left) == len(right) and bool(np.all(left == right))


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
