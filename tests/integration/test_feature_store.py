"""The feature catalogue on a real Feast with a real SQLite and a real Redis."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
import redis

from fraud_platform.adapters.feature_store import FeatureStore
from fraud_platform.adapters.redis_address import RedisAddress
from fraud_platform.errors import NotReadyError, PermanentError, UnavailableError
from fraud_platform.features.batch import compute
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES, LOOKBACK
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


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis' client tries again at once instead of seconds later."""
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)


def write_days(features: pl.DataFrame, folder: Path) -> None:
    """The table of features as the asset graph writes it: one file per day."""
    folder.mkdir(parents=True, exist_ok=True)
    for (day,), rows in features.group_by(pl.col("event_timestamp").dt.date()):
        rows.sort("seq").write_parquet(folder / f"{day}.parquet")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_days(features_of_days(12), home / "tables" / "transaction_features")
    return home


@pytest.fixture(scope="module")
def store(home: Path) -> FeatureStore:
    store = FeatureStore(home / "feast")
    store.apply("1")
    return store


@pytest.fixture(params=["sqlite", "redis"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    """A store that holds nothing, on each kind of online store."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    store = FeatureStore(tmp_path / "feast", redis_url=url)
    store.apply()
    return store


def batch_values(features: pl.DataFrame, card_id: str, terminal_id: str) -> dict[str, float | None]:
    by_time = features.sort("event_timestamp")
    card = by_time.filter(pl.col("card_id") == card_id).row(-1, named=True)
    terminal = by_time.filter(pl.col("terminal_id") == terminal_id).row(-1, named=True)
    newest = {"card": card, "terminal": terminal}
    return {f.name: newest[f.entity][f.name] for f in FEATURES if f.entity in newest}


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
        assert sorted(listed) == sorted(FEATURE_NAMES)


def test_applying_again_changes_nothing(store: FeatureStore) -> None:
    before = store.catalogue()
    assert store.apply("1") == len(FEATURE_NAMES)
    assert store.catalogue() == before


# --- the newest values, online ---------------------------------------------------------------


def test_the_newest_batch_values_are_read_back_and_an_older_push_is_ignored(
    fresh: FeatureStore,
) -> None:
    early, whole = features_of_days(9), features_of_days(12)
    assert fresh.push(early) == {"card": 3, "terminal": 2}
    assert fresh.online("c0", "m1") == batch_values(early, "c0", "m1")
    assert fresh.push(whole) == {"card": 3, "terminal": 2}
    assert fresh.online("c0", "m1") == batch_values(whole, "c0", "m1")
    for again in (whole, early):
        assert fresh.push(again) == {"card": 0, "terminal": 0}
    assert fresh.online("c0", "m1") == batch_values(whole, "c0", "m1")


def test_a_recomputed_value_of_the_same_payment_replaces_the_stored_one(
    fresh: FeatureStore,
) -> None:
    features = features_of_days(3)
    fresh.push(features)
    name = next(f.name for f in FEATURES if f.entity == "card")
    recomputed = features.with_columns(pl.col(name) + 1)
    assert fresh.push(recomputed) == {"card": 3, "terminal": 0}
    assert fresh.online("c0", "m1") == batch_values(recomputed, "c0", "m1")


def test_an_online_store_without_values_gets_those_of_the_whole_history(
    fresh: FeatureStore, tmp_path: Path
) -> None:
    whole = features_of_days(6)
    write_days(whole, tmp_path / "tables" / "transaction_features")
    assert fresh.push(whole.tail(1)) == {"card": 3, "terminal": 2}
    assert fresh.online("c0", "m0") == batch_values(whole, "c0", "m0")
    assert fresh.push(whole) == {"card": 0, "terminal": 0}
    shutil.rmtree(tmp_path / "feast" / "newest")
    assert fresh.push(whole.tail(1)) == {"card": 3, "terminal": 2}, "as after its values were lost"


def test_values_of_other_features_than_todays_are_replaced(
    fresh: FeatureStore, tmp_path: Path
) -> None:
    features = features_of_days(3)
    fresh.push(features)
    (path,) = (tmp_path / "feast" / "newest").rglob("card.parquet")
    features.select("card_id", "event_timestamp", "seq").write_parquet(path)
    assert fresh.push(features) == {"card": 3, "terminal": 0}
    assert fresh.online("c1", "m0") == batch_values(features, "c1", "m0")
    assert not list(path.parent.glob(".*")), "no unfinished file stays"


def test_an_unknown_card_has_no_values(fresh: FeatureStore) -> None:
    values = fresh.online("nobody", "nowhere")
    assert set(values.values()) == {None}
    assert len(values) == sum(feature.entity != "transaction" for feature in FEATURES)


def test_everything_is_kept_in_the_given_folder(store: FeatureStore, home: Path) -> None:
    store.push(features_of_days(2))
    kept = {path.name for path in (home / "feast").rglob("*") if path.is_file()}
    assert kept == {"registry.db", "online.db", "card.parquet", "terminal.parquet"}


# --- Redis -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_waiting")
def test_a_password_of_any_letters_opens_redis_and_is_written_nowhere(
    redis_url: str, tmp_path: Path
) -> None:
    letters = 'p@s,s=w"o\\rd'
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser(
            "feast", enabled=True, passwords=[f"+{letters}"], keys="*", categories=["+@all"]
        )
    address = redis_url.replace("redis://", f"redis://feast:{quote(letters, safe='')}@")
    store, features = FeatureStore(tmp_path / "feast", redis_url=address), features_of_days(3)
    store.apply()
    store.push(features)
    assert store.online("c1", "m0") == batch_values(features, "c1", "m0")
    assert letters not in repr(store._redis)
    wrong = FeatureStore(tmp_path / "feast", redis_url=address.replace("feast:", "feast:no"))
    with pytest.raises(UnavailableError) as refused:
        wrong.online("c1", "m0")
    assert quote(letters, safe="") not in str(refused.value)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"p@s" not in path.read_bytes(), path


@pytest.mark.usefixtures("no_waiting")
def test_a_redis_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "feast", redis_url="redis://:secret@127.0.0.1:1/0")
    store.apply()
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1/0") as away:
        store.push(features_of_days(1))
    assert "secret" not in str(away.value)
    assert not list(tmp_path.rglob("card.parquet")), "what was not stored counts as not stored"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379,password=secret",
        "unix:///secret",
        "redis://",
        "redis://h/secret",
        "redis://h/0?db=secret",
    ],
)
def test_an_address_of_another_form_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(PermanentError, match="address of another form") as refused:
        FeatureStore(Path("feast"), redis_url=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "options", ["secret=1", "decode_responses=true", "retry_on_error=x", "db=1&host=secret"]
)
def test_an_option_that_is_not_allowed_is_refused_without_repeating_it(options: str) -> None:
    with pytest.raises(PermanentError, match=r"unknown option .* only client_name, db") as e:
        FeatureStore(Path("feast"), redis_url=f"redis://:secret@h/0?{options}")
    assert "secret" not in str(e.value)
    assert "decode" not in str(e.value)


def test_an_address_may_set_patience_and_tls() -> None:
    url = "rediss://me:secret@h:1/2?socket_timeout=0.5&ssl_cert_reqs=none&ssl_check_hostname=no"
    address = RedisAddress.parse(url)
    assert (address.place, "secret" in repr(address)) == ("h:1/2", False)
    assert address.options == {
        "username": "me",
        "password": "secret",
        "db": 2,
        "socket_connect_timeout": 5,
        "socket_timeout": 0.5,
        "ssl": True,
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    }


# --- values of the past ----------------------------------------------------------------------


def test_a_payment_finds_its_own_features_in_the_past(store: FeatureStore) -> None:
    features = features_of_days(12)
    keys = ("transaction_id", "card_id", "terminal_id", "event_timestamp")
    asked = features.select(*keys).sample(fraction=1.0, shuffle=True, seed=1)
    found = store.historical(asked, "fraud_v1")
    assert found.columns[:4] == list(keys)
    assert found.select(keys).equals(asked), "rows keep their order"
    expected = asked.select("transaction_id").join(features, "transaction_id", "left")
    assert found.select(FEATURE_NAMES).equals(expected.select(FEATURE_NAMES), null_equal=True)


def test_a_moment_between_payments_finds_the_last_one_before_it(store: FeatureStore) -> None:
    features = features_of_days(12)
    name = next(f.name for f in FEATURES if f.entity == "card")
    card = features.filter(pl.col("card_id") == "c1")
    times = pl.col("event_timestamp")
    asked = card.select("card_id", times + timedelta(microseconds=1), note=pl.lit("mine"))
    early = asked.head(1).with_columns(times - timedelta(microseconds=2))
    late = asked.tail(1).with_columns(times + LOOKBACK)
    found = store.historical(pl.concat([asked, early, late]), [name])
    assert found[name].to_list() == [*card[name], None, None]
    assert found["note"].unique().to_list() == ["mine"]


def test_values_of_the_past_need_known_features_all_keys_and_a_history(
    store: FeatureStore, tmp_path: Path
) -> None:
    rows = features_of_days(1).select("card_id", "event_timestamp")
    with pytest.raises(PermanentError, match="no_such_feature"):
        store.historical(rows, ["no_such_feature"])
    with pytest.raises(PermanentError, match="terminal_id"):
        store.historical(rows, "fraud_v1")
    name = next(f.name for f in FEATURES if f.entity == "card")
    empty = FeatureStore(tmp_path / "feast")
    empty.apply()
    with pytest.raises(NotReadyError, match="transaction_features"):
        empty.historical(rows, [name])
    write_days(features_of_days(1).drop(name), tmp_path / "tables" / "transaction_features")
    with pytest.raises(NotReadyError, match=name):
        empty.historical(rows, [name])
