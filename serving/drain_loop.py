"""`python -m serving.drain_loop`: the journal into the log's tables, beside the scorer.

A program of its own, so that no answer waits for a table. It may be killed at any time: the next
one goes on where the last commit ended, and whoever reads the log drains it first anyway.
"""

import gc
import logging
import signal
import threading
import time
from pathlib import Path

from fraud_platform.adapters.drain import trim
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.errors import FraudPlatformError
from fraud_platform.settings import Settings, get_settings
from serving.logs import configure_logs

LOGGER = logging.getLogger("fraud_platform.drain")

_IDLE_SECONDS = 1.0
"""Between two looks: many records of one commit share pages of the indexes. Who reads the log does
not wait for it, but drains by itself."""
_RETRY_SECONDS = 1.0
_TRIM_SECONDS = 3_600.0
_CHECK_SECONDS = 60.0
"""How often the journal is searched behind its last record: a lost sector looks like its end."""
_DAY_US = 86_400_000_000
_MANY_OBJECTS = 100_000
"""More than a batch is made of: looking for garbage among its rows took a fifth of the time."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Drain until stopped; an error costs a second, not the drain."""
    log, said = EventLog(settings.log_path), ""
    trimmed = checked = float("-inf")
    while not stop.is_set():
        wait = _IDLE_SECONDS
        try:
            if time.monotonic() - trimmed > _TRIM_SECONDS:
                trimmed = time.monotonic()
                _trim(settings.log_path, settings.journal_keep_days)
            is_due = time.monotonic() - checked > _CHECK_SECONDS
            log.drain(checks=is_due)
            checked = time.monotonic() if is_due else checked
            said = ""
        except FraudPlatformError as error:
            if error.message != said:
                LOGGER.error("the journal is not drained: %s", error.message)
            said, wait = error.message, _RETRY_SECONDS
        stop.wait(wait)
    log.close()


def _trim(path: Path, keep_days: int) -> None:
    if not keep_days:
        return
    oldest_us = time.time_ns() // 1_000 - keep_days * _DAY_US
    disk, file = FolderDisk(path.with_name(JOURNAL_FOLDER)), LogFile(path)
    gone = trim(disk, file, older_than_us=oldest_us)
    file.close()
    if gone:
        LOGGER.info("deleted %d sealed segments of the journal", len(gone))


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
