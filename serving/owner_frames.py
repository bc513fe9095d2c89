"""What a front and the owner say to each other: numbered requests, and answers by their numbers.

A frame is four bytes of length and one msgpack list: all that one turn of a loop had to say. Both
ends are the same program, so nothing is checked twice; `SHAPE` keeps two versions of it apart.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.events import Decision, Transaction
from serving.group import LabelResult, NewLabel
from serving.refusals import DOMAIN

LARGEST_FRAME = 128 * 1024 * 1024
"""Bytes; a length beyond it means that the two ends have lost their place."""
MOST_MESSAGES = 64
"""In one frame; of labels each may be a million bytes."""

_LENGTH = struct.Struct("!I")


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="h"):
    """The first word of a front: which shape of messages it speaks, and its process id."""

    shape: str
    pid: int


class Decide(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """One checked payment, and other names that its card may be known by, newest first."""

    number: int
    transaction: Transaction
    received_us: int
    older: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """Verdicts to record."""

    number: int
    labels: tuple[NewLabel, ...]
    received_us: int
    latest_us: int


class Find(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """A decision to look up."""

    number: int
    transaction_id: str


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Requests that a front refused, by code: the owner's metrics count them; no answer."""

    counts: dict[str, int]


Request = Hello | Decide | Record | Find | Refused


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """An error of the domain, to be raised again elsewhere."""

    kind: str
    message: str
    hint: str | None


class Decided(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """The durable decision on a payment, or on an earlier one of the same id."""

    number: int
    decision: Decision
    replayed: bool


class Recorded(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """What became of each verdict: its place in the log and whether it was new, or why not."""

    number: int
    results: tuple[LabelResult | None, ...]
    faults: dict[int, Fault]


class Found(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """The recorded decision, or nothing."""

    number: int
    decision: Decision | None


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """The request was refused; without a fault, on a defect."""

    number: int
    fault: Fault | None


Answer = Decided | Recorded | Found | Failed

REQUESTS = msgspec.msgpack.Decoder(list[Request])
ANSWERS = msgspec.msgpack.Decoder(list[Answer])
_ENCODER = msgspec.msgpack.Encoder()

_KINDS: dict[str, type[FraudPlatformError]] = {kind.__name__: kind for kind in DOMAIN}


def _shape() -> str:
    schema = msgspec.json.encode(
        [msgspec.json.schema(kind) for kind in (Hello, Decide, Record, Find, Refused, Answer)]
    )
    orders = [Transaction._fields, Decision._fields, sorted(_KINDS)]
    return hashlib.sha256(schema + msgspec.json.encode(orders)).hexdigest()


SHAPE = _shape()
"""Of the messages of this version; equal at both ends, or they do not talk."""


def fault_of(error: FraudPlatformError) -> Fault:
    """The error as a message; of its kinds the nearest that callers are told apart by."""
    kind = next(cls for cls in type(error).__mro__ if cls in DOMAIN)
    return Fault(kind.__name__, error.message, error.hint)


def error_of(fault: Fault) -> FraudPlatformError:
    """The error again, to be raised once.

    Examples:
        >>> fault = fault_of(PermanentError("found it in a file"))
        >>> type(error_of(fault)) is PermanentError
        True
    """
    return _KINDS[fault.kind](fault.message, hint=fault.hint)


def recorded(number: int, results: Sequence[LabelResult | PermanentError]) -> Recorded:
    """The answer for verdicts."""
    faults = {
        place: fault_of(result)
        for place, result in enumerate(results)
        if isinstance(result, PermanentError)
    }
    sound = (None if isinstance(result, PermanentError) else result for result in results)
    return Recorded(number, tuple(sound), faults)


def label_results(answer: Recorded) -> tuple[LabelResult | PermanentError, ...]:
    """The inverse of `recorded`."""
    results: list[LabelResult | PermanentError] = []
    for place, result in enumerate(answer.results):
        if result is None:
            results.append(cast(PermanentError, error_of(answer.faults[place])))
        else:
            results.append(result)
    return tuple(results)


def frames(messages: Sequence[Request] | Sequence[Answer]) -> Iterator[bytes]:
    """The messages as bytes for the other end, in their order."""
    for start in range(0, len(messages), MOST_MESSAGES):
        body = _ENCODER.encode(messages[start : start + MOST_MESSAGES])
        yield _LENGTH.pack(len(body))
        yield body


class LostPlaceError(Exception):
    """The bytes are no frames: the connection has to be given up."""


class Unframer:
    """Bytes as they arrive in, whole frames out."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that these bytes complete.

        Raises:
            LostPlaceError: a length that no frame has.

        Examples:
            >>> unframer = Unframer()
            >>> list(unframer.feed(bytes([0, 0, 0, 2, 65])))
            []
            >>> list(unframer.feed(b"B" + bytes([0, 0, 0, 1]) + b"C"))
            [b'AB', b'C']
        """
        self._rest += data
        start = 0
        while len(self._rest) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, start)
            if length > LARGEST_FRAME:
                raise LostPlaceError
            end = start + _LENGTH.size + length
            if len(self._rest) < end:
                break
            yield bytes(memoryview(self._rest)[start + _LENGTH.size : end])
            start = end
        del self._rest[:start]
