"""`python -m serving.refold`: folds the log beside the scorer, compares, and leaves a snapshot.

A process of its own, so that a decision never waits for it. It reads an `Order` from stdin and
answers with a `Finding` on stdout, both JSON.
"""

import os
import sys
from collections import deque
from datetime import datetime
from pathlib import Path

import msgspec

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.events import moment_of
from fraud_platform.features.rings import FeatureRings
from fraud_platform.settings import Settings

_CHUNK = 2_000
_NICENESS = 10


class Mark(msgspec.Struct, frozen=True):
    """What a scorer's memory held of one shard when it was at one log position."""

    seq: int
    shard: int
    digest: str


class Order(msgspec.Struct, frozen=True):
    """What to compare.

    Attributes:
        home: the installation's folder.
        since_us: oldest payment time that the first mark could see, microseconds UTC.
        marks: at least one, by seq.
    """

    home: str
    since_us: int
    marks: list[Mark]


class Finding(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        differing: shards whose memory is not what the log says.
        distrusted: whether the snapshots were what was wrong; they were replaced.
        snapshot_seq: log position of the snapshot that was written.
    """

    differing: list[int]
    distrusted: bool
    snapshot_seq: int


def refold(log: EventLog, snapshots: StateSnapshots, order: Order) -> Finding:
    """Fold the log up to the last mark, compare at each, and write a snapshot of the end.

    A difference counts when the log alone, without any snapshot, says the same.

    Raises:
        LogUnavailableError: the log cannot be read.
        StateUnavailableError: the snapshot cannot be written.
    """
    rings = snapshots.newest(log, not_after=order.marks[0].seq)
    suspected = {-1} if rings is None else _differing(log, rings, order.marks, None)
    differing, distrusted = suspected, False
    if rings is None or suspected:
        is_first, rings = rings is None, FeatureRings()
        differing = _differing(log, rings, order.marks, moment_of(order.since_us))
        distrusted = not is_first and differing != suspected
    if distrusted:
        snapshots.clear()
    snapshots.write(rings, log)
    return Finding(sorted(differing), distrusted, rings.last_seq)


def _differing(
    log: EventLog, rings: FeatureRings, marks: list[Mark], since: datetime | None
) -> set[int]:
    """Fold events up to the last mark; the shards whose digest differs at their mark."""
    found: set[int] = set()
    waiting = deque(marks)
    after_seq = rings.last_seq
    while waiting:
        events = log.follow(after_seq, since=since, limit=_CHUNK)
        for event in events:
            _compare(rings, waiting, event.seq, found)
            if not waiting:
                return found
            rings.apply(event)
        if not events:
            _compare(rings, waiting, None, found)
            return found
        after_seq = events[-1].seq
    return found


def _compare(
    rings: FeatureRings, waiting: deque[Mark], before_seq: int | None, found: set[int]
) -> None:
    """Look at the marks that were set before the next event."""
    while waiting and (before_seq is None or waiting[0].seq < before_seq):
        mark = waiting.popleft()
        if rings.digest(mark.shard) != mark.digest:
            found.add(mark.shard)


def main() -> None:
    """Carry out the order on stdin."""
    os.nice(_NICENESS)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    settings = Settings(home=Path(order.home))
    with in_use(settings.home):
        log = EventLog(settings.log_path)
        finding = refold(log, StateSnapshots(settings.state_dir), order)
        log.close()
    sys.stdout.buffer.write(msgspec.json.encode(finding))


if __name__ == "__main__":
    main()
