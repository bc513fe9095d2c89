"""The asset graph over real parts: what each run leaves behind, and what stops it."""

import shutil
import sqlite3
import struct
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from litestar.testing import TestClient

from assets.signals import LIVE_HEALTH
from assets.timing import end_of, start_of
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.feature_store import FeatureStore
from fraud_platform.adapters.heal_actuator import HomeActuator
from fraud_platform.adapters.heal_evidence import gather
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_policy_file import policy_in_force
from fraud_platform.adapters.model_contest import newest_payments
from fraud_platform.adapters.notices import notices_of
from fraud_platform.errors import LabelsNotMatureError, NotReadyError
from fraud_platform.events import microseconds
from fraud_platform.fallbacks import FALLBACKS, GROUPS, without
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.features.table_digest import digest as table_digest
from fraud_platform.heal.actions import Action
from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.policy_parts import Rung
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.remedies import act_for
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.rollout import RolloutPolicy
from fraud_platform.schemas import LABELS, TRANSACTIONS
from fraud_platform.training_document import TrainingSetDocument
from serving.app import create_app

pytestmark = pytest.mark.xdist_group("graph")

# As in the conftest: the small world's closed days, and the one on which nothing happened yet.
FIRST_DAY, LAST_DAY, OPEN_DAY = date(2026, 1, 5), date(2026, 2, 3), date(2026, 2, 4)
JUDGED = date(2026, 1, 31)  # the first day that was monitored again with the champion
LOG_TABLES = ("raw_transactions", "validated_transactions", "quarantined_transactions", "labels")
DAILY_TABLES = (*LOG_TABLES, "transaction_features", "mature_labels")


def every_day(platform, name):
    return platform.tables.read(name, platform.tables.days(name))


def files(platform, *days):
    """The bytes of the daily tables on some days."""
    paths = [platform.tables.path(name, day, "parquet") for name in DAILY_TABLES for day in days]
    return {str(Path(path.parent.name, path.name)): path.read_bytes() for path in paths}


def started_steps(result):
    return {event.step_key for event in result.all_events if event.is_step_start}


def accuse_too_early(platform, day):
    """A verdict that was known at nine and received at eight; no door would let it in."""
    payment = platform.tables.read("raw_transactions", [day])["transaction_id"][0]
    known = start_of(day) + timedelta(hours=9)
    verdict = {
        "transaction_id": payment,
        "verdict": "fraud",
        "label_source": "analyst",
        "label_timestamp": known,
        "received_timestamp": known - timedelta(hours=1),
    }
    told = LABELS.empty().drop("seq", "event_timestamp", "card_id", "terminal_id")
    platform.log.append(TRANSACTIONS.empty(), pl.DataFrame([verdict], schema=told.schema))


def damage_bundle(platform, version):
    """Flip one bit of a version's model file."""
    (model,) = (platform.settings.models_dir / version).glob("model.*")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    return model


# --- the daily run ---------------------------------------------------------------------------


def test_every_raw_row_is_valid_or_quarantined(story):
    raw, valid = every_day(story, "raw_transactions"), every_day(story, "validated_transactions")
    kept_aside = every_day(story, "quarantined_transactions")
    assert raw.height > 15_000
    at_the_door = kept_aside.filter(pl.col("transaction_id") == "refused").height
    assert at_the_door == 1
    assert raw.height == valid.height + kept_aside.height - at_the_door


def test_a_broken_row_of_the_log_is_quarantined_by_its_rule_and_has_no_features(story):
    aside = every_day(story, "quarantined_transactions").sort("transaction_id")
    assert aside["transaction_id"].to_list() == ["planted", "refused"]
    assert aside["broken_rule"].to_list() == ["amount_is_not_negative"] * 2
    assert story.tables.read("quarantined_transactions", [date(2026, 1, 20)]).height == 1
    features = every_day(story, "transaction_features")
    assert not features["transaction_id"].is_in(["planted", "refused"]).any()
    assert features.height == every_day(story, "validated_transactions").height


def test_the_numbers_a_person_asks_for_first_are_metadata_of_the_run(story):
    # One run over a range: Dagster shows the run's totals on each of its days.
    shown = story.metadata("raw_transactions", LAST_DAY)
    assert shown["dagster/row_count"] == every_day(story, "raw_transactions").height
    assert shown["fraud/cards"] == 301
    rules = story.metadata("quarantined_transactions", LAST_DAY)["fraud/rows_by_rule"]
    assert rules == {"amount_is_not_negative": 2}


def test_a_day_materialized_again_alone_gives_the_same_bytes(branch):
    days = (date(2026, 1, 8), date(2026, 1, 25))
    before = files(branch, *days)
    for day in days:
        assert branch.run("daily", day, assets=DAILY_TABLES).success
    assert files(branch, *days) == before


def test_days_may_be_computed_again_together_and_each_has_its_own_check_result(branch):
    first, bad, last = (date(2026, 1, day) for day in (24, 25, 26))
    assert branch.run_range("daily", first, last, assets=("labels",)).success
    accuse_too_early(branch, bad)
    again = branch.run_range("daily", first, last, assets=("labels",), raise_on_error=False)
    assert not again.success
    results = {e.partition: e.passed for e in again.get_asset_check_evaluations()}
    assert results == {None: False, str(first): True, str(bad): False, str(last): True}
    stored = branch.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("labels"), "no_label_is_from_the_future"), limit=100
    )
    assert len(stored) == 8, "two runs over three days, and each run as a whole"
    assert {record.status.value for record in stored} == {"SUCCEEDED", "FAILED"}, "none is pending"


def test_labels_mature_after_seven_days_and_not_before(story, small_world):
    mature = story.tables.read("mature_labels", [date(2026, 1, 20)])
    assert set(mature["event_timestamp"].dt.date()) == {date(2026, 1, 13)}
    known = small_world.filter(
        pl.col("event_timestamp").dt.date() == date(2026, 1, 13),
        pl.col("label_timestamp") < datetime(2026, 1, 21, tzinfo=UTC),
    )
    frauds = mature.filter("is_fraud")["transaction_id"]
    assert set(frauds) == set(known["transaction_id"])


def test_an_impossible_label_stops_everything_that_would_use_it(branch):
    day = date(2026, 1, 25)
    accuse_too_early(branch, day)
    before = files(branch, day)
    result = branch.run("daily", day, raise_on_error=False)
    (failed,) = (c for c in result.get_asset_check_evaluations() if not c.passed)
    assert failed.check_name == "no_label_is_from_the_future"
    assert failed.metadata["offending"].value == 1
    assert started_steps(result).isdisjoint({"transaction_features", "mature_labels"})
    changed = {name for name, content in files(branch, day).items() if content != before[name]}
    assert changed == {f"labels/{day}.parquet"}, "nothing downstream was written again"


def test_a_gap_in_the_history_stops_the_run_and_says_what_to_do(branch):
    gap = date(2026, 1, 20)
    branch.tables.path("validated_transactions", gap, "parquet").unlink()
    with pytest.raises(NotReadyError, match="missing, first 2026-01-20") as error:
        branch.tables.read("validated_transactions", [date(2026, 1, d) for d in range(15, 26)])
    assert error.value.hint == f"materialize validated_transactions for {gap} to {gap}"
    result = branch.run(
        "daily", date(2026, 1, 25), assets=("transaction_features",), raise_on_error=False
    )
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "found 1 of 21 days of validated_transactions missing" in str(
        failure.step_failure_data.error
    )


def test_days_before_the_history_are_no_gap(story):
    before = [FIRST_DAY - timedelta(days=n) for n in (2, 1)]
    rows = story.tables.read("labels", [*before, FIRST_DAY])
    assert rows.equals(story.tables.read("labels", [FIRST_DAY]))


# --- what the scorer served against what the batch computes ----------------------------------


@pytest.fixture
def served(branch):
    """The story, after a scorer decided on forty payments of the open day and it was computed."""
    noon = datetime(2026, 2, 4, 12, tzinfo=UTC)
    known = every_day(branch, "transaction_features")  # of sound payments only
    cards, shops = (known[column].unique().sort() for column in ("card_id", "terminal_id"))
    with TestClient(create_app(branch.settings, clock=lambda: microseconds(noon))) as client:
        for number in range(40):
            payment = {
                "transaction_id": f"live-{number}",
                "event_timestamp": (noon - timedelta(minutes=90 - number)).isoformat(),
                "card_id": cards[number % 7],
                "terminal_id": shops[number % 5],
                "amount_minor": 900 + 371 * number,
                "currency": "EUR",
            }
            answer = client.post("/v1/decisions", json=payment)
            assert answer.status_code == 200, answer.text
            assert answer.json()["model_version"] == "1"
    return branch


def parity(evaluations):
    return next(e for e in evaluations if e.check_name.startswith("every_served_feature"))


def test_every_served_feature_equals_its_batch_value(served):
    result = served.run("daily", OPEN_DAY)
    check = parity(result.get_asset_check_evaluations())
    assert check.passed
    assert served.log.decisions(start_of(OPEN_DAY), end_of(OPEN_DAY)).height == 40


def test_one_tampered_feature_value_is_found(served):
    served.log.drain()
    with sqlite3.connect(served.settings.log_path) as log:
        (blob,) = log.execute(
            "SELECT features FROM decisions WHERE transaction_id = 'live-3'"
        ).fetchone()
        (amount,) = struct.unpack_from("<d", blob)
        forged = struct.pack("<d", amount + 1.0) + blob[8:]
        log.execute("UPDATE decisions SET features = ? WHERE transaction_id = 'live-3'", (forged,))
    result = served.run("daily", OPEN_DAY)
    check = parity(result.get_asset_check_evaluations())
    assert not check.passed
    assert check.metadata["offending"].value == 1
    assert result.success, "the check watches; the day is not held back"


# --- training --------------------------------------------------------------------------------


def test_the_first_model_that_passes_the_gate_is_champion(story):
    assert story.registry.alias("champion") == "1"
    assert story.registry.alias("previous_champion") is None
    assert story.registry.alias("challenger") is None, "it won: it no longer asks"
    pointer = read_deployment(story.settings.models_dir).champion
    assert pointer is not None
    assert pointer.version == "1"
    shown = story.metadata("champion", LAST_DAY)
    assert shown["fraud/champion_version"] == "1"
    assert shown["fraud/previous_version"] == "none"
    assert shown["fraud/verdict"] == "promote"


def test_the_training_set_is_cut_by_time_and_holds_no_young_label(story):
    rows = story.tables.read("training_set", [LAST_DAY])
    days = {
        part: (group["event_timestamp"].dt.date().min(), group["event_timestamp"].dt.date().max())
        for (part,), group in rows.group_by("slice")
    }
    # Mature on February 3: payments up to January 27. Seven days each for test and delay.
    assert days["test"] == (date(2026, 1, 21), date(2026, 1, 27))
    assert days["delay"] == (date(2026, 1, 14), date(2026, 1, 20))
    assert days["train"] == (date(2026, 1, 5), date(2026, 1, 13))


def test_the_champions_scores_mean_what_they_meant_on_the_rows_that_set_its_thresholds(story):
    rows = story.tables.read("training_set", [LAST_DAY]).filter(pl.col("slice") == "test")
    champion = story.registry.bundle("1")
    maps, manifest = champion.calibration, champion.manifest
    frauds = int(rows["is_fraud"].sum())
    assert (maps.frauds, maps.genuine) == (frauds, rows.height - frauds)
    assert maps.expected_fpr(manifest.review_threshold) <= story.settings.decision.review_fpr
    assert maps.expected_fpr(manifest.decline_threshold) <= story.settings.decision.decline_fpr
    shown = story.metadata(f"{manifest.library}_model", LAST_DAY)
    assert shown["fraud/calibrated_on_frauds"] == frauds
    assert shown["fraud/states_probability"] == (frauds >= story.settings.calibration.min_frauds)
    print(
        f"\n{frauds} frauds, probability at the review threshold: "
        f"{maps.probability(manifest.review_threshold)}"
    )


def test_every_training_is_a_finished_run_with_everything_it_takes_to_repeat_it(story):
    client = story.registry._client  # MLflow's own, on the same database
    (version,) = client.search_model_versions("name='fraud'")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    digest = story.metadata("training_set", LAST_DAY)["fraud/training_set_digest"]
    assert run.data.tags["fraud/training_set_digest"] == digest
    assert run.data.tags["fraud/feature_spec_digest"] == spec_digest()
    assert run.data.tags["fraud/trained_as_of"] == "2026-02-04T00:00:00+00:00"
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.params["library"] in {"xgboost", "lightgbm"}
    assert 0 < run.data.metrics["average_precision"] < 1
    (model,) = client.list_artifacts(run.info.run_id, "model")
    assert Path(model.path).name in {"model.ubj", "model.txt"}
    assert "evaluation.html" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_both_trainings_hang_under_one_mlflow_run_which_ended_with_dagsters(story):
    client = story.registry._client
    experiment = client.get_experiment_by_name("fraud").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)

    def below(run_id):
        return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == run_id]

    trainings = below(parent.info.run_id)
    assert sorted(run.data.params["library"] for run in trainings) == ["lightgbm", "xgboost"]
    for run in trainings:
        trials = [r for r in below(run.info.run_id) if "fraud/is_pruned" in r.data.tags]
        assert len(trials) == story.settings.model.trials
    assert parent.info.status == "FINISHED"
    (retrain,) = (r for r in story.instance.get_runs() if r.job_name == "retrain")
    assert parent.data.tags["dagster_run_id"] == retrain.run_id


def test_the_champion_has_a_fallback_for_every_group_that_holds_the_same_promises(story):
    deployed = read_deployment(story.settings.models_dir)
    assert set(deployed.fallbacks) == {*GROUPS, "all"}
    rows = story.tables.read("training_set", [LAST_DAY]).filter(pl.col("slice") == "test")
    for name, pointer in deployed.fallbacks.items():
        assert pointer.version == f"1-without-{name}"
        bundle = story.registry.bundle(pointer.version)
        assert bundle.manifest.without == FALLBACKS[name]
        assert bundle.manifest.rounds == -(-story.registry.bundle("1").manifest.rounds // 2)
        cuts = (bundle.manifest.review_threshold, bundle.manifest.decline_threshold)
        fpr = [bundle.calibration.expected_fpr(cut) for cut in cuts]
        policy = story.settings.decision
        assert fpr[0] <= policy.review_fpr
        assert fpr[1] <= policy.decline_fpr
        scores = bundle.model.scored(rows)["score"]
        assert bundle.model.scored(without(rows, FALLBACKS[name]))["score"].equals(scores)
    known = story.registry._client.search_model_versions("name='fraud_fallback'")
    assert len(known) == len(FALLBACKS)
    assert [version.version for version in story.registry.versions()] == ["1"]


def test_fallbacks_that_are_there_are_not_trained_again(branch):
    before = read_deployment(branch.settings.models_dir).fallbacks
    shutil.rmtree(branch.settings.models_dir / "1-without-money")
    assert branch.run("retrain", LAST_DAY, assets=("fallback_models",)).success
    after = read_deployment(branch.settings.models_dir).fallbacks
    assert {n for n in before if before[n] != after[n]} == {"money"}, "its run is another"


def test_training_again_gives_the_same_models_and_an_equal_challenger_may_only_watch(story, branch):
    shutil.rmtree(branch.settings.studies_dir)  # or the trials would not be made again
    assert branch.run("retrain", LAST_DAY).success
    for library in ("xgboost", "lightgbm"):
        again = branch.metadata(f"{library}_model", LAST_DAY)["fraud/model_digest"]
        assert again == story.metadata(f"{library}_model", LAST_DAY)["fraud/model_digest"]
    assert branch.metadata("model_comparison", LAST_DAY)["fraud/verdict"] == "shadow_only"
    assert branch.registry.alias("champion") == "1"
    assert branch.registry.alias("challenger") == "2"


def test_training_waits_until_labels_are_mature(branch):
    # On January 20 only the payments up to January 13 came of age: nine days of twenty-one.
    day = date(2026, 1, 20)
    with pytest.raises(LabelsNotMatureError, match=r"9 days have mature labels.*at least 21"):
        branch.run("retrain", day, assets=("training_set",))
    assert not branch.tables.path("training_set", day, "parquet").exists()
    assert branch.registry.alias("champion") == "1"


def test_the_document_beside_the_training_set_says_what_it_was_made_of(story):
    told = story.tables.read_document("training_set_document", LAST_DAY, TrainingSetDocument)
    assert told.digest == story.metadata("training_set", LAST_DAY)["fraud/training_set_digest"]
    assert told.require(story.tables.read("training_set", [LAST_DAY])) == told.digest
    assert {part.name: part.effective_sample_size for part in told.slices} == {
        part.name: part.rows for part in told.slices
    }, "nothing was declined, so every row stands for itself"
    day = date(2026, 1, 25)
    features = story.tables.read("transaction_features", [day])
    assert told.inputs["transaction_features"][str(day)] == table_digest(features)


def broken(branch, cause, first, last):
    """The ledger says that an input was broken from the noon of one day to that of another."""
    ledger = HealLedger(branch.settings.heal_ledger_path)
    for kind, day in ((Kind.DIAGNOSED, first), (Kind.CLOSED, last)):
        at = microseconds(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
        told = Record(kind=kind, event_us=at, now_us=at, cause=cause, episode=f"{cause}@1")
        ledger.append(told)


def test_nothing_is_learnt_from_payments_of_a_broken_input_and_the_document_says_so(branch, story):
    broken(branch, "unit_change", date(2026, 1, 8), date(2026, 1, 9))
    broken(branch, "null_flood", date(2026, 1, 23), date(2026, 1, 24))
    branch.run("retrain", LAST_DAY)
    whole, rows = (p.tables.read("training_set", [LAST_DAY]) for p in (story, branch))
    gone = whole.join(rows, on="transaction_id", how="anti")
    assert set(gone["slice"]) == {"train", "test"}
    # Six hours before each diagnosis are in doubt, too.
    spans = [(datetime(2026, 1, d, 6, tzinfo=UTC), datetime(2026, 1, d + 1, 12, tzinfo=UTC))
             for d in (8, 23)]  # fmt: skip
    inside = pl.any_horizontal(pl.col("event_timestamp").is_between(*span) for span in spans)
    assert gone.equals(whole.filter(inside))
    assert rows.filter(inside).is_empty()
    told = branch.tables.read_document("training_set_document", LAST_DAY, TrainingSetDocument)
    assert [(one.why, one.since, one.until) for one in told.left_out] == [
        ("unit_change", *spans[0]),
        ("null_flood", *spans[1]),
    ]
    assert sum(one.rows for one in told.left_out) == gone.height
    shown = branch.metadata("training_set", LAST_DAY)
    assert shown["fraud/left_out_in_doubt"] == gone.height
    # The reference of drift is a sample of the train rows: of those that are left.
    newest = branch.registry.versions()[-1].version
    train = rows.filter(pl.col("slice") == "train").select(FEATURE_NAMES)
    sample = branch.registry.bundle(newest).reference().select(FEATURE_NAMES)
    assert sample.join(train, on=FEATURE_NAMES, how="anti", nulls_equal=True).is_empty()


def test_no_two_models_meet_on_payments_of_a_broken_input(branch):
    day = date(2026, 2, 3)
    features = branch.tables.read("transaction_features", [day])
    broken(branch, "unit_change", day, day)
    spans = HealLedger(branch.settings.heal_ledger_path).doubtful()
    end = datetime(2026, 2, 4, tzinfo=UTC)
    met = newest_payments(branch.log, features, end, branch.settings.promotion, spans)
    is_sound = (pl.col("event_timestamp").dt.hour() < 6) | (
        pl.col("event_timestamp") > datetime(2026, 2, 3, 12, tzinfo=UTC)
    )
    assert 0 < len(met) == features.filter(is_sound).height < features.height


def test_no_model_learns_from_a_training_set_that_leaks(branch):
    frauds = branch.tables.read("mature_labels", branch.tables.days("mature_labels"))
    frauds = frauds.filter("is_fraud").select("transaction_id", leak=pl.lit(1.0))
    for day in branch.tables.days("transaction_features"):
        rows = branch.tables.read("transaction_features", [day])
        told = rows.join(frauds, on="transaction_id", how="left", maintain_order="left")
        leaking = told.with_columns(transaction_is_night="leak").drop("leak")
        branch.tables.write("transaction_features", day, leaking)
    result = branch.run("retrain", LAST_DAY, raise_on_error=False)
    (failed,) = (c for c in result.get_asset_check_evaluations() if not c.passed)
    assert failed.check_name == "the_training_set_leaks_nothing"
    assert any("transaction_is_night" in alarm for alarm in failed.metadata["alarms"].value)
    assert started_steps(result).isdisjoint({"xgboost_model", "lightgbm_model", "challenger"})


def test_the_mlflow_run_of_a_failed_training_does_not_stay_open(branch):
    result = branch.run("retrain", date(2026, 1, 20), raise_on_error=False)
    assert not result.success
    client = branch.registry._client
    runs = client.search_runs([client.get_experiment_by_name("fraud").experiment_id])
    (run,) = (run for run in runs if run.data.tags.get("dagster_run_id") == result.run_id)
    assert run.info.status == "FAILED"


def test_the_feature_catalogue_lists_the_service_of_the_champion(story):
    store = FeatureStore(story.settings.feast_dir)
    service = store._feast.get_feature_service("fraud_v1")
    listed = [field.name for view in service.feature_view_projections for field in view.features]
    assert sorted(listed) == sorted(FEATURE_NAMES)
    newest = every_day(story, "transaction_features").filter(
        pl.col("event_timestamp").dt.date() == LAST_DAY
    )
    last = newest.sort("event_timestamp", "seq").tail(1).to_dicts()[0]
    stored = store.online(last["card_id"], last["terminal_id"])
    assert stored
    assert stored == {name: last[name] for name in stored}


# --- the champion's bundle -------------------------------------------------------------------


def test_the_published_champion_passes_its_golden_rows(branch):
    check = branch.check("champion", "champion_passes_its_golden_rows", LAST_DAY)
    assert check.passed
    assert check.metadata["version"].value == "1"


def test_a_damaged_bundle_fails_the_champions_check(branch):
    model = damage_bundle(branch, "1")
    check = branch.check("champion", "champion_passes_its_golden_rows", LAST_DAY)
    assert not check.passed
    assert model.name in check.metadata["problem"].value


def test_a_champion_that_cannot_be_loaded_stops_no_day_and_is_replaced(branch):
    model = damage_bundle(branch, "1")
    assert branch.run("daily", LAST_DAY).success
    for report in ("drift_report", "performance_report", "health_report"):
        problem = branch.metadata(report, LAST_DAY)["fraud/champion_problem"]
        assert problem.startswith("Version 1 (champion) cannot be used")
        assert model.name in problem
    assert branch.tables.read("health_report", [LAST_DAY])["cause"].to_list() == ["no_champion"]
    assert branch.run("retrain", LAST_DAY).success
    shown = branch.metadata("model_comparison", LAST_DAY)
    assert (shown["fraud/verdict"], shown["fraud/champion_problem"]) == ("promote", problem)
    assert shown["fraud/champion_average_precision"] is None
    assert branch.registry.alias("champion") == "2"
    # The damaged one is the previous champion now: nothing can be compared with it either.
    assert branch.run("monitor", LAST_DAY).success
    problem = branch.metadata("performance_report", LAST_DAY)["fraud/champion_problem"]
    assert problem.startswith("Version 1 (previous_champion)")


def test_a_roll_back_restores_the_previous_champion_and_the_graph_says_so(branch):
    assert branch.run("retrain", LAST_DAY).success
    branch.registry.promote("2")
    result = branch.run("roll_back", LAST_DAY, tags={"fraud/version": "2"})
    assert result.success
    assert branch.registry.alias("champion") == "1"
    assert branch.registry.alias("previous_champion") is None
    pointer = read_deployment(branch.settings.models_dir).champion
    assert pointer is not None
    assert pointer.version == "1"
    shown = branch.metadata("champion", LAST_DAY)
    assert shown == {"fraud/champion_version": "1", "fraud/remedy": "roll_back"}


# --- monitoring ------------------------------------------------------------------------------


def test_people_get_one_self_contained_drift_page_of_the_newest_day(story):
    (page,) = (story.settings.reports_dir / "drift").iterdir()
    assert page.name == f"{LAST_DAY}.html"
    assert "transaction_amount" in page.read_text("utf-8")
    shown = story.metadata("drift_report", LAST_DAY)
    assert shown["fraud/page"] == str(page.resolve())
    assert shown["fraud/max_psi"] == story.tables.read("drift_report", [LAST_DAY])["psi"].max()


def test_every_day_has_a_diagnosis(story):
    days = story.tables.days("health_report")
    assert days == story.tables.days("raw_transactions")
    report = every_day(story, "health_report")
    assert report["day"].to_list() == days
    for row in report.iter_rows(named=True):
        shown = story.metadata("health_report", row["day"])
        assert shown["fraud/cause"] == row["cause"]


def test_days_judged_before_the_first_champion_say_so_and_later_ones_name_it(story):
    report = every_day(story, "health_report")
    before, after = (
        report.filter(side) for side in (pl.col("day") < JUDGED, pl.col("day") >= JUDGED)
    )
    assert set(before["cause"]) == {"no_champion"}
    assert set(after["champion_version"]) == {"1"}
    assert "no_champion" not in after["cause"]


def test_a_feature_that_is_empty_all_day_is_reported_and_does_not_stop_the_report(branch):
    # Its window ends seven days before the payment, and on January 8 nothing is that old.
    assert branch.run("monitor", date(2026, 1, 8)).success
    drift = branch.tables.read("drift_report", [date(2026, 1, 8)])
    (row,) = drift.filter(pl.col("feature") == "terminal_fraud_rate_1d_delayed").to_dicts()
    assert row["null_share"] == 1.0
    report = branch.tables.read("health_report", [date(2026, 1, 8)])
    assert row["feature"] in report["null_features"].to_list()[0]


def test_monitoring_without_a_champion_says_that_there_is_none(branch):
    branch.registry._client.delete_registered_model_alias("fraud", "champion")
    assert branch.run("monitor", LAST_DAY).success
    report = branch.tables.read("health_report", [LAST_DAY])
    assert report["cause"].to_list() == ["no_champion"]
    assert branch.tables.read("drift_report", [LAST_DAY]).is_empty()


# --- healing ---------------------------------------------------------------------------------


def test_a_recalibration_replaces_the_champion_by_its_own_trees_with_new_cuts(branch):
    before = branch.registry.champion()
    assert branch.run("recalibrate", LAST_DAY).success
    after = branch.registry.champion()
    assert after.manifest.version != before.manifest.version
    assert after.model.payload == before.model.payload
    assert branch.registry.alias("previous_champion") == before.manifest.version
    shown = branch.metadata("recalibrated_champion", LAST_DAY)
    assert shown["fraud/disturbed_share"] <= 0.049
    assert shown["fraud/review_threshold"] == after.manifest.review_threshold


def test_new_cuts_begin_on_the_first_cards_where_a_rollout_is_wanted(branch):
    before = branch.registry.alias("champion")
    careful = branch.with_settings(rollout=RolloutPolicy(is_on=True))
    assert careful.run("recalibrate", LAST_DAY).success
    deployment = read_deployment(branch.settings.models_dir)
    assert deployment.champion.version == branch.registry.alias("champion") == before
    assert deployment.challenger.version == branch.registry.alias("challenger") != before
    assert deployment.canary_share == RolloutPolicy().steps[0]


def test_new_cuts_that_no_replay_supports_decide_nothing_and_say_why(branch):
    before = branch.registry.alias("champion")
    many = PromotionPolicy(replay_rows=10**6, min_replay_rows=10**6)
    assert branch.with_settings(promotion=many).run("recalibrate", LAST_DAY).success
    assert branch.registry.alias("champion") == before
    shown = branch.metadata("recalibrated_champion", LAST_DAY)
    assert shown["fraud/verdict"] == "shadow_only"
    assert shown["fraud/gates"] == {"artifact": "passed", "replay": "cannot judge"}
    assert "at least 1,000,000 are needed" in shown["fraud/reasons"][0]


def quarantined(branch, group):
    """Healing orders what it would order for a champion of now."""
    settings = branch.settings
    evidence = gather(settings, branch.log, time.time_ns() // 1000)
    rung = Rung(do=Action.QUARANTINE, level=4)
    act = act_for(
        rung, "unit_change@1", (group,), evidence, policy_in_force(settings.heal_dir).bounds
    )
    actuator = HomeActuator(settings, branch.registry, notices_of(settings), {})
    assert actuator.carry_out(act).is_done


def test_a_recalibrated_champion_keeps_the_fallbacks_of_its_trees(branch):
    before = read_deployment(branch.settings.models_dir)
    assert set(before.fallbacks) == set(FALLBACKS)
    for _ in range(2):  # also one that was made of a recalibrated one
        assert branch.run("recalibrate", LAST_DAY).success
        found = read_deployment(branch.settings.models_dir)
        assert found.champion.version not in ("1", before.previous)
        assert found.fallbacks == before.fallbacks
    assert branch.registry.bundle(found.champion.version).manifest.trees_of == "1"
    branch.registry.roll_back()
    assert read_deployment(branch.settings.models_dir).fallbacks == before.fallbacks
    quarantined(branch, "money")
    noon = start_of(OPEN_DAY) + timedelta(hours=12)
    with TestClient(create_app(branch.settings, clock=lambda: microseconds(noon))) as client:
        payment = {
            "transaction_id": "live-1",
            "event_timestamp": noon.isoformat(),
            "card_id": "c1",
            "terminal_id": "m1",
            "amount_minor": 900,
            "currency": "EUR",
        }
        answer = client.post("/v1/decisions", json=payment).json()
    assert (answer["arm"], answer["model_version"]) == ("fallback", "1-without-money")


def test_every_signal_can_be_looked_at_in_the_graph(story):
    whole = story.definitions.resolve_implicit_global_asset_job_def()
    keys = {dg.AssetCheckKey(LIVE_HEALTH, signal.value) for signal in Signal}
    job = whole.get_subset(asset_selection=set(), asset_check_selection=keys)
    found = job.execute_in_process(instance=story.instance).get_asset_check_evaluations()
    told = {one.check_name: one for one in found}
    assert set(told) == set(Signal)
    assert told["units"].passed
    assert told["units"].metadata["standing"].value == "fine"
