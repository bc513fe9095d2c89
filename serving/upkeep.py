"""What goes on beside the answers for as long as a scorer runs, and never ends unnoticed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from serving.refold import described

LOGGER = logging.getLogger("fraud_platform.scorer")

Named = tuple[str, Coroutine[Any, Any, None]]


class Upkeep:
    """Tasks that are to last as long as the scorer.

    Attributes:
        problems: what ended although the scorer is not stopping, and how.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._is_stopping = False

    @contextlib.asynccontextmanager
    async def lasting(self, named: Sequence[Named]) -> AsyncIterator[None]:
        """Have these under way for as long as the block lasts; then they are cancelled."""
        self.problems, self._is_stopping = [], False
        tasks = [asyncio.create_task(work, name=name) for name, work in named]
        for task in tasks:
            task.add_done_callback(self._gone)
        try:
            yield
        finally:
            self._is_stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _gone(self, task: asyncio.Task[None]) -> None:
        if self._is_stopping:
            return
        defect = None if task.cancelled() else task.exception()
        how = "without a defect" if defect is None else described(defect)
        problem = f"{task.get_name()} ended before the scorer: {how}"
        LOGGER.error("%s; restart the scorer", problem)
        self.problems.append(problem)
