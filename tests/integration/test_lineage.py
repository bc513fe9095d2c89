"""The chain from a decision to the source file's digest and back, in a home that ran the graph."""

import hashlib
import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.webserver import DagsterWebserver
from litestar.testing import TestClient
from starlette.testclient import TestClient as Browser

from fraud_platform.adapters.dossier_page import dossier_page
from fraud_platform.adapters.lineage_graph import LineageGraph
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.cli import main
from fraud_platform.errors import NotReadyError
from fraud_platform.events import microseconds
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.table_digest import digest as table_digest
from fraud_platform.lineage import MODEL, SOURCE_FILE, Node, State
from fraud_platform.settings import get_settings
from fraud_platform.training_document import TrainingSetDocument
from serving.app import create_app
from serving.dossiers import Dossiers

pytestmark = pytest.mark.xdist_group("graph")

LAST_DAY, SOME_DAY = date(2026, 2, 3), "2026-01-07"
NOON = datetime(2026, 2, 4, 12, tzinfo=UTC)


@pytest.fixture
def decided(branch, monkeypatch):
    """The story's home after forty payments on known cards; commands run on it."""
    known = branch.tables.read("transaction_features", [LAST_DAY])
    cards, shops = (known[name].unique().sort() for name in ("card_id", "terminal_id"))
    with TestClient(create_app(branch.settings, clock=lambda: microseconds(NOON))) as client:
        for number in range(40):
            payment = {
                "transaction_id": f"live-{number}",
                "event_timestamp": (NOON - timedelta(minutes=90 - number)).isoformat(),
                "card_id": cards[number % 7],
                "terminal_id": shops[number % 5],
                "amount_minor": 900 + 3_710 * number,
                "currency": "EUR",
            }
            assert client.post("/v1/decisions", json=payment).status_code == 200
    monkeypatch.setenv("FRAUD_HOME", str(branch.settings.home))
    get_settings.cache_clear()
    yield branch
    get_settings.cache_clear()


def told(*words: str) -> dict:
    done = CliRunner().invoke(main, ["audit", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nodes_of(dossier: dict) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for node in dossier["lineage"]["nodes"]:
        found.setdefault(node["kind"], []).append(node)
    return found


def test_a_decision_is_followed_to_the_source_files_digest_and_back(decided):
    dossier = told("decision", "live-39")
    nodes, edges = dossier["lineage"]["nodes"], dossier["lineage"]["edges"]
    kinds = ["decision", "model", "training_set_document", "transaction_features"]
    kinds += ["validated_transactions", "raw_transactions", "source_file"]
    reached = {0}
    for kind in kinds[1:]:
        steps = {end for start, end in edges if start in reached and nodes[end]["kind"] == kind}
        assert steps, f"no {kind} among what the step before rests on"
        reached = steps
    [file] = [nodes[place] for place in reached]
    [origin, *_] = decided.log.origins(1, 1)
    assert (file["part"], file["digest"]) == ("world.parquet", origin.node.digest)
    back = told("uses", "source_file", "world.parquet")
    assert {"raw_transactions", "transaction_features", "training_set", "model"} <= {
        *back["made_of_it"]
    }
    assert {one["model"]: one["decisions"] for one in back["decided"]}["1"] == 40


def test_the_digest_of_the_source_file_is_what_sha256sum_says_of_it(story):
    [one, *_] = story.log.origins(1, 1)
    assert one.node.kind == SOURCE_FILE
    assert one.node.digest == sha256(story.settings.home.parent / "world.parquet")


def test_every_content_under_a_decision_is_on_the_disk_as_it_was_recorded(decided):
    for kind, nodes in nodes_of(told("decision", "live-39")).items():
        states = {node["state"] for node in nodes}
        expected = {"source_file": {"outside"}, "decision": {"open"}, "open_journal": {"open"}}
        assert states == expected.get(kind, {"same"}), kind
        for node in nodes if kind == "raw_transactions" else ():
            assert sha256(decided.settings.home / node["path"]) == node["digest"]
            assert node["run_id"]
            assert node["code_commit"] == "c0ffee"


def test_records_agree_with_the_document_that_the_model_was_trained_by(story):
    """Two ways that know nothing of each other digest the same rows of the same days."""
    store = LineageStore(story.settings.lineage_path)
    document = story.tables.read_document("training_set_document", LAST_DAY, TrainingSetDocument)
    compared = 0
    for table, days in document.inputs.items():
        for day, digest in days.items():
            [record] = store.records(table, day)[-1:]
            assert record.rows_digest == digest, (table, day)
            compared += 1
    assert compared > 60


def test_only_the_days_that_a_day_looks_back_on_are_its_inputs(story):
    """They were all computed in one run, which had read thirty days."""
    [features] = LineageStore(story.settings.lineage_path).records("transaction_features", SOME_DAY)
    days = sorted({node.part for node in features.inputs})
    assert days == ["2026-01-05", "2026-01-06", "2026-01-07"]
    [mature] = LineageStore(story.settings.lineage_path).records("mature_labels", "2026-01-20")
    assert [n.part for n in mature.inputs if n.kind == "validated_transactions"] == ["2026-01-13"]


def test_dagster_and_the_records_name_each_other(story):
    shown = story.metadata("raw_transactions", LAST_DAY)
    [record] = LineageStore(story.settings.lineage_path).records(
        "raw_transactions", LAST_DAY.isoformat()
    )
    assert (shown["fraud/sha256"], shown["fraud/lineage_record"]) == (
        record.node.digest,
        record.seq,
    )
    assert story.instance.get_run_by_id(record.run_id).is_finished
    assert record.rows_digest == table_digest(story.tables.read("raw_transactions", [LAST_DAY]))


MATERIALIZED = """query ($name: String!, $day: [String!]) {
    assetOrError(assetKey: {path: [$name]}) { ... on Asset { assetMaterializations(
    partitions: $day, limit: 1) { runId partition metadataEntries {
    label ... on TextMetadataEntry { text } } } } } }"""


@pytest.fixture
def dagster_server(story, tmp_path):
    """Dagster's webserver over what was materialized in the story; it serves no instance in RAM."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for asset in story.instance.all_asset_keys():
            for made in story.instance.fetch_materializations(asset, limit=1_000).records:
                instance.store_event(made.event_log_entry)
        with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as process:
            yield Browser(DagsterWebserver(process).create_asgi_app())


def test_dagster_shows_what_the_page_of_a_decision_leads_to(decided, dagster_server):
    dossier = json.loads(json.dumps(told("decision", "live-39")))
    shown = dossier_page(dossier, "http://dagster").html()
    links = set(re.findall(r'href="http://dagster(/assets/[^"]*)"', shown))
    digests = {(one["kind"], one["part"]): one["digest"] for one in dossier["lineage"]["nodes"]}
    for link in map(unescape, links):
        address = urlsplit(link)
        name, asked = address.path.rpartition("/")[2], dict(parse_qsl(address.query))
        assert asked.pop("view") == "partitions", "without it Dagster shows another day"
        assert dagster_server.get(link).status_code == 200
        answer = dagster_server.post(
            "/graphql",
            json={"query": MATERIALIZED, "variables": {"name": name, "day": [asked["partition"]]}},
        )
        [found] = answer.json()["data"]["assetOrError"]["assetMaterializations"]
        texts = {one["label"]: one.get("text") for one in found["metadataEntries"]}
        assert texts["fraud/sha256"] == digests[name, asked["partition"]], link
        assert f"http://dagster/runs/{found['runId']}" in shown
    assert {urlsplit(link).path for link in links} >= {
        "/assets/raw_transactions",
        "/assets/training_set",
        "/assets/transaction_features",
    }


def test_the_chain_outlives_dagsters_storage_and_mlflows(decided):
    """The branch's Dagster knows nothing of the story's runs; now MLflow is gone, too."""
    before = told("decision", "live-39")["lineage"]
    shutil.rmtree(decided.settings.mlflow_dir)
    assert not decided.instance.get_runs()
    assert told("decision", "live-39")["lineage"] == before


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "audit-a-decision.md"
COMMANDS = re.findall(r"^fraud-platform (.*)$", HOW_TO.read_text("utf-8"), re.MULTILINE)


def test_an_auditor_gets_every_answer_by_the_commands_of_the_page(decided):
    assert len(COMMANDS) >= 8, "the reader of code blocks finds too few; is it broken?"
    shown = ""
    decided.log.drain()
    with closing(sqlite3.connect(decided.settings.log_path)) as connection:
        query = "SELECT transaction_id, decision FROM decisions ORDER BY score DESC LIMIT 1"
        [name, answer] = connection.execute(query).fetchone()
    for command in COMMANDS:
        words = command.replace("t-1001", name).replace("payments.csv", "world.parquet")
        done = CliRunner().invoke(main, words.split())
        assert done.exit_code == 0, (command, done.output)
        shown += done.output
    assert answer in ("review", "decline")
    for expected in (
        f"So the answer was {answer}",  # why
        "The model scored",
        "Reasons",
        "version 1, ",  # by which model
        "name train, first_day 2026-01-05",  # trained on what
        "promote by dagster run",  # approved by whom
        "equal: 67 values compared",  # still provable
        "contents, all as recorded",
    ):
        assert expected in shown, expected


def test_a_sample_of_the_newest_decisions_is_taken_again_in_the_graph(decided):
    found = decided.check("decisions", "decisions_are_taken_again_alike", LAST_DAY)
    assert found.passed
    assert {name: found.metadata[name].value for name in ("decisions", "equal")} == {
        "decisions": 40,
        "equal": 40,
    }
    with closing(sqlite3.connect(decided.settings.log_path)) as connection:
        connection.execute("UPDATE decisions SET score = 0.5 WHERE transaction_id = 'live-7'")
        connection.commit()
    found = decided.check("decisions", "decisions_are_taken_again_alike", LAST_DAY)
    assert not found.passed
    assert found.metadata["different"].value == 1


def test_a_changed_a_replaced_and_a_lost_partition_are_told_apart(decided):
    tables = decided.settings.tables_dir / "raw_transactions"
    shorter = pl.read_parquet(tables / "2026-01-08.parquet").head(3)
    shorter.write_parquet(tables / "2026-01-08.parquet")
    (tables / "2026-01-09.parquet").unlink()
    late = pl.read_parquet(tables / "2026-01-10.parquet")
    decided.definitions.resources["tables"].write("raw_transactions", date(2026, 1, 10), late[1:])
    raw = nodes_of(told("decision", "live-39"))["raw_transactions"]
    states = {node["part"]: node["state"] for node in raw}
    assert states.pop("2026-01-08") == "changed"
    assert states.pop("2026-01-09") == "gone"
    assert states.pop("2026-01-10") == "replaced"
    assert {*states.values()} == {"same"}


def test_a_flipped_bit_in_the_model_is_told(decided):
    [path] = (decided.settings.models_dir / "1").glob("model.*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    dossier = told("decision", "live-39")
    [model] = nodes_of(dossier)["model"]
    assert model["state"] == "changed"
    assert dossier["replayed"]["verdict"] == "not compared"
    assert "refused" in dossier["margin"]["unexplained"]


def test_which_decisions_used_a_days_rows(decided):
    found = told("uses", "raw_transactions", SOME_DAY)
    assert found["made_of_it"]["transaction_features"][1:] == [SOME_DAY, LAST_DAY.isoformat()]
    assert {one["model"]: one["decisions"] for one in found["decided"]}["1"] == 40
    seen = found["seen_from"]
    assert seen["within_the_longest_window"] == 40
    assert 0 < seen["on_a_card_or_terminal_of_that_day"] <= 40
    with pytest.raises(NotReadyError, match="no record"):
        LineageGraph(decided.settings, decided.log).downstream("raw_transactions", "2031-01-01")


def test_the_events_in_a_window_are_as_many_as_its_count_says(decided):
    """The dossier reads the log its own way; the scorer counted in its memory."""
    compared = 0
    for number in range(0, 40, 3):
        dossier = Dossiers(decided.settings).of(f"live-{number}")
        for seen, feature in zip(dossier.seen, FEATURES, strict=True):
            if feature.function == "count" and seen.events is not None:
                assert seen.events == seen.value, (number, seen.name)
                compared += 1
    assert compared >= 14 * 8


def test_a_dossier_adds_up_and_covers_the_card(decided):
    dossier = told("decision", "live-39")
    shares = [one["contribution"] for one in dossier["seen"]]
    margin = dossier["margin"]
    assert margin["base"] + sum(shares) == pytest.approx(margin["margin"], abs=1e-4)
    assert dossier["replayed"]["verdict"] == "equal"
    assert dossier["replayed"]["values_compared"] > len(FEATURES)
    assert dossier["asked"]["card_id"].startswith("…")
    assert len(dossier["asked"]["card_id"]) == 5
    assert dossier["model"]["training_set"]["slices"][0]["name"] == "train"
    assert dossier["model"]["moves"][-1]["act"] == "promote"


def test_a_label_from_later_is_in_the_dossier_and_changes_nothing_else(decided):
    before = told("decision", "live-39")
    with TestClient(create_app(decided.settings, clock=lambda: microseconds(NOON))) as client:
        verdict = {"transaction_id": "live-39", "verdict": "fraud", "source": "analyst"}
        assert client.post("/v1/labels", json=verdict).status_code == 200
    after = told("decision", "live-39")
    [label] = after.pop("labels")
    assert (label["verdict"], label["label_source"]) == ("fraud", "analyst")
    for name in ("asked", "answer", "why", "seen", "reasons", "replayed"):
        assert after[name] == before[name]


def test_records_cannot_be_changed_or_taken_away(story):
    with closing(sqlite3.connect(story.settings.lineage_path)) as connection:
        for act in ("DELETE FROM records", "UPDATE inputs SET digest = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                connection.execute(act)


def test_a_model_of_before_lineage_rests_on_nothing_that_nobody_recorded(branch):
    branch.settings.lineage_path.unlink()
    branch.run("retrain", LAST_DAY, assets=("champion",))
    store = LineageStore(branch.settings.lineage_path)
    [record] = store.records(MODEL, "1")
    assert (record.inputs, record.run_id) == ((), "")
    state = LineageGraph(branch.settings, branch.log).state(record.node)
    assert state is State.SAME
    assert store.inputs_of(Node(MODEL, "1", record.node.digest)) == []
