"""Two ways to ask: at a rate of its own, or as fast as the server answers.

An open loop sends when it is time to, whatever became of earlier requests, and counts from the
moment a request should have been sent: a server that stops for a second makes everyone wait who
would have come in that second (what is called coordinated omission is to leave them out). A closed
loop keeps a number of requests under way: it finds how much work a server does, not how long
anybody waits.
"""

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import msgspec

from fraud_platform.load.alarm import Alarm
from fraud_platform.load.client import LOST, Pool, Target
from fraud_platform.load.histogram import Histogram

Token = TypeVar("Token")

GRACE_SECONDS = 10.0
"""Requests that have no answer so long after the last one was sent have none."""
_NAMED = 5
_CODE = re.compile(r"[a-z_]{1,40}")
_BILLION = 1_000_000_000


class Source(Protocol[Token]):
    """Makes requests, and sees every answer."""

    def next(self) -> tuple[bytes, Token]:
        """The body of one more request, and what names it when it is answered."""

    def answered(self, token: Token, status: int, body: bytes) -> None:
        """One request's answer; status `LOST` when there was none."""


@dataclass
class Tally:
    """What came of a loop.

    Attributes:
        latency: of answers with a status of 200 to 299, from the moment the request was due.
        lateness: from the moment a request was due to the moment the loop took it up.
        sent: requests that became due.
        failures: every other answer, by what it was.
        first_failures: the first of them, with their places in the run.
        seconds: from the first request that was due to the last answer.
    """

    latency: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    first_failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Answers with a status of 200 to 299."""
        return self.latency.count

    def fail(self, number: int, after_seconds: float, what: str) -> None:
        """Count a failure, and remember it if it is among the first."""
        self.failures[what] += 1
        if len(self.first_failures) < _NAMED:
            self.first_failures.append(f"request {number} after {after_seconds:.3f} s: {what}")


def poisson(rate: float, seed: int) -> Iterator[int]:
    """Moments of independent senders, nanoseconds after the start.

    Args:
        rate: requests per second, on average.
        seed: same seed, same moments.
    """
    chance = random.Random(seed)  # noqa: S311 -- simulated senders, not secrets
    return itertools.accumulate(int(chance.expovariate(rate) * _BILLION) for _ in itertools.count())


def steady(rate: float) -> Iterator[int]:
    """Moments at one distance, nanoseconds after the start.

    Examples:
        >>> list(itertools.islice(steady(1_000), 3))
        [0, 1000000, 2000000]
    """
    return (int(number * _BILLION / rate) for number in itertools.count())


class _Loop(Generic[Token]):
    """What both loops share: numbering requests, and counting answers."""

    def __init__(self, target: Target, source: Source[Token]) -> None:
        self.pool: Pool[tuple[int, int, Token]] = Pool(target, self._answered)
        self.tally = Tally()
        self.start = 0
        self._source = source
        self._under_way = 0
        self._numbers = itertools.count()
        self._ended = asyncio.Event()

    def ask(self, due: int) -> None:
        """Send one more request, which should have been sent at this moment."""
        body, token = self._source.next()
        self._under_way += 1
        self.tally.sent += 1
        self.pool.send(body, (next(self._numbers), due, token))

    def has_more(self) -> bool:
        """Whether more requests will follow."""
        raise NotImplementedError

    async def finish(self) -> Tally:
        """Wait for the last answers, and count those that did not come."""
        self.settle()
        try:
            await asyncio.wait_for(self._ended.wait(), GRACE_SECONDS)
        except TimeoutError:
            self._give_up()
        finally:
            self.pool.answered = _ignored
            await self.pool.close()
        return self.tally

    def settle(self) -> None:
        """See whether this was the last answer."""
        if not self._under_way and not self.has_more():
            self._ended.set()

    def _answered(self, token: tuple[int, int, Token], status: int, body: bytes) -> None:
        number, due, name = token
        now = time.monotonic_ns()
        self._under_way -= 1
        self.tally.seconds = (now - self.start) / _BILLION
        if 200 <= status < 300:
            self.tally.latency.add(now - due)
        else:
            self.tally.fail(number, (due - self.start) / _BILLION, _named(status, body))
        self._source.answered(name, status, body)
        self.after()
        self.settle()

    def after(self) -> None:
        """What an answer is reason to do."""

    def _give_up(self) -> None:
        what = f"no answer within {GRACE_SECONDS:g} s of the end"
        self.tally.failures[what] += self._under_way
        self.tally.first_failures.append(f"{self._under_way} requests: {what}")


class _Open(_Loop[Token]):
    """Sends when it is time to."""

    def __init__(
        self, target: Target, source: Source[Token], arrivals: Iterator[int], seconds: float
    ) -> None:
        super().__init__(target, source)
        self._arrivals = arrivals
        self._end = int(seconds * _BILLION)
        self._due: int | None = None
        self._alarm = Alarm(asyncio.get_running_loop(), self._ring)
        self._sent_all = asyncio.Event()

    async def run(self, connections: int) -> Tally:
        try:
            await self.pool.open(connections)
            self.start = time.monotonic_ns()
            self._next()
            await self._sent_all.wait()
            return await self.finish()
        finally:
            self._alarm.close()

    def has_more(self) -> bool:
        return self._due is not None

    def _next(self) -> None:
        offset = next(self._arrivals, self._end)
        if offset >= self._end:
            self._due = None
            self._sent_all.set()
        else:
            self._due = self.start + offset
            self._alarm.at(self._due)

    def _ring(self) -> None:
        # The alarm is set once more for everything that is due by now: answers come in between.
        if self._due is not None:
            self.tally.lateness.add(max(time.monotonic_ns() - self._due, 0))
            self.ask(self._due)
            self._next()


class _Closed(_Loop[Token]):
    """Sends when an answer has come."""

    def __init__(self, target: Target, source: Source[Token], seconds: float) -> None:
        super().__init__(target, source)
        self._seconds = seconds
        self._end = 0

    async def run(self, connections: int) -> Tally:
        await self.pool.open(connections)
        self.start = time.monotonic_ns()
        self._end = self.start + int(self._seconds * _BILLION)
        for _ in range(connections):
            self.ask(time.monotonic_ns())
        await asyncio.sleep(self._seconds)
        return await self.finish()

    def has_more(self) -> bool:
        return time.monotonic_ns() < self._end

    def after(self) -> None:
        # A server that refuses everything would be asked in a loop without an end in sight.
        if self.has_more() and not self.tally.failures:
            self.ask(time.monotonic_ns())


async def open_loop(
    target: Target,
    source: Source[Token],
    arrivals: Iterator[int],
    *,
    seconds: float,
    connections: int,
) -> Tally:
    """Ask at moments of its own for so many seconds; wait for all answers.

    Args:
        target: whom to ask.
        source: what to ask.
        arrivals: when, ascending, nanoseconds after the start.
        seconds: how long.
        connections: so many requests are under way at once; the others wait, and their clock runs.

    Raises:
        UnavailableError: nobody listens at the target.
    """
    return await _Open(target, source, arrivals, seconds).run(connections)


async def closed_loop(
    target: Target, source: Source[Token], *, seconds: float, connections: int
) -> Tally:
    """Keep so many requests under way for so many seconds, or until one fails.

    Raises:
        UnavailableError: nobody listens at the target.
    """
    return await _Closed(target, source, seconds).run(connections)


class _Refusal(msgspec.Struct):
    """The part of an error's body that names it."""

    error: str = ""


_REFUSAL = msgspec.json.Decoder(_Refusal)


def _named(status: int, body: bytes) -> str:
    """What an answer was: its status and code, and nothing else of what it says."""
    if status == LOST:
        return "the connection ended"
    try:
        code = _REFUSAL.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        code = ""
    return f"HTTP {status} {code}" if _CODE.fullmatch(code) else f"HTTP {status}"


def _ignored(token: object, status: int, body: bytes) -> None:
    """An answer after the end of the run."""
