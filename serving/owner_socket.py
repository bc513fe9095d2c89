"""The owner's side of its fronts: a Unix socket that takes checked requests and gives answers back.

Order of arrival is order of decisions: a frame's requests join the engine's queue one after
another, in one turn of the loop. What became durable in one turn goes back in one frame.

Who can reach the socket needs no key: its folder is the user's own (0700), and this user could as
well write the log or the key store.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from prometheus_client import Gauge

from fraud_platform.card_tokens import known_as
from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.events import Decision
from serving.engine import Engine
from serving.group import DecisionRequest, DecisionResult, LabelRequest, Result
from serving.metrics import Metrics
from serving.owner_frames import (
    REQUESTS,
    SHAPE,
    Answer,
    Decide,
    Decided,
    Failed,
    Find,
    Found,
    Hello,
    LostPlaceError,
    Record,
    Refused,
    Request,
    Unframer,
    fault_of,
    frames,
    recorded,
)
from serving.refold import described

LOGGER = logging.getLogger("fraud_platform.scorer")

_LONGEST_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""


def requests_path(home: Path) -> Path:
    """Where fronts send what they have checked."""
    return home / "run" / "owner.sock"


def http_path(home: Path) -> Path:
    """Where fronts pass on what they do not answer themselves."""
    return home / "run" / "owner.http.sock"


@contextlib.contextmanager
def owned(home: Path) -> Iterator[None]:
    """Have the sockets of a home to oneself for as long as the block lasts.

    Raises:
        PermanentError: another scorer has them, or the folder is no place for them.
    """
    folder = requests_path(home).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise PermanentError(
            f"found no way to use {folder} ({error.strerror}), expected a folder of this user"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermanentError(
                f"found another scorer with fronts on {home}, expected to be the only one",
                hint="stop that one first, or name another home: FRAUD_HOME=...",
            ) from error
        yield


def bound(path: Path) -> socket.socket:
    """A Unix socket at this path, for this user only, in the place of an earlier one.

    Raises:
        PermanentError: the path is too long for a socket.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise PermanentError(
            f"found {path} longer than the {_LONGEST_PATH} bytes that a socket's path may have",
            hint="name a home with a shorter path: FRAUD_HOME=...",
        )
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(os.fspath(path))
    path.chmod(0o600)
    return made


class OwnerSocket:
    """Answers fronts for as long as it is open.

    Args:
        path: of the socket.
        expected: so many fronts are started.

    Attributes:
        path: of the socket.
        complete: set once as many fronts have come.
    """

    def __init__(self, path: Path, *, expected: int) -> None:
        self.path = path
        self._expected = expected
        self._server: asyncio.Server | None = None
        self._fronts: set[_Front] = set()
        self._gauge: Gauge | None = None
        self.complete = asyncio.Event()

    async def open(self, engine: Engine, metrics: Metrics) -> None:
        """Begin to listen.

        Raises:
            PermanentError: the path is too long for a socket.
        """
        self._gauge = Gauge("fraud_fronts", "Front processes connected", registry=metrics.registry)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Front(self, engine, metrics), sock=bound(self.path)
        )

    def close(self) -> None:
        """Listen no longer, and let go of every front once it has what was written to it."""
        if self._server is not None:
            self._server.close()
        for front in list(self._fronts):
            front.close()

    def came(self, front: "_Front") -> None:
        """A front has said who it is."""
        self._fronts.add(front)
        self._count()

    def left(self, front: "_Front") -> None:
        """A front's connection is gone."""
        self._fronts.discard(front)
        self._count()

    def _count(self) -> None:
        if self._gauge is not None:
            self._gauge.set(len(self._fronts))
        if len(self._fronts) >= self._expected:
            self.complete.set()


class _Front(asyncio.Protocol):
    """One front's connection."""

    def __init__(self, door: OwnerSocket, engine: Engine, metrics: Metrics) -> None:
        self._door = door
        self._engine = engine
        self._metrics = metrics
        self._unframer = Unframer()
        self._transport: asyncio.Transport | None = None
        self._is_known = False
        self._answers: list[Answer] = []
        self._look_ups: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is a Transport

    def connection_lost(self, exc: Exception | None) -> None:
        # What is under way is decided all the same: its sender will ask again.
        self._transport = None
        self._answers.clear()
        self._door.left(self)

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._unframer.feed(data):
                for request in REQUESTS.decode(body):
                    self._take(request)
        except (LostPlaceError, msgspec.DecodeError):
            LOGGER.error("a front sent what is no request of this version; it is let go")
            if self._transport is not None:
                self._transport.abort()

    def _take(self, request: Request) -> None:
        if isinstance(request, Hello):
            self._welcome(request)
        elif not self._is_known:
            raise LostPlaceError
        elif isinstance(request, Refused):
            for code, count in request.counts.items():
                self._metrics.refused(code, count)
        elif isinstance(request, Find):
            task = asyncio.get_running_loop().create_task(self._find(request))
            self._look_ups.add(task)
            task.add_done_callback(self._look_ups.discard)
        else:
            self._submit(request)

    def _welcome(self, hello: Hello) -> None:
        if hello.shape != SHAPE:
            LOGGER.error("front %d is of another version than the owner; it is let go", hello.pid)
            raise LostPlaceError
        self._is_known = True
        self._door.came(self)

    def _submit(self, request: Decide | Record) -> None:
        try:
            if isinstance(request, Decide):
                known = partial(known_as, older=request.older, known=self._engine.knows_card)
                payment = known(request.transaction) if request.older else request.transaction
                future = self._engine.submit(DecisionRequest(payment, request.received_us))
            else:
                future = self._engine.submit(
                    LabelRequest(request.labels, request.received_us, request.latest_us)
                )
        except FraudPlatformError as error:
            self._say(Failed(request.number, fault_of(error)))
        else:
            future.add_done_callback(partial(self._done, request.number))

    def _done(self, number: int, future: asyncio.Future[Result]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            known = isinstance(error, FraudPlatformError)
            self._say(Failed(number, fault_of(error) if known else None))  # type: ignore[arg-type]
            return
        self._say(_answer(number, future.result()))

    async def _find(self, request: Find) -> None:
        try:
            decision = await self._engine.decision(request.transaction_id)
        except FraudPlatformError as error:
            self._say(Failed(request.number, fault_of(error)))
        except Exception as defect:  # noqa: BLE001 -- said; whoever asked would wait for ever
            LOGGER.error("looking for a decision ended with a defect: %s", described(defect))
            self._say(Failed(request.number, None))
        else:
            self._say(Found(request.number, decision))

    def _say(self, answer: Answer) -> None:
        if self._transport is None:
            return
        if not self._answers:
            # After the other answers of this turn, which are waiting to be said.
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(answer)

    def _flush(self) -> None:
        if self._transport is not None and self._answers:
            self._transport.writelines(frames(self._answers))
        self._answers.clear()


def _answer(number: int, result: Result) -> Answer:
    if isinstance(result, DecisionResult):
        return Decided(number, result.decision, result.replayed)
    if isinstance(result, FraudPlatformError):
        return Failed(number, fault_of(result))
    if isinstance(result, Decision) or result is None:
        return Found(number, result)
    return recorded(number, result)
