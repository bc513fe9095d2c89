"""The asset graph as it is declared: it loads, it is documented, and it changes on purpose only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import STAGES
from assets.signals import LIVE_HEALTH
from fraud_platform.definitions import build_definitions
from fraud_platform.settings import Settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_definitions(Settings(home=tmp_path_factory.mktemp("definitions")))


@pytest.fixture(scope="module")
def nodes(definitions: dg.Definitions) -> dict[str, Any]:
    """Every asset by name, without the placeholders Dagster makes for unknown ones."""
    graph = definitions.resolve_asset_graph()
    return {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}


@pytest.fixture(scope="module")
def checks(definitions: dg.Definitions) -> dict[str, dg.AssetCheckSpec]:
    graph = definitions.resolve_asset_graph()
    return {key.name: graph.get_check_spec(key) for key in graph.asset_check_keys}


def run(command: str, *arguments: str, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """One of Dagster's own programs, as a user starts it."""
    environment = dict(os.environ) | {"FRAUD_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [BIN / command, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_definitions_load(definitions):
    dg.Definitions.validate_loadable(definitions)
    assert len(definitions.assets or ()) > 15


def test_the_workspace_and_instance_files_in_the_root_are_valid(tmp_path):
    # The same two files in another folder: Dagster keeps its storage beside dagster.yaml.
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    done = run("dagster", "definitions", "validate", cwd=tmp_path, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location fraud_platform" in done.stdout
    assert (tmp_path / ".fraud" / "dagster" / "storage").is_dir(), "dagster.yaml was not read"


def test_dg_finds_the_definitions_of_the_project(tmp_path):
    done = run("dg", "check", "defs", cwd=ROOT, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "All definitions loaded successfully" in done.stdout


def test_every_asset_says_what_it_is_and_who_owns_it(nodes):
    for name, node in nodes.items():
        assert node.description, f"{name} has no docstring"
        assert len(node.owners) == 1, f"{name} needs one owner: owners=[...]"
        assert node.kinds, f"{name} needs kinds={{...}}"
        assert node.group_name in STAGES, f"{name} must live in a module of assets/"


def test_every_materializable_asset_is_partitioned_by_day(nodes):
    whole = {n for n, node in nodes.items() if node.partitions_def is None}
    outside = {n for n, node in nodes.items() if not node.is_materializable}
    assert outside == {"received_transactions", "received_labels", "decisions", "live_health"}
    assert whole - outside == {"healing_benchmark"}, (
        "only what is about no day has no partitions; give the others partitions_def=DAILY"
    )


def test_the_graph_has_every_asset_of_the_loop(nodes):
    loop = (
        "raw_transactions validated_transactions quarantined_transactions transaction_features "
        "labels mature_labels label_delays label_arrivals "
        "training_set xgboost_model lightgbm_model challenger "
        "model_comparison champion drift_report performance_report health_report "
        "live_health recalibrated_champion feature_catalogue"
    )
    assert set(loop.split()) <= set(nodes)


def test_every_asset_reads_only_assets_that_exist(definitions, nodes):
    # Dagster invents an external asset for a misspelt input instead of failing.
    defined = {
        spec.key.to_user_string()
        for asset in definitions.assets or ()
        for spec in ([asset] if isinstance(asset, dg.AssetSpec) else asset.specs)
    }
    assert set(nodes) == defined


def test_every_check_is_described_and_runs_per_day(checks):
    for name, check in checks.items():
        assert check.description, f"{name} has no docstring"
        if check.asset_key in (LIVE_HEALTH, dg.AssetKey("decisions")):
            continue  # of this moment, not of a day
        assert check.partitions_def is not None, f"{name} needs partitions_def=DAILY"


def test_checks_that_keep_bad_data_from_downstream_block(checks):
    watching = {
        name
        for name, check in checks.items()
        if not check.blocking and check.asset_key != LIVE_HEALTH
    }
    assert watching == {
        "every_served_feature_equals_its_batch_value",
        "every_label_source_still_speaks",
        "decisions_are_taken_again_alike",
        "no_card_number_is_stored",
        "the_audit_log_is_as_it_was_written",
    }
    assert {
        "every_row_fits_the_schema",
        "every_transaction_id_is_unique",
        "no_transaction_is_from_the_future",
        "no_row_is_lost",
        "no_label_is_from_the_future",
        "no_known_fraud_is_called_genuine",
        "no_training_label_is_from_the_future",
        "the_training_set_leaks_nothing",
        "champion_passes_its_golden_rows",
    } <= checks.keys() - watching


def test_every_job_resolves_and_says_what_it_is_for(definitions):
    for name in ("daily", "retrain", "monitor", "roll_back"):
        job = definitions.resolve_job_def(name)
        assert job.description, f"{name} needs a description"
        assert job.partitions_def is not None


def test_everything_that_starts_runs_is_on_from_the_start(definitions):
    sensors = {sensor.name: sensor for sensor in definitions.sensors or ()}
    assert set(sensors) == {
        "new_transactions",
        "label_volume",
        "label_feed",
        "heal",
        "approvals",
        "canary_ramp",
        "run_failures",
        "automation",
    }
    assert {s.default_status for s in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}
    schedules = definitions.schedules or ()
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.RUNNING}


def test_the_asset_graph_is_the_reviewed_one(definitions, nodes, golden):
    graph = definitions.resolve_asset_graph()
    assets = {
        name: {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "partitioned": node.partitions_def is not None,
            "backfill": node.backfill_policy.policy_type.value if node.backfill_policy else None,
            "checks": {
                key.name: "blocking" if graph.get_check_spec(key).blocking else "watching"
                for key in node.check_keys
            },
            "automation": node.automation_condition and node.automation_condition.get_label(),
        }
        for name, node in nodes.items()
    }
    jobs = {
        name: sorted(
            key.to_user_string()
            for key in definitions.resolve_job_def(name).asset_layer.selected_asset_keys
        )
        for name in ("daily", "retrain", "monitor", "roll_back")
    }
    sensors = {s.name: sorted(t.job_name for t in s.targets) for s in definitions.sensors or ()}
    schedules = {s.name: f"{s.cron_schedule} {s.job_name}" for s in definitions.schedules or ()}
    golden(
        "asset_graph.json",
        {"assets": assets, "jobs": jobs, "sensors": sensors, "schedules": schedules},
    )
