"""One installation in a temporary home, and one small world that went through the whole graph."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import redis

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.model_registry import ModelRegistry, registry_of
from fraud_platform.adapters.tables import Tables
from fraud_platform.adapters.world_file import write_world
from fraud_platform.definitions import build_definitions
from fraud_platform.model import ModelPolicy
from fraud_platform.schemas import LABELS, TRANSACTIONS
from fraud_platform.settings import Settings
from fraud_platform.simulation.world import World, simulate
from sensors.jobs import range_tags
from tests.integration.redis_server import RedisServer

FIRST_DAY, LAST_DAY, OPEN_DAY = date(2026, 1, 5), date(2026, 2, 3), date(2026, 2, 4)
"""The small world's closed days, and the day on which nothing happened yet."""

SMALL_WORLD = World(days=30, customers=300, terminals=150, fraud_rate=0.04)
"""About 600 payments a day, and enough frauds for a first model after 30 days."""

BROKEN = {"transaction_id": pl.lit("refused"), "amount_minor": pl.lit(-100, pl.Int64)}
"""What makes a payment break a rule."""

VERDICT_COLUMNS = ("transaction_id", "verdict", "label_source", "reason", "label_timestamp")
NO_VERDICTS = LABELS.empty().select(*VERDICT_COLUMNS, "received_timestamp")


def negative_payment(name: str, day: date) -> pl.DataFrame:
    """A payment of a negative amount as the log stores it, at noon; no door would let it in."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    row = {
        "transaction_id": name,
        "event_timestamp": noon,
        "card_id": "c0",
        "terminal_id": "m0",
        "amount_minor": -500,
        "currency": "EUR",
        "received_timestamp": noon,
        "source": "test",
    }
    return pl.DataFrame([row], schema=TRANSACTIONS.columns).drop("seq")


@dataclass(frozen=True)
class Platform:
    """One installation in a temporary home, with its asset graph on a real Dagster instance."""

    settings: Settings
    instance: dg.DagsterInstance

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.settings)

    @cached_property
    def tables(self) -> Tables:
        return Tables(self.settings.tables_dir)

    @cached_property
    def log(self) -> EventLog:
        return EventLog(self.settings.log_path)

    @cached_property
    def registry(self) -> ModelRegistry:
        return registry_of(self.settings)

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.settings.alerts_path)

    def with_settings(self, **changes: Any) -> "Platform":
        return Platform(self.settings.model_copy(update=changes), self.instance)

    def run(
        self, job: str, day: date, *, assets: tuple[str, ...] = (), **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or some of its assets, for one day."""
        return self._execute(job, assets, partition_key=day.isoformat(), **options)

    def run_range(
        self, job: str, first: date, last: date, *, assets: tuple[str, ...] = (), **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Run a job for a range of days in one run, as the sensors ask for it."""
        return self._execute(job, assets, tags=range_tags(first, last), **options)

    def _execute(self, job: str, assets: tuple[str, ...], **options: Any) -> Any:
        selection = [dg.AssetKey(name) for name in assets] or None
        resolved = self.definitions.resolve_job_def(job)
        return resolved.execute_in_process(
            instance=self.instance, asset_selection=selection, **options
        )

    def materialize(self, asset: str, day: date) -> dg.ExecuteInProcessResult:
        """Compute one asset of one day with its checks, as automation asks for it."""
        whole = self.definitions.resolve_implicit_global_asset_job_def()
        job = whole.get_subset(asset_selection={dg.AssetKey(asset)})
        return job.execute_in_process(instance=self.instance, partition_key=day.isoformat())

    def check(self, asset: str, name: str, day: date) -> dg.AssetCheckEvaluation:
        """Evaluate one check of one day, without materializing anything."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        whole = self.definitions.resolve_implicit_global_asset_job_def()
        job = whole.get_subset(asset_selection=set(), asset_check_selection={key})
        result = job.execute_in_process(
            instance=self.instance, partition_key=day.isoformat(), raise_on_error=False
        )
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    def tick(self, sensor: dg.SensorDefinition, cursor: str | None = None) -> Any:
        """Evaluate one tick of a sensor on this installation."""
        wanted = sensor.required_resource_keys
        resources = {k: v for k, v in self.definitions.resources.items() if k in wanted}
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=self.definitions,
            resources=resources,
            cursor=cursor,
        ) as context:
            return sensor.evaluate_tick(context)

    def metadata(self, asset: str, day: date) -> dict[str, Any]:
        """Metadata of the newest materialization of one day."""
        wanted = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[day.isoformat()]
        )
        record = self.instance.fetch_materializations(wanted, limit=1).records[0]
        materialization = record.asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items()}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """An empty installation."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(Settings(home=tmp_path / "home"), instance)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The payments of the small world with their truth."""
    return simulate(SMALL_WORLD)


@pytest.fixture(scope="session")
def story(
    tmp_path_factory: pytest.TempPathFactory, small_world: pl.DataFrame
) -> Iterator[Platform]:
    """The small world, ingested, computed, trained on and monitored; read it, never change it.

    Tests that change something take `branch`.
    """
    home = tmp_path_factory.mktemp("story")
    settings = Settings(
        home=home / "home", model=ModelPolicy(trials=1, max_rounds=60), code_commit="c0ffee"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        story = Platform(settings, instance)
        # One broken row comes by file and is refused at the door, one stands in the log.
        rows = pl.concat([small_world, small_world.tail(1).with_columns(**BROKEN)])
        mapping = write_world(rows, home / "world.parquet")
        ingest(
            home / "world.parquet",
            read_mapping(mapping),
            log=story.log,
            policy=settings.validation,
            received=datetime(2026, 6, 1, tzinfo=UTC),
            token_key=None,
        )
        story.log.append(negative_payment("planted", date(2026, 1, 20)), NO_VERDICTS)
        story.run_range("daily", FIRST_DAY, LAST_DAY)
        story.run("retrain", LAST_DAY)
        story.materialize("feature_catalogue", LAST_DAY)
        story.run_range("monitor", date(2026, 1, 31), LAST_DAY)
        yield story


@pytest.fixture
def branch(story: Platform, tmp_path: Path) -> Iterator[Platform]:
    """A copy of the story that a test may change; its Dagster instance has no history."""
    story.log.close()
    home = tmp_path / "home"
    shutil.copytree(story.settings.home, home)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(story.settings.model_copy(update={"home": home}), instance)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis-compatible server of this test session; tests take `redis_url`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), is_durable=False)
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """The address of an empty Redis; emptied again after the test."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
        yield redis_server
        client.flushall()
