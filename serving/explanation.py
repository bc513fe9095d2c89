"""Route: why a recorded decision got its score, in exact contributions that add up to it.

The features are the recorded ones and the model is found by the digest in the record, so the answer
explains the decision that was taken, also after the model was replaced. It costs tens of scores and
more, and may have to verify a bundle: it runs in a pool of its own, off the path of payments.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from fraud_platform.adapters.model_bundle import load_bundle, read_manifest
from fraud_platform.adapters.sealed_folder import require_plain_name
from fraud_platform.errors import FraudPlatformError
from fraud_platform.events import Decision
from fraud_platform.features.spec import FEATURES, spec_digest
from fraud_platform.model import Model
from fraud_platform.settings import Settings
from serving.context import Scorer
from serving.contributions import taken_apart
from serving.decisions import recorded_decision
from serving.docs import NEEDS_KEY, returns
from serving.paths import transaction_id_of
from serving.refusals import RETRY_AFTER_SECONDS, RefusedError
from serving.ruling import Ruling
from serving.schemas import ErrorOut
from serving.scopes import needs

_WORKERS = ThreadPoolExecutor(2, thread_name_prefix="explanation")
"""At most so many explanations are computed at once; more of them wait."""
_ROOM = BoundedSemaphore(32)
"""So many may wait or be computed; more are told to come back."""


class ContributionOut(msgspec.Struct, kw_only=True, frozen=True):
    """One feature's share of the margin; positive means more suspicious."""

    feature: str
    value: float | None
    contribution: float
    reason_code: str
    text: str


class ExplanationOut(msgspec.Struct, kw_only=True, frozen=True):
    """A score taken apart: `base` and all contributions add up to `margin`, its log-odds."""

    transaction_id: str
    decision_id: str
    decision: str
    model_version: str | None
    model_digest: str
    feature_spec_digest: str
    base: float
    margin: float
    score: float | None
    contributions: list[ContributionOut]


@get(
    "/v1/decisions/{transaction_id:str}/explanation",
    opt=needs("explain"),
    responses={
        200: returns(ExplanationOut, "The recorded score, taken apart exactly"),
        404: ResponseSpec(ErrorOut, description="No such decision, or its model is gone"),
        409: ResponseSpec(ErrorOut, description="There is no score to explain"),
        410: ResponseSpec(ErrorOut, description="Retention deleted the decision"),
        503: ResponseSpec(ErrorOut, description="The explanation cannot be verified now"),
        **NEEDS_KEY,
    },
)
async def explain_decision(
    request: Request[Any, Any, Any],
    transaction_id: FromPath[str],
    scorer: NamedDependency[Scorer],
) -> Response[bytes]:
    """Why a recorded decision got its score; largest contributions first."""
    decision = await recorded_decision(scorer, transaction_id_of(request))
    if decision.model_digest is None or decision.model_version is None:
        raise _refused(409, "no_score", "No model judged this payment; its reasons say why")
    if decision.feature_spec_digest != spec_digest():
        raise _refused(409, "other_features", "The decision saw features of another declaration")
    if not _ROOM.acquire(blocking=False):
        raise _unverified("More explanations are being asked for than this scorer computes")
    try:
        work = partial(explained, decision, scorer.champion.ruling, scorer.settings)
        answer = await asyncio.get_running_loop().run_in_executor(_WORKERS, work)
    finally:
        _ROOM.release()
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON)


def explained(decision: Decision, ruling: Ruling, settings: Settings) -> ExplanationOut:
    """The answer for a decision that a model took; blocking.

    Raises:
        RefusedError: 404 when the model is gone; 503 when it or the sum cannot be verified.
    """
    digest, version = str(decision.model_digest), decision.model_version or ""
    model = _resident(digest, ruling) or _from_disk(digest, version, settings.models_dir)
    try:
        found = taken_apart(decision, model, settings.orders_path)
    except FraudPlatformError as error:
        raise _unverified(error.message) from error
    shares = zip(FEATURES, decision.features, found.contributions[0].tolist(), strict=True)
    return ExplanationOut(
        transaction_id=decision.transaction_id,
        decision_id=decision.decision_id,
        decision=decision.decision,
        model_version=decision.model_version,
        model_digest=model.digest,
        feature_spec_digest=decision.feature_spec_digest,
        base=float(found.base[0]),
        margin=float(found.margin[0]),
        score=decision.score,
        contributions=[
            ContributionOut(
                feature=feature.name,
                value=value,
                contribution=share,
                reason_code=feature.reason_code,
                text=feature.reason_text,
            )
            for feature, value, share in sorted(shares, key=lambda part: -abs(part[2]))
        ],
    )


def _resident(digest: str, ruling: Ruling) -> Model | None:
    return next((r.model for r in ruling.residents if r.model.digest == digest), None)


@lru_cache(maxsize=4)
def _from_disk(digest: str, version: str, models_dir: Path) -> Model:
    """A model that is in memory no more; verified when it is read, and kept for the next."""
    try:
        require_plain_name(version)
        if not (models_dir / version).is_dir():
            raise _refused(404, "model_gone", f"The bundle of version {version} is not here")
        # Before a byte of it is parsed: nobody signed the role of a model that has none by now.
        if read_manifest(models_dir / version).model_digest != digest:
            raise _refused(404, "model_gone", f"Version {version} is here with another model")
        return load_bundle(models_dir / version).model
    except FraudPlatformError as error:
        raise _unverified(error.message) from error


def _unverified(message: str) -> RefusedError:
    body = ErrorOut(error="explanation_unverified", message=message)
    return RefusedError(503, body, headers={"retry-after": str(RETRY_AFTER_SECONDS)})


def _refused(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(status, ErrorOut(error=code, message=message))
