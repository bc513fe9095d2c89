"""The scorer's doubt about its own memory: shard after shard is compared with the log.

Between requests a digest of one shard is taken, and another one later; when all shards have had
their turn, another process folds the log, compares each at its own position and leaves a snapshot
for the next start. A shard that differs is decided on by nobody but people until the state has
been folded again; requests go on being answered meanwhile.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fraud_platform.errors import UnavailableError
from fraud_platform.features.rings import SHARDS, FeatureRings
from serving.engine import Engine
from serving.metrics import Metrics
from serving.refold import Finding, Mark, Order

LOGGER = logging.getLogger("fraud_platform.scorer")

_WORTH_A_SNAPSHOT = 20_000
"""So many events folded at the start take longer than starting from a snapshot."""


class Audit:
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
        self._pause = seconds / SHARDS
        self._metrics = metrics
        self._sound = (-1, -1)  # log positions between which all shards were last found sound

    async def run(self) -> None:
        """Go round for ever; cancel to stop."""
        if not self._pause:
            return
        if self._engine.folded > _WORTH_A_SNAPSHOT:
            await self._round(range(1))
        while True:
            await self._round(range(SHARDS))

    async def _round(self, shards: Iterable[int]) -> None:
        marks, since_us = [], 0
        for shard in shards:
            await asyncio.sleep(self._pause)
            rings = self._engine.rings
            if rings is None or not rings.last_seq:
                continue
            since_us = since_us or rings.sees_since_us
            marks.append(Mark(rings.last_seq, shard, _digest(rings, shard)))
        if not marks or (marks[0].seq, marks[-1].seq) == (self._sound[1],) * 2:
            return
        try:
            finding = await self._asked(Order(str(self._home.absolute()), since_us, marks))
        except UnavailableError as error:
            LOGGER.warning("the state was not checked: %s", error.message)
            self._metrics.check_failed()
            return
        await self._act(finding, marks)

    async def _act(self, finding: Finding, marks: list[Mark]) -> None:
        if finding.distrusted:
            LOGGER.error("replaced the snapshots: they were not what the log says")
        self._metrics.checked(len(marks), len(finding.differing))
        if not finding.differing:
            if len(marks) == SHARDS:
                self._sound = (marks[0].seq, marks[-1].seq)
            return
        LOGGER.error(
            "found shards %s of the state not as the log says at positions %d to %d, last sound "
            "at %d; their payments go to review until the state is folded again",
            *(finding.differing, marks[0].seq, marks[-1].seq, self._sound[0]),
        )
        await self._engine.repair(frozenset(finding.differing))

    async def _asked(self, order: Order) -> Finding:
        """Have another process compare.

        Raises:
            UnavailableError: it could not.
        """
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "serving.refold")
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise UnavailableError(f"found no way to start a process: {error}") from error
        try:
            answer, said = await process.communicate(msgspec.json.encode(order))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last = said.decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise UnavailableError(f"found serving.refold ended with {process.returncode}: {last}")
        return msgspec.json.decode(answer, type=Finding)


def _digest(rings: FeatureRings, shard: int) -> str:
    try:
        return rings.digest(shard)
    except (ArithmeticError, LookupError, ValueError):  # damage that cannot even be read
        return "unreadable"
