"""The scorer as a program, with a clock that jumps, a journal of small steps, or worse.

Everything else is `python -m serving`. BENT_CLOCK_FILE holds seconds to add to the clock, as text;
BENT_SEGMENT_BYTES is the room of a segment. While BENT_DISK_FILE exists, each sync of the journal
takes so many seconds longer as it says; while BENT_MEMORY_FILE exists, features learn nothing new.
"""

import os
import time
from functools import partial
from pathlib import Path

from fraud_platform.adapters import journal_disk
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.events import Event
from fraud_platform.features.rings import FeatureRings
from fraud_platform.settings import get_settings
from serving import __main__ as program
from serving import app


def jumping_clock(path: Path) -> int:
    """Microseconds, moved by what a file says now."""
    return app.wall_clock() + int(path.read_text()) * 1_000_000


def small_steps(path: Path, *, segment_bytes: int) -> Ledger:
    """As `app.open_ledger`, but a segment is used up soon."""
    disk = FolderDisk(path.with_name(JOURNAL_FOLDER))
    return Ledger(disk, LogFile(path, busy_seconds=2.0), segment_bytes=segment_bytes)


def slow_disk(path: Path) -> None:
    """Let every sync of a segment wait while a file says so."""
    sync = journal_disk._FolderFile.sync

    def slow(self: journal_disk._FolderFile) -> None:
        if path.exists():
            time.sleep(float(path.read_text()))
        sync(self)

    journal_disk._FolderFile.sync = slow  # type: ignore[method-assign]


def short_memory(path: Path) -> None:
    """Let features pass events by, and believe they knew them, while a file exists."""
    apply = FeatureRings.apply

    def forget(self: FeatureRings, event: Event) -> None:
        if path.exists():
            self.last_seq = max(self.last_seq, event.seq)
        else:
            apply(self, event)

    FeatureRings.apply = forget  # type: ignore[method-assign]


def main() -> None:
    """Bend what the environment names, and serve."""
    if size := os.environ.get("BENT_SEGMENT_BYTES"):
        app.open_ledger = partial(small_steps, segment_bytes=int(size))
    if path := os.environ.get("BENT_CLOCK_FILE"):
        clock = partial(jumping_clock, Path(path))
        program.create_app = partial(app.create_app, clock=clock)
    if path := os.environ.get("BENT_DISK_FILE"):
        slow_disk(Path(path))
    if path := os.environ.get("BENT_MEMORY_FILE"):
        short_memory(Path(path))
    program.run(get_settings())


if __name__ == "__main__":
    main()
