"""From the journal into the log's tables, each record exactly once.

The position up to which the journal is drained is stored with the rows, in one transaction of the
sink: whatever is killed in between, the next drain goes on where the rows end. Any process may
drain; the sink's own lock orders them. A segment that is drained and continued by a newer one is
sealed: its digest is recorded, chained to the one before.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fraud_platform.adapters.journal import name_of, numbers
from fraud_platform.adapters.journal_disk import UNKNOWN_HEAD, Disk, head_at
from fraud_platform.adapters.journal_frames import (
    DecisionRecord,
    Frame,
    LabelRecord,
    Position,
    Record,
    read_record,
)
from fraud_platform.adapters.journal_reader import JournalReader, Tail, is_clean_end
from fraud_platform.errors import JournalBusyError, JournalDamagedError, LogUnavailableError

BATCH = 2_000
"""So many frames go into one transaction at most."""
PATIENCE_SECONDS = 60.0
"""How long to wait for another process that appends."""
APPEND_LOCK = "append.lock"
"""Who holds it, and only that process, may append to the log: journal or tables."""


class Drained(NamedTuple):
    """How far a sink is: where in the journal it goes on, and the log's last position in it."""

    position: Position
    last_seq: int


class Seal(NamedTuple):
    """A finished segment, as it was when it was drained.

    Attributes:
        number: of the segment.
        first_seq: the first position of the log in it; 0 when it has none.
        last_seq: the last one.
        records: transactions with their decisions, and labels.
        bytes: its real length.
        sha256: hex digest of these bytes.
        previous: the digest of the segment sealed before; empty for the first.
    """

    number: int
    first_seq: int
    last_seq: int
    records: int
    bytes: int
    sha256: str
    previous: str


class Rows(Protocol):
    """One write transaction of a sink: all of it becomes durable, or nothing."""

    def drained(self) -> Drained:
        """Where this transaction begins."""

    def store(self, records: Sequence[Record]) -> None:
        """Add records."""

    def seal(self, seal: Seal) -> None:
        """Record a finished segment."""

    def seals(self) -> list[Seal]:
        """The finished segments, oldest first."""

    def has(self, record: DecisionRecord | LabelRecord) -> bool:
        """Whether the sink holds this very decision or verdict, at whatever position."""

    def advance(self, position: Position) -> None:
        """Say where the next drain goes on."""


class Sink(Protocol):
    """Where the journal is drained to."""

    def identity(self) -> str:
        """What names the log; its journal carries the same name."""

    def drained(self) -> Drained:
        """How far the sink is, as of now."""

    def draining(self) -> AbstractContextManager[Rows]:
        """A write transaction that ends with the block, durably; one process at a time."""


@dataclass(frozen=True)
class Recovery:
    """What became of a journal whose writer is gone.

    Attributes:
        frames: how many were drained.
        tail: what was dropped behind the last valid frame.
        position: where the next segment begins.
    """

    frames: int
    tail: Tail
    position: Position


def is_drained(disk: Disk, sink: Sink) -> bool:
    """Whether the sink has all of the journal; cheap enough to ask before every read."""
    with readable():
        return not disk.names() or is_clean_end(disk, sink.drained().position)


def drain(
    disk: Disk, sink: Sink, *, locked: bool = False, seconds: float = PATIENCE_SECONDS
) -> int:
    """Drain everything up to the first place where nothing stands.

    Args:
        disk: the folder of the segments.
        sink: where the records go.
        locked: the caller holds the append lock.
        seconds: how long to wait for whoever appends, where something stands that is no frame.

    Returns:
        How many frames were drained.

    Raises:
        JournalDamagedError: bytes that were on the disk are lost or changed.
        LogUnavailableError: the disk or the sink failed; what was drained is drained.
    """
    with readable():
        reader = JournalReader(disk, sink.identity())
        count = moved = _drain(disk, reader, sink)
        if locked or is_clean_end(disk, sink.drained().position):
            return count
        if moved:
            # Somebody is writing: what was there when we came is drained.
            count += (moved := _drain(disk, reader, sink))
        if not moved and not is_clean_end(disk, sink.drained().position):
            # Something stands there. Nobody is writing it while we hold the lock.
            with append_lock(disk, seconds):
                count += _drain(disk, reader, sink)
                reader.tail(sink.drained().position)
    return count


def checked(disk: Disk, sink: Sink, *, seconds: float = PATIENCE_SECONDS) -> int:
    """Drain everything, and see whether more was on the disk once: a lost sector reads as zeros.

    Reads what is allocated of the journal: for once a minute, not for every read.

    Returns:
        How many frames were drained.

    Raises:
        JournalDamagedError: bytes that were on the disk are lost or changed.
        LogUnavailableError: the disk or the sink failed; what was drained is drained.
    """
    with readable():
        reader = JournalReader(disk, sink.identity())
        count = drain(disk, sink, seconds=seconds)
        at = sink.drained().position
        while True:
            try:
                reader.tail(at)
            except JournalDamagedError:
                # Or a recovery has left this place behind meanwhile; nothing passes damage.
                before, at = at, sink.drained().position
                if at == before:
                    raise
            else:
                return count


def recover(disk: Disk, sink: Sink) -> Recovery:
    """Drain all of a journal that nobody writes to any more, and drop what is no frame.

    The caller holds the append lock and owns the journal. Nothing is taken for durable because it
    can be read: what is drained is durable by the sink's own commit.

    Raises:
        JournalDamagedError: bytes that were on the disk are lost or changed; nothing is dropped.
        LogUnavailableError: the disk or the sink failed; recover again.
    """
    with readable():
        reader = JournalReader(disk, sink.identity())
        count = _drain(disk, reader, sink)
        with sink.draining() as rows:
            at = rows.drained().position
            tail = reader.tail(at)
            fresh = max([at.segment - (at.offset == 0), *numbers(disk)]) + 1
            if at.offset:
                rows.seal(_seal(disk, reader, rows, at, is_proven=_is_flushed(disk, at)))
            rows.advance(Position(fresh, 0))
        _sweep(disk, sink)
    return Recovery(count, tail, Position(fresh, 0))


def trim(disk: Disk, sink: Sink, *, older_than_us: int) -> list[int]:
    """Delete sealed segments that were last written before a time.

    Returns:
        Their numbers.
    """
    with readable(), sink.draining() as rows:
        sealed = {seal.number for seal in rows.seals()}
        old = [
            number
            for number in numbers(disk)
            if number in sealed and disk.modified_us(name_of(number)) < older_than_us
        ]
        for number in old:
            disk.remove(name_of(number))
    return old


@contextmanager
def append_lock(disk: Disk, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Nobody else appends to the log while the block lasts.

    Raises:
        JournalBusyError: another process has been appending for so long.
    """
    with readable(), closing(disk.lock(APPEND_LOCK)) as lock:
        if not lock.acquire(seconds=seconds):
            raise JournalBusyError(
                f"found another process appending to the log for {seconds:g} seconds,"
                " expected it to be done",
                hint="see whether a `fraud-platform ingest` or `serve` hangs on this home",
            )
        yield


@contextmanager
def appending(disk: Disk, sink: Sink, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Append to the end of the log by another way than the journal: all inside the block.

    Raises:
        JournalBusyError: another process has been appending for so long.
        JournalDamagedError: bytes of the journal are lost or changed; their positions are taken.
        LogUnavailableError: the journal cannot be drained.
    """
    with append_lock(disk, seconds):
        drain(disk, sink, locked=True)
        with readable():
            JournalReader(disk, sink.identity()).tail(sink.drained().position)
            # First: whoever is killed behind the commit leaves a head that says "look".
            disk.write_head(UNKNOWN_HEAD)
        yield
        with readable():
            disk.write_head(head_at(sink.drained().last_seq))


@contextmanager
def readable() -> Iterator[None]:
    """Tell a disk that fails while a journal is read as the platform's own error."""
    try:
        yield
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> LogUnavailableError:
    """What is raised where the disk of a journal fails."""
    return LogUnavailableError(
        f"found the journal unusable ({error}), expected to read it and seal its segments",
        hint="check the disk and the permissions of the folder of the journal",
    )


def _drain(disk: Disk, reader: JournalReader, sink: Sink) -> int:
    count = 0
    while True:
        moved, drained = _step(disk, reader, sink)
        count += drained
        if not moved:
            return count


def _step(disk: Disk, reader: JournalReader, sink: Sink) -> tuple[bool, int]:
    """One transaction; whether it moved, and how many frames it drained."""
    sealed = None
    with sink.draining() as rows:
        begun, last_seq = rows.drained()
        batch = reader.read(begun, BATCH)
        rows.store(_records(batch.frames, last_seq, name_of(begun.segment)))
        at = batch.end
        if not batch.is_cut and (following := reader.following(at)) is not None:
            disk.flush(name_of(at.segment))
            sealed = _seal(disk, reader, rows, at, is_proven=True)
            rows.seal(sealed)
            at = following
        if at != begun:
            rows.advance(at)
    if sealed is not None:
        _cut(disk, sealed)
    return at != begun, len(batch.frames)


def _records(frames: Sequence[Frame], last_seq: int, file: str) -> list[Record]:
    """What frames record, in an order without a gap."""
    records = []
    for frame in frames:
        record = read_record(frame, file)
        if record is None:
            continue
        takes_seq = isinstance(record, DecisionRecord | LabelRecord)
        if frame.seq != last_seq + takes_seq:
            raise JournalDamagedError(
                f"found log position {frame.seq} at byte {frame.start} of {file},"
                f" expected {last_seq + takes_seq}",
                hint="events.db and its journal belong together: was one of them restored alone?",
            )
        last_seq = frame.seq
        records.append(record)
    return records


def _seal(disk: Disk, reader: JournalReader, rows: Rows, at: Position, *, is_proven: bool) -> Seal:
    data = disk.read(name_of(at.segment), 0, at.offset)
    seqs = reader.seqs(at)
    sealed = rows.seals()
    return Seal(
        number=at.segment,
        first_seq=min(seqs, default=0),
        last_seq=max(seqs, default=0),
        records=len(seqs),
        bytes=at.offset,
        # Without a flush nobody knows what a power loss would leave of it.
        sha256=hashlib.sha256(data).hexdigest() if is_proven else "",
        previous=sealed[-1].sha256 if sealed else "",
    )


def _is_flushed(disk: Disk, at: Position) -> bool:
    try:
        disk.flush(name_of(at.segment))
    except OSError:
        return False
    return True


def _sweep(disk: Disk, sink: Sink) -> None:
    """Cut drained segments to their length; nothing of dropped ones is read again."""
    with sink.draining() as rows:
        position, sealed = rows.drained().position, {seal.number: seal for seal in rows.seals()}
    for number in numbers(disk):
        if number >= position.segment:
            return
        if number in sealed:
            _cut(disk, sealed[number])
        elif disk.read(name_of(number), 0, disk.size(name_of(number))).strip(b"\0"):
            disk.rename(name_of(number), f"{number:08d}.torn")
        else:
            disk.remove(name_of(number))


def _cut(disk: Disk, seal: Seal) -> None:
    """Give back what a segment did not use; a torn tail stays for whoever wants to look."""
    name = name_of(seal.number)
    size = disk.size(name)
    if size > seal.bytes and not disk.read(name, seal.bytes, size).strip(b"\0"):
        disk.truncate(name, seal.bytes)
