"""Programs that a scorer keeps beside itself, off the path of an answer, and starts again.

A child may die or be killed at any time: what it does is done by the next one, from where the last
commit left it.
"""

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import Sequence

from fraud_platform.processes import born_under

LOGGER = logging.getLogger("fraud_platform.scorer")

_SOON_SECONDS = 0.5
_LATEST_SECONDS = 30.0
_SOUND_SECONDS = 60.0
"""A child that lived so long is started again at once."""
_GRACE_SECONDS = 10.0


class Child:
    """One program, kept running.

    Args:
        name: for the log.
        arguments: what follows the interpreter on the command line; never a secret.

    Attributes:
        name: for the log.
        pid: of the running program, or None.
        starts: how often it was started.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._arguments = arguments
        self.pid: int | None = None
        self.starts = 0

    async def run(self) -> None:
        """Keep it running; cancel to end it, politely first."""
        wait = _SOON_SECONDS
        while True:
            loop = asyncio.get_running_loop()
            started = loop.time()
            code = await self._tried()
            wait = _SOON_SECONDS if loop.time() - started > _SOUND_SECONDS else wait
            LOGGER.warning("%s ended with %s; it starts again in %.1f s", self.name, code, wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LATEST_SECONDS)

    async def _tried(self) -> int | str:
        """Run it once; a defect ends this time, not all that follow."""
        try:
            return await self._once()
        except Exception as defect:
            LOGGER.exception("keeping %s running met a defect", self.name)
            return f"a defect: {type(defect).__name__}"

    async def _once(self) -> int | str:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=born_under(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"no start: {getattr(error, 'strerror', None) or error}"
        self.pid, self.starts = process.pid, self.starts + 1
        try:
            return await process.wait()
        finally:
            self.pid = None
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):  # it ended just now
        process.terminate()
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
