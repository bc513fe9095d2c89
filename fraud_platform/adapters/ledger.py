"""The log as its owner sees it: what is recorded, and what of that is durable.

The newest records are in the journal and in memory, all others in the log's tables; together they
are one log with one gapless order. A group is taken between `begin` and `commit`: one write to the
journal. Other processes append to the log too, between groups; the head tells that they did.

Everything here belongs to one thread. Only `Journal.sync` and `Journal.prepare` are for another.
"""

from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Protocol

from fraud_platform.adapters.drain import (
    APPEND_LOCK,
    Drained,
    Recovery,
    Sink,
    readable,
    recover,
    unreadable,
)
from fraud_platform.adapters.journal import SEGMENT_BYTES, Journal
from fraud_platform.adapters.journal_disk import UNKNOWN_HEAD, Disk, Lock, head_at
from fraud_platform.adapters.journal_frames import (
    DecisionRecord,
    LabelKey,
    LabelRecord,
    Position,
    ShadowScore,
    decision_frame,
    label_frame,
    recorded_in,
    shadow_frame,
)
from fraud_platform.adapters.log_writer import Decided, Recorded, row_of
from fraud_platform.errors import (
    JournalBusyError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
    UnknownPaymentOfLabelError,
)
from fraud_platform.events import Decision, Event, Label, LabelEvent, Transaction
from fraud_platform.selective_labels import Spent, day_of

OWNER_LOCK = "owner.lock"
"""Held by the one process that may write the journal, for its whole life."""
TAIL_LIMIT = 200_000
"""Records that may be in memory because they are not drained."""
BYTES_LIMIT = 1 << 30
"""Journal that may be undrained, bytes."""
_NOTHING = Spent()
_RECOVERY_SECONDS = 0.5
"""How long a recovery waits for the append lock: a drain looks at a torn tail again and again."""


class DrainedLog(Sink, Protocol):
    """The tables of the log: what of it is drained, and how to drain more."""

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None."""

    def held(self, transaction_ids: Sequence[str]) -> set[str]:
        """Those of these ids, one or more, that the tables have."""

    def spent(self) -> dict[int, Spent]:
        """What exploration has spent, by UTC day of the decisions."""

    def labels_of(self, transaction_id: str) -> dict[LabelKey, int]:
        """All verdicts on a transaction, each with its position."""

    def follow(self, after_seq: int) -> list[Event]:
        """The events after a position, in order."""


class Ledger:
    """The one owner of a log; `recover` comes before the first group.

    Args:
        disk: the folder of the journal.
        log: the tables of the log; they must not drain by themselves when they are asked.
        segment_bytes: room of a segment of the journal.
        tail_limit: so many records are kept in memory at most.
        bytes_limit: so much of the journal may be undrained at most.

    Attributes:
        journal: sync and prepare it in another thread.
        last_seq: the newest position of the log, this group's included.
        durable_seq: everything up to this position is known to be on a disk.

    Raises:
        PermanentError: another process owns this log.
    """

    last_seq: int
    durable_seq: int
    _head: bytes

    def __init__(
        self,
        disk: Disk,
        log: DrainedLog,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        tail_limit: int = TAIL_LIMIT,
        bytes_limit: int = BYTES_LIMIT,
    ) -> None:
        self._disk = disk
        self._log = log
        self._tail_limit = tail_limit
        self._bytes_limit = bytes_limit
        self._owner = owner_lock(disk)
        self._append_lock = disk.lock(APPEND_LOCK)
        self.journal = Journal(disk, log.identity(), segment_bytes=segment_bytes)
        self._salt = self.journal.salt
        self._segment_bytes = segment_bytes
        self._is_open = False
        self._forget(Drained(Position(1, 0), 0), {})

    @property
    def tail(self) -> int:
        """How many records are in memory because they are not drained."""
        return len(self._order)

    @property
    def undrained_bytes(self) -> int:
        """How much of the journal is not drained, as far as known; headers and rests included."""
        at, drained = self.journal.position, self._drained
        return max(
            0, (at.segment - drained.segment) * self._segment_bytes + at.offset - drained.offset
        )

    def is_durable(self, seq: int) -> bool:
        """Whether everything up to a position is known to be on a disk."""
        return seq <= self.durable_seq

    def recover(self) -> Recovery:
        """Drain what the journal holds and begin a new segment; memory starts anew.

        Call it at the start and after any error of the journal, from one thread at a time. What
        was in doubt is settled afterwards: it is in the tables, or it never happened.

        Raises:
            JournalBusyError: another process is appending right now.
            JournalDamagedError: bytes that were on the disk are lost or changed.
            LogUnavailableError: the disk or the tables failed; the ledger stays as it was.
        """
        self.rollback()
        with readable():
            self._take_append_lock(seconds=_RECOVERY_SECONDS)
            try:
                recovery = recover(self._disk, self._log)
                self.journal.begin(recovery.position.segment)
                self._forget(self._log.drained(), self._log.spent())
            finally:
                self._append_lock.release()
        return recovery

    def begin(self) -> None:
        """Open a group: from here to `commit` nobody else appends to the log.

        Raises:
            JournalBusyError: another process is appending right now; nothing is wrong.
            JournalFullError: too much is not drained.
            LogUnavailableError: the journal is broken; `recover`.
        """
        self._refuse_when_unusable()
        self._take_append_lock()
        try:
            self._look_at_head()
        except OSError as error:
            self._append_lock.release()
            raise unreadable(error) from error
        except BaseException:
            self._append_lock.release()
            raise
        self._before_group = self.last_seq
        self._is_open = True

    def commit(self) -> Position | None:
        """Write the group and close it.

        Returns:
            The position to sync, or None when the group is empty.

        Raises:
            JournalFullError: there is no room; nothing was written. `rollback`.
            LogUnavailableError: whether it is written is unknown. `rollback`, then `recover`.
        """
        missing = next(iter(self._undecided), None)
        if missing is not None:
            raise ValueError(f"found a transaction at {self._undecided[missing].seq} undecided")
        position = None
        frames = [self._frames[seq] for seq in sorted(self._frames)]
        if self._shadows:
            frames.append(shadow_frame(self._shadows, self.last_seq, self._salt))
        if frames:
            position = self.journal.append(frames, next_seq=self._before_group + 1)
            self._written.append((position, self.last_seq))
        self._keep()
        self._close()
        return position

    def rollback(self) -> None:
        """Forget the group, if one is open: its positions were never taken."""
        if self._is_open:
            self.last_seq = self._before_group
            self._spent |= self._spent_before
            self._close()

    def recorded(self, transaction_id: str) -> Recorded | None:
        """The transaction under this id with its decision, or None when the id is new.

        Durable or not: ask `is_durable` before anybody is told.
        """
        undecided = self._undecided.get(transaction_id)
        if undecided is not None:
            return Recorded(undecided.seq, undecided.transaction, None)
        frame = self._tail.get(transaction_id) or self._taken.get(transaction_id)
        if frame is not None:
            return recorded_in(frame)
        return None if transaction_id in self._absent else self._log.recorded(transaction_id)

    def look_up(self, transaction_ids: Sequence[str]) -> None:
        """Ask the tables about the ids of a group at once; `recorded` need not ask for each."""
        unseen = [name for name in transaction_ids if name not in self._tail]
        if len(unseen) > 1:
            self._absent |= set(unseen) - self._log.held(unseen)

    def append_transaction(self, transaction: Transaction, *, received_us: int, source: str) -> int:
        """Take one new transaction into the group and return its seq; its decision must follow."""
        seq = self._next_seq()
        self._undecided[transaction.transaction_id] = Decided(seq, transaction, received_us, source)
        return seq

    def append_decision(self, decision: Decision, packed: bytes | None = None) -> None:
        """Take the decision of a transaction of this group.

        Args:
            decision: the decision.
            packed: `log_writer.pack` of its features, by whoever has it already.
        """
        undecided = self._undecided.pop(decision.transaction_id)
        if decision.explored is not None:
            day = day_of(decision.decided_us)
            self._spent_before.setdefault(day, spent := self.spent(day))
            self._spent[day] = spent.after(decision.explored, undecided.transaction.amount_minor)
        frame = decision_frame(DecisionRecord(undecided, row_of(decision, packed)), self._salt)
        self._taken[decision.transaction_id] = self._frames[undecided.seq] = frame
        self._entries.append((undecided.seq, decision.transaction_id))

    def spent(self, day: int) -> Spent:
        """What exploration has spent on a UTC day, this group's share included."""
        return self._spent.get(day, _NOTHING)

    def append_label(self, label: Label) -> tuple[LabelEvent, bool]:
        """Take one verdict into the group; the same verdict again is a no-op.

        Returns:
            The label as an event, and whether it was new.

        Raises:
            UnknownTransactionError: the log has no such transaction.
        """
        about = self.recorded(label.transaction_id)
        if about is None:
            raise UnknownPaymentOfLabelError
        key = LabelKey(label.transaction_id, label.verdict, label.label_source, label.known_us)
        same = self.labels_of(label.transaction_id).get(key)
        seq = same or self._next_seq()
        if same is None:
            self._told.setdefault(label.transaction_id, {})[key] = seq
            self._frames[seq] = label_frame(LabelRecord(seq, label), self._salt)
        event = LabelEvent(seq, about.seq, about.transaction, label.verdict, label.known_us)
        return event, same is None

    def labels_of(self, transaction_id: str) -> dict[LabelKey, int]:
        """All verdicts on a transaction, this group's included, each with its position."""
        newer = (self._labels.get(transaction_id, {}), self._told.get(transaction_id, {}))
        return self._log.labels_of(transaction_id) | newer[0] | newer[1]

    def append_shadow(self, scores: Sequence[ShadowScore]) -> None:
        """Take scores of a challenger into the group, about transactions of the log."""
        self._shadows.extend(scores)

    def foreign(self, after_seq: int) -> list[Event]:
        """The events after a position that came by another process, in order."""
        return self._log.follow(after_seq) if after_seq < self.last_seq else []

    def synced(self, position: Position) -> int:
        """Take note of what `Journal.sync` returned; returns the newest durable position."""
        while self._written and self._written[0][0] <= position:
            self.durable_seq = max(self.durable_seq, self._written.popleft()[1])
        return self.durable_seq

    def drained(self) -> Drained:
        """Forget what the tables have by now, and mark how far the journal is durable.

        Cheap; call it about twice a second, outside a group.

        Raises:
            LogUnavailableError: the tables cannot be read, or the journal is broken.
        """
        now = self._log.drained()
        self._drained = now.position
        while self._order and self._order[0][0] <= now.last_seq:
            _, name = self._order.popleft()
            if isinstance(name, LabelKey):
                self._forget_label(name)
            else:
                self._tail.pop(name, None)
        self._mark()
        return now

    def _forget_label(self, key: LabelKey) -> None:
        about = self._labels.get(key.transaction_id, {})
        about.pop(key, None)
        if not about:
            self._labels.pop(key.transaction_id, None)

    def close(self) -> None:
        """Let go of the log; nothing is lost, the next owner drains."""
        self.rollback()
        self.journal.close()
        self._append_lock.close()
        self._owner.close()
        self._disk.close()

    def _mark(self) -> None:
        """Say how far the journal is durable, when no group has said it."""
        if self.journal.is_marked or not self._append_lock.acquire(seconds=0):
            return
        try:
            self.journal.append([], next_seq=self.last_seq + 1)
        finally:
            self._append_lock.release()

    def _next_seq(self) -> int:
        self.last_seq += 1
        return self.last_seq

    def _refuse_when_unusable(self) -> None:
        broken = self.journal.broken
        if broken is not None:
            raise LogUnavailableError(broken.message, hint=broken.hint)
        if self.tail >= self._tail_limit or self.undrained_bytes >= self._bytes_limit:
            raise JournalFullError(
                f"found {self.tail} records and {self.undrained_bytes} bytes of the journal that"
                f" are not drained, expected less than {self._tail_limit} and {self._bytes_limit}",
                hint="see why events.db takes no records; the scorer goes on by itself",
            )

    def _take_append_lock(self, *, seconds: float = 0) -> None:
        if not self._append_lock.acquire(seconds=seconds):
            raise JournalBusyError(
                "found another process appending to the log, expected it to be done soon",
                hint="try again",
            )

    def _look_at_head(self) -> None:
        """See whether another process has appended since the last group."""
        head = self._disk.read_head()
        if head == self._head:
            return
        now = self._log.drained()
        if now.last_seq > self.last_seq:
            # Whoever appends drains first: all before is in the tables too, by a durable commit.
            self.last_seq = self.durable_seq = now.last_seq
            self._written.clear()
        self._head = head_at(now.last_seq) if head == UNKNOWN_HEAD else head
        if head == UNKNOWN_HEAD:
            self._disk.write_head(self._head)

    def _keep(self) -> None:
        """What the group has written is part of the log until it is drained."""
        self._tail.update(self._taken)
        for name, labels in self._told.items():
            self._labels.setdefault(name, {}).update(labels)
            self._entries += [(seq, key) for key, seq in labels.items()]
        self._order.extend(sorted(self._entries, key=itemgetter(0)))

    def _close(self) -> None:
        self._is_open = False
        self._start_group()
        self._append_lock.release()

    def _start_group(self) -> None:
        self._taken: dict[str, bytes] = {}  # decision frames
        self._absent: set[str] = set()  # ids that the tables were asked about, and have not
        self._entries: list[tuple[int, str | LabelKey]] = []
        self._undecided: dict[str, Decided] = {}
        self._told: dict[str, dict[LabelKey, int]] = {}  # by transaction
        self._frames: dict[int, bytes] = {}
        self._shadows: list[ShadowScore] = []
        self._spent_before: dict[int, Spent] = {}  # where this group has changed it

    def _forget(self, now: Drained, spent: dict[int, Spent]) -> None:
        """Start from the tables: all of the log is in them."""
        self._drained = now.position
        self.last_seq = now.last_seq
        self.durable_seq = now.last_seq
        self._before_group = now.last_seq
        self._spent = spent
        # As bytes: the garbage collector has nothing to look at, and few are ever asked for.
        self._tail: dict[str, bytes] = {}
        self._labels: dict[str, dict[LabelKey, int]] = {}  # by transaction
        self._order: deque[tuple[int, str | LabelKey]] = deque()
        self._written: deque[tuple[Position, int]] = deque()
        self._head = b""  # no head is known: look at the tables before the first group
        self._start_group()


def owner_lock(disk: Disk) -> Lock:
    """The lock of a log's one owner, held from now on.

    Raises:
        PermanentError: another scorer has it.
    """
    lock = disk.lock(OWNER_LOCK)
    if not lock.acquire(seconds=0):
        lock.close()
        raise PermanentError(
            "found another scorer on this home, expected to be the only one",
            hint="stop that one first, or give this one a home of its own: FRAUD_HOME=...",
        )
    return lock
