"""Frames of the journal: how a record becomes bytes, and bytes a record again.

A frame is length (u32, of what follows the checksum), checksum (u32), kind (u8), seq (u64) and a
msgpack payload. The checksum is a CRC-32 of kind, seq and payload that starts from the journal's
own salt: neither a frame of another journal nor one that a sender put into a field is taken for
one of ours. A length of zero is the end of what was written: segments are allocated as zeros.

Pure: files are `journal` and `journal_reader`.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, get_type_hints

import msgspec

from fraud_platform.adapters.log_writer import Decided, Recorded, decision_of
from fraud_platform.errors import JournalDamagedError
from fraud_platform.events import Decision, Label, Transaction

FORMAT = 4
"""Of header and payloads; a reader refuses a larger one. Decisions of format 1 end before what
exploration says of them, those of format 2 before what the governor says, those of format 3 before
what worth says: they are read with nulls there."""
LARGEST = 1 << 22
"""A frame is never longer than this, bytes."""

_INNER = struct.Struct("<BQ")
_FRAME = struct.Struct("<IIBQ")
PREFIX = _FRAME.size
"""Bytes of a frame before its payload."""
_SMALLEST = _INNER.size
_ZEROS = bytes(1 << 16)


class Kind(IntEnum):
    """What a frame holds."""

    HEADER = 1
    """What segment this is; the first frame, and only that."""
    DECISION = 2
    """A transaction, when and how it came in, and its decision; takes a seq."""
    LABEL = 3
    """A verdict; takes a seq."""
    SHADOW = 4
    """What a challenger would have said; takes no seq, carries the last one taken."""
    MARK = 5
    """How far the journal was known to be on the disk when this was written; takes no seq."""


class Position(NamedTuple):
    """A place in the journal: the first byte that is not before it."""

    segment: int
    offset: int


class Header(NamedTuple):
    """The first frame of a segment.

    Attributes:
        format: of everything in the segment.
        journal: identity of the log that the segment belongs to.
        number: of the segment; it is its file's name too.
        first_seq: no frame of the segment has a smaller one.
        previous: where the segment before ended; (0, 0) for the first one after a start.
    """

    format: int
    journal: str
    number: int
    first_seq: int
    previous: Position


class Frame(NamedTuple):
    """One valid frame: what it says, and where it stands in its segment."""

    kind: int
    seq: int
    payload: bytes
    start: int
    end: int


class DecisionRecord(NamedTuple):
    """A transaction, and the decision on it as the log's table holds it.

    So nothing is unpacked on the way from the journal into the table.
    """

    decided: Decided
    row: tuple[object, ...]

    @property
    def seq(self) -> int:
        """Of the transaction."""
        return self.decided.seq

    @property
    def transaction(self) -> Transaction:
        """What was decided on."""
        return self.decided.transaction

    @property
    def decision(self) -> Decision:
        """What was decided."""
        return decision_of(self.row)


class LabelKey(NamedTuple):
    """Two verdicts with the same key are the same verdict."""

    transaction_id: str
    verdict: str
    label_source: str
    known_us: int


class LabelRecord(NamedTuple):
    """A verdict at its place in the log."""

    seq: int
    label: Label


class ShadowScore(NamedTuple):
    """What a challenger would have said about the transaction at `seq`."""

    seq: int
    transaction_id: str
    model_version: str
    model_digest: str
    score: float
    decision: str


Record = DecisionRecord | LabelRecord | tuple[ShadowScore, ...]

_TYPES = get_type_hints(Decision) | {"features": bytes, "reasons": str, "missing": str}
_STORED: Any = tuple[tuple(_TYPES[name] for name in Decision._fields)]  # type: ignore[misc]  # made of the fields at hand


def _before(name: str) -> Any:
    """Reads decisions of a format that ended before a field."""
    end = Decision._fields.index(name)
    stored: Any = tuple[tuple(_TYPES[field] for field in Decision._fields[:end])]  # type: ignore[misc]  # as above
    return msgspec.msgpack.Decoder(tuple[Transaction, int, str, stored])


_ENCODE = msgspec.msgpack.Encoder().encode
_DECISION = msgspec.msgpack.Decoder(tuple[Transaction, int, str, _STORED])
_OLDER = [_before(name) for name in ("worth_multiplier", "governed")]
_FORMAT_1 = _before("pass_propensity")
_LABEL = msgspec.msgpack.Decoder(Label)
_SHADOW = msgspec.msgpack.Decoder(tuple[ShadowScore, ...])
_HEADER = msgspec.msgpack.Decoder(Header)
_MARK = msgspec.msgpack.Decoder(Position)
# A frame may start wherever its length and seq are small enough to be one's.
_CANDIDATE = re.compile(rb"(?s)(?=..[\x00-\x40]\x00....[\x01-\x05].....\x00\x00\x00)")


def salt_of(journal: str) -> int:
    """Where the checksums of a journal's frames start from.

    Examples:
        >>> salt_of("a") == salt_of("b")
        False
    """
    return zlib.crc32(journal.encode())


def frame(kind: Kind, seq: int, payload: bytes, salt: int) -> bytes:
    """One frame, ready to be written.

    Examples:
        >>> len(frame(Kind.MARK, 7, b"", salt=0))
        17
    """
    checksum = zlib.crc32(payload, zlib.crc32(_INNER.pack(kind, seq), salt))
    return _FRAME.pack(_SMALLEST + len(payload), checksum, kind, seq) + payload


def header_frame(header: Header) -> bytes:
    """A segment's first frame; unsalted, so that any journal can say whose segment it is."""
    return frame(Kind.HEADER, header.first_seq, _ENCODE(header), 0)


def mark_frame(durable: Position, seq: int, salt: int) -> bytes:
    """Says that everything before a position was on the disk."""
    return frame(Kind.MARK, seq, _ENCODE(durable), salt)


def decision_frame(record: DecisionRecord, salt: int) -> bytes:
    """A transaction and its decision."""
    seq, transaction, received_us, source = record.decided
    payload = _ENCODE((transaction, received_us, source, record.row))
    return frame(Kind.DECISION, seq, payload, salt)


def recorded_in(data: bytes) -> Recorded:
    """What a frame that `decision_frame` made says is recorded."""
    _, _, _, seq = _FRAME.unpack_from(data)
    transaction, _, _, row = _DECISION.decode(memoryview(data)[PREFIX:])
    return Recorded(seq, transaction, decision_of(row))


def label_frame(record: LabelRecord, salt: int) -> bytes:
    """A verdict."""
    return frame(Kind.LABEL, record.seq, _ENCODE(record.label), salt)


def shadow_frame(scores: Sequence[ShadowScore], seq: int, salt: int) -> bytes:
    """Scores of a challenger; `seq` is the last one taken."""
    return frame(Kind.SHADOW, seq, _ENCODE(scores), salt)


def read_header(found: Frame, file: str) -> Header:
    """What the header frame of a file says.

    Raises:
        JournalDamagedError: its payload is no header.
    """
    header: Header = _read(_HEADER, found, file)
    return header


def read_mark(found: Frame, file: str) -> Position:
    """How far the journal was durable when a mark of a file was written.

    Raises:
        JournalDamagedError: its payload is no position.
    """
    position: Position = _read(_MARK, found, file)
    return position


def read_record(found: Frame, file: str) -> Record | None:
    """What a frame of a file records; None for headers and marks.

    Raises:
        JournalDamagedError: the checksum holds, and yet the payload is not what its kind says.
    """
    if found.kind == Kind.DECISION:
        transaction, received_us, source, row = _read_decision(found, file)
        return DecisionRecord(Decided(found.seq, transaction, received_us, source), row)
    if found.kind == Kind.LABEL:
        return LabelRecord(found.seq, _read(_LABEL, found, file))
    if found.kind == Kind.SHADOW:
        scores: tuple[ShadowScore, ...] = _read(_SHADOW, found, file)
        return scores
    return None


def frame_at(data: bytes, offset: int, salt: int, base: int = 0) -> Frame | None:
    """The valid frame that starts at an offset, or None.

    Args:
        data: bytes of a segment.
        offset: into `data`.
        salt: of the journal; a header needs none.
        base: where `data` starts in its segment.
    """
    if offset + PREFIX > len(data):
        return None
    length, checksum, kind, seq = _FRAME.unpack_from(data, offset)
    end = offset + 8 + length
    if not _SMALLEST <= length <= LARGEST or end > len(data):
        return None
    body = memoryview(data)[offset + 8 : end]
    if zlib.crc32(body, 0 if kind == Kind.HEADER else salt) != checksum:
        return None
    return Frame(kind, seq, data[offset + PREFIX : end], base + offset, base + end)


def frames(data: bytes, salt: int, base: int = 0) -> Iterator[Frame]:
    """The valid frames from the start of some bytes on, up to the first place without one."""
    offset = 0
    while (found := frame_at(data, offset, salt, base)) is not None:
        yield found
        offset = found.end - base


def wanted(data: bytes) -> int:
    """How many bytes the frame that starts here asks for; 0 where it cannot be one.

    Examples:
        >>> wanted(frame(Kind.MARK, 7, b"abc", salt=0)[:4])
        20
    """
    if len(data) < 4:
        return 0
    length = int.from_bytes(data[:4], "little")
    return length + 8 if _SMALLEST <= length <= LARGEST else 0


def content_length(data: bytes) -> int:
    """How many bytes stand before the zeros that some bytes end in; blocks of zeros cost nothing.

    Examples:
        >>> content_length(b"ab" + bytes(5 << 20))
        2
    """
    end = len(data)
    while data.endswith(_ZEROS, 0, end):
        end -= len(_ZEROS)
    return len(data[:end].rstrip(b"\0"))


def scattered(data: bytes, salt: int, base: int = 0) -> Iterator[Frame]:
    """The valid frames anywhere in some bytes, also behind places that are none."""
    # Segments are allocated as zeros, and no frame begins with them, although one may end in them.
    end = content_length(data) + PREFIX
    offset = 0
    while (candidate := _CANDIDATE.search(data, offset, end)) is not None:
        found = frame_at(data, candidate.start(), salt, base)
        if found is None:
            offset = candidate.start() + 1
        else:
            yield found
            offset = found.end - base


def _read_decision(found: Frame, file: str) -> Any:
    try:
        return _DECISION.decode(found.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        *first, row = _read_older(found, file)
        return (*first, (*row, *[None] * (len(Decision._fields) - len(row))))


def _read_older(found: Frame, file: str) -> Any:
    for decoder in _OLDER:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return decoder.decode(found.payload)
    return _read(_FORMAT_1, found, file)


def _read(decoder: Any, found: Frame, file: str) -> Any:
    try:
        return decoder.decode(found.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalDamagedError(
            f"found a sound frame at byte {found.start} of {file} whose content is not of kind"
            f" {found.kind} ({error})",
            hint="was it written by a newer version of this platform?",
        ) from error
