"""Deciding on one group of requests and handing its records to the ledger.

Everything here is synchronous and knows neither HTTP nor the event loop: requests in arrival order
go in, one result each comes out, and what was appended is written when the caller commits.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.journal_frames import LabelKey, ShadowScore
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_writer import Recorded
from fraud_platform.decision import SET_ASIDE, STATE_IN_DOUBT, UNUSABLE_SCORE, explored
from fraud_platform.errors import (
    FraudPlatformError,
    IdempotencyConflictError,
    InvalidLabelError,
    PermanentError,
    UnknownPaymentOfLabelError,
)
from fraud_platform.events import Decision, Label, Transaction, TransactionEvent
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.shards import shard_of
from fraud_platform.modes import Mode
from fraud_platform.rollout import NO_ARM
from fraud_platform.selective_labels import NOT_DRAWN, Explorer, day_of
from fraud_platform.worth import weighed
from serving.governing import Governing
from serving.ruling import Ruling, Verdict
from serving.stance import Stance

LOGGER = logging.getLogger("fraud_platform.scorer")

SOURCE = "scorer"

MOST_VERDICTS = 100
"""On one payment: each new one is compared with all of them, while payments wait."""


class AlreadyIngestedError(IdempotencyConflictError):
    """The transaction came in by a file: it happened without us, so there is nothing to decide."""


class DecisionRequest(msgspec.Struct, frozen=True, gc=False):
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
class LookUp:
    """Whether a decision was recorded, and which."""

    transaction_id: str


class DecisionResult(msgspec.Struct, frozen=True, gc=False):
    """A recorded decision, and whether it was recorded before this request."""

    decision: Decision
    replayed: bool


@dataclass(frozen=True)
class LabelResult:
    """A recorded verdict's place in the log, and whether it was new."""

    seq: int
    recorded: bool


@dataclass(frozen=True)
class Shadowed:
    """What a challenger would have said; nobody waits for it."""

    scores: tuple[ShadowScore, ...]


Request = DecisionRequest | LabelRequest | LookUp | Shadowed
Result = (
    DecisionResult
    | tuple[LabelResult | PermanentError, ...]
    | Decision
    | None  # nothing is recorded under the id that was looked up, or nobody asked
    | FraudPlatformError
)


class _Planned(msgspec.Struct, frozen=True, gc=False):
    """A new transaction of this group: appended, its features read, not yet scored."""

    request: DecisionRequest
    seq: int
    seen_seq: int
    is_late: bool
    features: tuple[float | None, ...]
    in_doubt: bool


class Means(Protocol):
    """What a group takes from the engine's parts; `serving.parts.Parts` has it."""

    @property
    def stance(self) -> Callable[[], Stance]: ...  # noqa: D102 -- the mode in force
    @property
    def clock(self) -> Callable[[], int]: ...  # noqa: D102 -- microseconds since 1970-01-01 UTC
    @property
    def governing(self) -> Governing | None: ...  # noqa: D102 -- None: the models alone decide


class Group:
    """One group of requests under way.

    Args:
        means: the mode in force, the clock, and what caps the models. In mode rules_only no model
            decides, although there may be one.
        ledger: what is recorded, with a group open.
        rings: the feature state; every event of the log must be folded in already.
        ruling: what decides, the same for the whole group.
        doubtful: shards of the feature state that may be wrong; their payments go to review.

    Attributes:
        decided: the decisions of this group, once it is settled.
    """

    def __init__(
        self,
        means: Means,
        ledger: Ledger,
        rings: FeatureRings,
        ruling: Ruling,
        doubtful: frozenset[int] = frozenset(),
    ) -> None:
        self._ledger = ledger
        self._rings = rings
        self._ruling = ruling
        self._stance = means.stance()
        self._clock = means.clock
        self._governing = means.governing
        self._doubtful = doubtful
        self._planned: dict[str, _Planned] = {}
        self.decided: tuple[Decision, ...] = ()

    def settle(self, requests: Sequence[Request]) -> list[Result]:
        """Decide and append everything, in arrival order; one result per request."""
        payments = [r.transaction for r in requests if isinstance(r, DecisionRequest)]
        self._ledger.look_up([payment.transaction_id for payment in payments])
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
        plan: _Planned | Result = None
        match request:
            case DecisionRequest():
                try:
                    plan = self._take(request)
                except PermanentError as refusal:
                    plan = refusal
            case LabelRequest():
                plan = tuple(self._label(label, request) for label in request.labels)
            case LookUp():
                recorded = self._ledger.recorded(request.transaction_id)
                plan = None if recorded is None else recorded.decision
            case Shadowed():
                self._ledger.append_shadow(request.scores)
        return plan

    def _take(self, request: DecisionRequest) -> _Planned | DecisionResult:
        transaction = request.transaction
        planned = self._planned.get(transaction.transaction_id)
        if planned is not None:
            _refuse_other_payload(transaction, planned.request.transaction)
            return planned
        recorded = self._ledger.recorded(transaction.transaction_id)
        if recorded is not None:
            return _replay(transaction, recorded)
        # Read before append: a payment is not part of its own past.
        seen_seq = self._rings.last_seq
        features = self._rings.read(transaction)
        is_late = self._rings.is_late(transaction.event_us)
        seq = self._ledger.append_transaction(
            transaction, received_us=request.received_us, source=SOURCE
        )
        self._rings.apply(TransactionEvent(seq, transaction))
        in_doubt = bool(self._doubtful) and self._is_doubtful(transaction)
        planned = _Planned(request, seq, seen_seq, is_late, features, in_doubt)
        self._planned[transaction.transaction_id] = planned
        return planned

    def _decide(self) -> dict[str, Decision]:
        plans = list(self._planned.values())
        decided: dict[str, Decision] = {}
        if plans:
            matrix = np.array([plan.features for plan in plans], dtype=np.float64)
            verdicts = self._verdicts(plans, matrix)
            now_us = self._clock()
            if self._governing is not None:
                self._governing.begin(self._ruling)
            for plan, verdict, features in zip(plans, verdicts, matrix, strict=True):
                decision = self._decision(plan, verdict, now_us)
                if verdict.arm != NO_ARM:
                    decision = self._overruled(decision, plan.request.transaction, features)
                self._ledger.append_decision(decision, features.tobytes())
                decided[decision.transaction_id] = decision
        self.decided = tuple(decided.values())
        return decided

    def _verdicts(self, plans: list[_Planned], matrix: NDArray[np.float64]) -> list[Verdict]:
        """In the order of the plans; whose past is in doubt is judged by no model."""
        if not self._doubtful and self._stance.mode is not Mode.RULES_ONLY:
            return self._judged(plans, matrix)
        amounts = [plan.request.transaction.amount_minor for plan in plans]
        doubtful = {row for row, plan in enumerate(plans) if plan.in_doubt}
        sound = [row for row in range(len(plans)) if row not in doubtful]
        if self._stance.mode is Mode.RULES_ONLY and self._ruling.model is not None:
            judged = self._ruling.without_score([amounts[row] for row in sound], SET_ASIDE)
        else:
            judged = self._judged([plans[row] for row in sound], matrix[sound])
        found = dict(zip(sound, judged, strict=True))
        for row in doubtful:
            [found[row]] = self._ruling.without_score([amounts[row]], STATE_IN_DOUBT)
        return [found[row] for row in range(len(plans))]

    def _judged(self, plans: list[_Planned], matrix: NDArray[np.float64]) -> list[Verdict]:
        """By the models; one payment that a model fails on costs the others nothing."""
        try:
            return self._by_models(plans, matrix) if plans else []
        except Exception:
            LOGGER.exception("a model failed on a group of %d; judging one by one", len(plans))
        return [self._alone(plan, matrix[[row]]) for row, plan in enumerate(plans)]

    def _alone(self, plan: _Planned, matrix: NDArray[np.float64]) -> Verdict:
        try:
            [verdict] = self._by_models([plan], matrix)
        except Exception:
            LOGGER.exception("a model failed on one payment; a person must look")
            amount = plan.request.transaction.amount_minor
            [verdict] = self._ruling.without_score([amount], UNUSABLE_SCORE)
        return verdict

    def _by_models(self, plans: list[_Planned], matrix: NDArray[np.float64]) -> list[Verdict]:
        payments = [plan.request.transaction for plan in plans]
        return self._ruling.verdicts(
            matrix,
            [payment.card_id for payment in payments],
            [payment.amount_minor for payment in payments],
        )

    def _decision(self, plan: _Planned, verdict: Verdict, decided_us: int) -> Decision:
        transaction, is_judged = plan.request.transaction, verdict.arm != NO_ARM
        # In the order of its fields: keywords would double the time of all this.
        return Decision(
            transaction.transaction_id,
            # One decision per transaction and one seq per transaction: the position is a name.
            f"dec_{plan.seq}",
            plan.seq,
            plan.seen_seq,
            transaction.event_us,
            decided_us,
            str(verdict.outcome),
            verdict.score,
            verdict.reasons,
            verdict.probability,
            verdict.expected_fpr,
            str(self._stance.mode if is_judged else Mode.RULES_ONLY),
            self._stance.missing if is_judged else (),
            verdict.arm,
            plan.is_late,
            verdict.version,
            verdict.model_digest,
            verdict.policy_digest,
            self._ruling.feature_spec_digest,
            plan.features,
            max(0, decided_us - plan.request.received_us),
            decided_us + self._ruling.policy.valid_seconds * 1_000_000,
        )

    def _overruled(
        self, decision: Decision, payment: Transaction, features: NDArray[np.float64]
    ) -> Decision:
        """A model's decision, unless its cap or its worth lets it go; one after the other."""
        if self._governing is not None:
            decision = self._governing.capped(decision, payment, features)
        if (worth := self._ruling.worth) is not None:
            decision = weighed(decision, payment, worth)
        explorer = self._ruling.explorer
        return decision if explorer is None else self._explored(decision, payment, explorer)

    def _explored(self, decision: Decision, payment: Transaction, explorer: Explorer) -> Decision:
        """The decision, unless chance wants to know what the payment is."""
        spent = self._ledger.spent(day_of(decision.decided_us))
        drawn = explorer.draw(decision.decision, payment, spent)
        if drawn is NOT_DRAWN:
            return decision
        return explored(decision, drawn, self._ruling.policy)

    def _is_doubtful(self, transaction: Transaction) -> bool:
        keys = (transaction.card_id, transaction.terminal_id)
        return any(shard_of(key, SHARDS) in self._doubtful for key in keys)

    def _label(self, label: NewLabel, request: LabelRequest) -> LabelResult | PermanentError:
        try:
            recorded = self._ledger.recorded(label.transaction_id)
            if recorded is None:
                raise UnknownPaymentOfLabelError
            known_us = _known_us(label, recorded.transaction, request)
            _refuse_what_is_to_come(label, request)
            about = self._ledger.labels_of(label.transaction_id)
            if (same := _said_last(label, about)) is not None:
                return LabelResult(same, recorded=False)
            key = LabelKey(label.transaction_id, label.verdict, label.label_source, known_us)
            if len(about) >= MOST_VERDICTS and key not in about:
                raise InvalidLabelError(
                    f"found {len(about)} verdicts on this payment already, "
                    f"expected at most {MOST_VERDICTS}",
                    hint="is a sender repeating itself with another known_at each time?",
                )
            event, was_new = self._ledger.append_label(
                Label(
                    transaction_id=label.transaction_id,
                    verdict=label.verdict,
                    label_source=label.label_source,
                    reason=label.reason,
                    known_us=known_us,
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


def _said_last(label: NewLabel, about: Mapping[LabelKey, int]) -> int | None:
    """Where the log has this verdict as the last of its source, if no moment was named.

    Without a moment, a request that is sent again would otherwise be a verdict of another one.
    """
    if label.known_us is not None:
        return None
    source = label.label_source
    mine = [(k.known_us, seq, k.verdict) for k, seq in about.items() if k.label_source == source]
    _, seq, verdict = max(mine, default=(0, 0, None))
    return seq if verdict == label.verdict else None


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


def _refuse_what_is_to_come(label: NewLabel, request: LabelRequest) -> None:
    latest_us = request.latest_us if label.known_us is None else label.known_us
    if label.happened_us is not None and label.happened_us > latest_us:
        raise InvalidLabelError(
            "found a label whose happened_at is after it became known, "
            "expected something that had happened by then",
            hint="check the time zones of happened_at and known_at",
        )


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
