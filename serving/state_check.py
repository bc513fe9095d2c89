"""The scorer's doubt about its own memory: shard after shard is compared with the log.

Between requests a digest of one shard is taken, and another one later; when all shards have had
their turn, another process folds the log, compares each at its own position and leaves a snapshot
for the next start. A shard that differs is decided on by nobody but people until the state has
been folded again; requests go on being answered meanwhile.
"""

import asyncio
import logging
import struct
from pathlib import Path
from typing import NoReturn

from fraud_platform.errors import UnavailableError
from fraud_platform.features.rings import SHARDS, FeatureRings
from serving.beside import answer_of
from serving.engine import Engine
from serving.metrics import Metrics
from serving.refold import Failure, Finding, Mark, Order, described

LOGGER = logging.getLogger("fraud_platform.scorer")

ALONE_EVERY = 6
"""The first round after a start or a repair folds the log without any snapshot, and then every
sixth: what a snapshot has wrong is found then, although the memory may have started from it."""

_WORTH_A_SNAPSHOT = 20_000
"""So many events folded at the start take longer than starting from a snapshot."""
_LEAST_PATIENCE_SECONDS = 600.0
"""Another process may take so long to compare, or twice a round if that is longer."""
_SHOWN = 16
_UNREADABLE = (
    *(ArithmeticError, AttributeError, BufferError, LookupError, TypeError, ValueError),
    struct.error,
)
"""What reading damaged memory may end with."""


class StateCheck:
    """Compares one engine's memory with its log, round after round.

    Args:
        home: the installation's folder.
        engine: whose memory is looked at.
        seconds: length of a round; 0: none.
        metrics: where findings are counted.
    """

    def __init__(self, home: Path, engine: Engine, *, seconds: float, metrics: Metrics) -> None:
        self._home = home
        self._engine = engine
        self._seconds = seconds
        self._patience = max(_LEAST_PATIENCE_SECONDS, 2 * seconds)
        self._metrics = metrics
        self._sound = (-1, -1)  # log positions between which all shards were last found sound
        self._rounds = 0  # since the log was last to be folded alone

    async def run(self) -> None:
        """Go round for ever; cancel to stop. A defect costs one round, not all that follow."""
        while self._seconds:
            [defect] = await asyncio.gather(self._go_round(), return_exceptions=True)
            LOGGER.error("a round of checking the state ended with a defect: %s", described(defect))
            self._metrics.check_failed()
            await asyncio.sleep(self._seconds)

    async def _go_round(self) -> NoReturn:
        if self._engine.folded > _WORTH_A_SNAPSHOT:
            await self._round(is_whole=False)
        while True:
            await self._round()

    async def _round(self, *, is_whole: bool = True) -> None:
        rings, marks = self._engine.rings, []
        shards = SHARDS if rings is None else rings.shards
        for shard in range(shards if is_whole else 1):
            await asyncio.sleep(self._seconds / shards)
            if rings is None or rings is not self._engine.rings:
                return  # folded again: nothing is to be said about the memory before
            if rings.last_seq:
                marks.append(Mark(rings.last_seq, shard, _digest(rings, shard, shards)))
        if not marks or (marks[0].seq, marks[-1].seq) == (self._sound[1],) * 2:
            return
        is_alone = is_whole and self._rounds % ALONE_EVERY == 0
        order = Order(str(self._home.absolute()), marks, shards, is_alone=is_alone)
        try:
            finding = await self._asked_in_time(order)
        except UnavailableError as error:
            LOGGER.warning("the state was not checked: %s", error.message)
            self._metrics.check_failed()
            return
        self._rounds += is_whole
        await self._act(finding, order)

    async def _asked_in_time(self, order: Order) -> Finding:
        try:
            async with asyncio.timeout(self._patience):
                return await _asked(order)
        except TimeoutError as error:
            raise UnavailableError(
                f"found no answer of serving.refold after {self._patience:g} s; it was ended"
            ) from error

    async def _act(self, finding: Finding, order: Order) -> None:
        if finding.distrusted:
            LOGGER.error("replaced the snapshots: they were not what the log says")
        first, last = order.marks[0].seq, order.marks[-1].seq
        self._metrics.checked(len(order.marks), len(finding.differing))
        if not finding.differing:
            if len(order.marks) == order.shards:
                self._sound = (first, last)
            return
        doubtful = frozenset(shard % SHARDS for shard in finding.differing)
        LOGGER.error(
            "found shards %s of the state not as the log says at positions %d to %d, last sound "
            "at %d; their payments go to review until the state is folded again",
            *(_some(doubtful), first, last, self._sound[0]),
        )
        self._rounds = 0
        await self._engine.repair(doubtful)


async def _asked(order: Order) -> Finding:
    """Have another process compare; it ends when this is cancelled.

    Raises:
        UnavailableError: it could not.
    """
    found: Finding | Failure = await answer_of("serving.refold", order, Finding | Failure)
    if isinstance(found, Failure):
        raise UnavailableError(found.message)
    return found


def _digest(rings: FeatureRings, shard: int, shards: int) -> str:
    try:
        return rings.digest(shard, shards)
    except _UNREADABLE:
        return "unreadable"


def _some(shards: frozenset[int]) -> list[int] | str:
    """The shards, for a line in the log."""
    return sorted(shards) if len(shards) <= _SHOWN else f"({len(shards)} of {SHARDS})"
