"""The scorer's journal: segments that records are appended to, a group at a time.

A group is one write; it counts once `sync` has returned for its position. Any failed write or sync
breaks the journal: what is on the disk is unknown from then on, so nothing more is appended until
its owner has drained what is there (`drain.recover`) and begun a new segment. Segments are
allocated before they are used, and the next one ahead of time, so that a full disk is met there.

Two threads use it: one appends, one syncs and prepares. Reading is `journal_reader`, what the
records mean is `ledger`.
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from fraud_platform.adapters.journal_disk import Disk, File
from fraud_platform.adapters.journal_frames import (
    FORMAT,
    Header,
    Position,
    header_frame,
    mark_frame,
    salt_of,
)
from fraud_platform.errors import JournalFullError, LogUnavailableError

SEGMENT_BYTES = 16 << 20
"""Room of one segment: about 20,000 decisions."""
START = Position(1, 0)
"""Where the first segment of a journal begins."""
_NOWHERE = Position(0, 0)
_SUFFIX = ".seg"


def name_of(number: int) -> str:
    """The file of a segment.

    Examples:
        >>> name_of(7)
        '00000007.seg'
    """
    return f"{number:08d}{_SUFFIX}"


def numbers(disk: Disk) -> list[int]:
    """The segments of a folder, oldest first."""
    stems = [name.removesuffix(_SUFFIX) for name in disk.names() if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdigit())


@dataclass(eq=False)
class _Segment:
    """A segment that may still have to be written or synced."""

    number: int
    file: File
    previous: Position = _NOWHERE
    written: int = 0
    synced: int = 0


def _let_go(segments: Sequence[_Segment]) -> None:
    """Close files that nothing refers to any more.

    Never again, whatever it says: the operating system has taken the descriptor back all the same,
    and may have given it to somebody else.
    """
    for segment in segments:
        with contextlib.suppress(OSError):
            segment.file.close()


def _no_room(wanted: str, error: OSError) -> JournalFullError:
    return JournalFullError(
        f"found no room for {wanted} of the journal ({error})",
        hint="free space on the disk of the journal, or see whether the scorer has used up its"
        " open files; it goes on by itself",
    )


class Journal:
    """What the one owner of a log appends to; nothing can be appended before `begin`.

    Args:
        disk: the folder of the segments.
        identity: of the log that the journal is of.
        segment_bytes: room of a segment.

    Attributes:
        salt: where checksums of this journal's frames start from.
        broken: the error after which nothing is appended any more, or None.
        spare_error: why the next segment could not be prepared, or None; the current one is used
            up before that does harm.
    """

    def __init__(self, disk: Disk, identity: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._disk = disk
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()  # of the two lines below
        self._segments: list[_Segment] = []  # oldest first; the last one is appended to
        self._durable = _NOWHERE
        self._spare_lock = threading.Lock()  # of the two below
        self._spare: _Segment | None = None
        self.spare_error: str | None = None
        self._marked = _NOWHERE
        self.salt = salt_of(identity)
        self.broken: LogUnavailableError | None = LogUnavailableError(
            "found a journal without a segment, expected `begin` before anything else"
        )

    @property
    def position(self) -> Position:
        """Where the next group will stand, if it fits there."""
        current = self._segments[-1]
        return Position(current.number, current.written)

    @property
    def durable(self) -> Position:
        """Everything before this was on the disk when the last sync returned."""
        return self._durable

    @property
    def is_marked(self) -> bool:
        """Whether the journal itself says how far it is durable, or cannot be appended to."""
        return self.broken is not None or self._durable <= self._marked

    def begin(self, number: int) -> None:
        """Take a new segment; everything in older ones must be drained.

        Raises:
            JournalFullError: it cannot be allocated; the journal stays as it was.
        """
        file = self._create(number)
        self.close()
        with self._lock:
            self._segments = [_Segment(number, file)]
            self._durable = self._marked = Position(number, 0)
        self.spare_error = None
        self.broken = None

    def append(self, frames: Sequence[bytes], *, next_seq: int) -> Position:
        """Write one group; it is not durable before `sync` has said so.

        Args:
            frames: made with this journal's salt, in seq order.
            next_seq: the first seq that the group may have taken.

        Returns:
            The position behind the group.

        Raises:
            JournalFullError: there is no room; nothing was written.
            LogUnavailableError: the journal is broken; if it broke just now, the group may or may
                not be in it.
        """
        self._refuse_when_broken()
        durable = self._durable
        has_news = durable > self._marked
        parts = [mark_frame(durable, next_seq - 1, self.salt), *frames] if has_news else frames
        data = b"".join(parts)
        segment = self._segments[-1]
        if segment.written and segment.written + len(data) > self._segment_bytes:
            segment = self._next()
        if not segment.written:
            header = Header(FORMAT, self._identity, segment.number, next_seq, segment.previous)
            data = header_frame(header) + data
        self._write(segment, data)
        self._marked = durable
        return Position(segment.number, segment.written)

    def sync(self, position: Position) -> Position:
        """Return when everything before a position is on the disk.

        Returns:
            The position up to which everything is, at least the one asked for.

        Raises:
            LogUnavailableError: the journal is broken; nothing more is known to be on the disk.
        """
        self._refuse_when_broken()
        with self._lock:
            waiting = [(s, s.written) for s in self._segments if s.number <= position.segment]
        if not waiting:
            return self._durable
        for segment, written in waiting:
            # In order: no later segment counts before the ones before it.
            if written > segment.synced:
                self._sync(segment, written)
        segment, written = waiting[-1]
        return self._synced(Position(segment.number, written))

    def prepare(self) -> None:
        """Have the next segment ready; `spare_error` tells when that is not possible."""
        with self._spare_lock:
            if self._spare is not None:
                return
            try:
                self._spare = self._created()
            except JournalFullError as error:
                self.spare_error = error.message
            else:
                self.spare_error = None

    def close(self) -> None:
        """Let go of all files; makes everything durable first, and says so behind it."""
        if self.broken is None:
            with contextlib.suppress(LogUnavailableError):
                self.sync(self.position)
                if not self.is_marked:
                    self.sync(self.append([], next_seq=1))
        self.broken = LogUnavailableError("found the journal closed")
        with self._lock:
            segments, self._segments = self._segments, []
        with self._spare_lock:
            spare, self._spare = self._spare, None
        _let_go([*segments, *([] if spare is None else [spare])])

    def _next(self) -> _Segment:
        """The segment after the current one."""
        with self._spare_lock:
            segment = self._created() if self._spare is None else self._spare
            self._spare = None
        segment.previous = self.position
        with self._lock:
            self._segments.append(segment)
        return segment

    def _created(self) -> _Segment:
        try:
            number = max(numbers(self._disk), default=0) + 1
        except OSError as error:
            raise _no_room("another segment", error) from error
        return _Segment(number, self._create(number))

    def _create(self, number: int) -> File:
        try:
            return self._disk.create(name_of(number), self._segment_bytes)
        except OSError as error:
            raise _no_room(f"segment {name_of(number)}", error) from error

    def _write(self, segment: _Segment, data: bytes) -> None:
        try:
            taken = segment.file.write(data)
        except OSError as error:
            raise self._break(f"a failed write ({error})") from error
        if taken != len(data):
            raise self._break(f"{taken} of {len(data)} bytes written")
        segment.written += taken

    def _sync(self, segment: _Segment, written: int) -> None:
        try:
            segment.file.sync()
        except OSError as error:
            raise self._break(f"a failed sync ({error})") from error
        segment.synced = written

    def _synced(self, position: Position) -> Position:
        with self._lock:
            done = [s for s in self._segments[:-1] if s.number < position.segment]
            self._segments = [s for s in self._segments if s not in done]
            self._durable = max(self._durable, position)
        _let_go(done)
        return position

    def _break(self, found: str) -> LogUnavailableError:
        self.broken = LogUnavailableError(
            f"found {found} in the journal, expected all of it on the disk",
            hint="check the disk of the journal; the scorer tries again by itself",
        )
        return self.broken

    def _refuse_when_broken(self) -> None:
        if self.broken is not None:
            raise LogUnavailableError(self.broken.message, hint=self.broken.hint)
