"""Routes: is the process alive, may it receive traffic, and what has it done."""

import time
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST

from fraud_platform.modes import Mode
from serving.context import Scorer
from serving.docs import returns
from serving.golden import golden_problem
from serving.refusals import RETRY_AFTER_SECONDS, RefusedError
from serving.schemas import HealthOut
from serving.scopes import admitted, for_everybody, needs

_FRESH_SECONDS = 1.0


class Readiness:
    """What keeps a scorer from deciding, asked at most once a second.

    Args:
        scorer: whose parts are asked.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._asked = float("-inf")
        self._found: list[str] = []

    def problems(self) -> list[str]:
        """What is wrong now or was within the last second; nothing when payments are decided."""
        now = time.monotonic()
        if now - self._asked >= _FRESH_SECONDS:
            self._asked, self._found = now, problems(self._scorer)
        return self._found


def problems(scorer: Scorer) -> list[str]:
    """Everything that keeps this scorer from deciding payments with a verified model."""
    found = []
    if scorer.champion.ruling.model is None:
        reason = scorer.champion.load_error or "no champion has been published"
        found.append(f"no verified model is loaded: {reason}")
    mode = scorer.stance.stance.mode
    if mode in (Mode.RULES_ONLY, Mode.CLOSED):
        found.append(f"the scorer is in mode {mode}")
    if scorer.engine.fault is not None:
        found.append(scorer.engine.fault.message)
    if scorer.access.problem is not None:
        found.append(scorer.access.problem)
    found += scorer.upkeep.problems
    if not found and (problem := golden_problem(scorer)) is not None:
        found.append(problem)
    return found


@get(
    "/health/live",
    opt=for_everybody(),
    responses={200: returns(HealthOut, "The loop turns")},
)
async def live() -> Response[bytes]:
    """Whether the process answers at all."""
    return Response(msgspec.json.encode(HealthOut(status="live")), media_type=MediaType.JSON)


@get(
    "/health/ready",
    opt=for_everybody(),
    responses={
        200: returns(HealthOut, "A verified model decides, durably"),
        503: ResponseSpec(HealthOut, description="What keeps it from that"),
    },
)
async def ready(
    request: Request[Any, Any, Any],
    scorer: NamedDependency[Scorer],
    readiness: NamedDependency[Readiness],
) -> Response[bytes]:
    """Whether this scorer may receive traffic; why not is told to callers that may read."""
    found = readiness.problems()
    doubts = []
    if scorer.engine.doubtful:
        doubts = [f"{len(scorer.engine.doubtful)} shards of the state are being folded again"]
    doubts += [f"{role}: {why}" for role, why in sorted(scorer.champion.load_errors.items())]
    if scorer.orders.error is not None:
        doubts.append(f"the orders of before stay in force: {scorer.orders.error}")
    body = HealthOut(status="not_ready" if found else "ready")
    if _may_read(request, scorer):
        body = HealthOut(
            status=body.status,
            problems=found + doubts,
            model_version=scorer.orders.ruling.version,
            seq=scorer.engine.last_seq,
        )
    return Response(
        msgspec.json.encode(body),
        status_code=503 if found else 200,
        headers={"retry-after": str(RETRY_AFTER_SECONDS)} if found else {},
        media_type=MediaType.JSON,
    )


@get(
    "/metrics", opt=needs("read", "admin"), media_type=CONTENT_TYPE_LATEST, include_in_schema=False
)
async def metrics(scorer: NamedDependency[Scorer]) -> bytes:
    """Prometheus text exposition."""
    return scorer.metrics.page()


def _may_read(request: Request[Any, Any, Any], scorer: Scorer) -> bool:
    """Probes come without a key and get the bare answer; without an attempt there is no failure."""
    has_credential = any(
        name in {b"authorization", b"x-api-key"} for name, _ in request.scope["headers"]
    )
    if not has_credential and not scorer.access.is_open:
        return False
    try:
        admitted(scorer.access, request, ("read", "admin"))
    except RefusedError:
        return False
    return True
