"""A journal under examination: is every byte what was written, and what to do where it is not.

Everything here is for a person with a broken disk; the scorer itself only ever recovers (`drain`).
"""

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass

from fraud_platform.adapters.drain import Seal, Sink, drain, readable
from fraud_platform.adapters.journal import name_of, numbers
from fraud_platform.adapters.journal_disk import Disk
from fraud_platform.adapters.journal_frames import (
    DecisionRecord,
    Frame,
    Kind,
    LabelRecord,
    Position,
    Record,
    frames,
    read_record,
    salt_of,
    scattered,
)
from fraud_platform.adapters.journal_reader import JournalReader
from fraud_platform.errors import JournalDamagedError, PermanentError


@dataclass(frozen=True)
class Segment:
    """One segment as it was found.

    Attributes:
        file: its name.
        state: sealed, open, dropped (a torn tail that a recovery left behind), trimmed, set
            aside or damaged.
        records: transactions with their decisions, and labels.
        bytes: how much of it is frames.
        problem: what is wrong with it, or None.
    """

    file: str
    state: str
    records: int
    bytes: int
    problem: str | None = None


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        kept: records behind the damage that could be proven to be in sequence.
        lost: log positions that sound records had which are not in the log now: others before
            them are gone, or their positions were taken meanwhile.
        set_aside: the files that are no longer part of the journal, by their new names.
    """

    kept: int
    lost: tuple[int, ...]
    set_aside: tuple[str, ...]


def examine(disk: Disk, sink: Sink) -> list[Segment]:
    """Every segment, oldest first; sealed ones are compared with their recorded digest.

    The log is locked for no more than two queries: others append, drain and trim meanwhile.
    """
    with readable():
        found = _looked_at(disk, sink)
        bad = {number for number, one in found.items() if one is None or one.problem is not None}
        if bad:
            # Not if it was sealed, dropped or trimmed while we read; then it is that by now.
            found |= _looked_at(disk, sink, only=bad)
    return [one for _, one in sorted(found.items()) if one is not None]


def _looked_at(
    disk: Disk, sink: Sink, *, only: Set[int] | None = None
) -> dict[int, Segment | None]:
    """Segments by number; None for one that went away while it was read."""
    there = numbers(disk)
    with sink.draining() as rows:
        seals, at = {seal.number: seal for seal in rows.seals()}, rows.drained().position
    reader, salt = JournalReader(disk, sink.identity()), salt_of(sink.identity())
    found: dict[int, Segment | None] = dict.fromkeys(only or ())
    for number in sorted({*there, *seals} if only is None else {*there, *seals} & only):
        try:
            if number not in there:
                found[number] = _absent(disk, seals[number], there)
            elif number in seals:
                found[number] = _sealed(disk, seals, seals[number], salt)
            else:
                found[number] = _unsealed(disk, reader, number, at, salt)
        except FileNotFoundError:
            found[number] = None
    return found


def repair(disk: Disk, sink: Sink) -> Repair:
    """Set damaged files aside and go on with what can be proven; nothing is deleted.

    The caller owns the journal and holds the append lock. Records behind damage are kept as long as
    their positions follow without a gap; the rest stays in the files that are set aside.

    Raises:
        LogUnavailableError: the disk or the log failed; repair again.
    """
    with readable():
        aside = [s.file for s in examine(disk, sink) if s.state == "damaged"]
        kept, lost = 0, tuple[int, ...]()
        if _is_stuck(disk, JournalReader(disk, sink.identity()), sink):
            at = sink.drained().position
            kept, lost = _salvage(disk, sink)
            aside += [name_of(number) for number in numbers(disk) if number >= at.segment]
        there = set(disk.names())
        renamed = []
        for name in sorted({*aside} & there):
            renamed.append(_aside(name))
            disk.rename(name, renamed[-1])
    return Repair(kept, lost, tuple(renamed))


def _aside(name: str) -> str:
    return f"{name.removesuffix('.seg')}.damaged"


def _is_stuck(disk: Disk, reader: JournalReader, sink: Sink) -> bool:
    """Whether the journal cannot be drained to its end."""
    try:
        drain(disk, sink, locked=True)
        reader.tail(sink.drained().position)
    except JournalDamagedError:
        return True
    return False


def _salvage(disk: Disk, sink: Sink) -> tuple[int, tuple[int, ...]]:
    """Take what follows in sequence behind the damage; the position moves behind all of it."""
    with sink.draining() as rows:
        at, last_seq = rows.drained()
        kept: list[Record] = []
        lost: list[int] = []
        for found, record in _behind(disk, at, salt_of(sink.identity())):
            takes_seq = isinstance(record, DecisionRecord | LabelRecord)
            if found.seq == last_seq + takes_seq and not lost:
                kept.append(record)
                last_seq = found.seq
            elif isinstance(record, DecisionRecord | LabelRecord) and (
                found.seq > last_seq or not rows.has(record)
            ):
                lost.append(found.seq)
        rows.store(kept)
        rows.advance(Position(max(at.segment, *numbers(disk)) + 1, 0))
    return len(kept), tuple(lost)


def _behind(disk: Disk, at: Position, salt: int) -> Iterator[tuple[Frame, Record]]:
    """Sound records behind a position, wherever they stand."""
    for number in numbers(disk):
        if number < at.segment:
            continue
        start = at.offset if number == at.segment else 0
        name = name_of(number)
        for found in scattered(disk.read(name, start, disk.size(name)), salt, start):
            record = read_record(found, name)
            if record is not None:
                yield found, record


def _absent(disk: Disk, seal: Seal, there: list[int]) -> Segment:
    if _aside(name_of(seal.number)) in disk.names():
        return Segment(name_of(seal.number), "set aside", seal.records, seal.bytes)
    if not there or seal.number < there[0]:
        return Segment(name_of(seal.number), "trimmed", seal.records, seal.bytes)
    problem = "the file is gone, and newer and older ones are there"
    return Segment(name_of(seal.number), "damaged", seal.records, seal.bytes, problem)


def _sealed(disk: Disk, seals: dict[int, Seal], seal: Seal, salt: int) -> Segment:
    name = name_of(seal.number)
    data = disk.read(name, 0, seal.bytes)
    is_same = not seal.sha256 or hashlib.sha256(data).hexdigest() == seal.sha256
    before = [number for number in seals if number < seal.number]
    problem = None
    if not is_same or len(data) < seal.bytes:
        problem = _first_bad(data, seal.bytes, salt)
    elif before and seals[max(before)].sha256 != seal.previous:
        problem = "its seal does not follow the one before"
    state = "sealed" if problem is None else "damaged"
    return Segment(name, state, seal.records, seal.bytes, problem)


def _first_bad(data: bytes, size: int, salt: int) -> str:
    """The first byte range that is not what was sealed."""
    start = max((found.end for found in frames(data, salt)), default=0)
    if start >= size:
        return f"bytes 0 to {size} are sound frames, and not the ones that were sealed"
    later = next((found.start for found in scattered(data[start:], salt, start)), size)
    return f"bytes {start} to {later} are not what was sealed"


def _unsealed(
    disk: Disk, reader: JournalReader, number: int, drained: Position, salt: int
) -> Segment:
    name = name_of(number)
    data = disk.read(name, 0, disk.size(name))
    sound = list(frames(data, salt))
    records = sum(found.kind in (Kind.DECISION, Kind.LABEL) for found in sound)
    end = sound[-1].end if sound else 0
    state, problem = "open", None
    if number < drained.segment:
        state = "dropped"
    else:
        try:
            reader.header(number)
            if reader.following(Position(number, end)) is None:
                reader.tail(max(Position(number, end), drained))
        except PermanentError as error:
            state, problem = "damaged", error.message
    return Segment(name, state, records, end, problem)
