"""Feast's offline store on Polars: the values of Feast's own stores, one as-of join per view.

Feast's file store joins every entity row with the whole history of its key and filters afterwards;
an as-of join looks up one row. Values are the same, with these differences on purpose:

* Every entity row comes back, once, in its place. Feast's file store loses rows whose history is
  all expired or in the future, merges rows with equal keys and times, and sorts by time.
* Of rows with the same key and time the one created last counts, of those the last in the file.
  Feast's file store sorts by an unstable algorithm there and may answer either.
* An unknown key (null) matches nothing, as in SQL, and a row without a time is never seen.
* A NaN stays a NaN; only what is unknown is null.

This module stands beside `features` because it must subclass Feast's classes: like everything in
this folder it is imported late, by Feast, through its name in the configuration. `.feastignore`
keeps `feast apply` from reading it as definitions.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl
from feast.data_format import DeltaFormat
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _get_requested_feature_views_to_features_dict as features_by_view
from feast.utils import make_tzaware

_EVENT_TIME = "event_timestamp"
_AT, _TIME, _CREATED, _ROW = "__at", "__time", "__created", "__row"


class PolarsOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # feast has no types
    """Selects this store in `RepoConfig(offline_store={"type": ...})`."""

    type: Literal["feature_repo.polars_offline_store.PolarsOfflineStore"]


class PolarsRetrievalJob(RetrievalJob):  # type: ignore[misc]  # feast has no types
    """What a retrieval will read; read once, when first asked for."""

    def __init__(
        self,
        read: Callable[[], pl.DataFrame],
        config: Any,
        *,
        full_feature_names: bool = False,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._read = read
        self._config = config
        self._full_feature_names = full_feature_names
        self._metadata = metadata

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows as a Polars frame."""
        return self._read()

    @property
    def full_feature_names(self) -> bool:
        """Whether names of features carry the name of their view."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """None: they are refused."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Features, keys and range of a historical retrieval."""
        return self._metadata

    def persist(
        self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the rows to one Parquet file, for `FeatureStore.create_saved_dataset`."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise TypeError(f"found {type(storage).__name__}, expected a SavedDatasetFileStorage")
        path = _path(self._config, storage.file_options)
        if path.exists() and not allow_overwrite:
            raise FileExistsError(f"found a saved dataset at {path}; allow_overwrite=True replaces")
        _replace(path, self.frame)

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal().to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> Any:
        return self.frame.to_arrow()


class PolarsOfflineStore(OfflineStore):  # type: ignore[misc]  # feast has no types
    """Point-in-time joins and pulls of Parquet files and of folders of them."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(  # noqa: PLR0913  Feast's signature
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **_: Any,
    ) -> PolarsRetrievalJob:
        """Add to each entity row what was known of its keys at its time.

        A value counts from its event timestamp until the view's TTL later, both included; with
        `filter_by_created_timestamp` from when it was created on, if that is later.

        Args:
            config: Feast's configuration.
            feature_views: views that are asked for, on `FileSource`s.
            feature_refs: `view:feature`.
            entity_df: a pandas or Polars frame with all keys and the time, `event_timestamp` or
                its only time; naive times are UTC.
            registry: Feast's registry.
            project: Feast's project.
            full_feature_names: whether to answer `view__feature`.
            filter_by_created_timestamp: whether to leave out what became known later.

        Returns:
            A job of the entity rows in their order with the features, null where there is none.
        """
        if OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry):
            raise NotImplementedError("on-demand views are not computed by PolarsOfflineStore")
        entities, when = _entity_rows(entity_df)
        wanted = features_by_view(feature_refs, feature_views, [])[0]

        def read() -> pl.DataFrame:
            found = [entities]
            for view, features in wanted.items():
                known_only = filter_by_created_timestamp
                values = _as_of(entities, when, config, view, features, known_only)
                prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
                found.append(values.select(pl.all().name.prefix(prefix)))
            return pl.concat(found, how="horizontal")

        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[name for name in entities.columns if name != when],
            min_event_timestamp=entities[when].min(),
            max_event_timestamp=entities[when].max(),
        )
        return PolarsRetrievalJob(
            read, config, full_feature_names=full_feature_names, metadata=metadata
        )

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0913  Feast's signature
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """The newest row of each key between two times, both included; for `materialize`."""
        keys = join_key_columns or [DUMMY_ENTITY_ID]
        times = [timestamp_field, *filter(None, [created_timestamp_column])]
        between = (start_date, end_date)
        rows = _pull(config, data_source, keys, feature_name_columns, times, between)
        newest = rows.drop_nulls(keys).unique(keys, keep="last", maintain_order=True)
        return PolarsRetrievalJob(newest.collect, config)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0913  Feast's signature
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """All rows between two times, both included, oldest first."""
        keys = join_key_columns or [DUMMY_ENTITY_ID]
        times = [timestamp_field, *filter(None, [created_timestamp_column])]
        between = (start_date, end_date)
        rows = _pull(config, data_source, keys, feature_name_columns, times, between)
        return PolarsRetrievalJob(rows.collect, config)

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: Any, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's file, for pushes to the offline store."""
        source = feature_view.batch_source
        path = _path(config, source.file_options)
        if path.is_dir():
            raise NotImplementedError(f"{path} is a folder: whoever fills it adds files to it")
        stored = pl.read_parquet(path)
        names = {field: column for column, field in source.field_mapping.items()}
        rows = pl.DataFrame(table).rename(names, strict=False)
        rows = rows.select(stored.columns).cast(stored.schema)
        _replace(path, pl.concat([stored, rows]))
        if progress:
            progress(rows.height)


def _entity_rows(entity_df: Any) -> tuple[pl.DataFrame, str]:
    """The entity rows with their time in UTC, and the name of its column."""
    if entity_df is None or isinstance(entity_df, str):
        raise NotImplementedError("found SQL or a range of time, expected a frame of entity rows")
    rows = entity_df if isinstance(entity_df, pl.DataFrame) else pl.from_pandas(entity_df)
    times = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
    if _EVENT_TIME not in times and len(times) != 1:
        raise ValueError(f"found the times {times} in the entity rows, expected {_EVENT_TIME}")
    when = _EVENT_TIME if _EVENT_TIME in times else times[0]
    return rows.with_columns(_utc(when, rows.schema)), when


def _as_of(
    entities: pl.DataFrame, when: str, config: Any, view: Any, features: list[str], known_only: bool
) -> pl.DataFrame:
    """One view's features for each entity row, in the order of the rows."""
    renamed = view.projection.join_key_map or {}
    columns = (column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID)
    keys = [renamed.get(name, name) for name in columns]
    names = view.batch_source.field_mapping | renamed
    history = _scan(config, view.batch_source).rename(names, strict=False)
    rows = _versions(history, view.batch_source, keys, features, known_only)
    asked = (
        entities.select(
            _nanoseconds(pl.col(when)).alias(_AT),
            *(pl.col(key).cast(rows.schema[key]) for key in keys),
        )
        .with_row_index(_ROW)
        .sort(_AT)
    )
    found = asked.join_asof(rows, on=_AT, by=keys or None, check_sortedness=False).sort(_ROW)
    ttl = pl.lit(view.ttl, pl.Duration("ns"))  # compared in its own unit, an age would be cut off
    is_alive = pl.col(_AT) - pl.col(_TIME) <= ttl if view.ttl else True
    return found.select(pl.when(is_alive).then(pl.col(features)))


def _versions(
    history: pl.LazyFrame, source: Any, keys: list[str], features: list[str], known_only: bool
) -> pl.DataFrame:
    """What is true of each key from `__at` until its next row: the values of `__time`."""
    schema = history.collect_schema()
    time, created = source.timestamp_field, source.created_timestamp_column or None
    known = _nanoseconds(_utc(created, schema)) if created else pl.lit(None)
    rows = (
        history.select(
            *keys,
            _nanoseconds(_utc(time, schema)).alias(_TIME),
            known.alias(_CREATED),
            *features,
        )
        .drop_nulls(_TIME)
        .sort(_TIME, _CREATED, maintain_order=True)
    )
    if not (known_only and created):
        return rows.with_columns(pl.col(_TIME).alias(_AT)).collect()
    # A row counts once it has happened and is known, and what came late may be older than what is
    # known by then: at each such moment the last of all rows so far, in order of time, is true.
    ranked = rows.drop_nulls(_CREATED).collect().with_row_index(_ROW)
    rank = pl.col(_ROW).cum_max()
    moments = (
        ranked.select(*keys, _ROW, pl.max_horizontal(_TIME, _CREATED).alias(_AT))
        .sort(_AT, maintain_order=True)
        .with_columns(rank.over(keys) if keys else rank)
    )
    return moments.hstack(ranked[moments[_ROW]].drop(*keys, _ROW)).drop(_ROW)


def _pull(
    config: Any,
    source: Any,
    keys: list[str],
    features: list[str],
    times: list[str],
    between: tuple[datetime | None, datetime | None],
) -> pl.LazyFrame:
    """Rows of a source by their times, all columns if no features are named."""
    start, end = between
    rows = _scan(config, source)
    rows = rows.with_columns(_utc(name, rows.collect_schema()) for name in times)
    if keys == [DUMMY_ENTITY_ID]:
        rows = rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
    if start:
        rows = rows.filter(pl.col(times[0]) >= make_tzaware(start))
    if end:
        rows = rows.filter(pl.col(times[0]) <= make_tzaware(end))
    columns = list(dict.fromkeys([*keys, *features, *times])) if features else pl.all()
    return rows.sort(times, maintain_order=True).select(columns)


def _scan(config: Any, source: Any) -> pl.LazyFrame:
    """A Parquet file, or all of a folder's in the order of their names."""
    if not isinstance(source, FileSource) or isinstance(source.file_format, DeltaFormat):
        raise NotImplementedError(f"found {source.name} of another kind, expected a Parquet file")
    path = _path(config, source.file_options)
    return pl.scan_parquet(path / "*.parquet" if path.is_dir() else path)


def _path(config: Any, options: Any) -> Path:
    return Path(FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=options.uri))


def _replace(path: Path, rows: pl.DataFrame) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    rows.write_parquet(unfinished)
    unfinished.replace(path)


def _utc(name: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """A time in UTC; one without a zone is in UTC already."""
    dtype = schema[name]
    if not isinstance(dtype, pl.Datetime):
        raise TypeError(f"found {dtype} in {name}, expected a time")
    zoned = pl.col(name).dt
    return zoned.convert_time_zone("UTC") if dtype.time_zone else zoned.replace_time_zone("UTC")


def _nanoseconds(time: pl.Expr) -> pl.Expr:
    """A time in the unit in which all are compared: no shorter one is cut off."""
    return time.dt.cast_time_unit("ns")
