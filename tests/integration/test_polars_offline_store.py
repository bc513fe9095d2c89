"""Feast's retrieval on Polars: equal to Feast's own file store, and to the text where that errs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_platform.adapters.feature_store import import_feast

START = datetime(2026, 1, 1, tzinfo=UTC)
POLARS = "feature_repo.polars_offline_store.PolarsOfflineStore"
TTLS = {"card": timedelta(seconds=60), "terminal": timedelta(0)}
"""Of the two views of the random repositories; nothing stands for no end."""
SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "created": pl.Datetime("us", "UTC"),
}
ASKED = ["card:amount", "card:flag", "terminal:amount"]


def feast_store(folder: Path, offline: str = POLARS, *, latest: bool = True, **online: Any) -> Any:
    """Feast with an empty registry and the given stores."""
    import_feast()
    import feast

    name = offline.rpartition(".")[2]
    config = feast.RepoConfig(
        project="test",
        provider="local",
        registry={"path": str(folder / f"{name}.db")},
        offline_store={"type": offline},
        materialization={"pull_latest_features": latest},
        online_store=online or {"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
    )
    return feast.FeatureStore(config=config)


def declared(folder: Path, created: str = "created", **source: Any) -> list[Any]:
    """Two views on `{view}.parquet`; the source calls an amount `cents`."""
    import feast
    from feast.types import Float64, Int64
    from feast.value_type import ValueType

    found: list[Any] = []
    for name, ttl in TTLS.items():
        entity = feast.Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.STRING)
        fields = {"amount": Float64} | ({"flag": Int64} if name == "card" else {})
        view = feast.FeatureView(
            name=name,
            entities=[entity],
            ttl=ttl,
            schema=[feast.Field(name=field, dtype=dtype) for field, dtype in fields.items()],
            source=feast.FileSource(
                path=str(folder / f"{name}.parquet"),
                timestamp_field="at",
                created_timestamp_column=created,
                field_mapping={"cents": "amount"},
                **source,
            ),
        )
        found += [entity, view]
    return found


def history(random: np.random.Generator, name: str, rows: int, *, is_unique: bool) -> pl.DataFrame:
    """Rows of few keys within few minutes: many share a time, some are created late or unknown."""
    frame = pl.DataFrame(
        {
            "key": random.choice(["a", "b", "c", "d"], rows),
            "at": [START + timedelta(seconds=int(s)) for s in random.integers(0, 300, rows)],
            "created": [START + timedelta(seconds=int(s)) for s in random.integers(0, 400, rows)],
            "cents": random.choice([np.nan, *np.arange(rows, dtype=float)], rows),
            "flag": np.arange(rows),
        },
        schema_overrides=SCHEMA,
    )
    frame = frame.with_columns(
        pl.when(pl.Series(random.random(rows) > 0.1)).then(pl.col("cents", "flag")),
        pl.when(pl.Series(random.random(rows) > 0.1)).then(pl.col("created")),
    )
    if is_unique:
        frame = frame.unique(["key", "at"], keep="first", maintain_order=True)
    return frame.rename({"key": f"{name}_id"})


def entity_rows(random: np.random.Generator, rows: int) -> pl.DataFrame:
    """Moments before, within and after the histories; some keys are in none."""
    seconds = random.integers(-30, 400, rows)
    return pl.DataFrame(
        {
            "row": np.arange(rows),
            "terminal_id": random.choice(["a", "b", "nowhere"], rows),
            "event_timestamp": [START + timedelta(seconds=int(s)) for s in seconds],
            "card_id": random.choice(["a", "b", "c", "nobody"], rows),
        }
    )


def by_the_text(
    entities: pl.DataFrame, sources: dict[str, pl.DataFrame], *, known_only: bool
) -> list[tuple[object, ...]]:
    """What the rule says, one row at a time: the newest that counts, of equals the last created."""
    return [
        tuple(
            value
            for name in TTLS
            for value in valid(sources[name], name, row, known_only=known_only)
        )
        for row in entities.iter_rows(named=True)
    ]


def valid(
    source: pl.DataFrame, name: str, asked: dict[str, Any], *, known_only: bool
) -> list[object]:
    when, ttl = asked["event_timestamp"], TTLS[name]
    values = ["cents", "flag"] if name == "card" else ["cents"]
    best: tuple[datetime, datetime] | None = None
    found: list[object] = [None] * len(values)
    for row in source.iter_rows(named=True):
        of_it = row[f"{name}_id"] == asked[f"{name}_id"] and row["at"] <= when
        alive = not ttl or row["at"] >= when - ttl
        created = row["created"]
        known = not known_only or (created is not None and created <= when)
        rank = (row["at"], created or datetime.min.replace(tzinfo=UTC))
        if of_it and alive and known and (best is None or rank >= best):
            best, found = rank, [row[value] for value in values]
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder whose files the tests replace, and the two stores that read it."""
    folder = tmp_path_factory.mktemp("repository")
    ours, feasts = feast_store(folder), feast_store(folder, "file")
    for store in (ours, feasts):
        store.apply(declared(folder))
    return folder, ours, feasts


def write(folder: Path, **sources: pl.DataFrame) -> dict[str, pl.DataFrame]:
    for name, rows in sources.items():
        rows.write_parquet(folder / f"{name}.parquet")
    return sources


def ask(store: Any, rows: pl.DataFrame, asked: list[str], **options: Any) -> pl.DataFrame:
    """As a user of Feast does, with pandas; full names, as both views have an amount."""
    job = store.get_historical_features(rows.to_pandas(), asked, full_feature_names=True, **options)
    return pl.from_pandas(job.to_df())


@pytest.mark.parametrize("known_only", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_values_equal_those_of_feasts_file_store(
    repository: tuple[Path, Any, Any], seed: int, known_only: bool
) -> None:
    folder, ours, feasts = repository
    random = np.random.default_rng(seed)
    sources = {n: history(random, n, 400, is_unique=True) for n in TTLS}
    write(folder, **sources)
    # Feast's store merges rows of equal keys and times.
    rows = entity_rows(random, 300).unique(["card_id", "terminal_id", "event_timestamp"])
    rows = rows.sort("row").unique(["card_id", "event_timestamp"], maintain_order=True)
    options = {"filter_by_created_timestamp": known_only}
    found, expected = (ask(store, rows, ASKED, **options) for store in (ours, feasts))
    assert found.columns == expected.columns
    assert found["row"].equals(rows["row"]), "every row comes back in its place"
    both = found.filter(pl.col("row").is_in(expected["row"].implode()))
    assert expected.height > 100
    expected = both.select("row").join(expected, "row", "left").select(found.columns)
    assert both.equals(expected, null_equal=True)
    lost = found.join(both, on="row", how="anti")
    nothing = pl.col("card__amount", "card__flag").is_null()
    expired = pl.all_horizontal(nothing) | pl.col("terminal__amount").is_null()
    assert lost.filter(~expired).is_empty(), "Feast loses only rows without a valid value"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), rows=st.integers(0, 120), known_only=st.booleans())
def test_values_are_what_the_rule_says_also_for_ties_late_and_repeated_rows(
    repository: tuple[Path, Any, Any], seed: int, rows: int, known_only: bool
) -> None:
    folder, ours, _ = repository
    random = np.random.default_rng(seed)
    sources = write(folder, **{n: history(random, n, rows, is_unique=False) for n in TTLS})
    asked = entity_rows(random, 60)
    asked = pl.concat([asked, asked.head(20)])
    job = ours.get_historical_features(
        asked, ASKED, full_feature_names=True, filter_by_created_timestamp=known_only
    )
    found = job.frame
    assert found.select(asked.columns).equals(asked)
    expected = by_the_text(asked, sources, known_only=known_only)
    answered = found.drop(asked.columns).rows()
    assert str(answered) == str(expected), "text compares a NaN with a NaN"


def test_of_rows_of_one_time_the_last_created_counts_where_feasts_own_store_may_take_any(
    repository: tuple[Path, Any, Any],
) -> None:
    folder, ours, feasts = repository
    random = np.random.default_rng(0)
    rows = history(random, "card", 600, is_unique=False)
    # Four versions of each value, created in any order.
    order = [START + timedelta(seconds=int(s)) for s in random.permutation(2400)]
    rows = pl.concat([rows] * 4).with_columns(created=pl.Series(order, dtype=SCHEMA["created"]))
    sources = write(folder, card=rows.with_columns(flag=pl.int_range(pl.len())))
    asked = entity_rows(random, 100).unique(["card_id", "event_timestamp"], maintain_order=True)
    found, feasts_answer = (ask(store, asked, ["card:flag"]) for store in (ours, feasts))
    expected = [
        valid(sources["card"], "card", row, known_only=False)[1]
        for row in asked.iter_rows(named=True)
    ]
    assert found["card__flag"].to_list() == expected
    both = feasts_answer.join(found, "row")
    times = [
        sources["card"]["at"].gather(both[name].drop_nulls().cast(pl.Int64))
        for name in ("card__flag", "card__flag_right")
    ]
    assert times[0].equals(times[1]), "Feast answers with a version of the same time"
    others = both.filter(pl.col("card__flag") != pl.col("card__flag_right")).height
    print(f"Feast's own store answers {others} of {both.height} rows with a replaced version")


@pytest.mark.parametrize(("age", "is_alive"), [(-1, False), (0, True), (60, True), (61, False)])
def test_a_value_counts_from_its_time_until_its_ttl_both_included(
    repository: tuple[Path, Any, Any], age: int, is_alive: bool
) -> None:
    folder, ours, feasts = repository
    row = {"card_id": "a", "at": START, "created": START, "cents": 7.0, "flag": 1}
    write(folder, card=pl.DataFrame([row]))
    rows = pl.DataFrame({"card_id": ["a"], "event_timestamp": [START + timedelta(seconds=age)]})
    assert ask(ours, rows, ["card:amount"])["card__amount"].to_list() == [7.0 if is_alive else None]
    assert ask(feasts, rows, ["card:amount"]).height == is_alive


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_times_of_any_unit_and_zone_are_compared_as_moments(
    repository: tuple[Path, Any, Any], unit: Any, zone: str | None
) -> None:
    folder, ours, feasts = repository
    row = {"card_id": "a", "at": START, "created": START, "cents": 7.0, "flag": 1}
    source = pl.DataFrame([row]).with_columns(pl.col("at").dt.cast_time_unit(unit))
    if zone is None:
        source = source.with_columns(pl.col("at").dt.replace_time_zone(None))
    write(folder, card=source)
    moment = pl.lit(START).dt.cast_time_unit(unit)
    rows = pl.select(
        card_id=pl.lit("a"), event_timestamp=moment.dt.convert_time_zone(zone or "UTC")
    )
    if zone is None:
        rows = rows.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))
    for store in (ours, feasts):
        found = ask(store, rows, ["card:amount"])
        assert found["card__amount"].to_list() == [7.0]
        assert found["event_timestamp"].dt.epoch("ms").to_list() == [START.timestamp() * 1000]


@pytest.mark.parametrize(
    ("nanoseconds", "found"), [(-1, None), (0, 7.0), (60 * 10**9, 7.0), (60 * 10**9 + 1, None)]
)
def test_no_moment_is_rounded(
    repository: tuple[Path, Any, Any], nanoseconds: int, found: float | None
) -> None:
    folder, ours, _ = repository
    at = START + timedelta(microseconds=1)
    row = {"card_id": "a", "at": at, "created": at, "cents": 7.0, "flag": 1}
    write(folder, card=pl.DataFrame([row]))
    age = pl.duration(nanoseconds=nanoseconds, time_unit="ns")
    moment = pl.lit(at).dt.cast_time_unit("ns") + age
    rows = pl.select(card_id=pl.lit("a"), event_timestamp=moment)
    assert ask(ours, rows, ["card:amount"])["card__amount"].to_list() == [found]


@pytest.mark.parametrize("known_only", [False, True])
def test_an_unknown_key_or_time_finds_nothing(
    repository: tuple[Path, Any, Any], known_only: bool
) -> None:
    folder, ours, _ = repository
    row = {"at": START, "created": START, "cents": 7.0, "flag": 1}
    keyless = [{"card_id": None, **row}, {"card_id": "a", **row, "at": None}]
    write(folder, card=pl.DataFrame(keyless, schema_overrides=SCHEMA | {"card_id": pl.String}))
    rows = pl.DataFrame(
        {"card_id": [None, "a", "a"], "event_timestamp": [START, None, START]},
        schema_overrides={"event_timestamp": SCHEMA["at"]},
    )
    found = ask(ours, rows, ["card:amount"], filter_by_created_timestamp=known_only)
    assert found["card__amount"].to_list() == [None, None, None]


def test_views_read_under_another_name_join_by_the_name_of_the_key_there(
    repository: tuple[Path, Any, Any],
) -> None:
    folder, ours, feasts = repository
    import feast

    random = np.random.default_rng(5)
    write(folder, card=history(random, "card", 300, is_unique=True))
    rows = (
        entity_rows(random, 100).rename({"card_id": "payee"}).unique(["payee", "event_timestamp"])
    )
    answers = []
    for store in (ours, feasts):
        view = store.get_feature_view("card")
        payee = view.with_name("payee_card").with_join_key_map({"card_id": "payee"})
        service = feast.FeatureService(name="payees", features=[payee])
        store.apply([service])
        job = store.get_historical_features(rows.to_pandas(), service, full_feature_names=True)
        answers.append(pl.from_pandas(job.to_df()).sort("row"))
    found, expected = answers
    assert expected["payee_card__amount"].drop_nans().drop_nulls().len() > 10
    found = found.filter(pl.col("row").is_in(expected["row"].implode()))
    assert found.equals(expected, null_equal=True)


@pytest.mark.parametrize("known_only", [False, True])
def test_a_view_of_no_entity_holds_for_every_row(tmp_path: Path, known_only: bool) -> None:
    store = feast_store(tmp_path)
    import feast
    from feast.types import Float64

    seconds = [timedelta(seconds=second) for second in range(4)]
    rows = pl.DataFrame({"at": START, "cents": [1.0, 2.0]}).with_columns(
        at=pl.Series([START, START + seconds[1]]),
        created=pl.Series([START + seconds[3], START + seconds[2]]),
    )
    write(tmp_path, world=rows)
    source = feast.FileSource(
        path=str(tmp_path / "world.parquet"),
        timestamp_field="at",
        created_timestamp_column="created",
    )
    fields = [feast.Field(name="cents", dtype=Float64)]
    store.apply([feast.FeatureView(name="world", entities=[], source=source, schema=fields)])
    asked = pl.DataFrame({"event_timestamp": [START + second for second in reversed(seconds)]})
    found = store.get_historical_features(
        asked, ["world:cents"], filter_by_created_timestamp=known_only
    ).frame
    expected = [2.0, 2.0, None, None] if known_only else [2.0, 2.0, 2.0, 1.0]
    assert found["cents"].to_list() == expected


def test_what_cannot_be_answered_is_refused(repository: tuple[Path, Any, Any]) -> None:
    folder, ours, _ = repository
    write(folder, card=history(np.random.default_rng(1), "card", 5, is_unique=True))
    with pytest.raises(NotImplementedError, match="range of time"):
        ours.get_historical_features(features=["card:amount"], start_date=START, end_date=START)
    timeless = entity_rows(np.random.default_rng(1), 2).drop("event_timestamp")
    with pytest.raises(ValueError, match="event_timestamp"):
        ours.get_historical_features(timeless.to_pandas(), ["card:amount"])


def test_an_on_demand_view_is_refused(tmp_path: Path) -> None:
    store = feast_store(tmp_path)
    import feast
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64

    write(tmp_path, card=history(np.random.default_rng(1), "card", 5, is_unique=True))
    entity, view, *_ = declared(tmp_path)

    def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"twice": [2 * value for value in inputs["amount"]]}

    declare = on_demand_feature_view(
        sources=[view], schema=[feast.Field(name="twice", dtype=Float64)], mode="python"
    )
    store.apply([entity, view, declare(doubled)])
    rows = entity_rows(np.random.default_rng(1), 2).to_pandas()
    with pytest.raises(NotImplementedError, match="on-demand"):
        store.get_historical_features(rows, ["doubled:twice"])


# --- materialize, saved datasets and pushes ----------------------------------------------------


def online_amounts(store: Any) -> list[float | None]:
    keys = [{"card_id": card} for card in "abcd"]
    answer = store.get_online_features(features=["card:amount"], entity_rows=keys).to_dict()
    return list(answer["amount"])


def newest(rows: pl.DataFrame, until: datetime) -> list[float | None]:
    """Of each card the newest amount, of equals the one created last."""
    seen = rows.filter(pl.col("at") <= until).sort("at", "created", maintain_order=True)
    return [seen.filter(pl.col("card_id") == card)["cents"].to_list()[-1] for card in "abcd"]


@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("online", ["sqlite", "redis"])
def test_materialize_stores_the_newest_values(
    online: str, latest: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = ""
    if online == "redis":
        address = request.getfixturevalue("redis_url").removeprefix("redis://").removesuffix("/0")
    options = {"type": "redis", "connection_string": address} if address else {}
    store = feast_store(tmp_path, latest=latest, **options)
    rows = history(np.random.default_rng(2), "card", 3000, is_unique=False)
    rows = rows.with_columns(pl.col("cents").fill_nan(None))
    write(
        tmp_path,
        card=rows,
        terminal=history(np.random.default_rng(2), "terminal", 9, is_unique=True),
    )
    store.apply(declared(tmp_path))
    middle, end = START + timedelta(seconds=150), START + timedelta(seconds=300)
    store.materialize(START, middle)
    assert online_amounts(store) == newest(rows, middle)
    store.materialize_incremental(end)
    assert online_amounts(store) == newest(rows, end)
    if address:
        with redis.Redis.from_url(f"redis://{address}") as client:
            assert client.dbsize() >= 4


def test_rows_of_a_range_come_by_time_both_ends_included_all_or_the_newest(
    tmp_path: Path,
) -> None:
    store = feast_store(tmp_path)
    rows = history(np.random.default_rng(2), "card", 300, is_unique=False)
    rows = rows.with_columns(pl.when(pl.col("flag") != 7).then(pl.col("card_id")))
    write(tmp_path, card=rows)
    offline = store._get_provider().offline_store
    source = declared(tmp_path)[1].batch_source
    first, last = rows["at"].sort()[[50, 250]]
    asked = (store.config, source, ["card_id"], ["flag"], "at", "created", first, last)
    expected = rows.filter(pl.col("at").is_between(first, last))
    expected = expected.sort("at", "created", maintain_order=True)
    expected = expected.select("card_id", "flag", "at", "created")
    whole = offline.pull_all_from_table_or_query(*asked)
    assert pl.DataFrame(whole.to_arrow()).equals(expected, null_equal=True)
    newest_rows = pl.DataFrame(offline.pull_latest_from_table_or_query(*asked).to_arrow())
    one_each = expected.drop_nulls("card_id").unique("card_id", keep="last", maintain_order=True)
    assert newest_rows.equals(one_each, null_equal=True)


def test_a_folder_of_files_is_one_history(repository: tuple[Path, Any, Any]) -> None:
    folder, ours, _ = repository
    rows = history(np.random.default_rng(4), "card", 90, is_unique=True)
    asked = entity_rows(np.random.default_rng(4), 50)
    write(folder, card=rows)
    whole = ask(ours, asked, ["card:amount"])
    (folder / "card.parquet").unlink()
    days = folder / "card.parquet"
    days.mkdir()
    for number, part in enumerate(rows.iter_slices(30)):
        part.write_parquet(days / f"{number}.parquet")
    (days / ".unfinished").write_bytes(b"")
    split = ask(ours, asked, ["card:amount"])
    for path in days.iterdir():
        path.unlink()
    days.rmdir()
    assert split.equals(whole, null_equal=True)


def test_a_saved_dataset_is_read_back(repository: tuple[Path, Any, Any]) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    folder, ours, _ = repository
    write(folder, card=history(np.random.default_rng(4), "card", 90, is_unique=True))
    asked = entity_rows(np.random.default_rng(4), 50)
    job = ours.get_historical_features(asked.to_pandas(), ["card:amount"])
    for overwrites in (False, True):
        ours.create_saved_dataset(
            from_=job,
            name="kept",
            storage=SavedDatasetFileStorage(path=str(folder / "kept" / "rows.parquet")),
            allow_overwrite=overwrites,
        )
    with pytest.raises(FileExistsError):
        job.persist(SavedDatasetFileStorage(path=str(folder / "kept" / "rows.parquet")))
    kept = pl.from_pandas(ours.get_saved_dataset("kept").to_df())
    columns = ["card_id", "amount", "event_timestamp"]
    expected = pl.from_pandas(job.to_df()).select(columns).sort(columns)
    assert kept.select(columns).sort(columns).equals(expected, null_equal=True)


def test_a_push_to_the_offline_store_adds_rows(repository: tuple[Path, Any, Any]) -> None:
    folder, ours, _ = repository
    rows = history(np.random.default_rng(4), "card", 9, is_unique=True)
    write(folder, card=rows)
    ours.write_to_offline_store("card", rows.head(2).to_pandas())
    assert pl.read_parquet(folder / "card.parquet").equals(pl.concat([rows, rows.head(2)]))
    assert not list(folder.glob(".*")), "no unfinished file stays"
