"""Route: record verdicts, one or up to a thousand at a time, since chargebacks arrive in files."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.openapi.datastructures import ResponseSpec

from fraud_platform.errors import PermanentError
from fraud_platform.events import microseconds
from serving.body import read_body
from serving.context import EdgeDependency
from serving.decoding import (
    decoded,
    refuse_card_numbers,
    refuse_control_characters,
    refuse_other_content,
    refuse_outer_blanks,
    refuse_repeated_keys,
)
from serving.docs import REFUSALS, returns, takes
from serving.group import LabelResult, NewLabel
from serving.refusals import RefusedError, domain_refusal, placed
from serving.schemas import (
    LABELS_DECODER,
    MOST_LABELS,
    ErrorOut,
    LabelBatchOut,
    LabelIn,
    LabelOut,
    LabelOutcome,
    known,
)
from serving.scopes import caller_of, charge, needs

_FIELDS = LabelIn.__struct_fields__
_MAX_BODY = 1024 * 1024
_ANSWER: Any = LabelOut | LabelBatchOut  # a union of types, which ResponseSpec's typing forgets


@post(
    "/v1/labels",
    status_code=200,
    opt=needs("label"),
    operation_class=takes(LabelIn, many=MOST_LABELS),
    request_max_body_size=None,  # `read_body` has the limit
    responses={
        200: returns(_ANSWER, "What became of the verdicts"),
        404: ResponseSpec(ErrorOut, description="No payment is known under this transaction_id"),
        **REFUSALS,
    },
)
async def record_labels(request: Request[Any, Any, Any], scorer: EdgeDependency) -> Response[bytes]:
    """Record one verdict, or a batch: in a batch one bad verdict does not stop the others."""
    refuse_other_content(request.scope["headers"])
    body = await read_body(request.receive, limit=_MAX_BODY)
    wire = decoded(body, LABELS_DECODER, _FIELDS)
    wires = wire if isinstance(wire, list) else [wire]
    refuse_repeated_keys(body, *wires)
    for index, label in enumerate(wires):
        _refuse_bad_texts(label, f"[{index}]" if isinstance(wire, list) else None)
    charge(request, scorer.access, len(wires))
    subject = caller_of(request).subject
    received_us = scorer.clock()
    tolerance_us = scorer.settings.validation.future_tolerance_seconds * 1_000_000
    results = await scorer.engine.label(
        [_label_from(label, subject) for label in wires],
        received_us=received_us,
        latest_us=received_us + tolerance_us,
    )
    answer = _batch(results) if isinstance(wire, list) else _single(results[0])
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON)


def _refuse_bad_texts(wire: LabelIn, place: str | None) -> None:
    try:
        refuse_outer_blanks(wire)
        refuse_control_characters(wire)
        refuse_card_numbers(wire)
    except RefusedError as refusal:
        raise refusal if place is None else placed(refusal, place) from None


def _label_from(wire: LabelIn, subject: str) -> NewLabel:
    known_at, happened_at = known(wire.known_at), known(wire.happened_at)
    return NewLabel(
        transaction_id=wire.transaction_id,
        verdict=wire.verdict,
        label_source=wire.source,
        reason=known(wire.reason),
        known_us=None if known_at is None else microseconds(known_at),
        happened_us=None if happened_at is None else microseconds(happened_at),
        reported_by=subject,
    )


def _single(result: LabelResult | PermanentError) -> LabelOut:
    if isinstance(result, PermanentError):
        raise result
    return LabelOut(seq=result.seq, recorded=result.recorded)


def _batch(results: Sequence[LabelResult | PermanentError]) -> LabelBatchOut:
    outcomes = [_outcome(index, result) for index, result in enumerate(results)]
    recorded = sum(outcome.recorded is True for outcome in outcomes)
    refused = sum(outcome.error is not None for outcome in outcomes)
    return LabelBatchOut(
        recorded=recorded,
        known=len(outcomes) - recorded - refused,
        refused=refused,
        results=outcomes,
    )


def _outcome(index: int, result: LabelResult | PermanentError) -> LabelOutcome:
    if isinstance(result, LabelResult):
        return LabelOutcome(index=index, seq=result.seq, recorded=result.recorded)
    body = domain_refusal(result).body
    return LabelOutcome(index=index, error=body.error, message=body.message)
