"""Who waits for an answer, and how it reaches them."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from fraud_platform.adapters.journal_frames import Position
from fraud_platform.errors import (
    FraudPlatformError,
    JournalBusyError,
    LogUnavailableError,
    UnavailableError,
)
from serving.group import Request, Result

LOGGER = logging.getLogger("fraud_platform.scorer")

DEFECT = LogUnavailableError("found a defect while deciding; the group was rolled back")

Unavailable = TypeVar("Unavailable", bound=UnavailableError)


@dataclass(slots=True)
class Waiting:
    """One request, since when it waits (seconds of the loop), and the future its sender awaits."""

    request: Request
    since: float
    future: asyncio.Future[Result]


@dataclass(slots=True)
class Written:
    """A group that was decided and written, not yet known to be durable.

    Attributes:
        waiting: its requests.
        results: one for each.
        position: where the journal must be durable before they are told.
        started: when the group was begun, seconds of the loop.
        after: what is to be done once they are told, or None.
    """

    waiting: list[Waiting]
    results: list[Result]
    position: Position
    started: float
    after: Callable[[], None] | None = None


class InFlight:
    """Groups that wait for the disk, in the order in which they were written.

    Attributes:
        requests: how many wait in them.
    """

    def __init__(self) -> None:
        self._groups: deque[Written] = deque()
        self.requests = 0

    @property
    def since(self) -> float:
        """When the oldest was begun, seconds of the loop; infinity when there is none."""
        return self._groups[0].started if self._groups else inf

    def append(self, written: Written) -> None:
        """One more waits."""
        self._groups.append(written)
        self.requests += len(written.waiting)

    def begins_with(self, written: Written) -> bool:
        """Whether this is the oldest."""
        return bool(self._groups) and self._groups[0] is written

    def take(self, count: int) -> None:
        """The oldest of them wait no more."""
        for _ in range(count):
            self.requests -= len(self._groups.popleft().waiting)

    def clear(self) -> list[Waiting]:
        """None waits any more; returns who waited."""
        waiting = [one for written in self._groups for one in written.waiting]
        self._groups.clear()
        self.requests = 0
        return waiting


def answer(group: list[Waiting], outcome: list[Result] | UnavailableError) -> None:
    """Resolve the futures of a group; a sender that went away is skipped."""
    if isinstance(outcome, UnavailableError):
        for waiting in group:
            if not waiting.future.done():
                waiting.future.set_exception(fresh(outcome))
        return
    for waiting, result in zip(group, outcome, strict=True):
        if not waiting.future.done():
            waiting.future.set_result(result)


def fresh(error: Unavailable) -> Unavailable:
    """The same error for one more sender; raising one object twice grows its traceback for ever."""
    return type(error)(error.message, hint=error.hint)


def fault_of(found: BaseException | None) -> LogUnavailableError | None:
    """Why requests must be refused after the log was looked after, or None."""
    if found is None or isinstance(found, JournalBusyError):
        return None  # the next look will do
    if isinstance(found, LogUnavailableError):
        return found
    if isinstance(found, FraudPlatformError):  # damage: only people can mend it
        return LogUnavailableError(found.message, hint=found.hint)
    # Whoever looked away here would leave a fault for ever.
    LOGGER.error("looking after the log ended with a defect", exc_info=found)
    return DEFECT
