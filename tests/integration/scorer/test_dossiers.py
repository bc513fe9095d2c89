"""The dossier of a decision, put together from the files of a home whose scorer has ended."""

import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.cli import main
from fraud_platform.events import microseconds
from fraud_platform.settings import get_settings
from serving.app import create_app
from serving.dossiers import Dossiers


@pytest.fixture
def home(settings, payment, now):
    """Six payments: the sixth's card is also the first's, its terminal also the third's."""
    with TestClient(create_app(settings, clock=lambda: microseconds(now))) as client:
        for number in range(6):
            assert client.post("/v1/decisions", json=payment(number)).status_code == 200
    return settings


def change(settings, *statements: str) -> None:
    """What only a home of an older version, or somebody with a hand on the disk, would hold."""
    Dossiers(settings).of("t5")  # it drains the journal into the tables
    with closing(sqlite3.connect(settings.log_path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_decision_rests_on_no_file_between_positions_that_nobody_knows_the_origin_of(home):
    change(
        home,
        "DELETE FROM segments",
        "INSERT INTO ingested VALUES (4, 5, 'never_seen.csv', 'f00d', 9, '')",
    )
    nodes = Dossiers(home).of("t5").lineage["nodes"]
    assert [f"{node['kind']} {node['part']}" for node in nodes] == [
        "decision dec_6",
        "open_journal 1-3",
        "open_journal 6-6",
    ]


@pytest.mark.parametrize(
    ("words", "looked_at", "facts"),
    [
        (["t5"], "decision:t5", {"transaction_id": "t5"}),
        (["--all", "--every", "2"], "decisions", {"whole": "True", "every": "2"}),
    ],
)
def test_a_replay_by_an_auditor_is_written_down_with_what_was_asked(
    home, monkeypatch, words, looked_at, facts
):
    monkeypatch.setenv("FRAUD_HOME", str(home.home))
    get_settings.cache_clear()
    done = CliRunner().invoke(main, ["audit", "replay", *words])
    get_settings.cache_clear()
    assert done.exit_code == 0, done.output
    [look] = [row for row in audit_log_of(home).rows() if row.action == "audit.read"]
    assert (look.object, look.told) == (looked_at, facts)


def state_of_the_file(settings) -> str:
    nodes = Dossiers(settings).of("t5").lineage["nodes"]
    return next(node["state"] for node in nodes if node["kind"] == "source_file")


@pytest.mark.parametrize(
    ("received", "recorded", "state"),
    [
        ("UPDATE transactions SET received_us = 1 << 53", "f00d", "outside"),
        (
            "UPDATE transactions SET received_us = 1 << 53",
            "beef",
            "file digest not as recorded in the audit log",
        ),
        (
            "UPDATE transactions SET received_us = 0",
            "beef",
            "outside",
        ),  # it came in before there was an audit log
    ],
)
def test_a_source_files_digest_is_compared_with_the_audit_log(home, received, recorded, state):
    change(
        home,
        "DELETE FROM segments",
        "INSERT INTO ingested VALUES (1, 3, 'january.csv', 'f00d', 9, '')",
        received,
    )
    file = {"action": "log.ingest", "object": "file:january.csv", "after": recorded}
    audit_log_of(home).record(Act(actor="ann", role="", origin="cli", **file))
    assert state_of_the_file(home) == state


def test_a_payment_named_like_a_decision_does_not_stand_before_it(home):
    change(
        home,
        "PRAGMA foreign_keys = OFF",
        "UPDATE transactions SET transaction_id = 'dec_6' WHERE transaction_id = 't1'",
        "UPDATE decisions SET transaction_id = 'dec_6' WHERE transaction_id = 't1'",
        # Without its indexes SQLite reads row by row and meets this one first: no plan may matter.
        "CREATE TABLE plain AS SELECT * FROM decisions",
        "DROP TABLE decisions",
        "ALTER TABLE plain RENAME TO decisions",
    )
    assert Dossiers(home).of("dec_6").asked["transaction_id"] == "t5"
    assert Dossiers(home).of("dec_2").asked["transaction_id"] == "dec_6"


def test_a_source_file_is_looked_up_without_reading_all_files_that_ever_came_in(home, monkeypatch):
    received = "UPDATE transactions SET received_us = 1 << 53"
    change(home, "DELETE FROM segments", received)
    change(home, "INSERT INTO ingested VALUES (1, 3, 'january.csv', 'f00d', 9, '')")
    log = audit_log_of(home)
    file = {"action": "log.ingest", "actor": "ann", "role": "", "origin": "cli"}
    for number in range(200):
        log.record(Act(**file, object=f"file:{number}.csv", after="beef"))
    log.record(Act(**file, object="file:january.csv", after="f00d"))
    read, rows = [], AuditLog.rows

    def counted(self, *which, **bounds):
        for row in rows(self, *which, **bounds):
            read.append(row.seq)
            yield row

    monkeypatch.setattr(AuditLog, "rows", counted)
    assert state_of_the_file(home) == "outside"
    assert len(read) < 30


@pytest.mark.parametrize("command", ["decision", "replay", "prove"])
def test_a_token_typed_where_an_id_belongs_is_not_written_down_by_a_command(
    home, monkeypatch, command
):
    monkeypatch.setenv("FRAUD_HOME", str(home.home))
    get_settings.cache_clear()
    done = [CliRunner().invoke(main, ["audit", command, name]) for name in ("card-of-ann", "t5")]
    get_settings.cache_clear()
    assert [one.exit_code for one in done] == [1, 0], [one.output for one in done]
    looks = [row for row in audit_log_of(home).rows() if row.action != "log.seal"]
    assert not any("card-of-ann" in str(row) for row in looks)
    assert [row.object.partition(":")[2] for row in looks] == ["…-ann", "t5"]
