"""Route: which models are in memory and which decides, and which bundles are on disk."""

import asyncio

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from fraud_platform.adapters.model_bundle import Manifest, list_manifests
from serving.context import Scorer
from serving.docs import NEEDS_KEY, returns
from serving.ruling import Resident
from serving.schemas import ModelOut, ModelsOut
from serving.scopes import needs


class DeployedOut(ModelsOut, kw_only=True, frozen=True):
    """The models in memory by their roles, and every bundle on disk."""

    challenger: str | None
    previous: str | None
    fallbacks: list[str]
    canary_share: float
    load_errors: dict[str, str]


@get(
    "/v1/models",
    opt=needs("read", "admin"),
    responses={200: returns(DeployedOut, "Models by role and by version"), **NEEDS_KEY},
)
async def read_models(scorer: NamedDependency[Scorer]) -> Response[bytes]:
    """The models in memory, and all bundles on disk from their manifests."""
    manifests, damaged = await asyncio.to_thread(list_manifests, scorer.settings.models_dir)
    ruling = scorer.champion.ruling
    answer = DeployedOut(
        mode=scorer.stance.stance.mode,
        champion=ruling.version,
        champion_digest=ruling.model_digest,
        challenger=_version(ruling.challenger),
        previous=_version(ruling.previous),
        fallbacks=[resident.version for resident in ruling.fallbacks],
        canary_share=ruling.canary_share,
        load_error=scorer.champion.load_error,
        load_errors=dict(scorer.champion.load_errors),
        models=[_model(manifest) for manifest in manifests],
        damaged=damaged,
    )
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON)


def _version(resident: Resident | None) -> str | None:
    return None if resident is None else resident.version


def _model(manifest: Manifest) -> ModelOut:
    return ModelOut(**{name: getattr(manifest, name) for name in ModelOut.__struct_fields__})
