"""The thread that makes groups durable: one sync of the disk for all that were written meanwhile.

The loop writes a group and hands it over; it goes on deciding while the disk works. What comes back
comes back in the loop's own thread, in the order in which it was handed over.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from fraud_platform.errors import FraudPlatformError, LogUnavailableError

LOGGER = logging.getLogger("fraud_platform.scorer")

Handed = TypeVar("Handed")


class SyncThread(Generic[Handed]):
    """Syncs what is handed over.

    Args:
        sync: blocks until everything up to and including this is on disk; raises otherwise.
        done: called in the loop with all that one sync covered, and the error or None.
        idle: called in the thread after each sync, for work that may take long.
        pause: seconds to gather more between two syncs, when nobody waits for them.
    """

    def __init__(
        self,
        sync: Callable[[Handed], object],
        done: Callable[[list[Handed], FraudPlatformError | None], None],
        *,
        idle: Callable[[], None],
        pause: float = 0.0,
    ) -> None:
        self._sync = sync
        self._done = done
        self._idle = idle
        self._pause = pause
        self._queue: queue.SimpleQueue[Handed | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def hand(self, item: Handed) -> None:
        """Have this made durable; returns at once."""
        self._queue.put(item)

    def stop(self) -> None:
        """Sync what was handed over, then end; blocks until then."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            handed = [self._queue.get()]
            time.sleep(self._pause)
            while not self._queue.empty():
                handed.append(self._queue.get())
            is_open = None not in handed
            if items := [item for item in handed if item is not None]:
                self._settle(items)
                self._rest()

    def _settle(self, items: list[Handed]) -> None:
        error: FraudPlatformError | None = None
        try:
            self._sync(items[-1])
        except FraudPlatformError as found:
            error = found
        except Exception:  # a thread that ended in silence would leave everybody waiting for ever
            LOGGER.exception("syncing the journal ended with a defect")
            error = _UNEXPECTED
        self._loop.call_soon_threadsafe(self._done, items, error)

    def _rest(self) -> None:
        try:
            self._idle()
        except Exception:  # the same; what it was to prepare is made when it is needed
            LOGGER.exception("preparing the journal's next segment ended with a defect")


_UNEXPECTED = LogUnavailableError("found a defect while syncing the journal")
