"""Routes: is the process alive, may it receive traffic, and what has it done."""

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST

from serving.context import Scorer
from serving.refusals import RETRY_AFTER_SECONDS
from serving.schemas import HealthOut


@get("/health/live", responses={200: ResponseSpec(HealthOut, description="The loop turns")})
async def live() -> Response[bytes]:
    """Whether the process answers at all."""
    return Response(msgspec.json.encode(HealthOut(status="live")), media_type=MediaType.JSON)


@get(
    "/health/ready",
    responses={
        200: ResponseSpec(HealthOut, description="A verified model decides, durably"),
        503: ResponseSpec(HealthOut, description="What keeps it from that"),
    },
)
async def ready(scorer: NamedDependency[Scorer]) -> Response[bytes]:
    """Whether this scorer may receive traffic; the body says why not."""
    ruling, problems = scorer.champion.ruling, []
    if ruling.model is None:
        reason = scorer.champion.load_error or "no champion has been published"
        problems.append(f"no verified model is loaded: {reason}")
    if scorer.engine.fault is not None:
        problems.append(scorer.engine.fault.message)
    doubts = []
    if scorer.engine.doubtful:
        doubts = [f"{len(scorer.engine.doubtful)} shards of the state are being folded again"]
    body = HealthOut(
        status="not_ready" if problems else "ready",
        problems=problems + doubts,
        model_version=ruling.version,
        seq=scorer.engine.last_seq,
    )
    return Response(
        msgspec.json.encode(body),
        status_code=503 if problems else 200,
        headers={"retry-after": str(RETRY_AFTER_SECONDS)} if problems else {},
        media_type=MediaType.JSON,
    )


@get("/metrics", media_type=CONTENT_TYPE_LATEST, include_in_schema=False)
async def metrics(scorer: NamedDependency[Scorer]) -> bytes:
    """Prometheus text exposition."""
    return scorer.metrics.page()
