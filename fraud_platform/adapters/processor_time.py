"""What the kernel counts about a process and its children: processor time, and waiting for it.

Reads /proc; nothing is known elsewhere.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = "0A"
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError, NotADirectoryError)


@dataclass(frozen=True)
class Usage:
    """Processor time so far, user and system, of all threads, seconds.

    Attributes:
        own: of the process.
        below: of its children and theirs, those that have ended included.
    """

    own: float
    below: float

    def since(self, before: "Usage") -> "Usage":
        """What was used after an earlier look."""
        return Usage(self.own - before.own, self.below - before.below)


@dataclass(frozen=True)
class Waiting:
    """What the threads of a process and its children did so far, nanoseconds.

    Attributes:
        ran: on a processor.
        waited: for one, although they could have run.
    """

    ran: int
    waited: int

    def share_since(self, before: "Waiting") -> float:
        """The part of the time since an earlier look in which they waited for a processor."""
        ran, waited = self.ran - before.ran, self.waited - before.waited
        return max(waited, 0) / max(ran + waited, 1)


def usage(process: int) -> Usage:
    """The processor time of a process and of everything below it.

    Raises:
        ProcessLookupError: there is no such process.
    """
    times = _stat(process)
    if times is None:
        raise ProcessLookupError(f"found no process {process}")
    own, ended = times
    below = sum(sum(_stat(child) or (0.0, 0.0)) for child in _below(process))
    return Usage(own, ended + below)


def waiting(process: int, *, alone: bool = False) -> Waiting:
    """How long a process and everything below it ran and waited; only threads that live now.

    Args:
        process: its number.
        alone: leave out what is below it.
    """
    ran = waited = 0
    for number in (process,) if alone else (process, *_below(process)):
        with contextlib.suppress(*_GONE):
            for path in (_PROC / str(number) / "task").iterdir():
                one, other = _schedule(path)
                ran, waited = ran + one, waited + other
    return Waiting(ran, waited)


def spread(process: int) -> None:
    """Let a process and everything below it use every processor that we may use."""
    mine = os.sched_getaffinity(0)
    for number in (process, *_below(process)):
        with contextlib.suppress(*_GONE):
            for path in (_PROC / str(number) / "task").iterdir():
                os.sched_setaffinity(int(path.name), mine)


def listener(host: str, port: int) -> int | None:
    """The process of this machine that listens there, or None: another machine's, or hidden."""
    if not _is_here(host):
        return None
    names = {f"socket:[{inode}]" for inode in _sockets(port)}
    numbers = sorted(int(path.name) for path in _PROC.glob("[0-9]*"))
    return next((number for number in numbers if names & set(_files(number))), None)


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's: only then can it be bound."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
                probe.bind(address)
                return True
    return False


def _sockets(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(*_GONE):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


def _files(process: int) -> Iterator[str]:
    with contextlib.suppress(*_GONE):
        for path in (_PROC / str(process) / "fd").iterdir():
            with contextlib.suppress(*_GONE):
                yield str(path.readlink())


def _below(process: int) -> list[int]:
    """Children, and theirs."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*"):
        if (words := _words(int(path.name))) is not None:
            children.setdefault(int(words[1]), []).append(int(path.name))
    found, todo = [], [process]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


def _stat(process: int) -> tuple[float, float] | None:
    """Seconds of a process, and of those of its children that have ended."""
    words = _words(process)
    if words is None:
        return None
    user, system, ended_user, ended_system = (int(word) / _TICKS for word in words[11:15])
    return user + system, ended_user + ended_system


def _words(process: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before may hold anything."""
    with contextlib.suppress(*_GONE):
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return None


def _schedule(thread: Path) -> tuple[int, int]:
    with contextlib.suppress(*_GONE):
        ran, waited, _ = (thread / "schedstat").read_text().split()
        return int(ran), int(waited)
    return 0, 0
