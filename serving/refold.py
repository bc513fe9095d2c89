"""`python -m serving.refold`: folds the log beside the scorer, compares, and leaves a snapshot.

A process of its own, so that a decision never waits for it. It reads an `Order` from stdin and
answers with a `Finding` or a `Failure` on stdout, all JSON.
"""

import os
import sys
import traceback
from collections import deque
from datetime import datetime
from pathlib import Path
from types import TracebackType

import msgspec

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.errors import FraudPlatformError
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import LATENESS, LOOKBACK
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
        marks: at least one, by seq.
        shards: how many the marks are of.
        is_alone: whether to fold the log without any snapshot even if nothing differs.
    """

    home: str
    marks: list[Mark]
    shards: int
    is_alone: bool


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why nothing came of it."""

    message: str


class Finding(msgspec.Struct, frozen=True, tag=True):
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

    A difference counts when the log alone, without any snapshot, says the same. Nothing of what is
    compared is relied on: where the fold begins comes from the log.

    Raises:
        LogUnavailableError: the log cannot be read.
        StateUnavailableError: the snapshot cannot be written.
    """
    marks = sorted(order.marks, key=_seq)
    if marks != order.marks or marks[-1].seq > log.last_seq():
        # No state that was folded from this log can have been at such positions.
        return Finding(sorted({mark.shard for mark in marks}), False, 0)
    rings = snapshots.newest(log, not_after=marks[0].seq)
    differing = set() if rings is None else _differing(log, rings, order, None)
    said = None
    if order.is_alone or differing or rings is None:
        said = rings and _digests(rings, order.shards)
        rings = FeatureRings()  # the other one goes first: there is room for one
        differing = _differing(log, rings, order, _horizon(log, marks[0].seq))
    distrusted = said is not None and said != _digests(rings, order.shards)
    if distrusted:
        snapshots.clear()
    snapshots.write(rings, log)
    return Finding(sorted(differing), distrusted, rings.last_seq)


def described(error: BaseException) -> str:
    """An error without its text where that may quote payments: what kind, and where."""
    if isinstance(error, FraudPlatformError):
        return error.message
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"found {type(error).__name__}{where}"


def _horizon(log: EventLog, position: int) -> datetime | None:
    """The oldest payment time that windows could see at a position."""
    newest = log.newest_event_timestamp(up_to=position)
    return None if newest is None else newest - LOOKBACK - LATENESS


def _digests(rings: FeatureRings, shards: int) -> list[str]:
    return [rings.digest(shard, shards) for shard in range(shards)]


def _seq(mark: Mark) -> int:
    return mark.seq


def _differing(
    log: EventLog, rings: FeatureRings, order: Order, since: datetime | None
) -> set[int]:
    """Fold events up to the last mark; the shards whose digest differs at their mark."""
    found: set[int] = set()
    waiting = deque(order.marks)
    after_seq = rings.last_seq
    while waiting:
        events = log.follow(after_seq, since=since, limit=_CHUNK)
        for event in events:
            found |= _compared(rings, waiting, order.shards, event.seq)
            if not waiting:
                return found
            rings.apply(event)
        if not events:
            return found | _compared(rings, waiting, order.shards, None)
        after_seq = events[-1].seq
    return found


def _compared(
    rings: FeatureRings, waiting: deque[Mark], shards: int, before_seq: int | None
) -> set[int]:
    """Look at the marks that were set before the next event; the shards that differ."""
    found = set()
    while waiting and (before_seq is None or waiting[0].seq < before_seq):
        mark = waiting.popleft()
        if rings.digest(mark.shard, shards) != mark.digest:
            found.add(mark.shard)
    return found


def main() -> None:
    """Carry out the order on stdin."""
    os.nice(_NICENESS)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    settings = Settings(home=Path(order.home))
    with in_use(settings.home):
        log = EventLog(settings.log_path)
        finding = refold(log, StateSnapshots(settings.state_dir), order)
        log.close()
    _answer(finding)


def _answer(answer: Finding | Failure) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.buffer.flush()


def _fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say why the process ends, to the one who asked; and all of it to whoever runs it by hand."""
    _answer(Failure(described(error)))
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.excepthook = _fail
    main()
