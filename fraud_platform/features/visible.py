"""What windows can see of a past, as bytes: two states that answer alike have the same.

A past may hold more: payments that are beyond sight and not dropped yet, and running sums that
start anywhere. States that started at different places in the log differ there, and nowhere else.
"""

from array import array
from bisect import bisect_left

import numpy as np

from fraud_platform.features.past import Past, Ring, Span, Verdict


def visible(past: Past, horizon_us: int, marked_us: int, outliers: int) -> bytes:
    """Everything that answers are made of, derived sums and spans included.

    Args:
        past: of a card or a terminal.
        horizon_us: what happened before it is beyond sight.
        marked_us: whether what happened before it was an outlier is beyond sight.
        outliers: the bits of the marks that say so.

    Returns:
        Bytes to compare; empty if nothing is within sight.
    """
    parts = []
    for place, ring in enumerate(past.rings):
        since_us = marked_us if place and outliers >> place - 1 & 1 else horizon_us
        parts += [_payments(ring, since_us), _marks(ring, since_us, marked_us, outliers)]
        parts += [kept.tobytes() for kept in ring.misplaced()]  # of a sound state: none
    known: list[Verdict | Span] = [*past.frauds.verdicts, *past.frauds.spans]
    told = [
        tuple(t._replace(marks=t.marks if t.event_us >= marked_us else t.marks & ~outliers))
        for t in known
        if t.event_us >= horizon_us
    ]
    return b"".join(parts) + (repr(told).encode() if told else b"")


def _payments(ring: Ring, since_us: int) -> bytes:
    """All columns but the marks, and the sums from there on."""
    first = bisect_left(ring.times, since_us)
    if first == len(ring.times):
        return b""
    columns = (ring.times, ring.seqs, ring.amounts, *ring.values)
    sums = (np.frombuffer(running, np.int64)[first:] for running in ring.running)
    return b"".join([
        *(column[first:].tobytes() for column in columns),
        *((total - total[0]).tobytes() for total in sums),
    ])  # fmt: skip


def _marks(ring: Ring, since_us: int, marked_us: int, outliers: int) -> bytes:
    first, certain = (bisect_left(ring.times, us) for us in (since_us, marked_us))
    old = array("q", [marks & ~outliers for marks in ring.marks[first:certain]])
    return (old + ring.marks[certain:]).tobytes()
