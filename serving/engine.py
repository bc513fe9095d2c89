"""The owner of the scorer's state: one event loop, one feature state, one journal.

Requests of one turn of the loop are decided and written together, in arrival order. While the disk
makes a group durable the next one is decided; a group is answered once its record is on disk, and a
repeat once the record that it repeats is. Nothing here knows HTTP.

When a write or a sync fails, the state may hold payments that the log does not: requests are
refused until `_maintain` has recovered the journal and folded the log into a fresh state.
"""

import asyncio
import contextlib
import gc
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import cast

from fraud_platform.adapters.ledger import Ledger
from fraud_platform.card_tokens import known_as
from fraud_platform.errors import (
    FraudPlatformError,
    JournalBusyError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
    ScorerClosedError,
    ScorerFullError,
)
from fraud_platform.events import Decision, Transaction
from fraud_platform.features.rings import FeatureRings
from fraud_platform.modes import Mode
from serving.folding import CHUNK, folded, tell_of
from serving.group import (
    DecisionRequest,
    DecisionResult,
    Group,
    LabelRequest,
    LabelResult,
    LookUp,
    NewLabel,
    Request,
    Result,
    Shadowed,
)
from serving.parts import Parts
from serving.ruling import Ruling
from serving.shadowing import shadow_scores
from serving.sync_thread import SyncThread
from serving.waiting import DEFECT, InFlight, Waiting, Written, answer, fault_of, fresh

LOGGER = logging.getLogger("fraud_platform.scorer")

_LARGEST_GROUP = 256
"""Requests decided without a turn of the loop in between."""
_FAR_BEHIND = 5_000
"""More events than this are folded outside the append lock before a group goes on."""
_FOLLOW_SECONDS = 0.5
"""How often an idle scorer looks for events of other processes."""
_BUSY_SECONDS = 2.0
"""A payment waits no longer for another writer; its sender is told to come back instead."""
_AGAIN_SECONDS = 0.002
"""How soon a group asks again for the lock that another writer holds."""
_PATIENCE_SECONDS = 5.0
"""How long the disk may take for one sync, and a stopping scorer for what is pending."""
_RETRY_SECONDS = 1.0
"""How long a scorer leaves a failing log alone."""
_LAZY_SECONDS = 0.05
"""How long the disk is left alone between two syncs that nobody waits for."""


class Engine:
    """Decides and records, one group at a time.

    Args:
        parts: what it is made of.

    Attributes:
        fault: why requests are refused, or None.
        doubtful: shards of the state that may be wrong; their payments go to review.
        folded: how many log positions the start had to fold.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._metrics = parts.metrics
        self._ledger: Ledger | None = None
        self._sync: SyncThread[Written] | None = None
        self._rings = FeatureRings()
        self._pending: deque[Waiting] = deque()
        self._in_flight = InFlight()
        self._is_scheduled = False
        self._is_ahead = True  # the state may hold events that the log does not
        self._wake = asyncio.Event()
        self._maintenance: asyncio.Task[None] | None = None
        self.fault: LogUnavailableError | None = LogUnavailableError("found the scorer not started")
        self.doubtful: frozenset[int] = frozenset()
        self.folded = 0

    @property
    def last_seq(self) -> int:
        """The newest log position folded into the features."""
        return self._rings.last_seq

    @property
    def rings(self) -> FeatureRings | None:
        """The state, at a position of the log; None while it may be ahead of the log."""
        return None if self._is_ahead else self._rings

    @property
    def ledger(self) -> Ledger | None:
        """What is recorded, for those who only look; None before it was opened."""
        return self._ledger

    def knows_card(self, card_id: str) -> bool:
        """Whether payments of this card are remembered, those of the group under way included."""
        return self._rings.knows_card(card_id)

    async def start(self) -> None:
        """Recover the journal and fold what windows may see; refuse while there is no log.

        Raises:
            PermanentError: another scorer owns this log, or its journal is damaged.
        """
        try:
            await self._restore()
        except LogUnavailableError as error:
            self._fail(error)
        self._maintenance = asyncio.create_task(self._maintain())

    async def stop(self) -> None:
        """Settle what is pending, make it durable and answer it, and let go of the log."""
        deadline = self._now() + _PATIENCE_SECONDS
        while self._pending and self.fault is None and self._now() < deadline:
            self._schedule()
            await asyncio.sleep(_AGAIN_SECONDS)
        self.fault = self.fault or LogUnavailableError("found the scorer stopping")
        answer(list(self._pending), self.fault)
        self._pending.clear()
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.gather(self._maintenance, return_exceptions=True)
        await self._stop_syncing()
        if self._ledger is not None:
            self._ledger.close()
        self._parts.log.close()

    async def decide(
        self, transaction: Transaction, *, received_us: int, older: tuple[str, ...] = ()
    ) -> DecisionResult:
        """Decide on one payment, durably; the same payment again gets its first decision.

        Args:
            transaction: the payment, checked.
            received_us: when it arrived.
            older: other names that its card may be known by, newest first.

        Raises:
            IdempotencyConflictError: the id is known with another payload, or from a file.
            UnavailableError: nothing was acknowledged; the sender may repeat.
        """
        if older:
            transaction = known_as(transaction, older, self.knows_card)
        result = await self._submit(DecisionRequest(transaction, received_us))
        return cast(DecisionResult, result)

    async def label(
        self, labels: Sequence[NewLabel], *, received_us: int, latest_us: int
    ) -> tuple[LabelResult | PermanentError, ...]:
        """Record verdicts, durably; one result or refusal each.

        Args:
            labels: the verdicts, in the order they are to be recorded.
            received_us: when they arrived.
            latest_us: the latest moment a verdict may name as known.

        Raises:
            UnavailableError: nothing was acknowledged; the sender may repeat.
        """
        result = await self._submit(LabelRequest(tuple(labels), received_us, latest_us))
        return cast("tuple[LabelResult | PermanentError, ...]", result)

    async def decision(self, transaction_id: str) -> Decision | None:
        """The recorded and durable decision on a payment, or None.

        Raises:
            UnavailableError: the log cannot be read.
        """
        if self._ledger is None:
            raise fresh(self.fault or DEFECT)
        recorded = self._ledger.recorded(transaction_id)
        if recorded is None and self.fault is not None:
            raise fresh(self.fault)  # it may be in what is being recovered
        if recorded is None or self._ledger.is_durable(recorded.seq):
            return None if recorded is None else recorded.decision
        return cast("Decision | None", await self._submit(LookUp(transaction_id)))

    async def repair(self, shards: frozenset[int]) -> None:
        """Send payments of these shards to review until the state has been folded anew."""
        self.doubtful = shards
        self._metrics.in_doubt.set(len(shards))
        try:
            await self._fold()
        except FraudPlatformError as error:
            self._fail(LogUnavailableError(error.message, hint=error.hint))

    async def _submit(self, request: Request) -> Result:
        result = await self.submit(request)
        if isinstance(result, FraudPlatformError):
            raise result
        return result

    def submit(self, request: Request) -> asyncio.Future[Result]:
        """Put a request at the end of the queue, now; an error of its own is a result too.

        Raises:
            UnavailableError: nothing is taken at the moment.
        """
        if self.fault is not None:
            raise fresh(self.fault)
        if self._parts.stance().mode is Mode.CLOSED:
            raise fresh(_CLOSED)
        if len(self._pending) + self._in_flight.requests >= self._parts.queue_limit:
            raise ScorerFullError("found more requests waiting than this scorer takes")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._pending.append(Waiting(request, loop.time(), future))
        if not self._is_scheduled:
            self._schedule()
        return future

    @staticmethod
    def _now() -> float:
        """Seconds of the loop, which never go back."""
        return asyncio.get_running_loop().time()

    def _schedule(self) -> None:
        if self._pending and not self._is_scheduled and self.fault is None:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Decide and write what is pending; what is left is the next turn's."""
        self._is_scheduled = False
        if not self._pending or self.fault is not None or self._ledger is None:
            return
        if self._parts.stance().mode is Mode.CLOSED:
            answer(list(self._pending), _CLOSED)
            self._pending.clear()
            return
        try:
            self._ledger.begin()
        except JournalBusyError:
            self._send_away()
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._flush)
        except JournalFullError as error:  # the state is sound: nothing was taken
            answer(list(self._pending), error)
            self._pending.clear()
        except LogUnavailableError as error:
            self._fail(error)
        else:
            self._take(self._ledger)

    def _take(self, ledger: Ledger) -> None:
        """Decide on one group under the append lock, which is given back in any case."""
        count = min(len(self._pending), _LARGEST_GROUP)
        group = [self._pending.popleft() for _ in range(count)]
        outcome: Written | LogUnavailableError = DEFECT
        try:
            outcome = self._settle(ledger, group)
        except _FarBehindError:
            self._pending.extendleft(reversed(group))
            group = []
            self._send_away()
            self._wake.set()  # who catches up schedules the next turn
        except LogUnavailableError as error:
            outcome = error
        finally:
            ledger.rollback()  # what was committed stays
            # Also when a defect is on its way up: nobody waits for ever, nobody is approved.
            if group and isinstance(outcome, LogUnavailableError):
                answer(group, outcome)
                self._fail(outcome)
        if isinstance(outcome, Written):
            self._hand_over(ledger, outcome)
            self._schedule()

    def _settle(self, ledger: Ledger, group: list[Waiting]) -> Written:
        started = self._now()
        if ledger.last_seq - self._rings.last_seq > _FAR_BEHIND:
            raise _FarBehindError
        for event in ledger.foreign(self._rings.last_seq):
            self._rings.apply(event)
        parts = self._parts
        self._is_ahead = True
        ruling = parts.ruling()
        work = Group(parts, ledger, self._rings, ruling, self.doubtful)
        results = work.settle([waiting.request for waiting in group])
        if parts.durability == "async":
            answer(group, results)
        position = ledger.commit()
        self._is_ahead = False
        shadow = partial(self._shadow, ruling, work.decided) if ruling.challenger else None
        return Written(group, results, position or ledger.journal.position, started, shadow)

    def _hand_over(self, ledger: Ledger, written: Written) -> None:
        """Answer a group once its record, and each one that it repeats, is where it must be."""
        if ledger.is_durable(ledger.last_seq):  # it wrote nothing, and repeats nothing new
            self._answered(written)
            return
        if self._parts.durability != "durable":
            self._answered(written)
        self._in_flight.append(written)
        if self._sync is not None:
            self._sync.hand(written)

    def _shadow(self, ruling: Ruling, decided: tuple[Decision, ...]) -> None:
        """Have the challenger score what it did not decide on; written with the next group."""
        scores = shadow_scores(ruling, decided)
        if scores is None:
            self._metrics.shadow_failed()
        elif scores and self.fault is None:
            self._metrics.shadowed(len(scores))
            nobody: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            nobody.cancel()
            self._pending.append(Waiting(Shadowed(scores), self._now(), nobody))

    def _synced(self, covered: list[Written], error: FraudPlatformError | None) -> None:
        """The disk has answered; called in the loop."""
        if not self._in_flight.begins_with(covered[0]) or self._ledger is None:
            return  # of a journal that was given up meanwhile: its groups have their answer
        if error is not None:
            self._fail(LogUnavailableError(error.message, hint=error.hint))
            return
        self._ledger.synced(covered[-1].position)
        self._in_flight.take(len(covered))
        for written in covered:
            if self._parts.durability == "durable":
                self._answered(written)

    def _answered(self, written: Written) -> None:
        answer(written.waiting, written.results)
        self._metrics.committed(written, now=self._now())
        if written.after is not None:
            asyncio.get_running_loop().call_soon(written.after)

    def _send_away(self) -> None:
        """Nothing can be decided right now: who has waited too long is told to come back."""
        while self._pending and self._now() - self._pending[0].since > _BUSY_SECONDS:
            answer([self._pending.popleft()], _BUSY)

    def _fail(self, error: LogUnavailableError) -> None:
        """Refuse everything until `_maintain` has found the log usable again."""
        if self.fault is None:
            LOGGER.error("refusing requests: %s", error.message)
        self.fault, self._is_ahead = error, True
        self._metrics.log_failed()
        answer([*self._in_flight.clear(), *self._pending], error)
        self._pending.clear()
        self._wake.set()

    async def _maintain(self) -> None:
        """Follow other processes' events, and recover after a failure."""
        while True:
            # Not wait_for: on Python 3.11 it loses a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FOLLOW_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            [found] = await asyncio.gather(self._look_after(), return_exceptions=True)
            if (fault := fault_of(found)) is not None:
                self._fail(fault)
            self._schedule()

    async def _look_after(self) -> None:
        if self.fault is not None:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._restore()
        if self._in_flight.since < self._now() - _PATIENCE_SECONDS:
            raise fresh(_SILENT)
        while self._ledger is not None and self._ledger.drained().last_seq > self._rings.last_seq:
            for event in self._parts.log.follow(self._rings.last_seq, limit=CHUNK):
                self._rings.apply(event)
            await asyncio.sleep(0)
        waiting = len(self._pending) + self._in_flight.requests
        self._metrics.looked(self._rings, self._ledger, waiting=waiting)

    async def _restore(self) -> None:
        """Begin anew with what the log holds: ledger, state, and a thread for the disk.

        Raises:
            LogUnavailableError: the log cannot be used; try again.
            PermanentError: another scorer owns the log, or its journal is damaged.
        """
        await self._stop_syncing()
        if self._ledger is None:
            self._ledger = self._parts.ledger()
        # In a thread: it may drain a lot, and the loop must go on saying why nothing is decided.
        tell_of(await asyncio.to_thread(self._ledger.recover))
        await self._fold()
        journal = self._ledger.journal
        self._sync = SyncThread(
            self._metrics.timed(lambda written: journal.sync(written.position)),
            self._synced,
            idle=journal.prepare,
            pause=0.0 if self._parts.durability == "durable" else _LAZY_SECONDS,
        )
        self.fault = None
        LOGGER.info("the event log is usable")

    async def _stop_syncing(self) -> None:
        if self._sync is not None:
            await asyncio.to_thread(self._sync.stop)
            await asyncio.sleep(0)  # so that what the last sync covered is answered
            self._sync = None

    async def _fold(self) -> None:
        """Take a fresh state instead of the one in memory, without a turn of the loop in between.

        What was written while it was folded is in it: `folded` ends at the end of the log.
        """
        rings, self.folded = await folded(self._parts.log, self._parts.snapshots)
        self._rings, self._is_ahead = rings, False
        if self.doubtful:
            LOGGER.info("the state was folded again; all of it is sound")
        self.doubtful = frozenset()
        self._metrics.in_doubt.set(0)
        # What lives now lives long: a full collection over it would pause every request.
        gc.collect()
        gc.freeze()


class _FarBehindError(Exception):
    """Too many foreign events to fold while holding the append lock."""


_CLOSED = ScorerClosedError("found the scorer closed; nothing was decided or recorded")
_BUSY = LogUnavailableError("found another process appending to the log for too long")
_SILENT = LogUnavailableError(
    f"found the disk of the journal silent for {_PATIENCE_SECONDS:g} seconds",
    hint="check the disk; the scorer goes on by itself once it answers",
)
