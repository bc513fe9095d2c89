import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters import model_roles
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_bundle import Evidence, Lineage, load_pointed
from fraud_platform.adapters.model_history import Mandate, live_at
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.calibration import CalibrationPolicy, calibrate
from fraud_platform.errors import (
    BundleIntegrityError,
    HistoryDamagedError,
    NoChampionError,
    NotReadyError,
    PermanentError,
    RegistryUnavailableError,
)
from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport, evaluate
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.model import LIBRARIES, Model, ModelPolicy, fit, matrix
from fraud_platform.search import Trial
from tests.small_cards import small_card

POLICY = ModelPolicy(trials=1, max_rounds=8, early_stopping_rounds=4)
PROVENANCE = Provenance(
    training_set_digest="d" * 64,
    trained_as_of="2026-01-22T00:00:00+00:00",
    code_commit="c" * 40,
    dagster_run_id="dagster-run",
)


@cache
def rows(seed: int) -> pl.DataFrame:
    """900 rows over 21 days with every feature the platform computes; the first decides."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(900, len(FEATURE_NAMES)))
    start = pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    return pl.DataFrame(
        {
            "card_id": [f"c{row % 90}" for row in range(900)],
            "amount_minor": [1000] * 900,
            "is_fraud": values[:, 0] > 1.0,
            "slice": ["train"] * 900,
        }
        | {name: values[:, column] for column, name in enumerate(FEATURE_NAMES)}
    ).select(
        (start + pl.duration(minutes=pl.int_range(900) * 33)).alias("event_timestamp"), pl.all()
    )


@cache
def trained(library: str, seed: int) -> tuple[Model, pl.DataFrame, EvaluationReport]:
    model = fit(library, rows(seed), POLICY)
    scored = model.scored(rows(99))
    return model, scored, evaluate(scored, EvaluationPolicy())


@pytest.fixture(scope="session")
def new_database(tmp_path_factory) -> Path:
    """MLflow's database without content: building it takes seconds, copying it none."""
    home = tmp_path_factory.mktemp("mlflow")
    assert ModelRegistry(None, home, home / "models").alias("champion") is None
    return home / "mlflow.db"


@pytest.fixture
def registry(new_database, tmp_path) -> ModelRegistry:
    home = tmp_path / "mlflow"
    home.mkdir()
    shutil.copy(new_database, home / "mlflow.db")
    return ModelRegistry(None, home, tmp_path / "models")


def register(
    registry: ModelRegistry, *, seed: int = 1, library: str = "xgboost", run_id: str | None = None
) -> str:
    model, scored, report = trained(library, seed)
    run_id = run_id or registry.log_training(model, report, PROVENANCE)
    lineage = Lineage(
        review_threshold=report.review_threshold,
        decline_threshold=report.decline_threshold,
        trained_as_of=PROVENANCE.trained_as_of,
        training_set_digest=PROVENANCE.training_set_digest,
        run_id=run_id,
        report=report.to_dict(),
    )
    golden = matrix(rows(99), FEATURE_NAMES)[:16]
    maps = calibrate(scored["is_fraud"].to_numpy(), scored["score"].to_numpy(), CalibrationPolicy())
    evidence = Evidence(
        calibration=maps,
        golden=golden,
        reference=rows(seed).head(50),
        card=small_card(model, report),
    )
    return registry.register(model, lineage, evidence)


def state(registry: ModelRegistry) -> tuple[str | None, str | None, str | None]:
    """(champion, previous champion, version the pointer names); the pointer's bundle is sound."""
    pointer = read_deployment(registry.models_dir).champion
    if pointer is not None:
        assert load_pointed(registry.models_dir, pointer).manifest.version == pointer.version
    return (
        registry.alias("champion"),
        registry.alias("previous_champion"),
        pointer.version if pointer else None,
    )


def test_each_trial_is_a_run_below_the_training(registry):
    from mlflow import MlflowClient

    model, _, report = trained("xgboost", 1)
    whole = Trial(
        number=0,
        parameters={"max_depth": 3, "learning_rate": 0.1},
        rounds=12,
        quality=0.61,
        checkpoints=(0.5, 0.6),
        is_pruned=False,
        seconds=1.25,
    )
    cut = replace(whole, number=1, is_pruned=True)
    run_id = registry.log_training(model, report, PROVENANCE, [whole, cut])
    client = MlflowClient(tracking_uri=registry.tracking_uri)
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    runs = {run.info.run_name: run for run in found}
    assert set(runs) == {"trial 0", "trial 1"}
    assert [runs[name].data.tags["fraud/is_pruned"] for name in sorted(runs)] == ["False", "True"]
    first = runs["trial 0"]
    assert first.data.params == {"max_depth": "3", "learning_rate": "0.1"}
    assert (first.data.metrics["quality"], first.data.metrics["rounds"]) == (0.61, 12)
    assert first.info.end_time - first.info.start_time == 1250
    curve = client.get_metric_history(first.info.run_id, "quality_by_round")
    assert [(point.step, point.value) for point in curve] == [(10, 0.5), (20, 0.6)]
    assert client.get_run(run_id).data.tags["fraud/is_search_cut"] == "False"


def test_nothing_is_there_at_first(registry):
    assert state(registry) == (None, None, None)
    assert (registry.champion(), registry.publish(), registry.versions()) == (None, None, [])
    with pytest.raises(NoChampionError):
        registry.roll_back()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_training_leaves_tags_parameters_metrics_plots_and_the_models_bytes(registry, library):
    from mlflow import MlflowClient

    model, _, report = trained(library, 1)
    run_id = registry.log_training(model, report, PROVENANCE)
    client = MlflowClient(tracking_uri=registry.tracking_uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["fraud/training_set_digest"] == "d" * 64
    assert run.data.tags["fraud/feature_spec_digest"] == spec_digest()
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["dagster.run_id"] == "dagster-run"
    assert run.data.params["library"] == library
    assert run.data.metrics["average_precision"] == report.average_precision
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    name = {"xgboost": "model.ubj", "lightgbm": "model.txt"}[library]
    assert (folder / "model" / name).read_bytes() == model.payload
    assert (folder / "evaluation.html").read_text().count("<svg") >= 4
    assert "average precision" in (folder / "evaluation.md").read_text()


def test_a_run_that_is_open_in_this_process_is_not_touched_and_becomes_the_parent(registry):
    import mlflow

    model, _, report = trained("xgboost", 1)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.tracking_uri)
    try:
        with mlflow.start_run(experiment_id="0") as outer:
            child = registry.log_training(
                model,
                report,
                Provenance(
                    training_set_digest="d" * 64,
                    trained_as_of="2026-01-22T00:00:00+00:00",
                    parent_run_id=outer.info.run_id,
                ),
            )
            assert mlflow.active_run().info.run_id == outer.info.run_id
        client = mlflow.MlflowClient(tracking_uri=registry.tracking_uri)
        assert client.get_run(child).data.tags["mlflow.parentRunId"] == outer.info.run_id
        assert client.get_run(outer.info.run_id).data.metrics == {}
    finally:
        mlflow.set_tracking_uri(before)


def test_a_tool_that_opens_the_experiment_afterwards_keeps_its_artifacts_under_the_home(
    registry, tmp_path
):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=registry.tracking_uri)
    assert registry.experiment_name() == registry.experiment_name() == "fraud"
    place = client.get_experiment_by_name("fraud").artifact_location
    assert place == (tmp_path / "mlflow" / "artifacts").as_uri()


def test_registering_a_run_again_gives_the_same_version_and_a_missing_bundle_back(registry):
    version = register(registry)
    (entry,) = registry.versions()
    shutil.rmtree(registry.models_dir / version)
    assert register(registry, run_id=entry.run_id) == version
    assert registry.bundle(version).manifest.run_id == entry.run_id


def test_registering_moves_no_alias(registry):
    register(registry)
    assert state(registry) == (None, None, None)


def test_a_promotion_and_a_roll_back_restore_the_previous_version_everywhere(registry):
    one, two = register(registry, seed=1), register(registry, seed=2, library="lightgbm")
    registry.promote(one)
    assert state(registry) == (one, None, one)
    registry.promote(two)
    assert state(registry) == (two, one, two)
    assert registry.champion().model == trained("lightgbm", 2)[0]
    assert registry.roll_back() == one
    assert state(registry) == (one, None, one)
    assert registry.champion().model == trained("xgboost", 1)[0]


def test_promoting_the_champion_moves_nothing(registry):
    one, two = register(registry, seed=1), register(registry, seed=2)
    for version in (one, two, two):
        registry.promote(version)
    assert state(registry) == (two, one, two)


def test_a_second_roll_back_never_brings_the_bad_version_back(registry):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    registry.promote(two)
    registry.roll_back()
    with pytest.raises(NoChampionError, match=f"champion is {one}"):
        registry.roll_back()
    assert state(registry) == (one, None, one)


def test_a_repeated_roll_back_from_a_named_version_is_a_no_op(registry):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    registry.promote(two)
    assert registry.roll_back(from_version=two) == registry.roll_back(from_version=two) == one
    assert state(registry) == (one, None, one)


def test_the_challenger_alias_ends_when_the_challenger_is_promoted(registry):
    version = register(registry)
    registry.set_challenger(version)
    assert registry.versions()[0].aliases == ("challenger",)
    registry.promote(version)
    assert registry.versions()[0].aliases == ("champion",)


def registered(registry: ModelRegistry, count: int) -> list[str]:
    """Versions of runs without plots and files, which cost most of a registration's time."""
    experiment = registry._experiment()
    runs = [registry._client.create_run(experiment).info.run_id for _ in range(count)]
    return [register(registry, seed=seed, run_id=run) for seed, run in enumerate(runs, start=1)]


def roles(registry: ModelRegistry) -> tuple[str | None, str | None, str | None, float]:
    """(champion, challenger, previous, canary share) as scorers read them."""
    found = read_deployment(registry.models_dir)
    pointers = (found.champion, found.challenger, found.previous)
    champion, challenger, previous = (p.version if p else None for p in pointers)
    return champion, challenger, previous, found.canary_share


def test_the_deployment_follows_every_move(registry):
    one, two, three = registered(registry, 3)
    registry.set_challenger(one)
    assert roles(registry) == (None, one, None, 0.0)
    registry.promote(one)
    assert roles(registry) == (one, None, None, 0.0)
    registry.set_challenger(two)
    registry.set_canary(0.25)
    assert roles(registry) == (one, two, None, 0.25)
    registry.promote(two)
    assert roles(registry) == (two, None, one, 0.0)
    registry.set_challenger(three)
    registry.roll_back()
    assert roles(registry) == (one, three, None, 0.0)


def test_a_promotion_ends_every_challenge(registry):
    one, two = registered(registry, 2)
    registry.set_challenger(two)
    registry.promote(one)
    assert roles(registry) == (one, None, None, 0.0)
    registry.set_challenger(two)
    registry.promote(one)
    assert roles(registry) == (one, two, None, 0.0), "it was champion already: nothing moved"


def test_a_canary_ends_with_its_challenger_and_goes_on_otherwise(registry):
    one, two, three = registered(registry, 3)
    registry.promote(one)
    registry.set_challenger(two)
    registry.set_canary(0.5)
    registry.publish()
    assert roles(registry) == (one, two, None, 0.5)
    registry.set_challenger(three)
    assert roles(registry) == (one, three, None, 0.0)


def test_a_canary_needs_a_challenger_and_a_share(registry):
    registry.promote(*registered(registry, 1))
    with pytest.raises(NotReadyError, match="no usable challenger"):
        registry.set_canary(0.1)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(PermanentError, match="canary share"):
            registry.set_canary(share)
    registry.set_canary(0.0)


def test_each_move_is_seen_by_its_sequence_number_and_no_move_is_none(registry):
    one, two = registered(registry, 2)
    registry.promote(one)
    first = read_deployment(registry.models_dir)
    registry.publish()
    registry.promote(one)
    assert read_deployment(registry.models_dir) == first
    registry.promote(two)
    registry.roll_back()
    again = read_deployment(registry.models_dir)
    assert (again.champion, again.sequence > first.sequence) == (first.champion, True)


def test_a_damaged_deployment_is_written_again(registry):
    (version,) = registered(registry, 1)
    registry.promote(version)
    (registry.models_dir / "deployment.json").write_bytes(b"{")
    assert registry.publish() == version
    assert roles(registry) == (version, None, None, 0.0)


def test_a_challenger_whose_bundle_is_gone_has_no_role_and_stops_no_promotion(registry):
    one, two = registered(registry, 2)
    registry.set_challenger(two)
    shutil.rmtree(registry.models_dir / two)
    registry.promote(one)
    assert roles(registry) == (one, None, None, 0.0)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run `fraud-platform models ...` on the registry's home and return what it prints."""
    from click.testing import CliRunner

    from fraud_platform.cli import main
    from fraud_platform.settings import get_settings

    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    get_settings.cache_clear()

    def ask(*arguments: str) -> str:
        found = CliRunner().invoke(main, ["models", *arguments], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.output

    yield ask
    get_settings.cache_clear()


def test_the_command_line_shows_and_moves_roles(registry, ask):
    one, two = registered(registry, 2)
    registry.promote(one)
    registry.promote(two)
    registry.set_challenger(one)
    assert f"champion    {two}" in ask("show")
    assert f"version {one}: xgboost" in ask("show")
    assert ask("canary", "0.25") == f"champion: {two}, challenger: {one} on 25.0% of the cards\n"
    assert ask("roll-back", "--from", two).startswith(f"champion: {one}")
    assert ask("roll-back", "--from", two).startswith(f"champion: {one}"), "safe to repeat"
    assert ask("publish").startswith(f"champion: {one}")
    assert '"canary_share": 0.0' in ask("show", "--json")


def test_the_command_line_tells_the_history_and_answers_proposals(registry, ask):
    one, two = registered(registry, 2)
    registry.promote(one)
    assert f" promote {one} by platform" in ask("history")
    assert ask("history", "--at", "2020-01-01T00:00:00").startswith("champion    none")
    assert f"champion    {one}" in ask("history", "--at", "2100-01-01T00:00:00+0100")
    registry.propose(two, Mandate(by="anna"))
    assert "waits for approval" in ask("show")
    assert ask("publish").startswith(f"champion: {one}")
    registry.docket.vote(two, "approve", Mandate(by="bert", why="seen"))
    assert ask("promote", two, "--reason", "approved").startswith(f"champion: {two}")
    assert '"why": "approved"' in ask("history", "--json")


def test_a_verdict_about_another_champion_neither_promotes_nor_proposes(registry):
    one, two, three = registered(registry, 3)
    registry.promote(one, replacing=None)
    registry.promote(two, replacing=one)
    for act in (registry.promote, registry.propose):
        with pytest.raises(PermanentError, match=f"against {one}; the champion is {two}"):
            act(three, Mandate(by="run"), replacing=one)
    assert registry.promote(two, replacing=one) == two, "the same act again changes nothing"
    assert registry.propose(two, Mandate(by="run"), replacing=one) is None
    assert [entry.act for entry in registry.history()] == ["promote", "promote"]


@pytest.mark.parametrize("name", ["", " "])
def test_nobody_moves_nothing(name):
    with pytest.raises(PermanentError, match="by nobody"):
        Mandate(by=name)


def test_a_dismissed_challenger_scores_no_more_and_gets_no_cards(registry):
    one, two = registered(registry, 2)
    registry.promote(one)
    registry.set_challenger(two)
    registry.set_canary(0.5)
    registry.dismiss(one)
    assert roles(registry) == (one, two, None, 0.5), "it was not the challenger: nothing moved"
    registry.dismiss(two, Mandate(by="run", why="a leak"))
    assert roles(registry) == (one, None, None, 0.0)
    last = registry.history()[-1]
    assert (last.act, last.version, last.why) == ("dismiss", two, "a leak")


def test_where_approval_is_required_a_canary_needs_it_before_its_first_cards(
    registry, ask, monkeypatch
):
    one, two = registered(registry, 2)
    registry.promote(one)
    registry.set_challenger(two)
    monkeypatch.setenv("FRAUD_PROMOTION__APPROVAL_REQUIRED", "true")
    for _ in range(2):
        with pytest.raises(AssertionError, match=f"nobody approved version {two}"):
            ask("canary", "0.5", "--by", "anna")  # of the exit code
        registry.propose(two, Mandate(by="anna"))
    registry.docket.vote(two, "approve", Mandate(by="bert"))
    assert "on 50.0% of the cards" in ask("canary", "0.5", "--by", "bert")
    assert "on 0.0% of the cards" in ask("canary", "0", "--by", "anna"), "ending it needs nobody"


def test_aliases_that_were_moved_by_hand_are_found_and_told(registry):
    one, two = registered(registry, 2)
    registry.promote(one)
    registry._client.set_registered_model_alias("fraud", "champion", two)
    registry.publish(Mandate(by="anna"))
    _, found, published = registry.history()
    assert (found.act, found.by, found.aliases["champion"]) == ("found", "unknown", two)
    assert found.deployment.champion.version == one, "scorers follow only what is published"
    assert (published.by, published.deployment.champion.version) == ("anna", two)


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


@pytest.fixture
def killed_before_the_pointer(monkeypatch):
    """Call something, and die at the moment it would write the pointer."""

    def die(*_: object) -> None:
        raise Killed

    def call(act, *arguments: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(model_roles, "write_deployment", die)
            with pytest.raises(Killed):
                act(*arguments)

    return call


@pytest.mark.parametrize("heal", ["publish", "promote"])
def test_a_kill_between_alias_and_pointer_is_healed_by_the_next_call(
    registry, killed_before_the_pointer, heal
):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    killed_before_the_pointer(registry.promote, two)
    assert state(registry) == (two, one, one)
    registry.publish() if heal == "publish" else registry.promote(two)
    assert state(registry) == (two, one, two)


def test_a_kill_in_a_roll_back_is_healed_by_asking_again(registry, killed_before_the_pointer):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    registry.promote(two)
    killed_before_the_pointer(registry.roll_back, two)
    assert state(registry) == (one, None, two)
    registry.roll_back(from_version=two)
    assert state(registry) == (one, None, one)


def test_a_damaged_bundle_is_not_promoted_and_nothing_moves(registry):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    (registry.models_dir / two / "model.ubj").write_bytes(b"junk")
    for act in (registry.promote, registry.set_challenger):
        with pytest.raises(BundleIntegrityError):
            act(two)
    assert state(registry) == (one, None, one)


def test_a_damaged_previous_champion_is_not_rolled_back_to(registry):
    one, two = register(registry, seed=1), register(registry, seed=2)
    registry.promote(one)
    registry.promote(two)
    (registry.models_dir / one / "golden.npz").unlink()
    with pytest.raises(BundleIntegrityError):
        registry.roll_back()
    assert state(registry) == (two, one, two)


def test_a_version_that_was_never_registered_cannot_be_promoted(registry):
    with pytest.raises(BundleIntegrityError, match="missing"):
        registry.promote("7")


def test_a_bundle_that_mlflow_does_not_know_cannot_be_promoted(registry):
    version = register(registry)
    with sqlite3.connect(registry.tracking_uri.removeprefix("sqlite:///")) as database:
        database.execute("DELETE FROM model_versions")
    with pytest.raises(PermanentError, match="refused to move an alias"):
        registry.promote(version)
    assert registry.history() == ()
    assert state(registry) == (None, None, None)


def test_two_processes_that_promote_at_once_leave_alias_and_pointer_in_agreement(
    registry, tmp_path
):
    versions = [register(registry, seed=1), register(registry, seed=2)]
    program = (
        "import sys; from pathlib import Path;"
        "from fraud_platform.adapters.model_registry import ModelRegistry;"
        "registry = ModelRegistry(None, Path(sys.argv[1]), Path(sys.argv[2]));"
        "[registry.promote(version) for version in sys.argv[3].split(',') * 4]"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "mlflow"), str(tmp_path / "models")]
    orders = [",".join(versions), ",".join(reversed(versions))]
    racers = [subprocess.Popen([*arguments, order]) for order in orders]
    assert [racer.wait(timeout=300) for racer in racers] == [0, 0]
    champion, previous, pointed = state(registry)
    assert champion == pointed
    assert {champion, previous} == set(versions)


def test_a_models_folder_that_cannot_be_written_is_unavailable_and_heals(registry):
    register(registry)
    (entry,) = registry.versions()
    shutil.rmtree(registry.models_dir)
    registry.models_dir.write_text("a file where a folder should be")
    with pytest.raises(RegistryUnavailableError, match="write a bundle"):
        register(registry, run_id=entry.run_id)
    registry.models_dir.unlink()
    assert register(registry, run_id=entry.run_id) == entry.version


def test_a_file_that_is_no_database_is_unavailable_not_empty(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    registry = ModelRegistry(None, tmp_path, tmp_path / "models")
    with pytest.raises(RegistryUnavailableError):
        registry.alias("champion")


def test_a_home_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    registry = ModelRegistry(None, tmp_path / "home", tmp_path / "models")
    with pytest.raises(RegistryUnavailableError):
        registry.alias("champion")


# --- the history ------------------------------------------------------------------------------


ANNA, BERT = Mandate(by="anna", why="it is better", evidence="e" * 64), Mandate(by="bert")


def test_the_history_says_who_moved_what_when_and_why(registry):
    one, two = registered(registry, 2)
    registry.promote(one, ANNA)
    between = datetime.now(UTC)
    registry.set_challenger(two)
    registry.set_canary(0.25, BERT)
    registry.promote(two, ANNA)
    registry.roll_back(two, Mandate(by="bert", why="too many alerts"))
    entries = registry.history()
    acts = ["promote", "challenge", "canary", "promote", "roll_back"]
    assert [entry.act for entry in entries] == acts
    assert (entries[0].by, entries[0].why, entries[0].evidence) == (
        "anna",
        "it is better",
        "e" * 64,
    )
    assert (entries[-1].by, entries[-1].why) == ("bert", "too many alerts")
    assert live_at(entries, between).deployment.champion.version == one
    assert live_at(entries, between).deployment.challenger is None
    assert live_at(entries, entries[2].at).deployment.canary_share == 0.25
    assert live_at(entries, entries[3].at).deployment.champion.version == two
    assert live_at(entries, entries[0].at - timedelta(microseconds=1)) is None
    assert entries[-1].deployment == read_deployment(registry.models_dir)


def test_what_moves_nothing_is_not_in_the_history(registry):
    (one,) = registered(registry, 1)
    registry.promote(one)
    registry.promote(one)
    registry.publish()
    assert [entry.act for entry in registry.history()] == ["promote"]


STEPS = ("set_registered_model_alias", "delete_registered_model_alias", "write_deployment")


@pytest.mark.parametrize("step", STEPS)
def test_a_move_killed_at_any_step_is_finished_with_its_reason_and_its_true_time(
    registry, monkeypatch, step
):
    one, two = registered(registry, 2)
    registry.promote(one)
    registry.set_challenger(two)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(model_roles if step == "write_deployment" else registry._client, step, die)
        with pytest.raises(Killed):
            registry.promote(two, ANNA)
    killed = datetime.now(UTC)
    assert roles(registry) == (one, two, None, 0.0), "scorers saw nothing of it"
    registry.publish(BERT)
    assert roles(registry) == (two, None, one, 0.0)
    assert state(registry) == (two, one, two)
    last = registry.history()[-1]
    assert (last.act, last.by, last.why) == ("complete", "anna", "it is better")
    assert live_at(registry.history(), killed).deployment.champion.version == one
    assert live_at(registry.history(), last.at).deployment.champion.version == two
    registry.publish()
    assert registry.history()[-1] == last, "finishing it once is enough"


def test_a_line_cut_off_by_a_power_cut_never_was_and_is_written_over(registry):
    one, two = registered(registry, 2)
    registry.promote(one)
    path = registry.models_dir / "history.jsonl"
    with path.open("ab") as file:
        file.write(b'{"at_us":17')
    assert [entry.version for entry in registry.history()] == [one]
    registry.promote(two)
    assert [entry.version for entry in registry.history()] == [one, two]


@pytest.mark.parametrize("harm", ["change", "drop", "swap"])
def test_a_history_that_was_edited_is_refused(registry, harm):
    one, two = registered(registry, 2)
    registry.promote(one, ANNA)
    registry.promote(two, ANNA)
    registry.roll_back()
    path = registry.models_dir / "history.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    edited = {
        "change": (first.replace(b"anna", b"otto"), second, third),
        "drop": (first, third),
        "swap": (second, first, third),
    }
    path.write_bytes(b"".join(edited[harm]))
    with pytest.raises(HistoryDamagedError, match="line"):
        registry.history()


def test_processes_killed_while_they_move_leave_a_history_that_agrees_with_everything(
    registry, tmp_path
):
    versions = registered(registry, 2)
    program = (
        "import sys; from pathlib import Path;"
        "from fraud_platform.adapters.model_registry import ModelRegistry;"
        "registry = ModelRegistry(None, Path(sys.argv[1]), Path(sys.argv[2]));"
        "print('ready', flush=True);"
        "[registry.promote(version) for version in sys.argv[3:] * 1000]"
    )
    arguments = [str(tmp_path / "mlflow"), str(tmp_path / "models"), *versions]
    for pause in (0.05, 0.4):
        mover = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE
        )
        assert mover.stdout.readline() == b"ready\n"
        time.sleep(pause)
        mover.kill()
        mover.wait()
        mover.stdout.close()
        registry.publish()
        champion, _, pointed = state(registry)
        entries = registry.history()
        if entries:
            assert entries[-1].deployment == read_deployment(registry.models_dir)
        assert champion == pointed == (entries[-1].aliases["champion"] if entries else None)
