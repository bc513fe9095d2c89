"""Who waits for an answer, and how it reaches them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fraud_platform.adapters.journal_frames import Position
from fraud_platform.errors import UnavailableError
from serving.group import Request, Result

Unavailable = TypeVar("Unavailable", bound=UnavailableError)


@dataclass
class Waiting:
    """One request, since when it waits, and the future its sender waits for."""

    request: Request
    since_us: int
    future: asyncio.Future[Result]


@dataclass
class Written:
    """A group that was decided and written, not yet known to be durable.

    Attributes:
        waiting: its requests.
        results: one for each.
        position: where the journal must be durable before they are told.
        started_us: when the group was begun, microseconds since 1970-01-01 UTC.
        after: what is to be done once they are told, or None.
    """

    waiting: list[Waiting]
    results: list[Result]
    position: Position
    started_us: int
    after: Callable[[], None] | None = None


def answer(group: list[Waiting], outcome: list[Result] | UnavailableError) -> None:
    """Resolve the futures of a group; a sender that went away is skipped."""
    for place, waiting in enumerate(group):
        if waiting.future.done():
            continue
        if isinstance(outcome, UnavailableError):
            waiting.future.set_exception(fresh(outcome))
        else:
            waiting.future.set_result(outcome[place])


def fresh(error: Unavailable) -> Unavailable:
    """The same error for one more sender; raising one object twice grows its traceback for ever."""
    return type(error)(error.message, hint=error.hint)
