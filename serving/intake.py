"""From the bytes of a payment to its decision: what the hot route, its twin and the batch share."""

from typing import Any, NamedTuple

from fraud_platform.card_tokens import TokenKeys, tokenized
from fraud_platform.errors import FraudPlatformError
from fraud_platform.events import Transaction
from fraud_platform.validation import RULES, check_transaction, is_plain
from serving import sandbox
from serving.context import Edge
from serving.decoding import decoded, refuse_outer_blanks, refuse_repeated_keys
from serving.refusals import RefusedError, refused_field
from serving.ruling import REASON_TEXTS
from serving.schemas import (
    TRANSACTION_DECODER,
    DecisionOut,
    TransactionIn,
    decision_out,
    transaction_from,
)

ONE_PAYMENT = 64 * 1024
"""The largest body of one payment, bytes."""

_FIELDS = TransactionIn.__struct_fields__
_RULES = {rule.name: rule for rule in RULES}


class Payment(NamedTuple):
    """A checked payment, and older names that its card may be known by, newest first."""

    transaction: Transaction
    older: tuple[str, ...]


def payment_from(body: bytes, received_us: int, scorer: Edge) -> Payment:
    """The payment that a body holds, checked as a whole; a token stands for its card number.

    Args:
        body: one JSON object.
        received_us: when it arrived, microseconds since 1970-01-01 UTC.
        scorer: whose policies hold.

    Raises:
        RefusedError: 400 or 422, naming the field, never its value.
    """
    wire = decoded(body, TRANSACTION_DECODER, _FIELDS)
    refuse_repeated_keys(body, wire)
    payment, policy = Payment(transaction_from(wire), ()), scorer.settings.validation
    if is_plain(payment.transaction, received_us, policy):
        return payment
    refuse_outer_blanks(wire)
    if scorer.token_keys is not None:
        payment = _tokenized(payment.transaction, scorer.token_keys)
    name = check_transaction(payment.transaction, received_us, policy)
    if name is not None:
        raise _broken(name)
    return payment


def _tokenized(transaction: Transaction, keys: TokenKeys) -> Payment:
    older: list[str] = []

    def note(name: str) -> bool:
        older.append(name)
        return False  # by which of its names the card is known, only the engine can say

    return Payment(tokenized(transaction, keys, note), tuple(older))


async def decide(payment: Payment, received_us: int, scorer: Edge) -> DecisionOut:
    """The durable answer for one payment.

    Raises:
        RefusedError: the sandbox refuses.
        FraudPlatformError: the engine refuses.
    """
    if payment.transaction.card_id in sandbox.CARDS:
        return await sandbox.forced(payment.transaction, received_us, scorer)
    result = await scorer.engine.decide(
        payment.transaction, received_us=received_us, older=payment.older
    )
    return decided(result)


def decided(result: Any) -> DecisionOut:
    """The answer for what an engine's future holds.

    Raises:
        FraudPlatformError: it holds a refusal.
    """
    if isinstance(result, FraudPlatformError):
        raise result
    return decision_out(result.decision, REASON_TEXTS, replayed=result.replayed)


def _broken(name: str) -> RefusedError:
    rule = _RULES[name]
    return refused_field(
        "rule_broken",
        f"The payment breaks the rule {name}",
        field=", ".join(rule.columns),
        found="a value that breaks the rule",
        expected=rule.text,
    )
