"""Compiled answers about frauds: which payments were known to be one when a decision was made.

Frauds are few: each decision asks those in its window which of their verdicts held at that moment.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled
from fraud_platform.features.kernel_loops import Asked, Window

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Frauds(NamedTuple):
    """Payments with a fraud verdict, by place among themselves, and all verdicts on them.

    Attributes:
        starts: first place of each line, and the end of the last.
        ranks: of the payments.
        times: of the payments.
        first: first verdict of each payment; a payment's are sorted by when they were known.
        last: the verdict after its last.
        known: when a verdict became known, microseconds.
        seqs: log positions of the verdicts.
        is_fraud: what they say.
    """

    starts: Ints
    ranks: Places
    times: Ints
    first: Ints
    last: Ints
    known: Ints
    seqs: Ints
    is_fraud: Flags


@compiled
def fraud_counts(
    asked: Asked, frauds: Frauds, delay_us: int, reach_us: int, numbers: Places, newest: Places
) -> tuple[Places, Places]:
    """Number of known frauds in each decision's window, and the place of the newest.

    Args:
        asked: the decisions.
        frauds: the payments with a fraud verdict.
        delay_us: age of the newest payment a decision sees.
        reach_us: age of the oldest.
        numbers: where to answer; 0 before.
        newest: where to answer; -1, which is none, before.
    """
    for line in range(len(asked.starts) - 1):
        first = last = frauds.starts[line]
        end = frauds.starts[line + 1]
        if first == end:
            continue
        for at in range(asked.starts[line], asked.starts[line + 1]):
            now, seen = asked.times[at], asked.seen[asked.ranks[at]]
            while first < end and frauds.times[first] < now - reach_us:
                first += 1
            while last < end and frauds.times[last] < now - delay_us:
                last += 1
            for place in range(first, last):
                if _is_known(frauds, place, now, seen):
                    numbers[at] += 1
                    newest[at] = place
    return numbers, newest


@compiled
def streaks(
    asked: Asked, window: Window, ranks: Places, frauds: Frauds, delay_us: int, found: Places
) -> Places:
    """How many of the newest payments are known frauds without a gap.

    Args:
        asked: the decisions.
        window: the payments they see.
        ranks: of the payments.
        frauds: those of them with a fraud verdict.
        delay_us: age of the newest payment they see.
        found: where to answer; 0 before.
    """
    for line in range(len(asked.starts) - 1):
        last, end = frauds.starts[line], frauds.starts[line + 1]
        if last == end:
            continue
        for at in range(asked.starts[line], asked.starts[line + 1]):
            now, seen = asked.times[at], asked.seen[asked.ranks[at]]
            while last < end and frauds.times[last] < now - delay_us:
                last += 1
            place, fraud = window.last[at] - 1, last - 1
            while (
                place >= window.first[at]
                and fraud >= frauds.starts[line]
                and ranks[place] == frauds.ranks[fraud]
                and _is_known(frauds, fraud, now, seen)
            ):
                place, fraud = place - 1, fraud - 1
            found[at] = window.last[at] - 1 - place
    return found


@compiled
def _is_known(frauds: Frauds, place: int, now: int, seen: int) -> bool:
    """Whether the latest verdict that could be known says fraud."""
    verdict = frauds.last[place]
    while verdict > frauds.first[place]:
        verdict -= 1
        if frauds.known[verdict] <= now and frauds.seqs[verdict] <= seen:
            return bool(frauds.is_fraud[verdict])
    return False
