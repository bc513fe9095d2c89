"""The online state in Redis, against a PING of the same server on the same socket."""

from collections.abc import Iterator

from benchmarks.measure import Row, found, without
from fraud_platform.features.journal import Journal

_ROWS = (
    Row(measure="Redis: read of one vector / PING, p50 of wall time", at_most=1.5),
    Row(measure="Redis: read of a hot key / of a cold key", at_most=1.2),
    Row(measure="Redis: bytes per live event", unit="B"),
)


def redis(log: Journal) -> Iterator[Row]:
    """Reads over PINGs, a hot key over a cold one, and memory."""
    _module, why = found("fraud_platform.adapters.redis_state")
    yield from without(why or "not measured yet", *_ROWS)
