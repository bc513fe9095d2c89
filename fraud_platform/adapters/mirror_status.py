"""What the mirror says of itself: one small file beside the log, replaced whole.

The scorer reads it for its metrics and its mode; it needs no driver and no database for that.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True)
class MirrorStatus:
    """How the mirror is.

    Attributes:
        state: "running", "away" (PostgreSQL or the log, see problem), "refused" or "stopped".
        at: when this was written, seconds since 1970 UTC.
        pid: the mirror's process.
        contact_at: when PostgreSQL last answered, seconds since 1970 UTC; None: never yet.
        seq: the newest position PostgreSQL holds; None: not known yet.
        log_seq: the newest position of the log's file; None: not known yet.
        behind_rows: rows that are not in PostgreSQL; None: not known yet.
        behind_seconds: how long the oldest of them waits; 0 when there is none.
        mirrored_rows: rows this process has brought over.
        conflicts: rows that PostgreSQL has otherwise, see its table `conflicts`; None: not known.
        problem: what is wrong, for a person; None when nothing is.
    """

    state: str
    at: float
    pid: int
    contact_at: float | None = None
    seq: int | None = None
    log_seq: int | None = None
    behind_rows: int | None = None
    behind_seconds: float | None = None
    mirrored_rows: int = 0
    conflicts: int | None = None
    problem: str | None = None


def status_path(log_path: Path) -> Path:
    """Where the mirror of this log leaves its status."""
    return log_path.with_name("mirror.json")


def read_status(path: Path) -> MirrorStatus | None:
    """What the mirror said last, or None when none has run here or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=MirrorStatus)
    except (OSError, ValueError):
        # A file of another version is as good as none, and so is one of another user.
        return None


def write_status(path: Path, status: MirrorStatus) -> None:
    """Replace the file, whole. It is not synced: after a crash the next one is as good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(asdict(status)), "utf-8")
    os.replace(part, path)  # noqa: PTH105 -- one call, and it overwrites


def is_away(status: MirrorStatus | None, *, now: float, since: float, after: float) -> bool:
    """Whether PostgreSQL has not answered for longer than allowed.

    A mirror that was killed stops saying so, and counts as away too.

    Args:
        status: what `read_status` found.
        now: seconds since 1970 UTC.
        since: when the asker started; nobody is away longer than somebody waits for it.
        after: so many seconds are allowed.

    Examples:
        >>> is_away(None, now=100.0, since=95.0, after=30.0)
        False
        >>> is_away(None, now=130.0, since=95.0, after=30.0)
        True
    """
    contact = status.contact_at if status is not None else None
    return now - max(since, contact or since) > after
