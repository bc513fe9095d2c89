"""A histogram that takes a whole group at once; the client library takes a lock for each value."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class GroupHistogram(Collector):
    """Counts of values by buckets, written by one thread.

    Args:
        name: of the metric.
        documentation: what is counted.
        bounds: the largest value of each bucket, ascending; larger values are counted too.
        registry: where it is shown.

    Examples:
        >>> seen = GroupHistogram("seen_seconds", "Seen", (0.1, 1.0), CollectorRegistry())
        >>> seen.observe([0.1, 0.5, 7.0])
        >>> [sample.value for metric in seen.collect() for sample in metric.samples]
        [1.0, 2.0, 3.0, 3.0, 7.6]
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = list(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._counts = [0] * len(self._names)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: Sequence[float]) -> None:
        """Count values."""
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The buckets, each with all that is not above it."""
        reached = 0.0
        buckets = []
        for name, count in zip(self._names, self._counts, strict=True):
            reached += count
            buckets.append((name, reached))
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=buckets, sum_value=self._sum
        )
