"""What goes over the wire: requests and answers, and their conversion from and to domain values.

Nothing outside `serving` imports these; the domain's own values are `fraud_platform.events`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple

from fraud_platform.events import Decision, Transaction, microseconds, moment_of
from fraud_platform.validation import ValidationPolicy

Value = TypeVar("Value")

_NO_CONTROLS = r"[^\u0000-\u001f\u007f]"
_VISIBLE = (
    r"[^\u0000-\u0020\u007f\u0085\u00a0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000"
    r"\ufeff]"
)
"""What the document tells about texts; `decoding` and the rules of `validation` enforce it."""


def _documented(pattern: str, **more: Any) -> Meta:
    """A pattern that the OpenAPI document shows; checked elsewhere, with the field named."""
    return Meta(extra_json_schema={"pattern": pattern, **more})


Identifier = Annotated[
    str,
    Meta(min_length=1, max_length=64),
    _documented(rf"^{_VISIBLE}({_NO_CONTROLS}*{_VISIBLE})?$"),
]
Context = (
    Annotated[str, Meta(max_length=200), _documented(rf"^{_NO_CONTROLS}*$")] | UnsetType | None
)
Moment = Annotated[datetime, Meta(tz=True)]

DOCUMENTED = "documented"
"""What a field's schema says in the document where the decoder is to be more generous: a rule that
is broken further on says more."""
MOST_TRANSACTIONS = 256
MOST_LABELS = 1_000


class TransactionIn(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, gc=False):
    """One payment to decide on."""

    transaction_id: Annotated[
        Identifier,
        Meta(description="The sender's own id; the same id is decided once", examples=["t-1001"]),
    ]
    event_timestamp: Annotated[
        Moment,
        Meta(
            description="When the payment happened: ISO 8601 with a zone",
            examples=["2026-03-01T22:14:05Z"],
        ),
    ]
    card_id: Annotated[
        Identifier,
        Meta(
            description="Opaque token; a card number is refused. `sandbox_approve`, "
            "`sandbox_review`, `sandbox_decline`, `sandbox_unavailable` and `sandbox_slow` force "
            "that outcome where the scorer has a sandbox, and are refused elsewhere",
            examples=["card-81"],
        ),
    ]
    terminal_id: Annotated[Identifier, Meta(examples=["terminal-7"])]
    amount_minor: Annotated[
        int,
        Meta(
            ge=-(2**63),
            le=2**63 - 1,
            description="Amount in minor units of `currency`; each installation sets its largest",
            examples=[48000],
            extra_json_schema={
                DOCUMENTED: {"minimum": 0, "maximum": ValidationPolicy().max_amount_minor}
            },
        ),
    ]
    currency: Annotated[
        str,
        Meta(min_length=3, max_length=3, description="ISO 4217", examples=["EUR"]),
        _documented("^[A-Z]{3}$"),
    ]
    merchant_category: Context = UNSET
    payment_method: Context = UNSET
    country: Context = UNSET
    device_id: Context = UNSET
    entry_mode: Context = UNSET
    latitude: Annotated[float, Meta(ge=-90, le=90)] | UnsetType | None = UNSET
    longitude: Annotated[float, Meta(ge=-180, le=180)] | UnsetType | None = UNSET


class TransactionsIn(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Payments to decide on together; each is read on its own."""

    transactions: list[msgspec.Raw]


class LabelIn(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, gc=False):
    """One verdict about a payment."""

    transaction_id: Annotated[Identifier, Meta(examples=["t-1001"])]
    verdict: Literal["fraud", "genuine", "withdrawn"]
    source: Literal["chargeback", "dispute", "analyst", "audit", "customer_report"]
    reason: Context = UNSET
    happened_at: Annotated[
        Moment | UnsetType | None,
        Meta(description="When what the verdict speaks of happened, e.g. the dispute"),
    ] = UNSET
    known_at: Annotated[
        Moment | UnsetType | None,
        Meta(description="When the verdict became known; now, when left out"),
    ] = UNSET


class ReasonOut(Struct, frozen=True, gc=False):
    """One reason of a review or a decline."""

    code: str
    text: str


class DecisionOut(Struct, kw_only=True, frozen=True, gc=False):
    """The recorded answer for one payment; the order of the fields is part of the contract."""

    decision_id: str
    transaction_id: str
    decision: Literal["approve", "review", "decline"]
    score: Annotated[
        float | None, Meta(description="Suspicion in [0, 1]; null when no model decided")
    ]
    probability: Annotated[
        float | None, Meta(description="Calibrated chance of fraud; null when it cannot be told")
    ]
    expected_fpr: Annotated[
        float | None, Meta(description="Share of genuine payments that score at least this")
    ]
    reasons: Annotated[
        list[ReasonOut],
        Meta(
            description="Of a review or decline, strongest first, at most four; R04 first where a "
            "decline was let through at random"
        ),
    ]
    mode: Annotated[
        Literal["normal", "degraded", "rules_only", "sandbox"],
        Meta(description="How much of the scorer took part"),
    ]
    missing: Annotated[
        list[str] | UnsetType,
        Meta(description="In mode degraded only: the capabilities that were missing"),
    ] = UNSET
    arm: Annotated[
        Literal["champion", "canary", "control", "fallback", "none"],
        Meta(description="Whose model decided"),
    ]
    model_version: str | None
    model_digest: str | None
    policy_digest: str
    feature_spec_digest: str
    is_late: bool
    seq: Annotated[int, Meta(description="The payment's place in the event log")]
    decided_at: datetime
    expires_at: Annotated[datetime, Meta(description="Do not act on the answer later than this")]
    replayed: Annotated[
        bool, Meta(description="Whether the decision was recorded before this request")
    ]
    latency_us: int
    explored: Annotated[
        Literal["passed", "audited"] | UnsetType,
        Meta(
            description="Where chance had a hand in it: let through although the model would have "
            "declined it, or put up for audit. For your own analysis: nothing for the card holder"
        ),
    ] = UNSET
    governed: Annotated[
        Literal["review", "decline"] | UnsetType,
        Meta(
            description="What the model alone would have answered, where the cap on disturbed "
            "payments made the answer milder, or disturbing this one would not have paid"
        ),
    ] = UNSET


class DecisionOutcome(Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """What became of one payment of a batch: a decision, or a status and an error."""

    index: int
    decision: DecisionOut | UnsetType = UNSET
    status: int | UnsetType = UNSET
    error: "ErrorOut | UnsetType" = UNSET


class DecisionBatchOut(Struct, kw_only=True, frozen=True, gc=False):
    """What became of a batch, in its order; the four counts add up to its size."""

    decided: int
    replayed: int
    refused: int
    unavailable: Annotated[
        int, Meta(description="Not acknowledged, with status 503: to be sent again")
    ]
    results: list[DecisionOutcome]


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


EXAMPLE = DecisionOut(
    decision_id="dec_1",
    transaction_id="t-1001",
    decision="decline",
    score=0.9615044593811035,
    probability=0.71,
    expected_fpr=0.0008,
    reasons=[ReasonOut("P01", "The amount itself.")],
    mode="normal",
    arm="champion",
    model_version="7",
    model_digest="d4839fcc3008af219d7982532496b2c797d940dcad945778b640ecb15118874b",
    policy_digest="8ce940c1563b664ed8e4da41350e6ff3d217cae9c96afd4a1f750381d2f88d4f",
    feature_spec_digest="fee7e949f6190d2cb4ffdfa7f91499c2ec444bdfb5f97aa46bfb833b4b0d8648",
    is_late=False,
    seq=1,
    decided_at=moment_of(1_772_403_245_444_428),
    expires_at=moment_of(1_772_403_545_444_428),
    replayed=False,
    latency_us=1787,
)
"""What the document shows as an answer."""


def transaction_from(wire: TransactionIn) -> Transaction:
    """The domain's transaction; a field left out and a null mean the same."""
    # The wire has the transaction's fields, in their order.
    name, moment, *others = astuple(wire)
    if UNSET in others:
        others = [None if value is UNSET else value for value in others]
    return Transaction(name, microseconds(moment), *others)


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
        decision=decision.decision,  # type: ignore[arg-type]  # the log holds outcomes only
        score=decision.score,
        probability=decision.probability,
        expected_fpr=decision.expected_fpr,
        reasons=[ReasonOut(code, texts.get(code, code)) for code in decision.reasons],
        mode=decision.mode,  # type: ignore[arg-type]  # the log holds declared modes only
        missing=list(decision.missing) if decision.mode == "degraded" else UNSET,
        arm=decision.arm,  # type: ignore[arg-type]  # the log holds declared arms only
        model_version=decision.model_version,
        model_digest=decision.model_digest,
        policy_digest=decision.policy_digest,
        feature_spec_digest=decision.feature_spec_digest,
        is_late=decision.is_late,
        seq=decision.seq,
        decided_at=moment_of(decision.decided_us),
        expires_at=moment_of(decision.expires_us),
        replayed=replayed,
        latency_us=decision.latency_us,
        explored=decision.explored or UNSET,  # type: ignore[arg-type]  # the log holds these two
        governed=decision.governed or UNSET,  # type: ignore[arg-type]  # the log holds these two
    )


TRANSACTION_DECODER = msgspec.json.Decoder(TransactionIn, strict=True)
TRANSACTIONS_DECODER = msgspec.json.Decoder(TransactionsIn | list[msgspec.Raw], strict=True)
LABELS_DECODER = msgspec.json.Decoder(
    LabelIn | Annotated[list[LabelIn], Meta(min_length=1, max_length=MOST_LABELS)], strict=True
)
