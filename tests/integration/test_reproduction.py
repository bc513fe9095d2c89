"""A model is made again from its manifest, to the bit, or the first thing that differs is named."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner

from assets.evaluation import _loaded
from fraud_platform.adapters import reproduction_run
from fraud_platform.adapters.machine import lock_digest, machine_kind
from fraud_platform.adapters.model_bundle import load_bundle, read_manifest
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.reproduction_run import recipe_here, reproduce
from fraud_platform.adapters.tables import Tables
from fraud_platform.cli import main
from fraud_platform.model import ModelPolicy
from fraud_platform.promotion_gates import artifact_gate
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.recipe import tree_digest
from fraud_platform.settings import Settings, get_settings
from fraud_platform.training_document import TABLE
from tests.integration.test_hostile_bundles import sealed_again
from tests.small_training import DAY, VERSIONS, trained_home

ROOT = Path(__file__).parents[2]
every = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Settings:
    return trained_home(tmp_path_factory.mktemp("trained") / "home")


@pytest.fixture
def home(trained, tmp_path) -> Settings:
    """A copy that a test may change."""
    shutil.copytree(trained.home, tmp_path / "home")
    return trained.model_copy(update={"home": tmp_path / "home"})


@every
def test_a_version_is_made_again_to_the_bit(version, trained):
    found = reproduce(trained, version)
    assert (found.differences, found.notes) == ((), ())
    assert found.found_trees == found.expected_trees
    assert (found.golden_rows, found.largest_gap) == (64, 0.0)


def test_a_manifest_names_what_it_takes_beside_the_rows(trained):
    found = read_manifest(trained.models_dir / "1").recipe
    assert (found.seed, found.threads, found.code_commit, found.is_dirty) == (5, 1, "c0ffee", False)
    assert (found.lock_digest, found.machine) == (lock_digest(), machine_kind())
    assert len(lock_digest()) == 64


def test_code_that_was_changed_since_its_commit_is_said(tmp_path):
    settings = Settings(home=tmp_path, code_commit="c0ffee-dirty")
    assert (recipe_here(settings).code_commit, recipe_here(settings).is_dirty) == ("c0ffee", True)


def test_the_same_training_gives_the_same_trees_whatever_surrounds_it(trained, tmp_path):
    """T-REP-1: one or two threads, another process, files listed in another order."""
    expected = {version: reproduce(trained, version).expected_trees for version in VERSIONS}
    runs, equal = 0, 0
    for threads in (1, 2):
        told = trained_home(tmp_path / f"{threads}", threads=threads, order=threads)
        for version in VERSIONS:
            here = load_bundle(told.models_dir / version)
            golden = load_bundle(trained.models_dir / version).golden
            reference = load_bundle(trained.models_dir / version).model.score(golden)
            elsewhere = json.loads(in_another_process(told, version, threads))
            equal += (
                tree_digest(here.model) == expected[version] == elsewhere["found_trees"]
                and elsewhere["is_same"]
                and here.model.score(golden).tobytes() == reference.tobytes()
            )
            runs += 1
    print(json.dumps({"test": "T-REP-1", "trainings": 2 * runs, "compared": runs, "equal": equal}))
    assert (runs, equal) == (2 * len(VERSIONS), runs)


def in_another_process(settings: Settings, version: str, threads: int) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "FRAUD_HOME": str(settings.home),
        "FRAUD_CODE_COMMIT": "c0ffee",
    }
    asked = [sys.executable, "-m", "fraud_platform.cli", "models", "reproduce", version, "--json"]
    done = subprocess.run(asked, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout


def test_a_day_of_an_input_that_changed_is_named(home):
    tables, day = Tables(home.tables_dir), date(2026, 1, 5)
    rows = tables.read("transaction_features", [day])
    tables.write("transaction_features", day, rows.with_columns(pl.lit(1.0).alias(rows.columns[4])))
    (found,) = reproduce(home, "1").differences
    assert found == "1 of 24 days of transaction_features are changed, first 2026-01-05"


def test_days_that_are_gone_are_named(home):
    tables = Tables(home.tables_dir)
    for day in (date(2026, 1, 9), date(2026, 1, 10)):
        tables.path("validated_transactions", day, "parquet").unlink()
    (found,) = reproduce(home, "2").differences
    assert found == "2 of 24 days of validated_transactions are gone, first 2026-01-09"


def test_a_training_set_that_was_made_again_is_not_the_one_of_the_manifest(home):
    path = Tables(home.tables_dir).path(TABLE, DAY, "json")
    document = json.loads(path.read_bytes())
    document["rows_digest"] = "0" * 64
    path.write_text(json.dumps(document))
    assert "was made again" in reproduce(home, "1").differences[0]
    path.unlink()
    assert reproduce(home, "1").differences == (f"found no {TABLE} for {DAY}",)


def test_another_seed_is_seen_in_the_trees(home, monkeypatch):
    honest = reproduction_run.model_again

    def other_seed(model, rows, recipe, without):
        return honest(model, rows, msgspec.structs.replace(recipe, seed=6), without)

    monkeypatch.setattr(reproduction_run, "model_again", other_seed)
    found = reproduce(home, "1")
    assert "the trees have digest" in found.differences[0]
    assert "golden rows differ" in found.differences[1]
    assert found.largest_gap > 0


def test_other_code_and_another_machine_are_told_and_are_no_difference(home, monkeypatch):
    monkeypatch.setattr(reproduction_run, "machine_kind", lambda: "elsewhere")
    found = reproduce(home.model_copy(update={"code_commit": "beef+"}), "1")
    assert found.is_same
    assert found.notes[:2] == ("code_commit is beef, was c0ffee", "is_dirty is True, was False")
    assert found.notes[2].startswith("machine is elsewhere, was ")


def test_the_command_says_so_and_its_exit_code_does(home, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(home.home))
    get_settings.cache_clear()
    same = CliRunner().invoke(main, ["models", "reproduce", "1"])
    assert (same.exit_code, "version 1 is reproduced" in same.output) == (0, True)
    Tables(home.tables_dir).path("mature_labels", DAY, "parquet").unlink()
    gone = CliRunner().invoke(main, ["models", "reproduce", "1"])
    assert gone.exit_code == 1
    assert f"version 1 is NOT reproduced: 1 of 24 days of mature_labels are gone, first {DAY}" in (
        gone.output
    )
    get_settings.cache_clear()


def test_a_version_from_before_recipes_is_made_again_with_the_seed_of_the_settings(home):
    sealed_again(home.models_dir / "1", recipe=None)
    assert b"recipe" not in (home.models_dir / "1" / "manifest.json").read_bytes()
    found = reproduce(home, "1")
    assert found.is_same
    assert "names no seed" in found.notes[0]
    other = home.model_copy(update={"model": ModelPolicy(seed=7)})
    assert not reproduce(other, "1").is_same


def test_a_damaged_tree_is_told_from_a_sound_one(trained):
    model = load_bundle(trained.models_dir / "2").model
    text = model.payload
    assert tree_digest(replace(model, payload=text + b"\nparameters:\n[num_threads: 2]\n")) == (
        tree_digest(model)
    )
    place = text.index(b"leaf_value=") + 13
    other = text[:place] + (b"1" if text[place : place + 1] != b"1" else b"2") + text[place + 1 :]
    assert tree_digest(replace(model, payload=other)) != tree_digest(model)


def test_a_challenger_of_changed_code_is_rejected_where_clean_code_is_required(home):
    registry = ModelRegistry(None, home.mlflow_dir, home.models_dir)
    recipe = read_manifest(home.models_dir / "1").recipe
    sealed_again(home.models_dir / "1", recipe=msgspec.structs.replace(recipe, is_dirty=True))
    strict = home.model_copy(update={"promotion": PromotionPolicy(clean_code_required=True)})
    for settings, version, expected in (
        (home, "1", "passed"),
        (strict, "1", "failed"),
        (strict, "2", "passed"),
    ):
        _, facts = _loaded(registry, version, settings)
        assert artifact_gate(facts).outcome == expected
