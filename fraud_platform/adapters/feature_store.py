"""The feature catalogue, point-in-time values of the past and the newest batch values, by Feast.

The registry is a local file, values of the past are read from the platform's own table of
features, and the newest values are in SQLite or in a Redis. The scorer does not read from here; see
`feature_repo.features`. Feast takes seconds to import, so it is imported on first use.
"""

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from fraud_platform.adapters.redis_address import RedisAddress
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.errors import NotReadyError, PermanentError, UnavailableError
from fraud_platform.features.declaration import ENTITY_COLUMNS
from fraud_platform.features.spec import FEATURES
from fraud_platform.schemas import UTC_MICROSECONDS

_PROJECT = "fraud_platform"
_ONLINE = tuple(ENTITY_COLUMNS)
"""Entities whose newest values are of use later: those that have a past."""
_UNLIKE_TODAY = (
    *(pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaError, pl.exceptions.ComputeError),
    FileNotFoundError,
)
"""What reading a history of other features than today's raises, or none."""


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One feature as the catalogue lists it."""

    view: str
    feature: str
    description: str
    reason_code: str
    digest: str


class FeatureStore:
    """Feast's registry, offline values and online store of one installation.

    Args:
        feast_dir: folder for the registry and the SQLite online store; created on first use.
        history: folder of the features of all transactions, one Parquet file per day, as the asset
            `transaction_features` writes it; None: in the home that `feast_dir` is in.
        redis_url: online store, `redis://` or `rediss://` with its password; None: SQLite.
    """

    def __init__(
        self, feast_dir: Path, *, history: Path | None = None, redis_url: str | None = None
    ) -> None:
        self._feast_dir = feast_dir.absolute()
        home = self._feast_dir.parent
        self._history = history.absolute() if history else home / "tables" / "transaction_features"
        self._redis = None if redis_url is None else RedisAddress.parse(redis_url)

    def apply(self, model_version: str | None = None) -> int:
        """Register entities, views, push sources and the feature service of a model version.

        Idempotent. Services of other model versions stay.

        Args:
            model_version: the version whose inputs `fraud_v<version>` names; None: `fraud_latest`.

        Returns:
            Number of features in the catalogue.
        """
        feast = self._feast
        from feature_repo.features import build  # after Feast, whose first import is special

        with self._reaching_redis():
            feast.apply(list(build(self._history, model_version).values()))
        return len(self.catalogue())

    def push(self, features: pl.DataFrame) -> dict[str, int]:
        """Store the newest values per card and per terminal online.

        What is older than stored is ignored: a late day changes nothing that is newer. An online
        store that is used for the first time gets the newest values of the whole history, too. So
        does one that lost its values, once the folder `newest` beside the registry is removed.

        Needs `apply` once before.

        Args:
            features: rows as `features.batch.compute` answers them.

        Returns:
            Number of cards and of terminals whose stored values changed.

        Raises:
            UnavailableError: Redis does not answer; nothing is lost, push again.
        """
        return {entity: self._push(entity, features) for entity in _ONLINE}

    def online(self, card_id: str, terminal_id: str) -> dict[str, float | None]:
        """Stored values for a card and a terminal, by feature name; None where there is none.

        They are as of the last payment pushed, and do not age.

        Raises:
            UnavailableError: Redis does not answer.
        """
        wanted = [f"{f.entity}_features:{f.name}" for f in FEATURES if f.entity in _ONLINE]
        keys = {"card_id": card_id, "terminal_id": terminal_id}
        with self._reaching_redis():
            answer = self._feast.get_online_features(features=wanted, entity_rows=[keys]).to_dict()
        return {name: values[0] for name, values in answer.items() if name not in keys}

    def historical(
        self, entity_rows: pl.DataFrame, features: str | Sequence[str] = "fraud_latest"
    ) -> pl.DataFrame:
        """What was stored of cards, terminals and transactions at given moments.

        A card's values are those of its last payment at or before the moment (of payments at the
        same instant, the last in the log), for as long as the longest look-back; likewise for a
        terminal. So at its own instant a payment finds what its decision could know; at any other
        moment payments count by when they happened, also if they arrived later.

        Args:
            entity_rows: `event_timestamp`, and of `transaction_id`, `card_id` and `terminal_id`
                those whose features are asked for; other columns are carried along.
            features: name of a feature service, or names of features.

        Returns:
            The rows in their order, with one column per feature; null where nothing was known.

        Raises:
            PermanentError: an unknown feature, or the rows lack a column.
            NotReadyError: there is no history yet, or its days have different columns.
        """
        asked = self._references(features)
        keys = {reference.replace("_features:", "_id:").partition(":")[0] for reference in asked}
        if missing := sorted({"event_timestamp", *keys} - set(entity_rows.columns)):
            raise PermanentError(
                f"found entity rows with columns {entity_rows.columns}, expected also {missing}",
                hint="the features asked for are looked up by these",
            )
        try:
            frame: pl.DataFrame = self._feast.get_historical_features(entity_rows, asked).frame
        except _UNLIKE_TODAY as error:
            raise NotReadyError(
                f"found tables in {self._history} without these features ({error}), expected all "
                "features on all days",
                hint="materialize transaction_features for all days",
            ) from error
        return frame

    def catalogue(self) -> list[CatalogueEntry]:
        """Every registered feature, by view and name."""
        views = self._feast.list_feature_views()
        return [
            CatalogueEntry(
                view=view.name,
                feature=field.name,
                description=field.description,
                reason_code=field.tags["reason_code"],
                digest=field.tags["digest"],
            )
            for view in sorted(views, key=lambda view: str(view.name))
            for field in view.features
        ]

    def _references(self, features: str | Sequence[str]) -> list[str]:
        """Feast's `view:feature` for a service's features, or for features by name."""
        if isinstance(features, str):
            service = self._feast.get_feature_service(features)
            return [
                f"{v.name}:{f.name}" for v in service.feature_view_projections for f in v.features
            ]
        entities = {feature.name: feature.entity for feature in FEATURES}
        if unknown := sorted(set(features) - set(entities)):
            raise PermanentError(
                f"found unknown features {unknown}, expected names from the catalogue",
                hint="`FeatureStore.catalogue` lists all features",
            )
        return [f"{entities[name]}_features:{name}" for name in features]

    @cached_property
    def _feast(self) -> Any:  # feast ships no types
        import_feast()
        import feast

        self._feast_dir.mkdir(parents=True, exist_ok=True)
        sqlite = {"type": "sqlite", "path": str(self._feast_dir / "online.db")}
        config = feast.RepoConfig(
            project=_PROJECT,
            provider="local",
            registry={"path": str(self._feast_dir / "registry.db")},
            offline_store={"type": "feature_repo.polars_offline_store.PolarsOfflineStore"},
            online_store=self._redis.for_feast() if self._redis else sqlite,
            entity_key_serialization_version=3,
        )
        return feast.FeatureStore(config=config)

    @contextmanager
    def _reaching_redis(self) -> Iterator[None]:
        """Say which Redis failed, without its password."""
        if self._redis is None:
            yield
            return
        from redis.exceptions import RedisError

        try:
            yield
        except RedisError as error:
            raise UnavailableError(
                f"found the Redis {self._redis.place} unusable ({error}), expected to read and "
                "write the newest values",
                hint="check FRAUD_REDIS_URL and that the server runs",
            ) from error

    def _push(self, entity: str, features: pl.DataFrame) -> int:
        """Push one entity's newest rows, in one batch: Feast's cost is per call."""
        store = self._feast
        from feast.data_source import PushMode

        key, columns = f"{entity}_id", _columns(entity)
        stored = self._stored(entity)
        before = stored.lazy() if stored.height else self._whole_history(entity)
        newest = (
            pl.concat([before, features.lazy().select(*columns)])
            .sort("event_timestamp", "seq", maintain_order=True)  # recomputed rows come last
            .unique(key, keep="last", maintain_order=True)
            .sort(key)
            .collect()
        )
        # SQLite would let an older push overwrite a newer one, so only what is newer is sent.
        changed = newest.join(stored, on=list(columns), how="anti", nulls_equal=True)
        if changed.height:
            frame = changed.drop("seq").to_pandas()  # Feast refuses Polars frames
            with self._reaching_redis():
                store.push(f"{entity}_push", frame, to=PushMode.ONLINE)
            content = io.BytesIO()
            newest.write_parquet(content)
            replace_file(self._newest_path(entity), content.getvalue())
        return changed.height

    def _stored(self, entity: str) -> pl.DataFrame:
        """What the online store holds; none if nothing, or of other features than today's."""
        path, none = self._newest_path(entity), pl.DataFrame(schema=_columns(entity))
        stored = pl.read_parquet(path) if path.exists() else none
        return stored if stored.schema == none.schema else none

    def _whole_history(self, entity: str) -> pl.LazyFrame:
        """All days of one entity's columns, but those of other features than today's."""
        columns = _columns(entity)
        days = [
            day
            for day in sorted(self._history.glob("*.parquet"))
            if pl.read_parquet_schema(day).items() >= columns.items()
        ]
        none = pl.LazyFrame(schema=columns)
        return pl.concat([none, *(pl.scan_parquet(day).select(*columns) for day in days)])

    def _newest_path(self, entity: str) -> Path:
        """Beside each online store, a copy of what it holds: to tell what is new."""
        name = "sqlite" if self._redis is None else re.sub("[:/]", "-", self._redis.place)
        return self._feast_dir / "newest" / name / f"{entity}.parquet"


def _columns(entity: str) -> dict[str, pl.DataType]:
    """Columns of one entity's newest values."""
    names = [feature.name for feature in FEATURES if feature.entity == entity]
    return {
        f"{entity}_id": pl.String(),
        "event_timestamp": UTC_MICROSECONDS,
        "seq": pl.Int64(),
        **dict.fromkeys(names, pl.Float64()),
    }


def import_feast() -> None:
    """Import Feast without recompiling its classes for run-time type checks: 8 s become 2.5 s."""
    if "feast" in sys.modules:
        return
    import typeguard

    original = typeguard.typechecked
    typeguard.typechecked = lambda target=None, **_: target or (lambda inner: inner)
    try:
        import feast  # noqa: F401  the import itself is the point
    finally:
        typeguard.typechecked = original
