"""Route: which model decides now, and which bundles are on disk."""

import asyncio

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from fraud_platform.adapters.model_bundle import Manifest, list_manifests
from serving.context import Scorer
from serving.docs import NEEDS_KEY, returns
from serving.schemas import ModelOut, ModelsOut
from serving.scopes import needs


@get(
    "/v1/models",
    opt=needs("read", "admin"),
    responses={200: returns(ModelsOut, "Models by version"), **NEEDS_KEY},
)
async def read_models(scorer: NamedDependency[Scorer]) -> Response[bytes]:
    """The champion in memory, and all bundles on disk from their manifests."""
    manifests, damaged = await asyncio.to_thread(list_manifests, scorer.settings.models_dir)
    ruling = scorer.champion.ruling
    answer = ModelsOut(
        mode=ruling.mode,
        champion=ruling.version,
        champion_digest=ruling.model_digest,
        load_error=scorer.champion.load_error,
        models=[_model(manifest) for manifest in manifests],
        damaged=damaged,
    )
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON)


def _model(manifest: Manifest) -> ModelOut:
    return ModelOut(**{name: getattr(manifest, name) for name in ModelOut.__struct_fields__})
