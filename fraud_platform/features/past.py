"""What is remembered about one card or one terminal: payments, and which are known frauds.

Which windows are read from it is `reading`; when entries are dropped is `rings`. A past packs into
bytes and back, so that a snapshot, a file and a server keep the same thing.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right, insort
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, compress
from typing import NamedTuple

import numpy as np

UNKNOWN = 0
"""Stands for a text that is not known; no fingerprint is 0."""

_LIMB = 40
"""Squares of amounts are summed in two words of this many bits: both sums stay below 2^63."""
_LOW = (1 << _LIMB) - 1
_FEW = 20
"""NumPy costs as much for no payments at all as Python does for so many."""
_STEPS = 16
"""To sort a window afresh costs as much as to move so many amounts in and out."""
_FULL = 1 << 59
"""A running sum that has forgotten this much starts again from zero."""


@lru_cache(maxsize=1 << 17)
def fingerprint(text: str | None) -> int:
    """A text as a signed 64-bit number: the same in every process, `UNKNOWN` for None.

    Ten thousand different texts in one window are mistaken for fewer with a chance below 1e-11.

    Examples:
        >>> fingerprint("m1")
        6104225451280506833
    """
    if text is None:
        return UNKNOWN
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


class Entry(NamedTuple):
    """One payment as a past remembers it.

    Attributes:
        event_us: when it happened, microseconds UTC.
        seq: its place in the log.
        amount_minor: minor units.
        marks: bit i is set when it passes the i-th `where` of the reader.
        values: fingerprints of the reader's value columns, in their order.
    """

    event_us: int
    seq: int
    amount_minor: int
    marks: int
    values: tuple[int, ...]


class Ring:
    """Payments of one entity that pass one `where`, sorted by event time, then seq.

    `sums[i]` is the total amount of all payments before place i, dropped ones included, so the sum
    of places a..b-1 is `sums[b] - sums[a]`; the same for the two words of the squares, which are
    there if `is_squared`. `kept[slot]` are the amounts of places
    edges[2 * slot]..edges[2 * slot + 1]-1 in ascending order: whatever windows were asked for last.
    """

    __slots__ = (
        *("amounts", "highs", "lows", "marks", "seqs", "sums", "times", "values"),
        *("columns", "edges", "is_squared", "kept", "running"),
    )

    def __init__(self, width: int, *, squared: bool = True, slots: int = 0) -> None:
        self.columns = tuple(array("q") for _ in range(4 + width))
        self.running = tuple(array("q", (0,)) for _ in range(3 if squared else 1))
        self.times, self.seqs, self.amounts, self.marks, *_ = self.columns
        self.values = self.columns[4:]
        self.sums, self.is_squared = self.running[0], squared
        if squared:
            _, self.highs, self.lows = self.running
        # Made here although they fill later: what is made after a start is walked by the collector.
        self.kept = tuple([array("q") for _ in range(slots)])
        self.edges = array("q", (0, 0) * slots)

    def insert(self, entry: Entry) -> None:
        """Add one payment at its place: O(1) for the newest, O(n) for a late one."""
        event_us, seq, amount, marks, values = entry
        times = self.times
        if times and event_us < times[-1]:
            self._insert_late(entry)
            return
        times.append(event_us)
        self.seqs.append(seq)
        self.amounts.append(amount)
        self.marks.append(marks)
        for place, column in enumerate(self.values):
            column.append(values[place])
        self.sums.append(self.sums[-1] + amount)
        if self.is_squared:
            square = amount * amount
            self.highs.append(self.highs[-1] + (square >> _LIMB))
            self.lows.append(self.lows[-1] + (square & _LOW))

    def _insert_late(self, entry: Entry) -> None:
        self._let_go()
        event_us, _, amount, _, values = entry
        place, square = bisect_right(self.times, event_us), amount * amount
        for column, fact in zip(self.columns, (*entry[:4], *values), strict=True):
            column.insert(place, fact)
        steps = (amount, square >> _LIMB, square & _LOW)
        for running, step in zip(self.running, steps, strict=False):  # squares may not be asked
            running[place + 1 :] = array("q", [total + step for total in running[place:]])

    def squares(self, first: int, last: int) -> int:
        """Sum of the squared amounts of places first..last-1, exact."""
        high = self.highs[last] - self.highs[first]
        return (high << _LIMB) + self.lows[last] - self.lows[first]

    def ordered(self, slot: int, first: int, last: int) -> "array[int]":
        """Amounts of places first..last-1, ascending: to look at until the next call.

        Args:
            slot: 0, 1, ...: windows asked under the same one follow each other, and each costs no
                more than what came and went since the one before.
            first: place of the oldest.
            last: place after the newest.
        """
        while len(self.kept) <= slot:
            self.kept = (*self.kept, array("q"))
            self.edges.extend((0, 0))
        kept, edges, at = self.kept[slot], self.edges, 2 * slot
        before, after = edges[at], edges[at + 1]
        if first != before or last != after:
            edges[at], edges[at + 1] = first, last
            if before <= first and after <= last and first + last - before - after <= _STEPS:
                for amount in self.amounts[after:last]:
                    insort(kept, amount)
                for amount in self.amounts[before:first]:
                    del kept[bisect_left(kept, amount)]
            else:
                kept[:] = array("q", np.sort(self.amounts[first:last]).tobytes())
        return kept

    def misplaced(self) -> "list[array[int]]":
        """What is kept in order and is not what `ordered` says: memory is damaged."""
        return [
            kept
            for kept, first, last in zip(self.kept, self.edges[::2], self.edges[1::2], strict=True)
            if kept.tobytes() != np.sort(self.amounts[first:last]).tobytes()
        ]

    def drop_before(self, horizon_us: int) -> None:
        """Forget what happened before the horizon."""
        if self.times and self.times[0] < horizon_us:
            place = bisect_left(self.times, horizon_us)
            for column in (*self.columns, *self.running):
                del column[:place]
            for at, edge in enumerate(self.edges):
                self.edges[at] = edge - place
            if self.edges and min(self.edges) < 0:
                self._let_go()
            for running in self.running:
                if running[0] > _FULL:
                    running[:] = array("q", [total - running[0] for total in running])

    def pack(self) -> bytes:
        """The payments as bytes; `fill` restores them."""
        return b"".join(column.tobytes() for column in self.columns)

    def fill(self, packed: bytes) -> None:
        """Take payments that were packed; the ring is empty before."""
        size = len(packed) // len(self.columns)
        for start, column in enumerate(self.columns):
            column.frombytes(packed[start * size : (start + 1) * size])
        self._run()

    def take(self, ring: "Ring", bit: int) -> None:
        """Take those payments of another ring that bear a mark; this one is empty before."""
        is_marked = [marks >> bit & 1 for marks in ring.marks]
        for column, other in zip(self.columns, ring.columns, strict=True):
            column.extend(compress(other, is_marked))
        self._run()

    def _let_go(self) -> None:
        """Places have moved: what was kept in order is sorted afresh when it is asked for."""
        for kept in self.kept:
            del kept[:]
        for at in range(len(self.edges)):
            self.edges[at] = 0

    def _run(self) -> None:
        amounts = self.amounts
        if len(amounts) < _FEW:
            self.sums.extend(accumulate(amounts))
            if self.is_squared:
                self.highs.extend(accumulate([amount * amount >> _LIMB for amount in amounts]))
                self.lows.extend(accumulate([amount * amount & _LOW for amount in amounts]))
            return
        told = np.frombuffer(amounts, np.int64)
        self.sums.frombytes(told.cumsum().tobytes())
        if self.is_squared:
            high, low = told >> _LIMB // 2, told & (1 << _LIMB // 2) - 1
            rest = (high * low << _LIMB // 2 + 1) + low * low  # the square without high * high
            self.highs.frombytes((high * high + (rest >> _LIMB)).cumsum().tobytes())
            self.lows.frombytes((rest & _LOW).cumsum().tobytes())


class Verdict(NamedTuple):
    """One verdict on a payment.

    Attributes:
        event_us: when the payment happened.
        payment_seq: its place in the log.
        known_us: when the verdict became known.
        seq: the verdict's own place in the log.
        is_fraud: what it says.
        marks: the payment's marks, as in `Entry`.
    """

    event_us: int
    payment_seq: int
    known_us: int
    seq: int
    is_fraud: bool
    marks: int


class Span(NamedTuple):
    """A stretch of time [known_us, until_us) in which a payment was known to be fraud."""

    event_us: int
    payment_seq: int
    known_us: int
    until_us: float
    marks: int


class FraudRing:
    """Verdicts on the payments of one entity, and what was known when.

    Attributes:
        verdicts: sorted by payment, known time and seq.
        spans: when which payment was known to be fraud, sorted; disjoint per payment.
    """

    __slots__ = ("spans", "verdicts")

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.spans: list[Span] = []

    def insert(self, verdict: Verdict) -> None:
        """Fold one verdict in: the latest by known time, then seq, is the one that holds."""
        insort(self.verdicts, verdict)
        payment = (verdict.event_us, verdict.payment_seq)
        first, last = (
            bisect_left(self.verdicts, bound, key=_payment)
            for bound in (payment, (verdict.event_us, verdict.payment_seq + 1))
        )
        history = self.verdicts[first:last]
        ends = [*(later.known_us for later in history[1:]), float("inf")]
        first, last = (
            bisect_left(self.spans, bound, key=_payment)
            for bound in (payment, (verdict.event_us, verdict.payment_seq + 1))
        )
        self.spans[first:last] = [
            Span(*payment, told.known_us, end, told.marks)
            for told, end in zip(history, ends, strict=True)
            if told.is_fraud and told.known_us < end
        ]

    def known(self, start_us: int, end_us: int, at_us: int) -> list[Span]:
        """Payments of [start, end) that are known to be fraud at `at_us`, oldest first."""
        if not self.spans:
            return []
        first = bisect_left(self.spans, start_us, key=_event_us)
        last = bisect_left(self.spans, end_us, first, key=_event_us)
        return [s for s in self.spans[first:last] if s.known_us <= at_us < s.until_us]

    def drop_before(self, horizon_us: int) -> bool:
        """Forget verdicts on payments before the horizon; True if nothing is left."""
        if self.verdicts and self.verdicts[0].event_us < horizon_us:
            for kept in (self.verdicts, self.spans):
                del kept[: bisect_left(kept, horizon_us, key=_event_us)]
        return not self.verdicts


def _payment(told: Verdict | Span) -> tuple[int, int]:
    return told.event_us, told.payment_seq


def _event_us(told: Verdict | Span) -> int:
    return told.event_us


_HEAD = struct.Struct("<qq")
_VERDICT = struct.Struct("<qqqq?q")


class Past:
    """All that is remembered about one card or one terminal.

    Args:
        width: number of value columns.
        marked: `rings[0]` holds all payments, `rings[1 + i]` those with mark i, for i < marked.
        squared: whether sums of squares can be asked.
        slots: so many windows over all payments will be asked for in order.

    Attributes:
        last_seq: the newest log position applied to it; 0 before the first.
    """

    __slots__ = ("frauds", "last_seq", "rings")

    def __init__(self, width: int, marked: int, *, squared: bool = True, slots: int = 0) -> None:
        rings = [Ring(width, squared=squared) for _ in range(marked)]
        self.rings = (Ring(width, squared=squared, slots=slots), *rings)
        self.frauds = FraudRing()
        self.last_seq = 0

    def insert(self, entry: Entry) -> None:
        """Remember a payment."""
        rings, marks = self.rings, entry.marks
        rings[0].insert(entry)
        for place in range(1, len(rings)):
            if marks >> place - 1 & 1:
                rings[place].insert(entry)

    def marks_of(self, event_us: int, seq: int) -> int:
        """The marks of a payment it remembers; 0 of any other."""
        ring = self.rings[0]
        place = bisect_left(ring.times, event_us)
        while place < len(ring.times) and ring.times[place] == event_us:
            if ring.seqs[place] == seq:
                return ring.marks[place]
            place += 1
        return 0

    def drop_before(self, horizon_us: int) -> bool:
        """Forget what happened before the horizon; True if nothing is left."""
        times = self.rings[0].times
        if times and times[0] >= horizon_us:
            return False  # verdicts and marked payments are no older than the payments
        for ring in self.rings:
            ring.drop_before(horizon_us)
        return self.frauds.drop_before(horizon_us) and not times

    def pack(self) -> bytes:
        """Everything as bytes, little-endian; `fill` restores it."""
        payments, verdicts = self.rings[0].pack(), self.frauds.verdicts
        head = _HEAD.pack(self.last_seq, len(payments))
        return b"".join([head, payments, *(_VERDICT.pack(*told) for told in verdicts)])

    def fill(self, packed: bytes) -> None:
        """Take what was packed from a past of the same arguments; this one is empty before."""
        self.last_seq, size = _HEAD.unpack_from(packed)
        payments = packed[_HEAD.size : _HEAD.size + size]
        self.rings[0].fill(payments)
        for bit, ring in enumerate(self.rings[1:]):
            ring.take(self.rings[0], bit)
        for told in _VERDICT.iter_unpack(packed[_HEAD.size + size :]):
            self.frauds.insert(Verdict(*told))
