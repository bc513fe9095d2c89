"""The disk under the journal: the few calls it makes, and the real ones.

Everything the journal, its drain and its recovery do to a disk goes through `Disk`, so that a
simulated one can lose power, run full or fail at any call. What the calls are for is `journal`.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Protocol

_POLL_SECONDS = 0.001
UNKNOWN_HEAD = b"\xff" * 8
"""The head while another process's commit is under way, or died."""


def head_at(last_seq: int) -> bytes:
    """The head that says: the last foreign commit ended at this position of the log.

    Examples:
        >>> head_at(258).hex()
        '0201000000000000'
    """
    return last_seq.to_bytes(8, "little")


class File(Protocol):
    """One segment open for writing, from its beginning on."""

    def write(self, data: bytes) -> int:
        """Write after what was written before; returns how many bytes were taken."""

    def sync(self) -> None:
        """Return when everything written is on the disk."""

    def close(self) -> None:
        """Let go of the file."""


class Lock(Protocol):
    """A lock between processes; it ends with its holder."""

    def acquire(self, *, seconds: float) -> bool:
        """Take it; False when another has held it for so long. 0: do not wait."""

    def release(self) -> None:
        """Give it back."""

    def close(self) -> None:
        """Give it back and forget it."""


class Disk(Protocol):
    """One folder of segments; a call that fails raises OSError."""

    def names(self) -> list[str]:
        """The files of the folder, in any order."""

    def create(self, name: str, size: int) -> File:
        """A new file of zeros whose room and name are on the disk when this returns."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """So many bytes from an offset on; fewer where the file ends."""

    def size(self, name: str) -> int:
        """How long a file is, bytes."""

    def modified_us(self, name: str) -> int:
        """When a file was last written, microseconds since 1970-01-01 UTC."""

    def flush(self, name: str) -> None:
        """Return when everything written to a file, by anybody, is on the disk."""

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to a length."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, durably."""

    def remove(self, name: str) -> None:
        """Delete a file."""

    def lock(self, name: str) -> Lock:
        """The lock of this name, not yet taken."""

    def read_head(self) -> bytes:
        """The eight bytes that tell of events that did not come by the journal."""

    def write_head(self, head: bytes) -> None:
        """Replace them; only the holder of the append lock may."""

    def close(self) -> None:
        """Let go of what was kept open; the next use opens it again."""


class FolderDisk:
    """A folder of the operating system, made when missing.

    Args:
        folder: where the segments are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._head = -1

    def names(self) -> list[str]:
        """The files of the folder; none while there is no folder."""
        try:
            return os.listdir(self._folder)  # noqa: PTH208 -- several times cheaper, and asked often
        except FileNotFoundError:
            return []

    def create(self, name: str, size: int) -> File:
        """A new file of zeros whose room and name are on the disk when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            # A full disk is met here, not in the middle of a frame.
            os.posix_fallocate(descriptor, 0, size)
            os.fsync(descriptor)
            self._sync_folder()
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return _FolderFile(descriptor)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """So many bytes from an offset on; fewer where the file ends."""
        with (self._folder / name).open("rb", buffering=0) as file:
            parts = []
            length = min(length, max(0, os.fstat(file.fileno()).st_size - offset))
            while length > 0 and (part := os.pread(file.fileno(), length, offset)):
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def size(self, name: str) -> int:
        """How long a file is, bytes."""
        return (self._folder / name).stat().st_size

    def modified_us(self, name: str) -> int:
        """When a file was last written, microseconds since 1970-01-01 UTC."""
        return (self._folder / name).stat().st_mtime_ns // 1000

    def flush(self, name: str) -> None:
        """Return when everything written to a file, by anybody, is on the disk."""
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to a length."""
        os.truncate(self._folder / name, size)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, durably."""
        (self._folder / old).rename(self._folder / new)
        self._sync_folder()

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self._folder / name).unlink()

    def lock(self, name: str) -> Lock:
        """The lock of this name, not yet taken; its file stays for ever."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return _FolderLock(self._folder / name)

    def read_head(self) -> bytes:
        """The head; eight bytes 255, "unknown", while there is none."""
        if self._head < 0:
            self._head = self._opened_head()
        return os.pread(self._head, 8, 0) or UNKNOWN_HEAD

    def write_head(self, head: bytes) -> None:
        """Replace the head."""
        descriptor = self._opened_head()
        try:
            os.pwrite(descriptor, head, 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of what was kept open; the next use opens it again."""
        if self._head >= 0:
            os.close(self._head)
            self._head = -1

    def _opened_head(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder / "head", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _FolderFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class _FolderLock:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def acquire(self, *, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self._is_taken():
            if time.monotonic() >= until:
                return False
            # The owner of a log holds it for a millisecond at a time.
            time.sleep(_POLL_SECONDS)
        return True

    def _is_taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)
