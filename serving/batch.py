"""Route: decide on up to 256 payments at once, in their order and in one turn of the engine."""

import asyncio
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, post

from fraud_platform.errors import FraudPlatformError
from serving.body import read_body
from serving.context import Edge, EdgeDependency
from serving.decoding import (
    decoded,
    refuse_broken_text,
    refuse_other_content,
    refuse_repeated_envelope,
)
from serving.docs import REFUSALS, returns, takes
from serving.intake import decide, payment_from
from serving.refusals import (
    WHOLE_BODY,
    RefusedError,
    domain_refusal,
    placed,
    refused_field,
)
from serving.schemas import (
    MOST_TRANSACTIONS,
    TRANSACTIONS_DECODER,
    DecisionBatchOut,
    DecisionOut,
    DecisionOutcome,
    TransactionIn,
    TransactionsIn,
)
from serving.scopes import charge, needs

_MOST_BYTES = 1024 * 1024
_LIST = "transactions"


@post(
    "/v1/decisions/batch",
    status_code=200,
    opt=needs("score"),
    operation_class=takes(TransactionIn, many=MOST_TRANSACTIONS, named=_LIST, single=False),
    responses={200: returns(DecisionBatchOut, "What became of each payment"), **REFUSALS},
    request_max_body_size=None,  # `read_body` has the limit
)
async def decide_payments(
    request: Request[Any, Any, Any], scorer: EdgeDependency
) -> Response[bytes]:
    """Decide on several payments in their order; one that is refused does not stop the others.

    What the scorer cannot do at the moment has status 503 at its place: send the batch again, what
    is decided stays so. When that is so of every payment, the whole batch is answered with 503.
    """
    refuse_other_content(request.scope["headers"])
    body = await read_body(request.receive, limit=_MOST_BYTES)
    places = _items(body)
    charge(request, scorer.access, len(places))
    received_us = scorer.clock()
    # Every task's first step runs in this turn of the loop, in this order: one group, one commit.
    outcomes = await asyncio.gather(
        *(_decide_one(raw, place, received_us, scorer) for place, raw in places),
        return_exceptions=True,
    )
    results = [_outcome(index, outcome) for index, outcome in enumerate(outcomes)]
    if all(_is_unavailable(result) for result in results):
        raise next(outcome for outcome in outcomes if isinstance(outcome, Exception))
    return Response(msgspec.json.encode(_counted(results)), media_type=MediaType.JSON)


def _items(body: bytes) -> list[tuple[str, msgspec.Raw]]:
    """Each payment's bytes, with the path that its errors begin with."""
    refuse_broken_text(body)
    wire = decoded(body, TRANSACTIONS_DECODER, TransactionsIn.__struct_fields__)
    prefix, raws = (_LIST, wire.transactions) if isinstance(wire, TransactionsIn) else ("", wire)
    if not 1 <= len(raws) <= MOST_TRANSACTIONS:
        raise refused_field(
            "invalid_field",
            "A batch holds too few or too many payments",
            field=prefix or WHOLE_BODY,
            found=f"{len(raws)} payments",
            expected=f"1 to {MOST_TRANSACTIONS} payments",
        )
    if prefix:
        refuse_repeated_envelope(body, prefix, raws)
    return [(f"{prefix}[{index}]", raw) for index, raw in enumerate(raws)]


async def _decide_one(raw: msgspec.Raw, place: str, received_us: int, scorer: Edge) -> DecisionOut:
    try:
        payment = payment_from(bytes(raw), received_us, scorer)
        return await decide(payment, received_us, scorer)
    except RefusedError as refusal:
        raise placed(refusal, place) from None


def _outcome(index: int, outcome: DecisionOut | BaseException) -> DecisionOutcome:
    if isinstance(outcome, DecisionOut):
        return DecisionOutcome(index=index, decision=outcome)
    if isinstance(outcome, FraudPlatformError):
        outcome = domain_refusal(outcome)
    if not isinstance(outcome, RefusedError):
        raise outcome  # a defect, of which nobody can say what it left undone
    return DecisionOutcome(index=index, status=outcome.status, error=outcome.body)


def _is_unavailable(result: DecisionOutcome) -> bool:
    return result.status is not msgspec.UNSET and result.status >= 500


def _counted(results: list[DecisionOutcome]) -> DecisionBatchOut:
    unavailable = sum(_is_unavailable(result) for result in results)
    refused = sum(result.error is not msgspec.UNSET for result in results)
    replayed = sum(
        result.decision is not msgspec.UNSET and result.decision.replayed for result in results
    )
    return DecisionBatchOut(
        decided=len(results) - refused - replayed,
        replayed=replayed,
        refused=refused - unavailable,
        unavailable=unavailable,
        results=results,
    )
