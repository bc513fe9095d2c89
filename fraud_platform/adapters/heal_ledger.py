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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from fraud_platform.adapters.governance import UNGOVERNED, Governance
from fraud_platform.adapters.hash_chain import START, Chain, Link, Place
from fraud_platform.adapters.lock_file import locked
from fraud_platform.audit_log.acts import Act, one_line
from fraud_platform.errors import HistoryDamagedError, LeaseHeldError, UnavailableError
from fraud_platform.heal.doubt import Spans, doubtful_spans
from fraud_platform.heal.records import EVERYTHING, PLATFORM, Kind, Record
from fraud_platform.heal.state import State, fold, folded

_PATIENCE, _PAUSE = 0.2, 0.01
"""Seconds: whoever only looks at a lease holds it for less than a pause."""


ACTS = frozenset(
    {
        Kind.APPROVED,
        Kind.REJECTED,
        Kind.PLANNED,
        Kind.DONE,
        Kind.FAILED,
        Kind.LIFTED,
        Kind.PAUSED,
        Kind.RESUMED,
        Kind.KILLED,
        Kind.REVIVED,
    }
)
"""Records of what healing does, and of what people say to it: the audit log has them, too."""


class Entry(Link, frozen=True, kw_only=True):
    """One line.

    Attributes:
        record: what it says.
        audit: number of the audit row that announced it; 0: it is no act, or nobody keeps a log.
        lost: numbers of the rows that announced what is given up with it (`begin_anew`).
    """

    record: Record
    audit: int = 0
    lost: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET


class HealLedger:
    """One installation's ledger.

    Args:
        path: the file; made with its folder by the first record.
        governance: where records of acts are recorded, too.
    """

    def __init__(self, path: Path, governance: Governance = UNGOVERNED) -> None:
        self._path = path
        self._governance = governance
        self._audited: set[int] = set()
        self._audited_to = START
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
        (entry,) = self._write([record], is_alone=False)
        return entry

    def commit(self, decided: Sequence[Record]) -> None:
        """Append what was decided on the last `state`, all or nothing.

        Raises:
            HistoryChangedError: somebody wrote since; nothing was appended, decide again.
            HistoryDamagedError: a line above was changed, lost or swapped.
            UnavailableError: the disk refuses; nothing was appended.
        """
        if decided:
            self._write(decided, is_alone=True)

    def _write(self, records: Sequence[Record], *, is_alone: bool) -> tuple[Entry, ...]:
        """Append records, those of acts between their audit rows."""
        with locked(self._path.with_suffix(".lock")), ExitStack() as rows:
            told = self.told()
            self._governance.require_kept("heal.*", told)
            self._governance.settle("heal.*", lambda row: row.seq in told)
            entries = [
                Entry(
                    record=record,
                    audit=rows.enter_context(self._governance.recording(_act(record)))
                    if record.kind in ACTS
                    else 0,
                )
                for record in records
            ]
            return self._chain.append(entries, behind=self._place, alone=is_alone)

    def begin_anew(self, by: str, why: str, row: int, lost: Sequence[int]) -> None:
        """Pause until somebody resumes: who stopped healing may have said so in what was lost.

        Args:
            by: who accepts that; they hold the lock beside the file.
            why: the reason given.
            row: number of the audit row that announced it.
            lost: numbers of those that announced what is given up.
        """
        at, now_us = self.state().checked, time.time_ns() // 1000
        paused = Record(
            kind=Kind.PAUSED,
            event_us=at.event_us,
            now_us=now_us,
            rows=at.rows,
            cause=EVERYTHING,
            by=by,
            why=why,
        )
        entry = Entry(record=paused, audit=row, lost=tuple(lost))
        self._chain.append([entry], behind=self._place)

    def told(self) -> set[int]:
        """Numbers of the audit rows of all entries, and of what was given up.

        A look again reads only what is new.
        """
        entries, self._audited_to = self._chain.since(self._audited_to)
        self._audited.update({entry.audit for entry in entries}, *(e.lost or () for e in entries))
        return self._audited

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


def _act(record: Record) -> Act:
    """What the audit log says of a record."""
    act = record.act
    facts = {"episode": record.episode, "cause": record.cause}
    if act is not None:
        facts |= {"action": str(act.action), "subjects": ", ".join(act.subjects)}
    return Act(
        actor=record.by or PLATFORM,
        role="",
        action=f"heal.{record.kind}",
        object=f"remedy:{act.act_id}" if act else f"healing:{record.cause or EVERYTHING}",
        origin=PLATFORM if record.by in ("", PLATFORM) else "cli",
        reason=one_line(record.why),
        facts={name: value for name, value in facts.items() if value},
    )


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
