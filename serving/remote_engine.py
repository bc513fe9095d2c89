"""The engine as a front sees it: the same questions, answered by the owner over its Unix socket.

All requests of one turn of the loop travel in one frame, in the order in which they were asked.
When the connection is lost nobody knows what became of the requests under way: their senders are
told to repeat them, and what was decided is not decided again.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from fraud_platform.errors import PermanentError, ScorerFullError
from fraud_platform.events import Decision, Transaction
from serving.group import DecisionRequest, DecisionResult, LabelResult, NewLabel
from serving.owner_frames import (
    ANSWERS,
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
    Recorded,
    Refused,
    Request,
    Unframer,
    error_of,
    frames,
    label_results,
)
from serving.refusals import AGAIN, RETRY_AFTER_SECONDS, RefusedError
from serving.schemas import ErrorOut

LOGGER = logging.getLogger("fraud_platform.front")

_SOON_SECONDS = 0.02
_LATEST_SECONDS = 1.0
_START_SECONDS = 2.0
"""How long a front waits for the owner before it answers that there is none."""
_COUNTS_SECONDS = 0.5
"""How often the owner is told what was refused here."""

_Told = TypeVar("_Told", Decided, Recorded, Found)


class OwnerDefectError(Exception):
    """The owner failed on a defect of its own while it had this request."""


def owner_away() -> RefusedError:
    """The refusal while there is no connection to the owner."""
    return _unavailable("owner_away", "The process that decides is away; this is not acknowledged")


def outcome_unknown() -> RefusedError:
    """The refusal of a request that was under way when the connection was lost."""
    return _unavailable(
        "outcome_unknown",
        "The process that decides went away before it answered; it may have carried this out",
    )


def _unavailable(code: str, message: str) -> RefusedError:
    body = ErrorOut(error=code, message=message, hint=AGAIN)
    return RefusedError(503, body, headers={"retry-after": str(RETRY_AFTER_SECONDS)})


class RemoteEngine:
    """Decides and records through the owner of the state.

    Args:
        path: the owner's socket.
        limit: so many requests may be under way; more are told to come back.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._link: _Link | None = None
        self._number = 0
        self._under_way: dict[int, asyncio.Future[Answer]] = {}
        self._outgoing: list[Request] = []
        self._refused: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._stood = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether the owner can be asked now."""
        return self._link is not None

    async def start(self) -> None:
        """Connect, and again whenever the connection is lost; return once it stood, or soon."""
        self._tasks = [asyncio.create_task(work) for work in (self._connect(), self._report())]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stood.wait(), _START_SECONDS)

    async def stop(self) -> None:
        """Let go of the owner; nothing may be under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tell_refused()
        self._flush()
        if self._link is not None:
            self._link.close()

    async def decide(
        self, transaction: Transaction, *, received_us: int, older: tuple[str, ...] = ()
    ) -> DecisionResult:
        """Decide on one payment, durably; the same payment again gets its first decision.

        Raises:
            RefusedError: the owner is away, or went away in the meantime.
            FraudPlatformError: as the owner's engine raises it.
        """
        request = Decide(self._next(), transaction, received_us, older)
        answer = await self._ask(request, Decided)
        return DecisionResult(answer.decision, answer.replayed)

    async def label(
        self, labels: Sequence[NewLabel], *, received_us: int, latest_us: int
    ) -> tuple[LabelResult | PermanentError, ...]:
        """Record verdicts, durably; one result or refusal each.

        Raises:
            RefusedError: the owner is away, or went away in the meantime.
            FraudPlatformError: as the owner's engine raises it.
        """
        request = Record(self._next(), tuple(labels), received_us, latest_us)
        return label_results(await self._ask(request, Recorded))

    async def decision(self, transaction_id: str) -> Decision | None:
        """The recorded and durable decision on a payment, or None.

        Raises:
            RefusedError: the owner is away, or went away in the meantime.
            FraudPlatformError: as the owner's engine raises it.
        """
        return (await self._ask(Find(self._next(), transaction_id), Found)).decision

    def refused(self, code: str) -> None:
        """Count one refused request, in the owner's metrics."""
        self._refused[code] += 1

    def _next(self) -> int:
        self._number += 1
        return self._number

    def submit(self, request: DecisionRequest) -> asyncio.Future[Answer]:
        """Put a payment into the next frame, now; an error becomes the future's.

        Raises:
            RefusedError: the owner is away.
            ScorerFullError: too many are under way.
        """
        return self._send(Decide(self._next(), request.transaction, request.received_us))

    async def _ask(self, request: Decide | Record | Find, expected: type[_Told]) -> _Told:
        answer = await self._send(request)
        if not isinstance(answer, expected):
            raise OwnerDefectError
        return answer

    def _send(self, request: Decide | Record | Find) -> asyncio.Future[Answer]:
        if self._link is None:
            raise owner_away()
        if len(self._under_way) >= self._limit:
            raise ScorerFullError("found more requests under way than this front takes")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._under_way[request.number] = future
        if not self._outgoing:
            loop.call_soon(self._flush)
        self._outgoing.append(request)
        return future

    def _flush(self) -> None:
        if self._link is not None and self._outgoing:
            self._link.say(self._outgoing)
        self._outgoing.clear()

    def told(self, answers: Sequence[Answer]) -> None:
        """The owner has answered."""
        for answer in answers:
            future = self._under_way.pop(answer.number, None)
            if future is None or future.done():  # its sender may have left
                continue
            if isinstance(answer, Failed):
                fault = answer.fault
                future.set_exception(OwnerDefectError() if fault is None else error_of(fault))
            else:
                future.set_result(answer)

    def lost(self) -> None:
        """The connection is gone, and with it whatever was under way."""
        self._link = None
        self._outgoing.clear()
        waiting, self._under_way = list(self._under_way.values()), {}
        for future in waiting:
            if not future.done():
                future.set_exception(outcome_unknown())
        if waiting:
            LOGGER.warning("the owner went away with %d requests under way", len(waiting))

    async def _connect(self) -> None:
        wait = _SOON_SECONDS
        while True:
            with contextlib.suppress(OSError):
                _, link = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _Link(self), os.fspath(self._path)
                )
                link.say([Hello(SHAPE, os.getpid())])
                self._link, began = link, asyncio.get_running_loop().time()
                self._stood.set()
                await link.ended.wait()
                self._link = None  # also if it was lost before it was taken
                if asyncio.get_running_loop().time() - began > _LATEST_SECONDS:
                    wait = _SOON_SECONDS
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LATEST_SECONDS)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_COUNTS_SECONDS)
            self._tell_refused()

    def _tell_refused(self) -> None:
        if self._refused and self._link is not None:
            self._link.say([Refused(dict(self._refused))])
            self._refused.clear()


class _Link(asyncio.Protocol):
    """One connection to the owner."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine
        self._unframer = Unframer()
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._engine.lost()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._unframer.feed(data):
                self._engine.told(ANSWERS.decode(body))
        except (LostPlaceError, msgspec.DecodeError):
            LOGGER.error("the owner said what is no answer of this version; its line is cut")
            if self._transport is not None:
                self._transport.abort()

    def say(self, requests: Sequence[Request]) -> None:
        if self._transport is not None:
            self._transport.writelines(frames(requests))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
