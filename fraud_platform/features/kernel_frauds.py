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
        ranks: of the payments.
        times: of the payments.
        first: first verdict of each payment; a payment's are sorted by when they were known.
        last: the verdict after its last.
        known: when a verdict became known, microseconds.
        seqs: log positions of the verdicts.
        is_fraud: what they say.
    """

    ranks: Places
    times: Ints
    first: Ints
    last: Ints
    known: Ints
    seqs: Ints
    is_fraud: Flags


@compiled
def fraud_counts(asked: Asked, window: Window, frauds: Frauds) -> tuple[Places, Places]:
    """Number of known frauds of each decision, and the place of the newest; -1 is none."""
    numbers = np.zeros(len(asked.slots), np.int32)
    newest = np.full(len(asked.slots), -1, np.int32)
    for at in range(len(asked.slots)):
        for place in range(window.first[at], window.last[at]):
            if _is_known(frauds, place, asked.times[at], asked.seen[asked.ranks[at]]):
                numbers[at] += 1
                newest[at] = place
    return numbers, newest


@compiled
def streaks(asked: Asked, window: Window, within: Window, ranks: Places, frauds: Frauds) -> Places:
    """How many of the newest payments are known frauds without a gap.

    Args:
        asked: the decisions.
        window: the payments they see.
        within: those of them with a fraud verdict, by place in `frauds`.
        ranks: of the payments.
        frauds: these.
    """
    found = np.zeros(len(asked.slots), np.int32)
    for at in range(len(asked.slots)):
        place, fraud = window.last[at] - 1, within.last[at] - 1
        while (
            place >= window.first[at]
            and fraud >= within.first[at]
            and ranks[place] == frauds.ranks[fraud]
            and _is_known(frauds, fraud, asked.times[at], asked.seen[asked.ranks[at]])
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
