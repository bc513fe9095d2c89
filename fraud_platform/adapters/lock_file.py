"""One at a time, among the processes of one machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file among the processes of one machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        # Released by the operating system when the file closes, also after a kill.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
