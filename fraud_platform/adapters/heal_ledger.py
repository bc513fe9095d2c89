"""The heal ledger: every record of healing, in one file that only grows.

What belongs here: who may write it, and reading it cheaply. What records mean is `heal.state`,
what joins them is `hash_chain`.

Who heals holds the lease. People's words are appended without it, so that a kill switch waits for
nobody; whoever decided on what was true before them is refused by `commit`, and decides again.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fraud_platform.adapters.hash_chain import START, Chain, Link, Place
from fraud_platform.errors import HistoryDamagedError, LeaseHeldError, UnavailableError
from fraud_platform.heal.doubt import Spans, doubtful_spans
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.state import State, fold, folded

_PATIENCE, _PAUSE = 0.2, 0.01
"""Seconds: whoever only looks at a lease holds it for less than a pause."""


class Entry(Link, frozen=True, kw_only=True):
    """One line.

    Attributes:
        record: what it says.
    """

    record: Record


class HealLedger:
    """One installation's ledger.

    Args:
        path: the file; made with its folder by the first record.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chain = Chain(path, Entry)
        self._place, self._state = START, folded(())
        self._episodes: list[Record] = []

    def state(self) -> State:
        """What is true now; a look again costs only what was written since.

        Raises:
            HistoryDamagedError: a line was changed, lost or swapped.
            UnavailableError: the disk does not answer.
        """
        entries, place = self._chain.since(self._place)
        for entry in entries:
            self._state = fold(self._state, entry.record)
            if entry.record.kind in (Kind.DIAGNOSED, Kind.CLOSED):
                self._episodes.append(entry.record)
        self._place = place
        return self._state

    def records(self) -> tuple[Record, ...]:
        """Every record, oldest first; reads the whole file.

        Raises:
            HistoryDamagedError: a line was changed, lost or swapped.
            UnavailableError: the disk does not answer.
        """
        return tuple(entry.record for entry in self._chain.since()[0])

    def doubtful(self) -> Spans:
        """When inputs were broken: nothing may be learnt from the payments of then.

        Raises:
            HistoryDamagedError: a line was changed, lost or swapped.
            UnavailableError: the disk does not answer.
        """
        self.state()
        return doubtful_spans(self._episodes)

    def append(self, record: Record) -> Entry:
        """Append a record durably, whatever others wrote meanwhile.

        Returns:
            The entry as written.

        Raises:
            HistoryDamagedError: a line above was changed, lost or swapped.
            UnavailableError: the disk refuses; nothing was appended.
        """
        (entry,) = self._chain.append([Entry(record=record)], behind=self._place)
        return entry

    def commit(self, decided: Sequence[Record]) -> None:
        """Append what was decided on the last `state`, all or nothing.

        Raises:
            HistoryChangedError: somebody wrote since; nothing was appended, decide again.
            HistoryDamagedError: a line above was changed, lost or swapped.
            UnavailableError: the disk refuses; nothing was appended.
        """
        if decided:
            entries = [Entry(record=record) for record in decided]
            self._chain.append(entries, behind=self._place, alone=True)

    def verify(self, digest: str = "") -> Place:
        """Follow the chain from its first line to its last.

        Args:
            digest: the chain must have held it at some place: one that was kept elsewhere shows
                that the file was not rewritten, and that its end was not cut off.

        Returns:
            The place behind the last line.

        Raises:
            HistoryDamagedError: a line was changed, lost or swapped, the message names the first;
                or the digest is of no line.
            UnavailableError: the disk does not answer.
        """
        entries, place = self._chain.since()
        digests = {*(entry.before for entry in entries), place.digest}
        if digest and not any(known.startswith(digest) for known in digests):
            raise HistoryDamagedError(
                f"found no line with digest {digest} in {self._path}; expected the one that was "
                "kept.",
                hint="the file was rewritten or cut off: keep it as evidence, restore a backup.",
            )
        return place


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who heals.

    Attributes:
        name: what kind of process: "sensor", or a person's.
        host: on which machine.
        pid: its process.
        since_us: since when, microseconds UTC.
    """

    name: str
    host: str
    pid: int
    since_us: int


@contextmanager
def lease(path: Path, name: str, patience: float = _PATIENCE) -> Iterator[Holder]:
    """Be the only one that heals for as long as the block lasts.

    A lock of the operating system: it ends with the process, however that ends.

    Args:
        path: the lease's file; its content tells people who holds or last held it.
        name: who asks.
        patience: how long to wait for whoever holds it, seconds.

    Raises:
        LeaseHeldError: another process holds it; the message says which.
        UnavailableError: the disk refuses.
    """
    holder = Holder(
        name=name, host=socket.gethostname(), pid=os.getpid(), since_us=time.time_ns() // 1000
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        _lock(descriptor, path, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        yield holder
    finally:
        os.close(descriptor)


def holder_of(path: Path) -> Holder | None:
    """Who holds a lease right now; None: nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _told(descriptor)
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int, path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return
    found = _told(descriptor)
    raise LeaseHeldError(
        f"found the lease {path} held by {found.name}, process {found.pid} on {found.host}; "
        "expected nobody to heal.",
        hint="it is free when that process ends a tick, or ends; `fraud-platform heal status`.",
    )


def _told(descriptor: int) -> Holder:
    """Who wrote a lease; whoever just got it may not have come to write."""
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except msgspec.DecodeError:
        return Holder(name="somebody", host="unknown", pid=0, since_us=0)
