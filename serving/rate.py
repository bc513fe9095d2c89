"""How often somebody may ask: token buckets in whole nanoseconds, O(1) and bounded in memory.

A bucket is one number, the moment at which it would be full again ("theoretical arrival time" of
the generic cell rate algorithm, ITU-T I.371): it admits at most `burst + rate * t` requests in any
window of t seconds.
"""

import math
from collections import OrderedDict

SECOND_NS = 1_000_000_000


class Bucket:
    """One caller's allowance; not shared between threads.

    Args:
        rate: requests per second in the long run; 0 admits everything.
        burst: requests at once after a pause, at least 1.

    Examples:
        >>> bucket = Bucket(rate=1.0, burst=2)
        >>> [bucket.take(0), bucket.take(0), bucket.take(0)]
        [0, 0, 1000000000]
    """

    __slots__ = ("_full_at", "_interval", "_slack", "burst", "rate")

    def __init__(self, *, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        # Rounded up, so that the long run never exceeds the rate.
        self._interval = math.ceil(SECOND_NS / rate) if rate else 0
        self._slack = self._interval * (burst - 1)
        self._full_at = 0

    def take(self, now: int) -> int:
        """Take one request out, if it is there.

        Args:
            now: a clock that never goes back, nanoseconds.

        Returns:
            0 when the request may pass, else how long to wait, nanoseconds.
        """
        full_at = self._full_at
        if full_at < now:
            full_at = now
        if (wait := full_at - now - self._slack) > 0:
            return wait
        self._full_at = full_at + self._interval
        return 0

    def owe(self, count: int, now: int) -> None:
        """Take out `count` more after the fact, for a request that turned out to be a batch."""
        self._full_at = max(self._full_at, now) + self._interval * count

    def wait(self, now: int) -> int:
        """How long until a request would pass, nanoseconds; takes nothing out."""
        return max(0, self._full_at - now - self._slack)

    def resized(self, *, rate: float, burst: int) -> "Bucket":
        """A bucket with other limits that still owes what this one owes."""
        if (rate, burst) == (self.rate, self.burst):
            return self
        changed = Bucket(rate=rate, burst=burst)
        if self._interval and changed._interval:
            changed._full_at = self._full_at
        return changed


class Buckets:
    """A bucket for each of many callers that nobody vouches for, such as client addresses.

    Args:
        rate: requests per second of each.
        burst: requests at once of each.
        capacity: how many are remembered; beyond it the one that was silent longest is forgotten,
            so whoever commands more addresses than this is limited by other means.
    """

    def __init__(self, *, rate: float, burst: int, capacity: int = 65_536) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: str, now: int) -> int:
        """`Bucket.take` of this caller."""
        return self._of(who).take(now)

    def owe(self, who: str, count: int, now: int) -> None:
        """`Bucket.owe` of this caller."""
        self._of(who).owe(count, now)

    def wait(self, who: str, now: int) -> int:
        """`Bucket.wait` of this caller."""
        bucket = self._buckets.get(who)
        return 0 if bucket is None else bucket.wait(now)

    def _of(self, who: str) -> Bucket:
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = Bucket(rate=self._rate, burst=self._burst)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(who)
        return bucket
