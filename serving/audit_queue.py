"""Route: the payments that were drawn for an audit and wait for its verdict."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from fraud_platform.adapters.audit_queue import OpenAudit, open_audits
from fraud_platform.events import moment_of
from serving.context import Scorer
from serving.docs import NEEDS_KEY, REFUSALS, returns
from serving.ruling import REASON_TEXTS
from serving.schemas import ErrorOut, ReasonOut
from serving.scopes import needs

MOST_AUDITS = 1_000


class AuditOut(Struct, kw_only=True, frozen=True):
    """A payment that waits for an audit; its card is not named."""

    seq: int
    transaction_id: str
    event_timestamp: datetime
    decided_at: datetime
    amount_minor: int
    currency: str
    terminal_id: str
    decision: str
    score: float | None
    reasons: list[ReasonOut]
    pass_propensity: Annotated[
        float | None,
        Meta(description="Chance that it had been let through; null for an approved payment"),
    ]
    audit_propensity: Annotated[
        float, Meta(description="Chance of this audit, had it not been let through")
    ]


class AuditsOut(Struct, kw_only=True, frozen=True):
    """One page of the queue, oldest in the log first."""

    audits: list[AuditOut]
    next: Annotated[
        int | None, Meta(description="`after` of the next page; null: this is the last one")
    ]


_EXAMPLE = AuditsOut(
    audits=[
        AuditOut(
            seq=1,
            transaction_id="t-1001",
            event_timestamp=moment_of(1_772_403_245_000_000),
            decided_at=moment_of(1_772_403_245_444_428),
            amount_minor=48_000,
            currency="EUR",
            terminal_id="terminal-7",
            decision="decline",
            score=0.9615044593811035,
            reasons=[ReasonOut("P01", "The amount itself.")],
            pass_propensity=0.0,
            audit_propensity=0.1,
        )
    ],
    next=None,
)


@get(
    "/v1/audits",
    opt=needs("read", "label"),
    responses={
        200: returns(AuditsOut, "Payments that wait for an audit", _EXAMPLE),
        400: ResponseSpec(ErrorOut, description="`after` or `limit` is out of bounds"),
        503: REFUSALS[503],
        **NEEDS_KEY,
    },
)
async def read_audits(
    scorer: NamedDependency[Scorer],
    after: Annotated[int, QueryParameter(ge=0, le=2**53 - 1)] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_AUDITS)] = 100,
) -> Response[bytes]:
    """Payments drawn for an audit, without its verdict: a label with source `audit` ends it.

    What was decided in the last second or two may be missing.
    """
    path = scorer.settings.log_path
    found = await asyncio.to_thread(open_audits, path, after_seq=after, limit=limit + 1)
    page = found[:limit]
    more = page[-1].seq if len(found) > limit else None
    answer = AuditsOut(audits=[_wire(one) for one in page], next=more)
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON)


def _wire(one: OpenAudit) -> AuditOut:
    told: dict[str, Any] = one._asdict()
    event_us, decided_us = told.pop("event_us"), told.pop("decided_us")
    reasons = [ReasonOut(code, REASON_TEXTS.get(code, code)) for code in told.pop("reasons")]
    return AuditOut(
        event_timestamp=moment_of(event_us),
        decided_at=moment_of(decided_us),
        reasons=reasons,
        **told,
    )
