"""The owner of the scorer's state: one event loop, one feature state, one durable commit per tick.

Requests of one turn of the loop are decided and committed together, in arrival order; while a
commit runs, the next group gathers by itself. Nothing here knows HTTP. The commit runs in the
loop's own thread; `_flush` is the one place that would hand it to another.

When a commit fails, the rings hold payments that the log does not: requests are refused until
`_maintain` has folded the log again into fresh rings.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.errors import FraudPlatformError, LogUnavailableError, PermanentError
from fraud_platform.events import Decision, Transaction
from fraud_platform.features.rings import FeatureRings
from serving.folding import CHUNK, folded
from serving.group import (
    DecisionRequest,
    DecisionResult,
    Group,
    LabelRequest,
    LabelResult,
    NewLabel,
    Request,
    Result,
)
from serving.metrics import Metrics
from serving.ruling import Ruling

LOGGER = logging.getLogger("fraud_platform.scorer")

_FAR_BEHIND = 5_000
"""More events than this are folded outside the write lock before a group goes on."""
_FOLLOW_SECONDS = 0.5
"""How often an idle scorer looks for events of other processes."""
_RETRY_SECONDS = 1.0
"""How long a scorer leaves a failing log alone."""


@dataclass
class _Waiting:
    """One request and the future its sender waits for."""

    request: Request
    future: asyncio.Future[Result]


class Engine:
    """Decides and records, one group at a time.

    Args:
        log: the event log; used from the loop's thread only.
        ruling: returns what decides now; read once per group.
        clock: microseconds since 1970-01-01 UTC.
        metrics: where groups and failures are counted.
        snapshots: what the state starts from.

    Attributes:
        fault: why requests are refused, or None.
        doubtful: shards of the state that may be wrong; their payments go to review.
        folded: how many log positions the start had to fold.
    """

    def __init__(
        self,
        log: EventLog,
        ruling: Callable[[], Ruling],
        *,
        clock: Callable[[], int],
        metrics: Metrics,
        snapshots: StateSnapshots,
    ) -> None:
        self._log = log
        self._snapshots = snapshots
        self._ruling = ruling
        self._clock = clock
        self._metrics = metrics
        self._rings = FeatureRings()
        self._pending: list[_Waiting] = []
        self._is_scheduled = False
        self._is_ahead = False  # the rings may hold events that the log does not
        self._wake = asyncio.Event()
        self._maintenance: asyncio.Task[None] | None = None
        self.fault: LogUnavailableError | None = None
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

    def knows_card(self, card_id: str) -> bool:
        """Whether payments of this card are remembered, those of the group under way included."""
        return self._rings.knows_card(card_id)

    async def start(self) -> None:
        """Fold the history that windows may see, then serve; refuse while there is no log."""
        self._is_ahead = True
        try:
            await self._fold()
        except LogUnavailableError as error:
            self._fail(error)
        self._maintenance = asyncio.create_task(self._maintain())

    async def stop(self) -> None:
        """Settle what is pending and let go of the log."""
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.gather(self._maintenance, return_exceptions=True)
        self._flush()
        self._log.close()

    async def decide(self, transaction: Transaction, *, received_us: int) -> DecisionResult:
        """Decide on one payment, durably; the same payment again gets its first decision.

        Raises:
            IdempotencyConflictError: the id is known with another payload, or from a file.
            LogUnavailableError: nothing was decided; the sender may repeat.
        """
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
            LogUnavailableError: nothing was recorded; the sender may repeat.
        """
        result = await self._submit(LabelRequest(tuple(labels), received_us, latest_us))
        return cast("tuple[LabelResult | PermanentError, ...]", result)

    async def decision(self, transaction_id: str) -> Decision | None:
        """The recorded decision on a payment, or None."""
        return self._log.decision(transaction_id)

    async def repair(self, shards: frozenset[int]) -> None:
        """Send payments of these shards to review until the state has been folded anew."""
        self.doubtful = shards
        self._metrics.in_doubt.set(len(shards))
        try:
            await self._fold()
        except LogUnavailableError as error:
            self._is_ahead = True  # so that recovering folds
            self._fail(error)
        # What lives now lives long: see `app`.
        gc.collect()
        gc.freeze()

    async def _submit(self, request: Request) -> Result:
        if self.fault is not None:
            raise _fresh(self.fault)
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        self._schedule()
        result = await waiting.future
        if isinstance(result, FraudPlatformError):
            raise result
        return result

    def _schedule(self) -> None:
        if self._pending and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Settle everything that is pending in one commit."""
        self._is_scheduled = False
        group, self._pending = self._pending, []
        if not group:
            return
        started_us = self._clock()
        outcome: list[Result] | LogUnavailableError = _DEFECT
        try:
            outcome = self._commit([waiting.request for waiting in group])
        except _FarBehindError:
            self._pending, group = group, []
            self._wake.set()
        except LogUnavailableError as error:
            outcome = error
        finally:
            # Also when a defect is on its way up: nobody waits for ever, nobody is approved.
            if group and isinstance(outcome, LogUnavailableError):
                self._fail(outcome)
            _answer(group, outcome)
        if isinstance(outcome, list):
            self._count(group, outcome, started_us)

    def _commit(self, requests: list[Request]) -> list[Result]:
        with self._log.writing() as writer:
            if writer.last_seq - self._rings.last_seq > _FAR_BEHIND:
                raise _FarBehindError
            for event in writer.follow(self._rings.last_seq):
                self._rings.apply(event)
            self._is_ahead = True
            results = Group(writer, self._rings, self._ruling(), self._clock, self.doubtful).settle(
                requests
            )
        self._is_ahead = False
        return results

    def _fail(self, error: LogUnavailableError) -> None:
        """Refuse everything until `_maintain` has found the log usable again."""
        if self.fault is None:
            LOGGER.error("refusing requests: %s", error.message)
        self.fault = error
        self._metrics.log_failed()
        waiting, self._pending = self._pending, []
        _answer(waiting, error)
        self._wake.set()

    def _count(self, group: list[_Waiting], results: list[Result], started_us: int) -> None:
        now_us = self._clock()
        waited_us = [now_us - waiting.request.received_us for waiting in group]
        self._metrics.committed(results, waited_us=waited_us, took_us=now_us - started_us)

    async def _maintain(self) -> None:
        """Follow other processes' events, and recover after a failed commit."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _FOLLOW_SECONDS)
            self._wake.clear()
            try:
                if self.fault is not None:
                    await self._recover()
                await self._catch_up()
            except LogUnavailableError as error:
                self._fail(error)
            self._metrics.seq.set(self._rings.last_seq)
            self._schedule()

    async def _recover(self) -> None:
        await asyncio.sleep(_RETRY_SECONDS)
        with self._log.writing():
            pass  # the lock can be taken: the log is there again
        if self._is_ahead:
            await self._fold()
        self.fault = None
        LOGGER.info("the event log is usable again")

    async def _catch_up(self) -> None:
        while self._log.last_seq() > self._rings.last_seq:
            for event in self._log.follow(self._rings.last_seq, limit=CHUNK):
                self._rings.apply(event)
            await asyncio.sleep(0)

    async def _fold(self) -> None:
        """Take a fresh state instead of the one in memory, without a turn of the loop in between.

        What was committed while it was folded is in it: `folded` ends at the end of the log.
        """
        rings, self.folded = await folded(self._log, self._snapshots)
        self._rings, self._is_ahead = rings, False
        if self.doubtful:
            LOGGER.info("the state was folded again; all of it is sound")
        self.doubtful = frozenset()
        self._metrics.in_doubt.set(0)


class _FarBehindError(Exception):
    """Too many foreign events to fold while holding the write lock."""


_DEFECT = LogUnavailableError("found a defect while deciding; the group was rolled back")


def _answer(group: list[_Waiting], outcome: list[Result] | LogUnavailableError) -> None:
    """Resolve the futures of a group; a sender that went away is skipped."""
    for place, waiting in enumerate(group):
        if waiting.future.done():
            continue
        if isinstance(outcome, LogUnavailableError):
            waiting.future.set_exception(_fresh(outcome))
        else:
            waiting.future.set_result(outcome[place])


def _fresh(error: LogUnavailableError) -> LogUnavailableError:
    """The same error for one more sender; raising one object twice grows its traceback for ever."""
    return LogUnavailableError(error.message, hint=error.hint)
