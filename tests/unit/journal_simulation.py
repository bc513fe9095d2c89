"""Seeded lives of a log: the real journal, ledger and drain on a disk and a sink that fail.

The disk keeps what was synced and part of what was not, tears sectors, forgets what a failed sync
left in the page cache, runs full and fails at any call; processes are killed at any call. A model
of a scorer answers senders and notes each answer; a life ends with a restart that must agree with
every answer ever given.
"""

import errno
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fraud_platform.adapters.log_writer import Recorded
from fraud_platform.errors import (
    FraudPlatformError,
    JournalBusyError,
    JournalDamagedError,
    LogUnavailableError,
    UnknownTransactionError,
)
from fraud_platform.events import (
    Decision,
    Event,
    Label,
    LabelEvent,
    Transaction,
    TransactionEvent,
)
from fraud_platform.selective_labels import Spent

SECTOR = 512
SEGMENT = 2_048
STEPS = 60
UNKNOWN = b"\xff" * 8


class KilledError(BaseException):
    """A process dies here; nothing of ours may catch it."""


class WrongError(AssertionError):
    """The log broke a promise."""


class SimFile:
    """One file: what the page cache shows, and what the disk has."""

    def __init__(self, disk: "SimDisk", size: int) -> None:
        self.disk = disk
        self.cache = bytearray(size)
        self.platter = bytearray(size)
        self.written = 0
        self.dirty = 0  # unsynced from here to `written`
        self.ghost: int | None = None  # readable from here on, and yet not on the disk
        self.untold = False  # another process met a failed sync; Linux tells each open file once

    def write(self, data: bytes) -> int:
        taken = len(data)
        failure = self.disk.fault("write")
        if failure is not None:
            taken = self.disk.random.randrange(len(data) + 1)
        end = self.written + taken
        if end > len(self.cache):
            more = bytes(end - len(self.cache))
            self.cache += more
            self.platter += more
        self.cache[self.written : end] = data[:taken]
        self.written = end
        if failure is not None and self.disk.random.random() < 0.5:
            raise failure
        return taken

    def sync(self, *, by_owner: bool = True) -> None:
        end = self.written
        failure = self.disk.fault("sync")
        self.disk.meanwhile()
        if by_owner and self.untold:
            failure, self.untold = OSError(errno.EIO, "sync of another process"), False
        if failure is not None:
            # The kernel marks the pages clean all the same: they read back fine.
            if self.dirty < end and self.ghost is None:
                self.ghost = self.dirty
            self.dirty = end
            self.untold = not by_owner
            raise failure
        if self.dirty < end:
            self.platter[self.dirty : end] = self.cache[self.dirty : end]
            self.dirty = end

    def close(self) -> None:
        pass

    @property
    def durable(self) -> int:
        return self.dirty if self.ghost is None else min(self.ghost, self.dirty)

    def lose_power(self, chance: random.Random) -> None:
        """Some sectors of what was not synced got to the disk, some of them garbled."""
        kept = chance.choice((0.0, 0.5, 0.9, 1.0))
        reached = chance.randint(self.dirty, self.written) if kept else self.dirty
        for start in range(self.dirty, reached, SECTOR):
            end = min(start + SECTOR, reached)
            if chance.random() <= kept:
                self.platter[start:end] = self.cache[start:end]
            elif chance.random() < 0.3:
                self.platter[start:end] = chance.randbytes(end - start)
        self.cache = bytearray(self.platter)
        self.dirty = self.written = len(self.platter)
        self.ghost = None


class SimLock:
    def __init__(self, disk: "SimDisk", name: str) -> None:
        self._disk, self._name = disk, name

    def acquire(self, *, seconds: float) -> bool:
        if self._disk.held.get(self._name, self) is not self:
            return False
        self._disk.held[self._name] = self
        return True

    def release(self) -> None:
        if self._disk.held.get(self._name) is self:
            del self._disk.held[self._name]

    def close(self) -> None:
        self.release()


class SimDisk:
    """The folder of the journal, with the weather of the day."""

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.files: dict[str, SimFile] = {}
        self.held: dict[str, SimLock] = {}
        self.head = UNKNOWN
        self.badness = 0.0
        self.is_full = False
        self.calls_to_live: int | None = None
        self.faults: Counter[str] = Counter()
        self.meanwhile: Callable[[], None] = lambda: None

    def fault(self, call: str) -> OSError | None:
        """Whether this call fails; or the process dies at it."""
        if self.calls_to_live is not None:
            self.calls_to_live -= 1
            if self.calls_to_live < 0:
                self.calls_to_live = None
                self.faults["kill"] += 1
                raise KilledError
        if self.badness and self.random.random() < self.badness:
            self.faults[call] += 1
            return OSError(errno.EIO, call)
        return None

    def _check(self, call: str) -> None:
        failure = self.fault(call)
        if failure is not None:
            raise failure

    def names(self) -> list[str]:
        return list(self.files)

    def create(self, name: str, size: int) -> SimFile:
        if name in self.files:
            raise FileExistsError(name)
        self._check("open")
        if self.is_full:
            self.faults["full"] += 1
            raise OSError(errno.ENOSPC, name)
        self._check("allocate")
        self.files[name] = file = SimFile(self, size)
        try:
            self._check("sync folder")
        except OSError:
            if self.random.random() < 0.7:  # else the clean-up fails too
                del self.files[name]
            raise
        return file

    def read(self, name: str, offset: int, length: int) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return bytes(self.files[name].cache[offset : offset + length])

    def size(self, name: str) -> int:
        return len(self.files[name].cache)

    def modified_us(self, name: str) -> int:
        return 0

    def flush(self, name: str) -> None:
        self.files[name].sync(by_owner=False)

    def truncate(self, name: str, size: int) -> None:
        self._check("truncate")
        file = self.files[name]
        del file.cache[size:]
        del file.platter[size:]
        file.written, file.dirty = min(file.written, size), min(file.dirty, size)

    def rename(self, old: str, new: str) -> None:
        self._check("rename")
        self.files[new] = self.files.pop(old)

    def remove(self, name: str) -> None:
        self._check("remove")
        del self.files[name]

    def lock(self, name: str) -> SimLock:
        return SimLock(self, name)

    def read_head(self) -> bytes:
        return self.head

    def write_head(self, head: bytes) -> None:
        self._check("head")
        self.head = head

    def close(self) -> None:
        pass

    def lose_power(self) -> None:
        for file in self.files.values():
            file.lose_power(self.random)
        if self.random.random() < 0.5:
            self.head = self.random.choice((UNKNOWN, b"", self.random.randbytes(8)))


class SimRows:
    """One transaction of the sink."""

    def __init__(self, sink: "SimSink", parts: SimpleNamespace) -> None:
        self._sink, self._parts = sink, parts
        self._begun = sink.drained_now()
        self.records: list[Any] = []
        self.sealed: list[Any] = []
        self.position = self._begun.position

    def drained(self) -> Any:
        return self._begun

    def store(self, records: Sequence[Any]) -> None:
        self.records += records

    def seal(self, seal: Any) -> None:
        self.sealed.append(seal)

    def seals(self) -> list[Any]:
        return [*self._sink.sealed, *self.sealed]

    def advance(self, position: Any) -> None:
        self.position = position


class SimSink:
    """The log's tables: atomic and durable, and sometimes away before or after a commit."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.parts: SimpleNamespace = SimpleNamespace()
        self.position: tuple[int, int] = (1, 0)
        self.last_seq = 0
        self.events: list[Event] = []
        self.known: dict[str, Recorded] = {}
        self.labels: dict[tuple[object, ...], int] = {}
        self.shadows: list[Any] = []
        self.sealed: list[Any] = []

    def identity(self) -> str:
        return "a log"

    def drained_now(self) -> Any:
        position = self.parts.Position(*self.position)
        return self.parts.Drained(position, self.last_seq)

    def drained(self) -> Any:
        self._check("sink read")
        return self.drained_now()

    @contextmanager
    def draining(self) -> Iterator[SimRows]:
        self._check("sink begin")
        rows = SimRows(self, self.parts)
        yield rows
        self._check("sink before commit")
        for record in rows.records:
            self._store(record)
        self.position = tuple(rows.position)
        self.sealed += rows.sealed
        self._check("sink after commit")

    def ingest(self, transactions: Sequence[Transaction], labels: Sequence[Label]) -> None:
        """A foreign commit."""
        self._check("sink before commit")
        for transaction in transactions:
            if transaction.transaction_id not in self.known:
                self._event(self.last_seq + 1, transaction, None)
        for label in labels:
            if label.transaction_id in self.known and _key(label) not in self.labels:
                self._label(self.last_seq + 1, label)
        self._check("sink after commit")

    def recorded(self, transaction_id: str) -> Recorded | None:
        self._check("sink read")
        return self.known.get(transaction_id)

    def held(self, transaction_ids: Sequence[str]) -> set[str]:
        self._check("sink read")
        return self.known.keys() & transaction_ids

    def spent(self) -> dict[int, Spent]:
        self._check("sink read")
        return {0: self.spent_now()}

    def spent_now(self) -> Spent:
        found = Spent()
        for name in self.known.values():
            if name.decision is not None and name.decision.explored:
                found = found.after(name.decision.explored, name.transaction.amount_minor)
        return found

    def labels_of(self, transaction_id: str) -> dict[Any, int]:
        return {key: seq for key, seq in self.labels.items() if key[0] == transaction_id}

    def follow(self, after_seq: int) -> list[Event]:
        return self.events[after_seq:]

    def _check(self, call: str) -> None:
        if self.disk.fault(call) is not None:
            raise LogUnavailableError(call)

    def _store(self, record: Any) -> None:
        if hasattr(record, "decision"):
            self._event(record.seq, record.transaction, record.decision)
        elif hasattr(record, "label"):
            self._label(record.seq, record.label)
        else:
            self.shadows += record

    def _event(self, seq: int, transaction: Transaction, decision: Decision | None) -> None:
        name = transaction.transaction_id
        _expect(seq == self.last_seq + 1, f"a gap or a repeat at {seq}")
        _expect(name not in self.known, f"{name} is recorded twice")
        self.known[name] = Recorded(seq, transaction, decision)
        self.events.append(TransactionEvent(seq, transaction))
        self.last_seq = seq

    def _label(self, seq: int, label: Label) -> None:
        _expect(seq == self.last_seq + 1, f"a gap or a repeat at {seq}")
        _expect(_key(label) not in self.labels, f"{label} is recorded twice")
        about = self.known[label.transaction_id]
        self.labels[_key(label)] = seq
        self.events.append(
            LabelEvent(seq, about.seq, about.transaction, label.verdict, label.known_us)
        )
        self.last_seq = seq


@dataclass
class Answers:
    """What senders were told, over all lives."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    labels: dict[tuple[object, ...], int] = field(default_factory=dict)
    count: int = 0


class Scorer:
    """A model of the engine: one process's life on the real ledger."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.ledger = world.parts.Ledger(
            world.disk, world.sink, segment_bytes=SEGMENT, tail_limit=40, bytes_limit=5 * SEGMENT
        )
        self.waiting: list[tuple[int, str, object]] = []
        self.stands: dict[int, Any] = {}  # seq -> the position behind its group
        self.unsynced: Any = None
        self.has_fault = True
        self.state = 0
        self.spent = Spent()

    def recover(self) -> None:
        """Start anew from the tables; whoever waits is told to try again."""
        self.waiting.clear()
        self.has_fault = True
        self.ledger.recover()
        self.stands.clear()
        self.unsynced = None
        self.state = fold(self.world.sink.events)
        self.spent = self.world.sink.spent_now()
        self.expect_spent()
        self.has_fault = False

    def expect_spent(self) -> None:
        """What exploration has spent is what the recorded decisions say, at any time."""
        _expect(self.ledger.spent(0) == self.spent, "the day's spending is not what is recorded")

    def group(self) -> None:
        """Settle some requests in one group."""
        chance, world = self.world.random, self.world
        before = self.state, self.last, self.spent
        self.ledger.begin()
        try:
            for event in self.ledger.foreign(self.last):
                self.apply(event)
            answers = self._settle(chance.randint(1, 4))
            position = self.ledger.commit()
        except LogUnavailableError:
            # Nothing happened, or (the journal is broken) nobody knows what.
            self.state, self.last, self.spent = before
            self.ledger.rollback()
            self.expect_spent()
            raise
        finally:
            self.ledger.rollback()
        self.expect_spent()
        if position is not None:
            self.unsynced = position
            for seq in range(world.known_seq + 1, self.ledger.last_seq + 1):
                self.stands[seq] = position
        world.known_seq = self.ledger.last_seq
        self.waiting += answers

    def sync(self) -> None:
        """What the other thread does, and the answers that follow."""
        if self.unsynced is not None:
            self.ledger.synced(self.ledger.journal.sync(self.unsynced))
        self.answer()

    def answer(self) -> None:
        """Tell everybody whose record is durable."""
        ready = [one for one in self.waiting if self.ledger.is_durable(one[0])]
        self.waiting = [one for one in self.waiting if one not in ready]
        for seq, kind, content in ready:
            self.world.told(seq, kind, content, self.stands.get(seq))

    def look_up(self) -> None:
        """GET a decision: only a durable one is served."""
        found = self.ledger.recorded(self.world.some_id())
        if found is not None and found.decision and self.ledger.is_durable(found.seq):
            self.world.told(found.seq, "decision", found.decision, self.stands.get(found.seq))

    def tidy(self) -> None:
        """What happens about twice a second."""
        self.ledger.drained()
        self.ledger.journal.prepare()

    last = 0

    def apply(self, event: Event) -> None:
        _expect(event.seq == self.last + 1, f"{event.seq} follows {self.last} in the state")
        self.state, self.last = _folded(self.state, event), event.seq

    def _settle(self, count: int) -> list[tuple[int, str, object]]:
        planned: dict[str, tuple[int, Transaction]] = {}
        answers: list[tuple[int, str, object]] = []
        asked = [
            None if self.world.random.random() < 0.3 else self.world.some_transaction()
            for _ in range(count)
        ]
        self.ledger.look_up([one.transaction_id for one in asked if one is not None])
        for transaction in asked:
            if transaction is None:
                answers += self._label()
            else:
                answers += self._take(transaction, planned)
        for name, (seq, payment) in planned.items():
            decision = self.world.decide(name, seq)
            self.ledger.append_decision(decision)
            if decision.explored:
                self.spent = self.spent.after(decision.explored, payment.amount_minor)
            answers.append((seq, "decision", decision))
        if planned and self.world.random.random() < 0.3:
            seq, transaction = next(iter(planned.values()))
            score = self.world.parts.ShadowScore(
                seq, transaction.transaction_id, "2", "d", 0.5, "review"
            )
            self.ledger.append_shadow([score])
        return answers

    def _take(
        self, transaction: Transaction, planned: dict[str, tuple[int, Transaction]]
    ) -> list[tuple[int, str, object]]:
        name = transaction.transaction_id
        if name in planned:
            return []
        found = self.ledger.recorded(name)
        if found is not None:
            same = found.transaction == transaction and found.decision is not None
            return [(found.seq, "decision", found.decision)] if same else []
        seq = self.ledger.append_transaction(transaction, received_us=seq_time(), source="scorer")
        self.apply(TransactionEvent(seq, transaction))
        planned[name] = (seq, transaction)
        return []

    def _label(self) -> list[tuple[int, str, object]]:
        label = self.world.some_label()
        try:
            event, was_new = self.ledger.append_label(label)
        except UnknownTransactionError:
            return []
        if was_new:
            self.apply(event)
        return [(event.seq, "label", _key(label))]


class World:
    """Everything that outlives a process, and the checks.

    Args:
        seed: of everything that happens.
        parts: the classes under test.
    """

    def __init__(self, seed: int, parts: SimpleNamespace) -> None:
        self.random = random.Random(seed)
        self.parts = parts
        self.disk = SimDisk(self.random)
        self.sink = SimSink(self.disk)
        self.sink.parts = parts
        self.answers = Answers()
        self.model = 1
        self.ids = 0
        self.known_seq = 0
        self.restarts = 0
        self.scorer: Scorer | None = None

    def live(self) -> None:
        """Some lives, the last of them in calm weather; then everything is checked."""
        for _ in range(self.random.randint(1, 3)):
            self._weather()
            self._life(self.random.randint(5, STEPS))
            self._end()
        self._calm()
        self._life(6)
        self._finish()

    def told(self, seq: int, kind: str, content: Any, position: Any) -> None:
        """A sender gets an answer: now it must be true for ever."""
        self._expect_durable(seq, position)
        self.answers.count += 1
        if kind == "label":
            known = self.answers.labels.setdefault(content, seq)
            _expect(known == seq, f"label {content} is at {seq} and at {known}")
        else:
            first = self.answers.decisions.setdefault(content.transaction_id, content)
            _expect(first == content, f"{content.transaction_id} is answered twice differently")

    def decide(self, name: str, seq: int) -> Decision:
        return Decision(
            *(name, f"dec_{seq}", seq, seq - 1, 1, 2, "approve", self.random.random(), ("r",)),
            *(0.1, None, "normal", (), "champion", False, str(self.model), "m", "p", "f"),
            *((0.5, None), 7, 9, 0.5, 0.25, self.random.choice((None, "passed", "audited"))),
        )

    def some_id(self) -> str:
        return f"t{self.random.randint(max(0, self.ids - 30), self.ids)}"

    def some_transaction(self) -> Transaction:
        """A new one, a repeat, or another payload under an old id."""
        dice = self.random.random()
        if dice < 0.6:
            self.ids += 1
            return _transaction(f"t{self.ids}")
        return _transaction(self.some_id(), amount=5 if dice < 0.95 else 6)

    def some_label(self) -> Label:
        verdict = self.random.choice(("fraud", "genuine"))
        return Label(self.some_id(), verdict, "analyst", None, self.random.randint(1, 3), 4)

    def _life(self, steps: int) -> None:
        self.restarts += 1
        self.disk.meanwhile = lambda: None
        try:
            self._steps(steps)
        except KilledError:
            self.scorer = None  # the dead close nothing
        finally:
            self.disk.meanwhile = lambda: None
            self.disk.calls_to_live = None

    def _steps(self, steps: int) -> None:
        self.disk.held.clear()
        self.scorer = scorer = Scorer(self)
        self.disk.meanwhile = self._meanwhile
        if self.random.random() < 0.3 and self.disk.badness:
            self.disk.calls_to_live = self.random.randint(0, 300)
        acts = [scorer.group] * 6 + [scorer.sync] * 5 + [scorer.look_up] * 2 + [scorer.tidy] * 2
        acts += [self._ingest, self._drain, self._change]
        for _ in range(steps):
            with self._allowed():
                if scorer.has_fault:
                    self._recover(scorer)
                else:
                    self.random.choice(acts)()
        self.disk.meanwhile = lambda: None

    def _recover(self, scorer: Scorer) -> None:
        if self.random.random() < 0.2:
            self.random.choice((self._ingest, self._drain))()
        scorer.recover()
        scorer.last = self.known_seq = self.sink.last_seq
        self._check_answers()

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        """The errors that the weather explains."""
        scorer = self.scorer
        try:
            yield
        except JournalBusyError:
            pass
        except JournalDamagedError as error:
            raise WrongError(f"damage where nothing was damaged: {error.message}") from error
        except LogUnavailableError:
            if scorer is not None and scorer.ledger.journal.broken is not None:
                scorer.has_fault = True
                scorer.waiting.clear()

    def _meanwhile(self) -> None:
        """The thread that appends goes on while the other one waits for the disk."""
        scorer = self.scorer
        if scorer is None or scorer.has_fault or self.disk.held.get("append.lock"):
            return
        if self.random.random() < 0.4:
            self.disk.meanwhile = lambda: None
            try:
                with self._allowed():
                    scorer.group()
            finally:
                self.disk.meanwhile = self._meanwhile

    def _ingest(self) -> None:
        """Another process appends; it may die at any call."""
        with self._mortal():
            new = [self.some_transaction() for _ in range(self.random.randint(0, 3))]
            with self.parts.appending(self.disk, self.sink):
                self.sink.ingest(new, [self.some_label()])

    def _drain(self) -> None:
        with self._mortal():
            self.parts.drain(self.disk, self.sink)

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        """A process beside the scorer."""
        kept, meanwhile = self.disk.calls_to_live, self.disk.meanwhile
        self.disk.meanwhile = lambda: None
        if self.disk.badness and self.random.random() < 0.3:
            self.disk.calls_to_live = self.random.randint(0, 8)
        try:
            yield
        except KilledError:
            pass
        finally:
            self.disk.calls_to_live, self.disk.meanwhile = kept, meanwhile

    def _change(self) -> None:
        self.model += 1

    def _weather(self) -> None:
        self.disk.badness = self.random.choice((0.0, 0.0, 0.01, 0.05))
        self.disk.is_full = self.random.random() < 0.1

    def _calm(self) -> None:
        self.disk.badness, self.disk.is_full = 0.0, False

    def _end(self) -> None:
        """The process ends: closed, killed, or with all others by a power loss."""
        end = self.random.choice(("close", "kill", "power", "power"))
        if end == "close" and self.scorer is not None:
            with self._allowed(), self._mortal():
                self.scorer.ledger.close()
        self.disk.faults[end] += 1
        if end == "power":
            self.disk.lose_power()
        self.scorer = None

    def _finish(self) -> None:
        scorer = self.scorer
        if scorer is None or scorer.has_fault:
            raise WrongError("the scorer does not come back in calm weather")
        scorer.sync()
        _expect(not scorer.waiting, "a sender waits for ever in calm weather")
        self.parts.drain(self.disk, self.sink)
        _expect(self.sink.last_seq >= scorer.ledger.last_seq, "the log is not drained to its end")
        for event in self.sink.events[scorer.last :]:
            scorer.apply(event)
        _expect(scorer.state == fold(self.sink.events), "the state is not the fold of the log")
        self._check_answers()

    def _check_answers(self) -> None:
        """After a recovery the tables are all there is: every answer must be in them."""
        for name, decision in self.answers.decisions.items():
            found = self.sink.known.get(name)
            _expect(found is not None, f"the answered decision on {name} is lost")
            _expect(found is not None and found.decision == decision, f"{name} is altered")
        for key, seq in self.answers.labels.items():
            _expect(self.sink.labels.get(key) == seq, f"the answered label {key} is lost or moved")

    def _expect_durable(self, seq: int, position: Any) -> None:
        """Whether a power loss right now would keep this record."""
        if seq <= self.sink.last_seq:
            return
        _expect(position is not None, f"{seq} was told and is nowhere")
        for name, file in self.disk.files.items():
            if not name.endswith(".seg"):
                continue
            number = int(name.removesuffix(".seg"))
            if self.sink.position[0] <= number <= position.segment:
                end = position.offset if number == position.segment else file.written
                _expect(file.durable >= end, f"{seq} was told and would be lost with the power")


def fold(events: Sequence[Event]) -> int:
    """What a state would be after these events."""
    state = 0
    for event in events:
        state = _folded(state, event)
    return state


def _folded(state: int, event: Event) -> int:
    return zlib.crc32(repr(event).encode(), state)


def seq_time() -> int:
    """When a payment arrived: no matter."""
    return 5


def _transaction(name: str, amount: int = 5) -> Transaction:
    return Transaction(name, 1, "c", "m", amount, "EUR")


def _key(label: Label) -> tuple[object, ...]:
    return (label.transaction_id, label.verdict, label.label_source, label.known_us)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongError(otherwise)


def run(seed: int, parts: SimpleNamespace) -> World:
    """Live one seed; raises WrongError, or what the code under test raises, where it is wrong."""
    world = World(seed, parts)
    try:
        world.live()
    except FraudPlatformError as error:
        raise WrongError(f"an error in calm weather: {error}") from error
    return world
