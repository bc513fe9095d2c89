"""The events of the log, as values: what a sender said, and where the log put it.

These are the scorer's unit of work; the same facts as frames are `schemas`.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Where every count of microseconds starts."""

_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly; the inverse of `moment_of`.

    Args:
        moment: a time with a zone.

    Examples:
        >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
        86400000000
    """
    return (moment - EPOCH) // _MICROSECOND


def moment_of(us: int) -> datetime:
    """The time, in UTC, that many microseconds after 1970-01-01 UTC.

    Examples:
        >>> moment_of(86_400_000_000).isoformat()
        '1970-01-02T00:00:00+00:00'
    """
    return EPOCH + us * _MICROSECOND


class Transaction(NamedTuple):
    """One payment as its sender described it: exactly `schemas.PAYLOAD_COLUMNS`, in that order.

    Two transactions are the same when all fields are equal; the id alone is not enough.
    """

    transaction_id: str
    event_us: int  # microseconds since 1970-01-01 UTC
    card_id: str
    terminal_id: str
    amount_minor: int  # minor units of `currency`
    currency: str  # ISO 4217
    merchant_category: str | None = None
    payment_method: str | None = None
    country: str | None = None
    device_id: str | None = None
    entry_mode: str | None = None
    latitude: float | None = None
    longitude: float | None = None


class TransactionEvent(NamedTuple):
    """A transaction at its place in the log."""

    seq: int
    transaction: Transaction


class Label(NamedTuple):
    """What somebody said about one transaction, before it has a place in the log."""

    transaction_id: str
    verdict: str  # fraud | genuine | withdrawn
    label_source: str  # chargeback | dispute | analyst | audit | customer_report
    reason: str | None
    known_us: int  # when the verdict became known, microseconds UTC
    received_us: int  # when the platform took it, by its own clock
    happened_us: int | None = None  # when what it speaks of happened, e.g. the dispute
    reported_by: str | None = None  # subject of the caller's key


class LabelEvent(NamedTuple):
    """A verdict about one transaction, at its place in the log.

    The labelled transaction rides along, so a fold needs no look-up.
    """

    seq: int  # larger than the transaction's
    transaction_seq: int
    transaction: Transaction
    verdict: str  # fraud | genuine | withdrawn
    known_us: int  # when the verdict became known, microseconds UTC


Event = TransactionEvent | LabelEvent

IN_DOUBT = "R01"
"""The reason by which a decision says that the features it was given may be wrong."""


class Decision(NamedTuple):
    """What the scorer answered for one transaction, and everything needed to answer it again."""

    transaction_id: str
    decision_id: str
    seq: int  # of its transaction
    seen_seq: int  # the newest log position its features had seen
    event_us: int
    decided_us: int
    decision: str  # approve | review | decline
    score: float | None  # in [0, 1]; None when no model decided
    reasons: tuple[str, ...]  # stable codes, strongest first
    probability: float | None  # calibrated chance of fraud; None when it cannot be told
    expected_fpr: float | None  # share of genuine payments that score at least this
    mode: str  # normal | degraded | rules_only
    missing: tuple[str, ...]  # capabilities that were missing in mode degraded
    arm: str  # champion | canary | control | fallback | none: who decided
    is_late: bool
    model_version: str | None
    model_digest: str | None
    policy_digest: str
    feature_spec_digest: str
    features: tuple[float | None, ...]  # in the order of FEATURE_NAMES
    latency_us: int
    expires_us: int  # nobody should act on the answer later, microseconds UTC
    pass_propensity: float | None = None  # chance to be let through; None: not to be declined
    audit_propensity: float | None = None  # chance of an audit, had it not been let through
    explored: str | None = None  # passed | audited, at random
    governed: str | None = None  # what the model alone would have answered; None: the same
    review_cut: float | None = None  # scores from here on were reviewed; None: no governor
    decline_cut: float | None = None  # scores from here on were declined
    fpr_bound: float | None = None  # of genuine payments disturbed at most; None: not known
    budget: float | None = None  # share of payments that might be disturbed
    price_minor: float | None = None  # fraud let go per false block avoided; None: nothing was
    worth_multiplier: float | None = None  # what friction weighed; None: the cuts alone decided
