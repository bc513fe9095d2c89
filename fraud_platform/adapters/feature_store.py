"""The feature catalogue and the newest batch values, kept by Feast under one folder.

Everything is local: `registry.db`, `online.db` (SQLite) and `offline/*.parquet`. The scorer does
not read from here; see `feature_repo.features`. Feast takes seconds to import, so it is imported
on first use.
"""

import io
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.features.spec import FEATURES
from fraud_platform.schemas import UTC_MICROSECONDS

_PROJECT = "fraud_platform"
_ENTITIES = ("transaction", "card", "terminal")


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One feature as the catalogue lists it."""

    view: str
    feature: str
    description: str
    reason_code: str
    digest: str


class FeatureStore:
    """Feast's registry, online store and offline files of one installation.

    Args:
        feast_dir: folder for all of it; created on first use.
    """

    def __init__(self, feast_dir: Path) -> None:
        self._feast_dir = feast_dir.absolute()

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

        for entity in _ENTITIES:  # Feast warns about sources that do not exist yet
            self._write(entity, self._stored(entity))
        feast.apply(list(build(self._offline_dir, model_version).values()))
        return len(self.catalogue())

    def push(self, features: pl.DataFrame) -> dict[str, int]:
        """Store the newest values per card and per terminal, and the newest day's transactions.

        What is older than stored is ignored: a late day changes nothing that is newer.

        Needs `apply` once before.

        Args:
            features: rows as `features.batch.compute` answers them.

        Returns:
            Number of cards and of terminals whose stored values changed.
        """
        rows = features.select(_columns("transaction").keys())
        newest = pl.col("event_timestamp").max()
        stored, found = (f.select(newest).item() for f in (self._stored("transaction"), rows))
        if found is not None and (stored is None or found >= stored):
            self._write("transaction", rows)
        return {entity: self._push(entity, features) for entity in ("card", "terminal")}

    def online(self, card_id: str, terminal_id: str) -> dict[str, float | None]:
        """Stored values for a card and a terminal, by feature name; None where there is none.

        They are as of the last payment pushed, and do not age.
        """
        wanted = [f"{f.entity}_features:{f.name}" for f in FEATURES if f.window is not None]
        keys = {"card_id": card_id, "terminal_id": terminal_id}
        answer = self._feast.get_online_features(features=wanted, entity_rows=[keys]).to_dict()
        return {name: values[0] for name, values in answer.items() if name not in keys}

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

    @property
    def _offline_dir(self) -> Path:
        return self._feast_dir / "offline"

    @cached_property
    def _feast(self) -> Any:  # feast ships no types
        _import_feast()
        import feast

        self._offline_dir.mkdir(parents=True, exist_ok=True)
        config = feast.RepoConfig(
            project=_PROJECT,
            provider="local",
            registry={"path": str(self._feast_dir / "registry.db")},
            offline_store={"type": "file"},
            online_store={"type": "sqlite", "path": str(self._feast_dir / "online.db")},
            entity_key_serialization_version=3,
        )
        return feast.FeatureStore(config=config)

    def _push(self, entity: str, features: pl.DataFrame) -> int:
        """Push one entity's newest rows, in one batch: Feast's cost is per call."""
        store = self._feast
        from feast.data_source import PushMode

        key, columns = f"{entity}_id", list(_columns(entity))
        stored = self._stored(entity)
        newest = (
            pl.concat([stored, features.select(columns)])
            .sort("event_timestamp", "seq", maintain_order=True)  # recomputed rows come last
            .unique(key, keep="last", maintain_order=True)
            .sort(key)
        )
        # SQLite would let an older push overwrite a newer one, so only what is newer is sent.
        changed = newest.join(stored, on=columns, how="anti", nulls_equal=True)
        if changed.height:
            frame = changed.drop("seq").to_pandas()  # Feast refuses Polars frames
            store.push(f"{entity}_push", frame, to=PushMode.ONLINE)
            self._write(entity, newest)
        return changed.height

    def _stored(self, entity: str) -> pl.DataFrame:
        """Rows behind one view; none if there are none, or of other features than today's."""
        path = self._offline_dir / f"{entity}_features.parquet"
        none = pl.DataFrame(schema=_columns(entity))
        if not path.exists():
            return none
        stored = pl.read_parquet(path)
        return stored if stored.schema == none.schema else none

    def _write(self, entity: str, rows: pl.DataFrame) -> None:
        """Replace the file behind one view, whole or not at all."""
        content = io.BytesIO()
        rows.write_parquet(content)
        replace_file(self._offline_dir / f"{entity}_features.parquet", content.getvalue())


def _columns(entity: str) -> dict[str, pl.DataType]:
    """Columns of one entity's file."""
    names = [feature.name for feature in FEATURES if feature.entity == entity]
    return {
        f"{entity}_id": pl.String(),
        "event_timestamp": UTC_MICROSECONDS,
        "seq": pl.Int64(),
        **dict.fromkeys(names, pl.Float64()),
    }


def _import_feast() -> None:
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
