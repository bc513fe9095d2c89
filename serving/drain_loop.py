"""`python -m serving.drain_loop`: the journal into the log's tables, and seals of them.

A program of its own, so that no answer waits for a table. It may be killed at any time: the next
one goes on where the last commit ended, and whoever reads the log drains it first anyway.
"""

import gc
import logging
import signal
import threading
import time
from functools import partial

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import LogSeals
from fraud_platform.adapters.retention_run import purge
from fraud_platform.audit_log.acts import Act
from fraud_platform.errors import FraudPlatformError
from fraud_platform.settings import Settings, get_settings
from serving.logs import configure_logs

LOGGER = logging.getLogger("fraud_platform.drain")

_IDLE_SECONDS = 1.0
"""Between two looks: many records of one commit share pages of the indexes. Who reads the log does
not wait for it, but drains by itself."""
_RETRY_SECONDS = 1.0
_SEAL_SECONDS = 60.0
"""How long a decision may wait for its seal in the audit log, and a row there for its head."""
_SEALED_AT_ONCE = 4
"""Ranges between two drains, where many wait: an old log is sealed 16,384 positions a second."""
_TRIM_SECONDS = 3_600.0
_CHECK_SECONDS = 60.0
"""How often the journal is searched behind its last record: a lost sector looks like its end."""
_MANY_OBJECTS = 100_000
"""More than a batch is made of: looking for garbage among its rows took a fifth of the time."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Drain until stopped; an error costs a second, not the drain."""
    log, said = EventLog(settings.log_path), ""
    sealing = Sealing(settings)
    trimmed = checked = float("-inf")
    while not stop.is_set():
        wait = _IDLE_SECONDS
        try:
            if time.monotonic() - trimmed > _TRIM_SECONDS:
                trimmed = time.monotonic()
                _purge(settings)
            is_due = time.monotonic() - checked > _CHECK_SECONDS
            log.drain(checks=is_due)
            checked = time.monotonic() if is_due else checked
            said = ""
        except FraudPlatformError as error:
            if error.message != said:
                LOGGER.error("the journal is not drained: %s", error.message)
            said, wait = error.message, _RETRY_SECONDS
        sealing.follow()
        stop.wait(wait)
    log.close()


class Sealing:
    """What was drained enters the audit log; an error costs a minute, not the drain.

    Args:
        settings: of this home.
    """

    def __init__(self, settings: Settings) -> None:
        self._audit = audit_log_of(settings)
        self._seals = LogSeals(settings.log_path, self._audit, settings.audit_dir)
        self._ended = self._failed = float("-inf")
        self._said = ""

    def follow(self) -> None:
        """Seal full ranges, and once a minute the rest, under a signed head."""
        now = time.monotonic()
        if now - self._failed < _SEAL_SECONDS:
            return
        is_due = now - self._ended > _SEAL_SECONDS
        try:
            self._seals.seal(most=_SEALED_AT_ONCE, partial=is_due, wait=False)
            if is_due:
                self._audit.head()
                self._ended = now
            self._said = ""
        except FraudPlatformError as error:
            self._failed = now
            if error.message != self._said:
                LOGGER.error("the event log is not sealed: %s", error.message)
            self._said = error.message


def _purge(settings: Settings) -> None:
    """Delete segments past their limit; what stops it, stops only that."""
    act = partial(Act, actor="platform", role="", origin="platform")
    try:
        done = purge(settings, act, time.time_ns() // 1_000, only=("journal",))
    except FraudPlatformError as error:
        LOGGER.warning("nothing of the journal is purged this hour: %s", error.message)
        return
    for one in done.purged:
        LOGGER.info("deleted %d sealed segments of the journal", one.count)


def main() -> None:
    """Until SIGTERM or SIGINT."""
    settings, stop = get_settings(), threading.Event()
    configure_logs(settings.log_format)
    gc.set_threshold(_MANY_OBJECTS)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(settings, stop)


if __name__ == "__main__":
    main()
