"""Copies of the audit log's heads in a folder on another volume, or of another owner.

One file for each log, `<name>.heads`: signed heads one after the other. Only what it lacks is
appended; what stands there is never written again, but for an end that a crash or a full volume
tore off in the middle of a head.
"""

import fcntl
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from fraud_platform.audit_log.heads import ORIGIN, parse_head
from fraud_platform.errors import PermanentError

_LONGEST_HEAD = 1_024
_LAST_LINE = re.compile("\n\u2014 .+\n".encode())


def whole_heads(content: bytes) -> bytes:
    r"""Heads one after the other, without an end that was torn off while it was written.

    Examples:
        >>> whole_heads("text\n\n\u2014 name seal\ntex".encode()).decode()[-11:]
        ' name seal\n'
    """
    ends = [found.end() for found in _LAST_LINE.finditer(content)]
    return content[: ends[-1]] if ends else b""


class Anchor:
    """One folder.

    Args:
        folder: must exist: a volume that is not mounted must not be replaced by an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """The file of a log's heads."""
        return self._folder / f"{name}.heads"

    @property
    def paths(self) -> list[Path]:
        """The files of all logs' heads."""
        return sorted(self._folder.glob("*.heads"))

    def size(self, name: str) -> int:
        """Rows under the newest whole head that it has of a log; 0 without any.

        Raises:
            OSError: the folder is away, or what its file ends with was never a head.
        """
        path = self.path(name)
        if not path.exists():
            return 0
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2 * _LONGEST_HEAD))
            found = file.read()
        end = whole_heads(found).decode("utf-8", "replace")
        if not end and len(found) < _LONGEST_HEAD:
            return 0
        try:
            return parse_head(end[end.rindex(ORIGIN, 0, end.rindex("\u2014")) :]).size
        except (PermanentError, ValueError) as error:
            raise OSError(f"found {path} with an end that is no head") from error

    def add(self, name: str, notes: Sequence[str], public: bytes) -> None:
        """Append heads, and put each public key beside them once.

        Args:
            name: the log's.
            notes: the heads that it lacks, the smallest first.
            public: the key that signs them.

        Raises:
            OSError: the folder is away or cannot be written.
        """
        path = self.path(name)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a head that another one is writing is not torn off
            self._keep(path.with_suffix(".pub"), b64encode(public) + b"\n")
            start = max(0, file.seek(0, os.SEEK_END) - 2 * _LONGEST_HEAD)
            file.seek(start)
            file.truncate(start + len(whole_heads(file.read())))
            file.write("".join(notes).encode())
            file.flush()
            os.fsync(file.fileno())

    def _keep(self, path: Path, line: bytes) -> None:
        with path.open("a+b") as file:
            file.seek(0)
            if line not in file.read():
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
