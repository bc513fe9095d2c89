"""What is remembered about one card or one terminal: transactions, and which are known frauds.

Which windows are read from it, and when entries are dropped, is `rings`.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from fraud_platform.events import LabelEvent


class Ring:
    """The living transactions of one entity, sorted by event time.

    `sums[i]` is the total amount of all transactions before place i, dropped ones included, so the
    sum of places a..b-1 is `sums[b] - sums[a]`.
    """

    __slots__ = ("amounts", "partners", "sums", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.sums = array("q", (0,))
        self.amounts = array("q")
        self.partners: list[str] = []

    def insert(self, event_us: int, amount_minor: int, partner: str) -> None:
        """Add one transaction at its place in event time: O(1) for the newest, O(n) if late."""
        if not self.times or event_us >= self.times[-1]:
            self.times.append(event_us)
            self.sums.append(self.sums[-1] + amount_minor)
            self.amounts.append(amount_minor)
            self.partners.append(partner)
            return
        place = bisect_right(self.times, event_us)
        later = (running + amount_minor for running in self.sums[place:])
        self.sums[place + 1 :] = array("q", later)
        self.times.insert(place, event_us)
        self.amounts.insert(place, amount_minor)
        self.partners.insert(place, partner)

    def drop_before(self, horizon_us: int) -> bool:
        """Forget what happened before the horizon; True if nothing is left."""
        if self.times and self.times[0] < horizon_us:
            place = bisect_left(self.times, horizon_us)
            del self.times[:place], self.sums[:place], self.amounts[:place], self.partners[:place]
        return not self.times


@dataclass(slots=True)
class FraudRing:
    """When which transactions of one entity were known to be fraud.

    Attributes:
        verdicts: transaction id -> (event time, its verdicts so far as (known, seq, verdict)).
        spans: (event time, transaction id, known from, known until), sorted; disjoint per id.
    """

    verdicts: dict[str, tuple[int, list[tuple[int, int, str]]]] = field(default_factory=dict)
    spans: list[tuple[int, str, int, float]] = field(default_factory=list)

    def insert(self, label: LabelEvent) -> None:
        """Fold one verdict in: the latest by known time, then seq, is the one that holds."""
        _, history = self.verdicts.setdefault(label.transaction_id, (label.event_us, []))
        insort(history, (label.known_us, label.seq, label.verdict))
        key = (label.event_us, label.transaction_id)
        first = bisect_left(self.spans, key)
        last = bisect_left(self.spans, (*key, float("inf")))
        ends = [*(known for known, _, _ in history[1:]), float("inf")]
        self.spans[first:last] = [
            (*key, known, end)
            for (known, _, verdict), end in zip(history, ends, strict=True)
            if verdict == "fraud" and known < end
        ]

    def count(self, start_us: int, end_us: int, at_us: int) -> int:
        """Transactions of [start, end) that are known to be fraud at `at_us`."""
        if not self.spans:
            return 0
        first = bisect_left(self.spans, (start_us,))
        last = bisect_left(self.spans, (end_us,), first)
        return sum(1 for _, _, known, end in self.spans[first:last] if known <= at_us < end)

    def drop_before(self, horizon_us: int) -> bool:
        """Forget transactions before the horizon; True if nothing is left."""
        if not self.verdicts:
            return True
        for key in [key for key, (event_us, _) in self.verdicts.items() if event_us < horizon_us]:
            del self.verdicts[key]
        del self.spans[: bisect_left(self.spans, (horizon_us,))]
        return not self.verdicts


@dataclass(slots=True)
class Past:
    """All that is remembered about one card or one terminal."""

    ring: Ring = field(default_factory=Ring)
    frauds: FraudRing = field(default_factory=FraudRing)

    def drop_before(self, horizon_us: int) -> bool:
        """Forget what happened before the horizon; True if nothing is left."""
        no_ring = self.ring.drop_before(horizon_us)
        return self.frauds.drop_before(horizon_us) and no_ring
