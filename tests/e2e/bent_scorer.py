"""The scorer as a program, with a clock that jumps or a journal of small steps.

Everything else is `python -m serving`. BENT_CLOCK_FILE holds seconds to add to the clock, as text;
BENT_SEGMENT_BYTES is the room of a segment.
"""

import os
from functools import partial
from pathlib import Path

from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
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


def main() -> None:
    """Bend what the environment names, and serve."""
    if size := os.environ.get("BENT_SEGMENT_BYTES"):
        app.open_ledger = partial(small_steps, segment_bytes=int(size))
    if path := os.environ.get("BENT_CLOCK_FILE"):
        clock = partial(jumping_clock, Path(path))
        program.create_app = partial(app.create_app, clock=clock)
    program.run(get_settings())


if __name__ == "__main__":
    main()
