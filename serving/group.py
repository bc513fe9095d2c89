"""Deciding and recording one group of requests inside one write transaction of the log.

Everything here is synchronous and knows neither HTTP nor the event loop: requests in arrival order
go in, one result each comes out, and what was appended becomes durable when the caller commits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fraud_platform.adapters.log_writer import LogWriter, Recorded
from fraud_platform.errors import (
    FraudPlatformError,
    IdempotencyConflictError,
    InvalidLabelError,
    PermanentError,
    UnknownTransactionError,
)
from fraud_platform.events import Decision, Label, Transaction, TransactionEvent
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.shards import shard_of
from serving.ruling import Ruling, Verdict, in_doubt

SOURCE = "scorer"


class AlreadyIngestedError(IdempotencyConflictError):
    """The transaction came in by a file: it happened without us, so there is nothing to decide."""


@dataclass(frozen=True)
class DecisionRequest:
    """One payment to decide on, and when it arrived by the scorer's clock."""

    transaction: Transaction
    received_us: int


@dataclass(frozen=True)
class NewLabel:
    """One verdict to record; `known_us` None means "as it arrives"."""

    transaction_id: str
    verdict: str
    label_source: str
    reason: str | None
    known_us: int | None
    happened_us: int | None = None
    reported_by: str | None = None


@dataclass(frozen=True)
class LabelRequest:
    """Verdicts to record, when they arrived, and the latest moment they may name as known."""

    labels: tuple[NewLabel, ...]
    received_us: int
    latest_us: int


@dataclass(frozen=True)
class DecisionResult:
    """A recorded decision, and whether it was recorded before this request."""

    decision: Decision
    replayed: bool


@dataclass(frozen=True)
class LabelResult:
    """A recorded verdict's place in the log, and whether it was new."""

    seq: int
    recorded: bool


Request = DecisionRequest | LabelRequest
Result = DecisionResult | tuple[LabelResult | PermanentError, ...] | FraudPlatformError


@dataclass(frozen=True)
class _Planned:
    """A new transaction of this group: appended, its features read, not yet scored."""

    request: DecisionRequest
    seq: int
    seen_seq: int
    is_late: bool
    features: tuple[float | None, ...]
    in_doubt: bool


class Group:
    """One group of requests under way.

    Args:
        writer: the open write transaction.
        rings: the feature state; every event of the log must be folded in already.
        ruling: what decides, the same for the whole group.
        clock: microseconds since 1970-01-01 UTC.
        doubtful: shards of the feature state that may be wrong; their payments go to review.
    """

    def __init__(
        self,
        writer: LogWriter,
        rings: FeatureRings,
        ruling: Ruling,
        clock: Callable[[], int],
        doubtful: frozenset[int] = frozenset(),
    ) -> None:
        self._writer = writer
        self._rings = rings
        self._ruling = ruling
        self._clock = clock
        self._doubtful = doubtful
        self._planned: dict[str, _Planned] = {}

    def settle(self, requests: Sequence[Request]) -> list[Result]:
        """Decide and append everything, in arrival order; one result per request."""
        plans = [self._plan(request) for request in requests]
        decisions = self._decide()
        results: list[Result] = []
        told: set[str] = set()
        for plan in plans:
            if not isinstance(plan, _Planned):
                results.append(plan)
                continue
            name = plan.request.transaction.transaction_id
            results.append(DecisionResult(decisions[name], replayed=name in told))
            told.add(name)
        return results

    def _plan(self, request: Request) -> _Planned | Result:
        try:
            if isinstance(request, LabelRequest):
                return tuple(self._label(label, request) for label in request.labels)
            return self._take(request)
        except PermanentError as refusal:
            return refusal

    def _take(self, request: DecisionRequest) -> _Planned | DecisionResult:
        transaction = request.transaction
        planned = self._planned.get(transaction.transaction_id)
        if planned is not None:
            _refuse_other_payload(transaction, planned.request.transaction)
            return planned
        recorded = self._writer.recorded(transaction.transaction_id)
        if recorded is not None:
            return _replay(transaction, recorded)
        # Read before append: a payment is not part of its own past.
        seen_seq = self._rings.last_seq
        features = self._rings.read(transaction)
        is_late = self._rings.is_late(transaction.event_us)
        seq = self._writer.append_transaction(
            transaction, received_us=request.received_us, source=SOURCE
        )
        self._rings.apply(TransactionEvent(seq, transaction))
        in_doubt = bool(self._doubtful) and self._is_doubtful(transaction)
        planned = _Planned(request, seq, seen_seq, is_late, features, in_doubt)
        self._planned[transaction.transaction_id] = planned
        return planned

    def _decide(self) -> dict[str, Decision]:
        plans = list(self._planned.values())
        sound = [plan for plan in plans if not plan.in_doubt]
        decisions = self._ruled(sound, self._ruling)
        if len(sound) < len(plans):
            doubtful = [plan for plan in plans if plan.in_doubt]
            decisions |= self._ruled(doubtful, in_doubt(self._ruling.policy))
        return decisions

    def _ruled(self, plans: list[_Planned], ruling: Ruling) -> dict[str, Decision]:
        if not plans:
            return {}
        matrix = np.array([plan.features for plan in plans], dtype=np.float64)
        verdicts = ruling.verdicts(matrix)
        decided_us = self._clock()
        decisions = {}
        for plan, verdict in zip(plans, verdicts, strict=True):
            decision = _decision(plan, verdict, ruling, decided_us)
            self._writer.append_decision(decision)
            decisions[decision.transaction_id] = decision
        return decisions

    def _is_doubtful(self, transaction: Transaction) -> bool:
        keys = (transaction.card_id, transaction.terminal_id)
        return any(shard_of(key, SHARDS) in self._doubtful for key in keys)

    def _label(self, label: NewLabel, request: LabelRequest) -> LabelResult | PermanentError:
        try:
            recorded = self._writer.recorded(label.transaction_id)
            if recorded is None:
                raise UnknownTransactionError(
                    "found a label for a transaction that is not in the log",
                    hint="send the transaction first, or check its transaction_id",
                )
            event, was_new = self._writer.append_label(
                Label(
                    transaction_id=label.transaction_id,
                    verdict=label.verdict,
                    label_source=label.label_source,
                    reason=label.reason,
                    known_us=_known_us(label, recorded.transaction, request),
                    received_us=request.received_us,
                    happened_us=label.happened_us,
                    reported_by=label.reported_by,
                )
            )
        except PermanentError as refusal:
            return refusal
        if was_new:
            self._rings.apply(event)
        return LabelResult(event.seq, was_new)


def _decision(plan: _Planned, verdict: Verdict, ruling: Ruling, decided_us: int) -> Decision:
    transaction = plan.request.transaction
    return Decision(
        transaction_id=transaction.transaction_id,
        # One decision per transaction and one seq per transaction: the position is a name.
        decision_id=f"dec_{plan.seq}",
        seq=plan.seq,
        seen_seq=plan.seen_seq,
        event_us=transaction.event_us,
        decided_us=decided_us,
        decision=str(verdict.outcome),
        score=verdict.score,
        reasons=verdict.reasons,
        probability=None,
        expected_fpr=None,
        mode=ruling.mode,
        missing=(),
        arm="none" if ruling.model is None else "champion",
        is_late=plan.is_late,
        model_version=ruling.version,
        model_digest=ruling.model_digest,
        policy_digest=ruling.policy_digest,
        feature_spec_digest=ruling.feature_spec_digest,
        features=plan.features,
        latency_us=max(0, decided_us - plan.request.received_us),
        expires_us=decided_us + ruling.policy.valid_seconds * 1_000_000,
    )


def _known_us(label: NewLabel, transaction: Transaction, request: LabelRequest) -> int:
    """When the verdict became known; never before its payment."""
    if label.known_us is None:
        # A payment's clock may run a little ahead of ours; its verdict cannot precede it.
        return max(request.received_us, transaction.event_us)
    if not transaction.event_us <= label.known_us <= request.latest_us:
        side = (
            "before its transaction happened"
            if label.known_us < transaction.event_us
            else ("in the future")
        )
        raise InvalidLabelError(
            f"found a label whose known_at is {side}, "
            "expected a moment between the payment and now",
            hint="check the time zone of known_at",
        )
    return label.known_us


def _replay(transaction: Transaction, recorded: Recorded) -> DecisionResult:
    _refuse_other_payload(transaction, recorded.transaction)
    if recorded.decision is None:
        raise AlreadyIngestedError(
            "found this transaction in the log without a decision: it came in by a file",
            hint="read its label and features from the tables; only new payments are decided",
        )
    return DecisionResult(recorded.decision, replayed=True)


def _refuse_other_payload(transaction: Transaction, known: Transaction) -> None:
    if transaction == known:
        return
    differing = [
        name
        for name, new, old in zip(Transaction._fields, transaction, known, strict=True)
        if new != old
    ]
    raise IdempotencyConflictError(
        "found this transaction_id in the log with another payload; "
        f"differing: {', '.join(differing)}",
        hint="send a new payment under a new id, or repeat the first payload exactly",
    )
