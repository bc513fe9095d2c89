"""The feature catalogue on a real Feast with real SQLite files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fraud_platform.adapters.feature_store import FeatureStore
from fraud_platform.features.batch import compute
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.schemas import LABELS, TRANSACTIONS

START = datetime(2018, 4, 1, 12, tzinfo=UTC)


def features_of_days(days: int) -> pl.DataFrame:
    """Three cards at two terminals, one payment every six hours."""
    count = days * 4
    numbers = pl.int_range(count, eager=True)
    rows = pl.DataFrame({"seq": numbers + 1}).with_columns(
        transaction_id=pl.format("t{}", "seq"),
        event_timestamp=START + numbers * timedelta(hours=6),
        received_timestamp=START + numbers * timedelta(hours=6),
        card_id=pl.format("c{}", numbers % 3),
        terminal_id=pl.format("m{}", numbers % 2),
        amount_minor=100 + numbers * 7,
        currency=pl.lit("EUR"),
        source=pl.lit("test"),
    )
    missing = [pl.lit(None, d).alias(n) for n, d in TRANSACTIONS.columns.items() if n not in rows]
    return compute(rows.with_columns(missing).select(*TRANSACTIONS.columns), LABELS.empty())


@pytest.fixture(scope="module")
def feast_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feast")


@pytest.fixture(scope="module")
def store(feast_dir: Path) -> FeatureStore:
    store = FeatureStore(feast_dir)
    store.apply("1")
    return store


def batch_values(features: pl.DataFrame, card_id: str, terminal_id: str) -> dict[str, float | None]:
    by_time = features.sort("event_timestamp")
    card = by_time.filter(pl.col("card_id") == card_id).row(-1, named=True)
    terminal = by_time.filter(pl.col("terminal_id") == terminal_id).row(-1, named=True)
    newest = {"card": card, "terminal": terminal}
    return {f.name: newest[f.entity][f.name] for f in FEATURES if f.window is not None}


def test_the_catalogue_lists_every_feature_with_its_meaning(store: FeatureStore) -> None:
    entries = {entry.feature: entry for entry in store.catalogue()}
    assert entries.keys() == set(FEATURE_NAMES)
    for feature in FEATURES:
        assert entries[feature.name].view == f"{feature.entity}_features"
        assert entries[feature.name].description == feature.reason_text
        assert entries[feature.name].digest == feature.digest


def test_a_model_version_has_a_service_of_exactly_its_features(store: FeatureStore) -> None:
    store.apply("2")
    for version in ("1", "2"):
        service = store._feast.get_feature_service(f"fraud_v{version}")
        listed = [
            field.name for view in service.feature_view_projections for field in view.features
        ]
        assert listed == list(FEATURE_NAMES)


def test_applying_again_changes_nothing(store: FeatureStore) -> None:
    before = store.catalogue()
    assert store.apply("1") == len(FEATURE_NAMES)
    assert store.catalogue() == before


def test_the_newest_batch_values_are_read_back_and_an_older_push_is_ignored(
    store: FeatureStore,
) -> None:
    early, whole = features_of_days(9), features_of_days(12)
    assert store.push(early) == {"card": 3, "terminal": 2}
    assert store.online("c0", "m1") == batch_values(early, "c0", "m1")
    assert store.push(whole) == {"card": 3, "terminal": 2}
    assert store.online("c0", "m1") == batch_values(whole, "c0", "m1")
    for again in (whole, early):
        assert store.push(again) == {"card": 0, "terminal": 0}
    assert store.online("c0", "m1") == batch_values(whole, "c0", "m1")


def test_a_late_day_does_not_replace_the_transactions_of_a_newer_one(
    store: FeatureStore, feast_dir: Path
) -> None:
    path = feast_dir / "offline" / "transaction_features.parquet"
    whole, late = features_of_days(12), features_of_days(9)
    store.push(whole)
    for older in (late, late.clear()):
        store.push(older)
        assert pl.read_parquet(path).height == whole.height
    assert not list(path.parent.glob(".*")), "no unfinished file stays"


def test_values_of_other_features_than_todays_are_replaced(tmp_path: Path) -> None:
    store, features = FeatureStore(tmp_path), features_of_days(3)
    store.apply()
    path = tmp_path / "offline" / "card_features.parquet"
    features.select("card_id", "event_timestamp", "seq").write_parquet(path)
    assert store.push(features) == {"card": 3, "terminal": 2}
    assert store.online("c1", "m0") == batch_values(features, "c1", "m0")


def test_an_unknown_card_has_no_values(store: FeatureStore) -> None:
    values = store.online("nobody", "nowhere")
    assert set(values.values()) == {None}
    assert len(values) == sum(feature.window is not None for feature in FEATURES)


def test_everything_is_kept_in_the_given_folder(store: FeatureStore, feast_dir: Path) -> None:
    store.push(features_of_days(2))
    kept = {path.name for path in feast_dir.rglob("*") if path.is_file()}
    assert {"registry.db", "online.db", "card_features.parquet"} <= kept
    assert "transaction_features.parquet" in kept
