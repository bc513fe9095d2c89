"""An alarm clock for an event loop, as fine as the system's own timers.

Event loops count in milliseconds, as long as many an answer takes. Linux's timer files are finer by
far; elsewhere the loop's own timer has to do, and the lateness that is measured says so.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME of <sys/timerfd.h>
_BILLION = 1_000_000_000


class _Setting(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, seconds and nanoseconds each."""

    _fields_ = (
        *(("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long)),
        *(("value_s", ctypes.c_long), ("value_ns", ctypes.c_long)),
    )


class Alarm:
    """Calls back at moments of `time.monotonic_ns`, one at a time.

    Args:
        loop: whose turn it becomes.
        ring: called when the moment has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
        self._file = self._opened()

    def at(self, moment: int) -> None:
        """Ring once at this moment, or at once if it has passed."""
        if self._file is None or self._libc is None:
            self._loop.call_later(max(moment - time.monotonic_ns(), 0) / _BILLION, self._ring)
            return
        # All zeros would put the alarm off; the past rings at once.
        setting = _Setting(0, 0, *divmod(max(moment, 1), _BILLION))
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(setting), None)

    def close(self) -> None:
        """Ring no more."""
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _opened(self) -> int | None:
        create = getattr(self._libc, "timerfd_create", None)
        if create is None:
            return None
        file: int = create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if file < 0:
            return None
        self._loop.add_reader(file, self._rung)
        return file

    def _rung(self) -> None:
        if self._file is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._file, 8)
                self._ring()
