"""Routes: decide on a payment, and look a decision up."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from fraud_platform.events import Transaction
from fraud_platform.validation import RULES, ValidationPolicy, check_transaction
from serving.context import Scorer
from serving.decoding import read_body, refuse_repeated_keys
from serving.docs import REFUSALS, takes
from serving.refusals import RefusedError, refused_field
from serving.ruling import REASON_TEXTS
from serving.schemas import (
    TRANSACTION_DECODER,
    DecisionOut,
    ErrorOut,
    TransactionIn,
    decision_out,
    transaction_from,
)

_FIELDS = TransactionIn.__struct_fields__
_RULES = {rule.name: rule for rule in RULES}
_MAX_BODY = 64 * 1024


@post(
    "/v1/decisions",
    status_code=200,
    operation_class=takes(TransactionIn),
    request_max_body_size=_MAX_BODY,
    responses={200: ResponseSpec(DecisionOut, description="The durable decision"), **REFUSALS},
)
async def decide_payment(
    request: Request[Any, Any, Any], scorer: NamedDependency[Scorer]
) -> Response[bytes]:
    """Decide on one payment; the same payment again gets its first decision."""
    body = await request.body()
    wire = read_body(body, request.headers.get("content-type", ""), TRANSACTION_DECODER, _FIELDS)
    refuse_repeated_keys(body, wire)
    transaction, received_us = transaction_from(wire), scorer.clock()
    _refuse_broken_rules(transaction, received_us, scorer.settings.validation)
    result = await scorer.engine.decide(transaction, received_us=received_us)
    return _answer(decision_out(result.decision, REASON_TEXTS, replayed=result.replayed))


@get(
    "/v1/decisions/{transaction_id:str}",
    responses={
        200: ResponseSpec(DecisionOut, description="The recorded decision"),
        404: ResponseSpec(ErrorOut, description="No scorer decided on this payment"),
    },
)
async def read_decision(
    transaction_id: FromPath[str], scorer: NamedDependency[Scorer]
) -> Response[bytes]:
    """The recorded decision on a payment."""
    decision = await scorer.engine.decision(transaction_id)
    if decision is None:
        hint = "A payment that came in by a file has no decision"
        message = "No decision is recorded under this transaction_id"
        raise RefusedError(404, ErrorOut(error="unknown_decision", message=message, hint=hint))
    return _answer(decision_out(decision, REASON_TEXTS, replayed=True))


def _refuse_broken_rules(
    transaction: Transaction, received_us: int, policy: ValidationPolicy
) -> None:
    name = check_transaction(transaction, received_us, policy)
    if name is None:
        return
    rule = _RULES[name]
    raise refused_field(
        "rule_broken",
        f"The payment breaks the rule {name}",
        field=", ".join(rule.columns),
        found="a value that breaks the rule",
        expected=rule.text,
    )


def _answer(decision: DecisionOut) -> Response[bytes]:
    return Response(msgspec.json.encode(decision), media_type=MediaType.JSON)
