"""`python -m serving.telling`: what an auditor asks of the home, found beside the scorer.

A process of its own: deciding again folds a stretch of the log and a proof hashes one, and no
payment waits for that. It reads an `Order` from stdin and answers with a `Told` or an `Untold` on
stdout, all JSON.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from fraud_platform.adapters.decision_search import Wanted, find_decisions
from fraud_platform.adapters.home import in_use
from fraud_platform.errors import (
    FraudPlatformError,
    PurgedError,
    UnavailableError,
    UnknownTransactionError,
)
from fraud_platform.settings import Settings
from serving.beside import answer_of

LONGEST_SECONDS = 45.0
"""An answer takes some seconds; with the wait it must come within the minute that proxies wait."""
LONGEST_WAIT_SECONDS = 10.0
"""Whoever is not served by then is sent away: looks that wait do not pile up in the scorer."""
_AT_ONCE = asyncio.Semaphore(1)
"""A look is hundreds of megabytes of another process for some seconds: one at a time."""
_NICENESS = 10


class LookGivenUpError(UnavailableError):
    """A look took too long, or waited too long for others; its text is fit for whoever looks."""


class Look(StrEnum):
    """What can be looked at."""

    DECISION = "decision"  # its dossier
    PROOF = "proof"  # of what the log holds of a payment, to take away
    SEARCH = "search"


class Order(msgspec.Struct, frozen=True):
    """What to tell of this home.

    Attributes:
        home: its folder.
        look: what is looked at.
        at: its name; what is looked for, in a search.
    """

    home: str
    look: Look
    at: str | Wanted


class Told(msgspec.Struct, frozen=True, tag=True):
    """`Dossier.to_dict`, `decision_proof`, or what `find_decisions` found."""

    found: Any


class Untold(msgspec.Struct, frozen=True, tag=True):
    """Why there is none."""

    message: str
    is_unknown: bool
    is_purged: bool = False


async def told_beside(home: Path, look: Look, at: str | Wanted) -> Any:
    """Have another process look; it ends when this is cancelled.

    Raises:
        UnknownTransactionError: there is no such decision.
        PurgedError: there is none any more.
        UnavailableError: it could not.
        LookGivenUpError: it took too long, or others look.
    """
    async with _at_most(LONGEST_WAIT_SECONDS, "Others look just now"):
        await _AT_ONCE.acquire()
    try:
        async with _at_most(LONGEST_SECONDS, "This look takes too long"):
            return await _answered(Order(str(home), look, at))
    finally:
        _AT_ONCE.release()


@asynccontextmanager
async def _at_most(seconds: float, message: str) -> AsyncIterator[None]:
    """Cancel what is inside when the time is over, and give the look up."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise LookGivenUpError(f"{message}: given up after {seconds:g} seconds") from error


async def _answered(order: Order) -> Any:
    found: Told | Untold = await answer_of("serving.telling", order, Told | Untold)
    if isinstance(found, Told):
        return found.found
    if found.is_purged:
        raise PurgedError(found.message)
    raise (UnknownTransactionError if found.is_unknown else UnavailableError)(found.message)


def main() -> None:
    """Carry out the order on stdin."""
    os.nice(_NICENESS)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    settings = Settings(home=Path(order.home))
    answer: Told | Untold
    try:
        with in_use(settings.home):
            answer = Told(_FINDERS[order.look](settings, order.at))
    except FraudPlatformError as error:
        kinds = UnknownTransactionError, PurgedError
        answer = Untold(error.message, *(isinstance(error, kind) for kind in kinds))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.buffer.flush()


def _decision(settings: Settings, name: Any) -> object:
    from serving.dossiers import Dossiers

    return Dossiers(settings).of(name).to_dict()


def _proof(settings: Settings, name: Any) -> object:
    from fraud_platform.adapters.decision_proof import decision_proof

    return decision_proof(settings, name)


def _search(settings: Settings, wanted: Any) -> object:
    return find_decisions(settings.log_path, wanted)


_FINDERS: Mapping[Look, Callable[[Settings, Any], object]] = {
    Look.DECISION: _decision,
    Look.PROOF: _proof,
    Look.SEARCH: _search,
}


if __name__ == "__main__":
    main()
