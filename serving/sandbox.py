"""Card ids that force each outcome, for people who build against the scorer.

The engine never sees these payments: nothing is recorded, counted as a decision or remembered.
"""

import asyncio
from typing import Literal

from fraud_platform.decision import policy_digest
from fraud_platform.events import Transaction, moment_of
from fraud_platform.features.spec import spec_digest
from serving.context import Edge
from serving.refusals import RETRY_AFTER_SECONDS, RefusedError, refused_field
from serving.schemas import DecisionOut, ErrorOut, ReasonOut

SLOW_SECONDS = 2.0
"""How long `sandbox_slow` keeps its sender waiting."""

_OUTCOMES: dict[str, Literal["approve", "review", "decline"]] = {
    "sandbox_approve": "approve",
    "sandbox_review": "review",
    "sandbox_decline": "decline",
    "sandbox_slow": "approve",
}
CARDS = frozenset({*_OUTCOMES, "sandbox_unavailable"})
"""Card ids that never stand for a card."""


async def forced(transaction: Transaction, received_us: int, scorer: Edge) -> DecisionOut:
    """The outcome that a payment's card id asks for.

    Args:
        transaction: a payment whose card_id is one of `CARDS`.
        received_us: when it arrived, microseconds since 1970-01-01 UTC.
        scorer: whose settings say whether there is a sandbox.

    Raises:
        RefusedError: 422 where there is no sandbox; 503 when that is what the card id asks for.
    """
    if not scorer.settings.sandbox:
        raise refused_field(
            "sandbox_disabled",
            "This card id forces an outcome, and this scorer has no sandbox",
            field="card_id",
            found="a card id of the sandbox",
            expected="a card's own token, or a scorer that runs with FRAUD_SANDBOX=true",
        )
    if transaction.card_id == "sandbox_unavailable":
        message = "The sandbox plays a scorer that cannot decide"
        body = ErrorOut(error="log_unavailable", message=message, hint="Send the same again")
        raise RefusedError(503, body, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
    if transaction.card_id == "sandbox_slow":
        await asyncio.sleep(SLOW_SECONDS)
    return _answer(transaction, received_us, scorer)


def _answer(transaction: Transaction, received_us: int, scorer: Edge) -> DecisionOut:
    policy = scorer.settings.decision
    outcome, decided_us = _OUTCOMES[transaction.card_id], scorer.clock()
    reasons = [] if outcome == "approve" else [ReasonOut("S00", "The sandbox forces this outcome.")]
    return DecisionOut(
        decision_id=f"sandbox_{transaction.transaction_id}",
        transaction_id=transaction.transaction_id,
        decision=outcome,
        score=None,
        probability=None,
        expected_fpr=None,
        reasons=reasons,
        mode="sandbox",
        arm="none",
        model_version=None,
        model_digest=None,
        policy_digest=policy_digest(policy, None),
        feature_spec_digest=spec_digest(),
        is_late=False,
        seq=0,
        decided_at=moment_of(decided_us),
        expires_at=moment_of(decided_us + policy.valid_seconds * 1_000_000),
        replayed=False,
        latency_us=max(0, decided_us - received_us),
    )
