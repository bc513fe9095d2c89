"""Reading a journal: its valid frames in order, and what stands behind the last of them.

Behind the last valid frame there is nothing, or a torn tail (a crash cut what nobody was told of),
or damage (bytes that were on the disk changed). A mark behind the place tells the last two apart:
it says how far everything was on the disk when it was written.
"""

from dataclasses import dataclass
from itertools import islice

from fraud_platform.adapters.journal import name_of, numbers
from fraud_platform.adapters.journal_disk import Disk
from fraud_platform.adapters.journal_frames import (
    FORMAT,
    LARGEST,
    Frame,
    Header,
    Kind,
    Position,
    content_length,
    frames,
    read_header,
    read_mark,
    salt_of,
    scattered,
    wanted,
)
from fraud_platform.errors import JournalDamagedError, PermanentError

_CHUNK = 1 << 20
_ALL = 1 << 62


@dataclass(frozen=True)
class Tail:
    """What stands behind the last valid frame, and was never known to be on the disk.

    Attributes:
        at: the first byte that is no frame.
        bytes: how many bytes from there on are not zero-filled, later segments included.
        frames: how many whole frames are among them.
    """

    at: Position
    bytes: int
    frames: int

    @property
    def file(self) -> str:
        """The file it begins in."""
        return name_of(self.at.segment)


@dataclass(frozen=True)
class Batch:
    """Frames in order, where they end, and whether there may be more right there."""

    frames: list[Frame]
    end: Position
    is_cut: bool


class JournalReader:
    """A journal as it is on the disk.

    Args:
        disk: the folder of the segments.
        identity: of the log that the journal must be of.
    """

    def __init__(self, disk: Disk, identity: str) -> None:
        self._disk = disk
        self._identity = identity
        self._salt = salt_of(identity)

    def read(self, at: Position, limit: int) -> Batch:
        """Valid frames of one segment from a position on, at most about `limit`.

        Raises:
            PermanentError: the segment is of another log or a newer format.
        """
        found: list[Frame] = []
        while len(found) < limit:
            part = self._part(at, limit - len(found))
            if at.offset == 0 and (not part or not self._is_headed(part[0], at.segment)):
                return Batch([], at, is_cut=False)
            if not part:
                return Batch(found, at, is_cut=False)
            found += part
            at = Position(at.segment, part[-1].end)
        return Batch(found, at, is_cut=True)

    def following(self, at: Position) -> Position | None:
        """The start of the segment that goes on exactly here, or None."""
        number = _next_written(self._disk, at.segment)
        if number is None:
            return None
        header = self.header(number)
        if header is None or header.previous != at:
            return None
        return Position(number, 0)

    def seqs(self, at: Position) -> list[int]:
        """The log positions that the records of a segment took, up to a position in it."""
        data = _bytes_at(self._disk, Position(at.segment, 0), at.offset)
        taken = (Kind.DECISION, Kind.LABEL)
        return [frame.seq for frame in frames(data, self._salt) if frame.kind in taken]

    def header(self, number: int) -> Header | None:
        """What a segment says it is; None if it does not say so validly.

        Raises:
            PermanentError: it is of another log or a newer format.
        """
        part = self._part(Position(number, 0), 1)
        return (
            read_header(part[0], name_of(number))
            if part and self._is_headed(part[0], number)
            else None
        )

    def tail(self, at: Position) -> Tail:
        """What stands behind the last valid frame; reads all of it, unlike everything else here.

        Frames that somebody appends meanwhile are no damage.

        Args:
            at: where that frame ends.

        Raises:
            JournalDamagedError: it was on the disk as valid frames once.
        """
        size = count = 0
        sound = at
        for number in numbers(self._disk):
            if number < at.segment:
                continue
            start = at.offset if number == at.segment else 0
            data = _bytes_at(self._disk, Position(number, start), _ALL)
            size += content_length(data)
            for frame in scattered(data, self._salt, start):
                count += 1
                sound = self._proven(sound, frame, number)
        return Tail(at, size, count)

    def _proven(self, at: Position, frame: Frame, number: int) -> Position:
        """Where valid frames end by now; refuses a mark that says there were more."""
        if frame.kind != Kind.MARK or (mark := read_mark(frame, name_of(number))) <= at:
            return at
        # What a mark speaks of was there before it: appended meanwhile, or it is gone.
        at = self._end(at)
        if mark <= at:
            return at
        raise JournalDamagedError(
            f"found no valid frame at byte {at.offset} of {name_of(at.segment)}, although the"
            f" journal was on the disk beyond that (so says the frame at byte {frame.start} of"
            f" {name_of(number)})",
            hint="`fraud-platform journal verify` shows what is left, `repair` sets it aside",
        )

    def _end(self, at: Position) -> Position:
        """Where the frames that stand at a position end, later segments included."""
        while True:
            at = self.read(at, _ALL).end
            if (following := self.following(at)) is None:
                return at
            at = following

    def _is_headed(self, first: Frame, number: int) -> bool:
        """Whether a segment's first frame is its header; refuses what is not ours to read."""
        if first.kind != Kind.HEADER:
            return False
        header = read_header(first, name_of(number))
        if header.format > FORMAT:
            raise PermanentError(
                f"found {name_of(number)} in format {header.format}, expected at most {FORMAT}",
                hint="it was written by a newer version: use that one",
            )
        if header.journal != self._identity:
            raise PermanentError(
                f"found {name_of(number)} of the log {header.journal}, expected one of"
                f" {self._identity}",
                hint="the journal and events.db belong together: move or restore both",
            )
        return header.number == number

    def _part(self, at: Position, limit: int) -> list[Frame]:
        """Some frames from a position on, no more than `limit`; none only if none stands there."""
        data = _bytes_at(self._disk, at, _CHUNK)
        if wanted(data) > len(data) == _CHUNK:
            data = _bytes_at(self._disk, at, LARGEST + 8)
        return list(islice(frames(data, self._salt, at.offset), limit))


def is_clean_end(disk: Disk, at: Position) -> bool:
    """Whether nothing at all stands at a position and in later segments.

    Cheap, so it takes a lost sector there for the end; `JournalReader.tail` does not.
    """
    return not _bytes_at(disk, at, 8).strip(b"\0") and _next_written(disk, at.segment) is None


def _next_written(disk: Disk, number: int) -> int | None:
    """The next segment that holds anything; allocated ones hold nothing."""
    later = (n for n in numbers(disk) if n > number)
    return next((n for n in later if _bytes_at(disk, Position(n, 0), 64).strip(b"\0")), None)


def _bytes_at(disk: Disk, at: Position, length: int) -> bytes:
    try:
        return disk.read(name_of(at.segment), at.offset, length)
    except FileNotFoundError:
        return b""
