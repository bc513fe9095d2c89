"""What the nightly scan need not read again: files that were clean, and are as they were then.

A file is known by inode, size and both times, the change time among them, which no program sets: it
moves with whatever is written. To a database belongs its write-ahead log. A file that was changed
within the last seconds is not remembered, since another change in the same tick of the clock would
not show. Once a week all is forgotten.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.settings import Settings

_WEEK_US = 7 * 86_400_000_000
_SETTLED_NS = 2_000_000_000
"""No file system's clock ticks more slowly."""

Mark = str
"""Digest of inode, size, modification and change time: 19 digits in a row could pass for a card."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What was clean.

    Attributes:
        whole_us: when everything was read last, microseconds UTC.
        clean: file -> how it was then.
    """

    whole_us: int
    clean: Mapping[str, Mark]


def mark_of(path: Path, now_ns: int) -> Mark | None:
    """How a file is, to be asked before it is read; None: it was changed only just now.

    Raises:
        OSError: it cannot be asked.
    """
    facts = [path.stat()]
    with suppress(FileNotFoundError):
        facts.append(path.with_name(f"{path.name}-wal").stat())
    if max(one.st_ctime_ns for one in facts) > now_ns - _SETTLED_NS:
        return None
    told = [(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in facts]
    return sha256(repr(told).encode())[:32]


def read_memory(settings: Settings, now_us: int) -> Memory:
    """What need not be read now; nothing, when that is a week old or cannot be read."""
    nothing = Memory(whole_us=now_us, clean={})
    try:
        memory = msgspec.json.decode(_path(settings).read_bytes(), type=Memory)
    except (FileNotFoundError, msgspec.MsgspecError):
        return nothing
    return memory if 0 <= now_us - memory.whole_us < _WEEK_US else nothing


def write_memory(settings: Settings, memory: Memory) -> None:
    """Keep it for the next night."""
    replace_file(_path(settings), msgspec.json.encode(memory))


def _path(settings: Settings) -> Path:
    return settings.controls_dir / "card_scan.files.json"
