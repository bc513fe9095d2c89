"""Labels in the asset graph: the check on mature ones, delay curves, arrivals and alerts."""

import shutil
import sqlite3
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from assets.timing import end_of, start_of
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.world_file import write_world
from fraud_platform.label_arrivals import ARRIVAL_COLUMNS
from fraud_platform.schemas import LABELS, MATURE_LABELS, TRANSACTIONS
from fraud_platform.settings import Settings
from sensors.healing import label_volume
from sensors.label_feed import label_feed
from tests.integration.conftest import Platform

FIRST_DAY, LAST_DAY = date(2026, 1, 5), date(2026, 2, 3)  # of the small world
SETTLED = date(2026, 1, 20)
CHECK = ("mature_labels", "no_known_fraud_is_called_genuine")


TABLES = (
    *("raw_transactions", "quarantined_transactions", "validated_transactions"),
    *("labels", "mature_labels", "label_delays", "label_arrivals"),
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, small_world):
    """The small world ingested, and its tables of labels computed; read it, never change it."""
    folder = tmp_path_factory.mktemp("labelled")
    settings = Settings(home=folder / "home")
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform(settings, instance)
        mapping = read_mapping(write_world(small_world, folder / "world.parquet"))
        moment = datetime(2026, 6, 1, tzinfo=UTC)
        ingest(
            folder / "world.parquet",
            mapping,
            log=platform.log,
            policy=settings.validation,
            received=moment,
            token_key=None,
        )
        platform.run_range("daily", FIRST_DAY, LAST_DAY, assets=TABLES)
        yield platform


@pytest.fixture
def branch(labelled, tmp_path):
    """A copy of it that a test may change; its Dagster instance has no hilabelled."""
    labelled.log.close()
    shutil.copytree(labelled.settings.home, tmp_path / "home")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(Settings(home=tmp_path / "home"), instance)


def say(platform, transaction_id, verdict, known, source="analyst"):
    told = LABELS.empty().drop("seq", "event_timestamp", "card_id", "terminal_id")
    row = {
        "transaction_id": transaction_id,
        "verdict": verdict,
        "label_source": source,
        "label_timestamp": known,
        "received_timestamp": known,
        "reported_by": "case desk",
        "happened_timestamp": known - timedelta(hours=2),
    }
    platform.log.append(TRANSACTIONS.empty(), pl.DataFrame([row], schema=told.schema))


def a_genuine_row(platform):
    rows = platform.tables.read("mature_labels", [SETTLED]).filter(~pl.col("is_fraud"))
    return rows["transaction_id"][0]


def values(evaluation):
    return {name: value.value for name, value in evaluation.metadata.items()}


# --- mature labels ---------------------------------------------------------------------------


def test_mature_labels_say_whose_word_decides_and_how_likely_it_was(labelled):
    rows = labelled.tables.read("mature_labels", labelled.tables.days("mature_labels"))
    assert rows.schema == MATURE_LABELS.empty().schema
    assert set(rows["label_source"]) == {"chargeback", "implied"}
    assert (rows["label_source"] == "chargeback").equals(rows["is_fraud"])
    assert set(rows["propensity"]) == {1.0}


def test_the_reporter_of_a_verdict_reaches_the_table(branch):
    assert set(branch.tables.read("labels", [SETTLED])["reported_by"]) == {"ingest:world.parquet"}
    say(branch, a_genuine_row(branch), "fraud", start_of(SETTLED) + timedelta(hours=9))
    assert branch.run("daily", SETTLED, assets=("labels",)).success
    row = branch.tables.read("labels", [SETTLED]).filter(pl.col("reported_by") == "case desk")
    assert row["happened_timestamp"].item() == start_of(SETTLED) + timedelta(hours=7)


def test_a_known_fraud_that_is_called_genuine_stops_the_day(branch):
    assert branch.check(*CHECK, SETTLED).passed
    say(branch, a_genuine_row(branch), "fraud", end_of(SETTLED) - timedelta(seconds=1))
    evaluation = branch.check(*CHECK, SETTLED)
    assert (evaluation.passed, evaluation.blocking) == (False, True)
    assert values(evaluation)["offending"] == 1
    assert branch.run("daily", SETTLED, assets=("labels", "mature_labels")).success
    assert branch.check(*CHECK, SETTLED).passed, "computed again, the day knows it"


def test_frauds_that_became_known_later_are_counted_and_stop_nothing(branch):
    assert values(branch.check(*CHECK, SETTLED))["became_known_as_fraud_later"] == 0
    say(branch, a_genuine_row(branch), "fraud", end_of(SETTLED) + timedelta(days=3))
    evaluation = branch.check(*CHECK, SETTLED)
    told = values(evaluation)
    assert (evaluation.passed, told["became_known_as_fraud_later"]) == (True, 1)
    assert told["share_known_as_fraud_later"] == 1 / told["called_genuine"]


def test_a_declined_payment_is_not_called_genuine_by_silence(branch):
    quiet = a_genuine_row(branch)
    branch.log.close()
    decline(branch, quiet)
    assert branch.run("daily", SETTLED, assets=("mature_labels",)).success
    rows = branch.tables.read("mature_labels", [SETTLED])
    assert quiet not in rows["transaction_id"].to_list()
    assert branch.metadata("mature_labels", SETTLED)["fraud/left_out_declined"] == 1


def decline(platform, transaction_id):
    """A decision of a scorer, as far as labels look at it."""
    with sqlite3.connect(platform.settings.log_path) as connection:
        found = connection.execute(
            "SELECT seq, event_us FROM transactions WHERE transaction_id = ?", (transaction_id,)
        ).fetchone()
        connection.execute(
            "INSERT INTO decisions (transaction_id, decision_id, seq, seen_seq, event_us,"
            " decided_us, decision, reasons, mode, missing, arm, is_late, policy_digest,"
            " feature_spec_digest, features, latency_us, expires_us) VALUES"
            " (?, 'd1', ?, 0, ?, ?, 'decline', '[]', 'normal', '[]', 'champion', 0, 'p', 'f', x'',"
            " 10, 0)",
            (transaction_id, *found, found[1]),
        )
    connection.close()


# --- delays ----------------------------------------------------------------------------------


def test_the_delay_curve_of_each_day_is_a_table_and_a_picture(labelled, small_world):
    rows = labelled.tables.read("label_delays", [LAST_DAY])
    assert set(rows["label_source"]) == {"any", "chargeback"}
    shown = labelled.metadata("label_delays", LAST_DAY)
    assert shown["fraud/plot"].startswith("![Frauds known by age.")
    assert "fraud/plot" not in labelled.metadata("label_delays", LAST_DAY - timedelta(days=1))
    assert shown["fraud/delays"].splitlines()[2].startswith("| any |")
    assert 0 < shown["fraud/known_at_maturity"] < 1


def test_the_curve_knows_the_delays_that_only_the_simulation_knows(labelled, small_world):
    rows = labelled.tables.read("label_delays", [LAST_DAY]).filter(pl.col("label_source") == "any")
    delays = small_world.filter("is_fraud").select(
        days=(pl.col("label_timestamp") - pl.col("event_timestamp")) / timedelta(days=1)
    )["days"]
    within = delays.filter(delays <= rows["horizon_days"][0])
    for age in (3, 7, 14):
        low, high = rows.filter(pl.col("age_days") == age).select("low", "high").row(0)
        assert low <= (within <= age).mean() <= high


def test_a_day_before_any_verdict_has_no_curve_and_says_so(labelled):
    assert labelled.tables.read("label_delays", [FIRST_DAY]).is_empty()


# --- arrivals --------------------------------------------------------------------------------


def silence(platform, since):
    """The feed rests: the log loses what became known from a day on."""
    platform.log.close()
    with sqlite3.connect(platform.settings.log_path) as connection:
        since_us = int(start_of(since).timestamp() * 1_000_000)
        connection.execute("DELETE FROM labels WHERE known_us >= ?", (since_us,))
    connection.close()
    tables = ("labels", "label_delays", "label_arrivals")
    assert platform.run_range("daily", since, LAST_DAY, assets=tables).success


def test_a_running_feed_arrives_as_expected(labelled):
    row = labelled.tables.read("label_arrivals", [LAST_DAY]).filter(pl.col("label_source") == "any")
    assert row["feed"].item() == "arriving"
    assert 0.7 < row["share"].item() < 1.4


def test_a_feed_that_stops_is_seen_in_the_graph_and_told_once(branch):
    assert branch.tick(label_feed).skip_message == f"{LAST_DAY}: no source stopped or came back"
    silence(branch, date(2026, 1, 29))
    assert branch.tables.read("labels", [LAST_DAY]).is_empty()
    evaluation = branch.check("label_arrivals", "every_label_source_still_speaks", LAST_DAY)
    assert (evaluation.passed, evaluation.blocking) == (False, False)
    assert "| stopped |" in values(evaluation)["arrivals"]
    tick = branch.tick(label_feed)
    assert tick.cursor == '["any","chargeback"]'
    branch.tick(label_feed, tick.cursor)
    alerts = branch.alerts.read()
    assert [a["kind"] for a in alerts] == ["label_feed_stopped"] * 2, "the second look is silent"
    assert alerts[1]["text"].startswith("Fraud verdicts of chargeback have stopped: ")
    assert alerts[1]["at"] == end_of(LAST_DAY).timestamp()


def judge(platform, day, **feeds):
    """The judgement of a day as the graph would leave it."""
    rows = [
        {"day": day, "label_source": s, "arrived": 3, "expected": 9.0, "share": 0.3, "feed": feed}
        for s, feed in feeds.items()
    ]
    platform.tables.write("label_arrivals", day, pl.DataFrame(rows, schema=ARRIVAL_COLUMNS))


def told(platform):
    return [(alert["kind"], alert["label_source"]) for alert in platform.alerts.read()]


def test_without_a_judged_day_there_is_nothing_to_tell(platform):
    assert platform.tick(label_feed).skip_message == "no day has compared its arrivals yet"


def test_a_source_is_told_when_it_stops_and_when_it_is_back(platform):
    cursor = None
    for number, feed in enumerate(["arriving", "stopped", "stopped", "unknown", "arriving"]):
        judge(platform, FIRST_DAY + timedelta(days=number), dispute=feed, audit="arriving")
        cursor = platform.tick(label_feed, cursor).cursor
    assert told(platform) == [("label_feed_stopped", "dispute"), ("label_feed_back", "dispute")]
    assert cursor == "[]"


def test_a_source_that_nobody_can_judge_any_more_is_not_back(platform):
    judge(platform, FIRST_DAY, dispute="unknown")
    assert platform.tick(label_feed, '["dispute"]').cursor == '["dispute"]'
    assert told(platform) == []


def test_nothing_is_trained_while_a_feed_has_stopped(platform):
    as_of = datetime(2026, 1, 12, tzinfo=UTC)
    rows = pl.DataFrame({"is_fraud": [True] * 500, "as_of_timestamp": [as_of] * 500})
    platform.tables.write("mature_labels", FIRST_DAY, rows)
    judge(platform, FIRST_DAY, chargeback="stopped")
    tick = platform.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == "verdicts of chargeback have stopped: silence means nothing"
