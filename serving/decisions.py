"""Routes: decide on a payment, and look a decision up."""

import asyncio
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from fraud_platform.adapters.purged_records import is_purged
from fraud_platform.events import Decision
from serving.body import read_body
from serving.context import Edge, EdgeDependency
from serving.decoding import refuse_other_content
from serving.docs import NEEDS_KEY, REFUSALS, returns, takes
from serving.intake import ONE_PAYMENT, decide, payment_from
from serving.paths import transaction_id_of
from serving.refusals import RefusedError
from serving.ruling import REASON_TEXTS
from serving.schemas import EXAMPLE, DecisionOut, ErrorOut, TransactionIn, decision_out
from serving.scopes import needs


@post(
    "/v1/decisions",
    status_code=200,
    opt=needs("score"),
    operation_class=takes(TransactionIn),
    responses={200: returns(DecisionOut, "The durable decision", EXAMPLE), **REFUSALS},
    request_max_body_size=None,  # `read_body` has the limit
)
async def decide_payment(
    request: Request[Any, Any, Any], scorer: EdgeDependency
) -> Response[bytes]:
    """Decide on one payment; the same payment again gets its first decision."""
    # What is plain about a request a connection answers by itself: `hot_route`.
    refuse_other_content(request.scope["headers"])
    body = await read_body(request.receive, limit=ONE_PAYMENT)
    received_us = scorer.clock()
    payment = payment_from(body, received_us, scorer)
    return _answer(await decide(payment, received_us, scorer))


@get(
    "/v1/decisions/{transaction_id:str}",
    opt=needs("read"),
    responses={
        200: returns(DecisionOut, "The recorded decision", EXAMPLE),
        404: ResponseSpec(ErrorOut, description="No scorer decided on this payment"),
        410: ResponseSpec(ErrorOut, description="Retention deleted the decision"),
        503: REFUSALS[503],
        **NEEDS_KEY,
    },
)
async def read_decision(
    request: Request[Any, Any, Any],
    transaction_id: FromPath[str],
    scorer: EdgeDependency,
) -> Response[bytes]:
    """The recorded decision on a payment; in its id a slash is written `%2F`."""
    decision = await recorded_decision(scorer, transaction_id_of(request))
    return _answer(decision_out(decision, REASON_TEXTS, replayed=True))


async def recorded_decision(scorer: Edge, transaction_id: str) -> Decision:
    """The decision on a payment.

    Raises:
        RefusedError: 404 where none was taken, 410 where retention deleted it.
        UnavailableError: the log cannot be read.
    """
    decision = await scorer.engine.decision(transaction_id)
    if decision is not None:
        return decision
    if await asyncio.to_thread(is_purged, scorer.settings.log_path, transaction_id):
        hint = "The audit log says when, and by whom: fraud-platform audit decision"
        message = "Retention deleted what was recorded under this transaction_id"
        raise RefusedError(410, ErrorOut(error="purged_decision", message=message, hint=hint))
    hint = "A payment that came in by a file has no decision"
    message = "No decision is recorded under this transaction_id"
    raise RefusedError(404, ErrorOut(error="unknown_decision", message=message, hint=hint))


def _answer(decision: DecisionOut) -> Response[bytes]:
    return Response(msgspec.json.encode(decision), media_type=MediaType.JSON)
