"""What goes over the wire: requests and answers, and their conversion from and to domain values.

Nothing outside `serving` imports these; the domain's own values are `fraud_platform.events`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from fraud_platform.events import Decision, Transaction, microseconds, moment_of

Value = TypeVar("Value")

Identifier = Annotated[str, Meta(min_length=1, max_length=64)]
Context = Annotated[str, Meta(max_length=200)] | UnsetType | None
Moment = Annotated[datetime, Meta(tz=True)]


class TransactionIn(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, gc=False):
    """One payment to decide on."""

    transaction_id: Annotated[
        Identifier, Meta(description="The sender's own id; the same id is decided once")
    ]
    event_timestamp: Annotated[
        Moment, Meta(description="When the payment happened: ISO 8601 with a zone")
    ]
    card_id: Annotated[Identifier, Meta(description="Opaque token; a card number is refused")]
    terminal_id: Identifier
    amount_minor: Annotated[
        int,
        Meta(ge=-(2**63), le=2**63 - 1, description="Amount in minor units of `currency`"),
    ]
    currency: Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217, e.g. EUR")]
    merchant_category: Context = UNSET
    payment_method: Context = UNSET
    country: Context = UNSET
    device_id: Context = UNSET
    entry_mode: Context = UNSET
    latitude: Annotated[float, Meta(ge=-90, le=90)] | UnsetType | None = UNSET
    longitude: Annotated[float, Meta(ge=-180, le=180)] | UnsetType | None = UNSET


class LabelIn(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, gc=False):
    """One verdict about a payment."""

    transaction_id: Identifier
    verdict: Literal["fraud", "genuine", "withdrawn"]
    source: Literal["chargeback", "dispute", "analyst", "audit", "customer_report"]
    reason: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    known_at: Annotated[
        Moment | UnsetType | None,
        Meta(description="When the verdict became known; now, when left out"),
    ] = UNSET


class ReasonOut(Struct, frozen=True, gc=False):
    """One reason of a review or a decline."""

    code: str
    text: str


class DecisionOut(Struct, kw_only=True, frozen=True, gc=False):
    """The recorded answer for one payment."""

    decision_id: str
    transaction_id: str
    decision: str
    score: float | None
    reasons: list[ReasonOut]
    mode: str
    model_version: str | None
    model_digest: str | None
    policy_digest: str
    feature_spec_digest: str
    is_late: bool
    seq: int
    decided_at: datetime
    replayed: bool
    latency_us: int


class LabelOut(Struct, kw_only=True, frozen=True, gc=False):
    """A recorded verdict: its place in the log, and whether it was new."""

    seq: int
    recorded: bool


class LabelOutcome(Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """What became of one verdict of a batch: seq and recorded, or error and message."""

    index: int
    seq: int | None = None
    recorded: bool | None = None
    error: str | None = None
    message: str | None = None


class LabelBatchOut(Struct, kw_only=True, frozen=True, gc=False):
    """What became of a batch; `recorded + known + refused` is its size."""

    recorded: int
    known: int
    refused: int
    results: list[LabelOutcome]


class ModelOut(Struct, kw_only=True, frozen=True):
    """One model bundle, from its manifest."""

    version: str
    model_digest: str
    library: str
    library_version: str
    feature_spec_digest: str
    review_threshold: float
    decline_threshold: float
    trained_as_of: str
    run_id: str
    report: dict[str, float]


class ModelsOut(Struct, kw_only=True, frozen=True):
    """The model that decides now, and every bundle on disk."""

    mode: str
    champion: str | None
    champion_digest: str | None
    load_error: str | None
    models: list[ModelOut]
    damaged: list[str]


class HealthOut(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Whether the scorer may receive traffic, and why not."""

    status: str
    problems: list[str] = []
    model_version: str | None = None
    seq: int | None = None


class FieldOut(Struct, kw_only=True, frozen=True):
    """One field that broke a rule: never its value."""

    field: str
    found: str
    expected: str


class ErrorOut(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Every refusal has this body; an error is never a decision."""

    error: str
    message: str
    hint: str | None = None
    fields: list[FieldOut] = []


def transaction_from(wire: TransactionIn) -> Transaction:
    """The domain's transaction; a field left out and a null mean the same."""
    return Transaction(
        wire.transaction_id,
        microseconds(wire.event_timestamp),
        wire.card_id,
        wire.terminal_id,
        wire.amount_minor,
        wire.currency,
        known(wire.merchant_category),
        known(wire.payment_method),
        known(wire.country),
        known(wire.device_id),
        known(wire.entry_mode),
        known(wire.latitude),
        known(wire.longitude),
    )


def known(value: Value | UnsetType | None) -> Value | None:
    """The value of an optional field; left out and null mean the same: not known."""
    return None if value is UNSET else value


def decision_out(decision: Decision, texts: Mapping[str, str], *, replayed: bool) -> DecisionOut:
    """The wire form of a recorded decision.

    Args:
        decision: as recorded in the log.
        texts: reason code -> text; a code that is no longer declared keeps its code as text.
        replayed: whether the decision was recorded before this request.
    """
    return DecisionOut(
        decision_id=decision.decision_id,
        transaction_id=decision.transaction_id,
        decision=decision.decision,
        score=decision.score,
        reasons=[ReasonOut(code, texts.get(code, code)) for code in decision.reasons],
        mode=decision.mode,
        model_version=decision.model_version,
        model_digest=decision.model_digest,
        policy_digest=decision.policy_digest,
        feature_spec_digest=decision.feature_spec_digest,
        is_late=decision.is_late,
        seq=decision.seq,
        decided_at=moment_of(decision.decided_us),
        replayed=replayed,
        latency_us=decision.latency_us,
    )


TRANSACTION_DECODER = msgspec.json.Decoder(TransactionIn, strict=True)
LABELS_DECODER = msgspec.json.Decoder(
    LabelIn | Annotated[list[LabelIn], Meta(min_length=1, max_length=1_000)], strict=True
)
