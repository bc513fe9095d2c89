"""Counts of durations in a few thousand buckets, exact to a thousandth at every size."""

_DIGITS = 11
"""Significant bits of a bucket: two neighbours are at most a 1,024th apart."""


class Histogram:
    """Durations in nanoseconds; its size does not depend on how many there are.

    Attributes:
        count: how many were added.
        largest: the largest, exactly; 0 while there is none.

    Examples:
        >>> some = Histogram()
        >>> for duration in (1_000_000, 2_000_000, 3_000_000, 40_000_000):
        ...     some.add(duration)
        >>> round(some.at(0.5) / 1e6, 2), some.at(1.0)
        (2.0, 40000000)
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.largest = 0

    def add(self, duration: int) -> None:
        """Count one duration, nanoseconds, not negative."""
        drop = max(duration.bit_length() - _DIGITS, 0)
        edge = ((duration >> drop) + 1 << drop) - 1
        self._counts[edge] = self._counts.get(edge, 0) + 1
        self.count += 1
        self.largest = max(self.largest, duration)

    def at(self, share: float) -> int:
        """The duration that at least this share of all did not exceed, nanoseconds.

        Args:
            share: in (0, 1]; 0.99 is the 99th percentile.

        Raises:
            ValueError: nothing was counted.
        """
        needed = share * self.count
        seen = 0
        for edge in sorted(self._counts):
            seen += self._counts[edge]
            if seen >= needed:
                return min(edge, self.largest)
        raise ValueError("found no duration, expected at least one")
