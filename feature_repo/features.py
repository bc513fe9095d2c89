"""Feast objects for every feature, generated from `fraud_platform.features.spec`.

Feast is the catalogue and the contract: which features exist, what they mean, which model uses
which, and the newest batch values for anyone who asks. It is not in the scorer's path, where
windows are exact at every instant (`fraud_platform.features.rings`); a stored value is as of its
entity's last payment and does not age.

One file on purpose: Feast imports every module of this folder by itself (but those named in
`.feastignore`) and compares objects by identity, so an object that two modules share would exist
twice. No on-demand views on purpose:
their functions would be stored pickled in the registry. Importing this module is slow (seconds):
nothing imports it at module level.
"""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.types import Float64
from feast.value_type import ValueType

from fraud_platform.features.declaration import Feature
from fraud_platform.features.spec import FEATURES, LOOKBACK, spec_digest

_HISTORY = Path("../.fraud/tables/transaction_features")  # of the home beside this folder
_DESCRIPTIONS = {
    "transaction": "What a payment says about itself; offline only.",
    "card": "What is known about a card at its last payment.",
    "terminal": "What is known about a terminal at its last payment.",
}


def build(history: Path, model_version: str | None = None) -> dict[str, object]:
    """All Feast objects by name: entities, views, push sources and one feature service.

    Args:
        history: folder of the features of all transactions, one Parquet file per day; each view
            reads its entity's columns there, in place.
        model_version: whose feature service to declare, or None for `fraud_latest`.

    Returns:
        Objects for `feast.FeatureStore.apply`.
    """
    objects: dict[str, object] = {}
    views = [_view(entity, history, objects) for entity in _DESCRIPTIONS]
    service = FeatureService(
        name=service_name(model_version),
        features=views,
        tags={"feature_spec_digest": spec_digest()},
        description="The inputs of one model version, in the declared meaning of this digest.",
    )
    return objects | {service.name: service}


def _view(entity: str, history: Path, objects: dict[str, object]) -> object:
    """Declare one entity's view; adds it, its entity and its push source to `objects`."""
    source = FileSource(
        name=f"{entity}_batch",
        path=str(history),
        timestamp_field="event_timestamp",
    )
    is_online = entity != "transaction"  # a payment is asked for once, when it happens
    if is_online:
        source = PushSource(name=f"{entity}_push", batch_source=source)
    key = Entity(name=entity, join_keys=[f"{entity}_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=f"{entity}_features",
        entities=[key],
        ttl=LOOKBACK,
        source=source,
        online=is_online,
        schema=[_field(feature) for feature in FEATURES if feature.entity == entity],
        description=_DESCRIPTIONS[entity],
    )
    objects.update({key.name: key, source.name: source, view.name: view})
    return view


def service_name(model_version: str | None) -> str:
    """Name of the feature service of a model version."""
    return "fraud_latest" if model_version is None else f"fraud_v{model_version}"


def _field(feature: Feature) -> Field:
    """One feature as Feast describes it, with what decides its value as tags."""
    where = feature.where
    tags = {
        "function": feature.function.value,
        "stream": feature.stream.value,
        "value": feature.value or "",
        "where": "" if where is None else f"{where.fact} = {where.equals}",
        "window": str(feature.window or ""),
        "delay": str(feature.delay or timedelta(0)),
        "reason_code": feature.reason_code,
        "digest": feature.digest,
    }
    return Field(name=feature.name, dtype=Float64, description=feature.reason_text, tags=tags)


# What `feast apply` finds when it is run on this folder.
globals().update(build(_HISTORY))
