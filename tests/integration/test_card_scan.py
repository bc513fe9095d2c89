"""The nightly scan for card numbers: canaries in every kind of store, and none where none is."""

import errno
import gzip
import json
import os
import re
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import msgspec
import polars as pl
import pytest
from click.testing import CliRunner

from assets.audit import no_card_number_is_stored
from fraud_platform.adapters import ingest as door
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.card_scan import recorded_scan, scan
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.world_file import write_world
from fraud_platform.audit_log.acts import Act
from fraud_platform.cli import main
from fraud_platform.events import Transaction
from fraud_platform.settings import Settings
from fraud_platform.simulation.world import World, simulate
from tests.registered import registered_versions

ACT = partial(Act, actor="ann", role="", origin="test")
CANARY = "4111111111111111"
TORN = "4111 1111-1111 1111"
FULL_WIDTH = "".join(chr(0xFF10 + int(digit)) for digit in CANARY)
START = datetime(2026, 1, 5, tzinfo=UTC)
PAID = Transaction("t-1", 1_772_000_000_000_000, "c-17", "m-1", 1_250, "EUR")


def as_rows(path, column, *values):
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE IF NOT EXISTS planted ({column})")
        database.executemany("INSERT INTO planted VALUES (?)", [(value,) for value in values])
        database.commit()


def as_table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)


def as_zip(path, text):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/run.txt", text)


def journaled(path, payment):
    path.write_bytes(bytes(64) + msgspec.msgpack.encode(payment) + bytes(4_096))


def as_text(path, text):
    path.write_text(f"a line before\n{text}\n", "utf-8")


PLANTED = {
    "events.db": lambda p: as_rows(p, "card_id", "c-1", CANARY),
    "integers.db": lambda p: as_rows(p, "amount", 12, int(CANARY)),
    "floats.db": lambda p: as_rows(p, "amount", 0.5, float(CANARY)),
    "blobs.db": lambda p: as_rows(p, "body", json.dumps({"pan": TORN}).encode()),
    "letters.db": lambda p: as_rows(p, "card_id", f"PAN{CANARY}"),
    "dagster/runs.db": lambda p: as_rows(p, "event", json.dumps(json.dumps({"x": "\n" + CANARY}))),
    "texts.parquet": lambda p: as_table(p, note=["", f"paid with {TORN}"]),
    "wholes.parquet": lambda p: as_table(p, amount=[1, int(CANARY)]),
    "nested.parquet": lambda p: as_table(p, seen=[[{"of": "x"}, {"of": CANARY}]]),
    "labels.parquet": lambda p: as_table(p, kind=pl.Series(["x", CANARY], dtype=pl.Categorical)),
    "journal/000001.seg": lambda p: journaled(p, PAID._replace(card_id=CANARY)),
    "journal/000002.seg": lambda p: journaled(p, PAID._replace(terminal_id=f"at {TORN} now")),
    "scorer.log": lambda p: as_text(p, f"WARNING refused card {CANARY}, terminal m-1"),
    "metrics.prom": lambda p: as_text(p, f'fraud_requests_total{{card="{CANARY}"}} 1'),
    "alerts.jsonl": lambda p: as_text(p, json.dumps({"text": FULL_WIDTH})),
    "mlruns/params.yaml": lambda p: as_text(p, f"value: {CANARY}"),
    "report.html": lambda p: as_text(p, f"<td>{TORN}</td>"),
    "old.log.gz": lambda p: p.write_bytes(gzip.compress(f"card {CANARY}".encode())),
    "artifact.zip": lambda p: as_zip(p, f"card {CANARY}"),
    f"{CANARY}.csv": lambda p: as_text(p, "a,b"),
}


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_canary_in_any_kind_of_store_is_found_and_not_repeated(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    PLANTED[name](tmp_path / name)
    found = scan(tmp_path)
    assert len(found.finds) >= 1
    assert not found.unread
    told = json.dumps(found.to_dict()) + found.to_text() + json.dumps(found.facts())
    assert "1111111" not in told


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory):
    """A home with a real registry, event log, audit log, lineage and Dagster storage."""
    home = tmp_path_factory.mktemp("whole") / "home"
    registered_versions(home, 2)
    settings = Settings(home=home)
    world = simulate(World(seed=1, start=START, days=5, customers=40, terminals=20))
    mapping = door.read_mapping(write_world(world, home.parent / "world.parquet"))
    log = EventLog(settings.log_path)
    door.ingest(
        home.parent / "world.parquet",
        mapping,
        log=log,
        policy=settings.validation,
        received=START + timedelta(days=30),
        token_key=None,
    )
    log.close()
    LineageStore(settings.lineage_path).records("raw_transactions", "2026-01-05")
    audit_log_of(settings).record(
        Act(actor="ann", role="", action="audit.read", object="log", origin="cli")
    )
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.local_temp(str(settings.dagster_dir)) as instance:
        dg.materialize([dg.asset(lambda: 1, name="something")], instance=instance)
    return home


def test_a_home_that_holds_no_card_number_is_clean(whole_home):
    found = scan(whole_home)
    print(json.dumps({"test": "T-PAN", "scan": "clean home", **found.facts()}))
    assert found.is_clean, found.to_text()
    assert found.files > 30


def databases(home):
    return sorted(str(p.relative_to(home)) for p in home.rglob("*.db"))


def test_a_value_planted_in_any_table_of_any_database_is_found(whole_home):
    planted = databases(whole_home)
    assert len(planted) >= 5, "event log, audit log, lineage, MLflow, Dagster"
    for name in planted:
        as_rows(whole_home / name, "planted", CANARY)
    try:
        found = {find.file for find in scan(whole_home).finds if "table planted" in find.place}
    finally:
        for name in planted:
            with closing(sqlite3.connect(whole_home / name)) as database:
                database.execute("DROP TABLE planted")
                database.execute("VACUUM")
    print(json.dumps({"test": "T-PAN", "databases": len(planted), "found": len(found)}))
    assert found == set(planted)


def test_what_cannot_be_read_is_told_and_nothing_is_called_clean(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0 and no more")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1_000)[:-9])
    found = scan(tmp_path)
    assert set(found.unread) == {"cut.parquet", "cut.db", "cut.gz"}
    assert not found.is_clean


def test_numbers_of_models_scripts_and_clocks_are_no_cards(tmp_path):
    as_text(tmp_path / "chart.html", "q<.7272?7.5625*(q-=.5454545454545454)*q+.75")
    (tmp_path / "model.lgb").write_text("tree\nversion=v4\nleaf_count=4111 1111 1111 1111\n")
    as_text(tmp_path / "events.jsonl", '{"at": 1772000000000000, "score": 0.4111111111111111}')
    assert scan(tmp_path).is_clean


def rows_of(home):
    return list(audit_log_of(Settings(home=home)).rows(RowFilter()))


def test_the_command_says_where_and_the_audit_log_that_somebody_looked(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(
        "fraud_platform.card_commands.get_settings", lambda: Settings(home=tmp_path / "home")
    )
    elsewhere = tmp_path / "scorer.log"
    as_text(elsewhere, "all well")
    clean = CliRunner().invoke(main, ["scan", str(elsewhere)])
    assert clean.exit_code == 0, clean.output
    as_text(elsewhere, CANARY)
    dirty = CliRunner().invoke(main, ["scan", str(elsewhere), "--json"])
    assert (dirty.exit_code, json.loads(dirty.output)["clean"]) == (1, False)
    assert json.loads(dirty.output)["finds"] == [
        {"file": "scorer.log", "place": "line 2", "count": 1}
    ]
    rows = rows_of(tmp_path / "home")
    assert [(row.action, row.outcome) for row in rows] == [
        ("audit.scan", "clean"),
        ("audit.scan", "found"),
    ]


def test_a_folder_that_is_not_there_is_no_clean_one(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fraud_platform.card_commands.get_settings", lambda: Settings(home=tmp_path)
    )
    done = CliRunner().invoke(main, ["scan", str(tmp_path / "gone")])
    assert done.exit_code == 1
    assert "found no " in done.output


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "card-data.md"
COMMANDS = re.findall(r"^fraud-platform (.*)$", HOW_TO.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(tmp_path, monkeypatch, command):
    monkeypatch.setattr(
        "fraud_platform.card_commands.get_settings", lambda: Settings(home=tmp_path / "home")
    )
    monkeypatch.chdir(tmp_path)
    as_text(tmp_path / "metrics.prom", "fraud_ready 1")
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 0, done.output


def test_the_check_of_the_night_fails_on_a_find_and_says_so_in_the_audit_log(tmp_path):
    def looked() -> bool:
        done = dg.materialize(
            [dg.AssetSpec("decisions"), no_card_number_is_stored],
            resources={"settings": Settings(home=tmp_path)},
            selection=dg.AssetSelection.all_asset_checks(),
        )
        [result] = done.get_asset_check_evaluations()
        return result.passed

    assert looked()
    as_table(tmp_path / "tables" / "raw" / "2026-01-05.parquet", note=[CANARY])
    assert not looked()
    assert [row.outcome for row in rows_of(tmp_path)] == ["clean", "found"]
    assert all(row.origin.startswith("dagster run ") for row in rows_of(tmp_path))


@pytest.mark.parametrize("before", range(990, 1_030, 3))
def test_a_number_across_two_parts_of_a_file_is_found_once(tmp_path, monkeypatch, before):
    monkeypatch.setattr("fraud_platform.adapters.card_scan._PART", 1_000)
    (tmp_path / "some.bin").write_bytes(bytes(before) + CANARY.encode() + bytes(3_000))
    assert [(f.place, f.count) for f in scan(tmp_path).finds] == [(f"byte {before}", 1)]


def test_a_folder_that_cannot_be_listed_is_told_and_not_called_clean(tmp_path, monkeypatch):
    (tmp_path / "of_another" / "owner").mkdir(parents=True)
    (tmp_path / "lost+found").mkdir()
    listed = os.scandir

    def refuse(path):
        if Path(path).name in ("owner", "lost+found"):
            raise PermissionError(errno.EACCES, "planted", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan(tmp_path)
    assert (found.unread, found.is_clean) == (("of_another/owner",), False)


def test_a_link_is_not_followed(tmp_path):
    as_text(tmp_path / "outside.txt", CANARY)
    home = tmp_path / "home"
    home.mkdir()
    Path(home / "link.txt").symlink_to(tmp_path / "outside.txt")
    assert scan(home).is_clean


@pytest.fixture
def aged(monkeypatch):
    """Files count as settled at once: a test does not wait for the clock of a file system."""
    monkeypatch.setattr("fraud_platform.adapters.scan_memory._SETTLED_NS", 0)


def nightly(home) -> tuple[bool, dict[str, object]]:
    done = dg.materialize(
        [dg.AssetSpec("decisions"), no_card_number_is_stored],
        resources={"settings": Settings(home=home)},
        selection=dg.AssetSelection.all_asset_checks(),
    )
    [result] = done.get_asset_check_evaluations()
    return result.passed, {name: told.value for name, told in result.metadata.items()}


def rewritten(path):
    """Other content of the same length, with the times of before."""
    was = path.stat()
    path.write_text("paid by 4111111111111111\n")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size


def test_what_was_clean_is_not_read_again_until_it_changes(tmp_path, aged):
    (tmp_path / "old.txt").write_text("paid by nobody, nothing.\n")
    as_rows(tmp_path / "old.db", "note", "nothing")
    assert nightly(tmp_path)[0]
    assert nightly(tmp_path)[1]["unchanged_since_a_clean_scan"] >= 2
    rewritten(tmp_path / "old.txt")
    passed, told = nightly(tmp_path)
    assert (passed, told["places"]) == (False, ["old.txt: line 1"])
    assert nightly(tmp_path)[1]["places"] == ["old.txt: line 1"], "a find is read every night"


def test_a_row_that_is_still_in_the_log_of_a_database_is_found(tmp_path, aged):
    with closing(sqlite3.connect(tmp_path / "some.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE kept (number INTEGER)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert nightly(tmp_path)[0]
        database.execute("INSERT INTO kept VALUES (4111111111111111)")
        database.commit()
        passed, told = nightly(tmp_path)
    assert (passed, told["places"]) == (False, ["some.db: table kept, column number"])


def test_once_a_week_and_by_command_everything_is_read(tmp_path, aged):
    (tmp_path / "old.txt").write_text("nothing\n")
    assert nightly(tmp_path)[0]
    memory = tmp_path / "controls" / "card_scan.files.json"
    told = json.loads(memory.read_text("utf-8"))
    memory.write_text(json.dumps(told | {"whole_us": told["whole_us"] - 7 * 86_400_000_000}))
    assert nightly(tmp_path)[1]["unchanged_since_a_clean_scan"] == 0
    found = recorded_scan(Settings(home=tmp_path), ACT, ())
    assert found.known == 0


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path):
    (tmp_path / "new.txt").write_text("nothing\n")
    assert nightly(tmp_path)[0]
    assert nightly(tmp_path)[1]["unchanged_since_a_clean_scan"] == 0


def test_a_table_is_read_in_chunks_that_lose_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr("fraud_platform.adapters.card_scan._CHUNK", 7)
    with closing(sqlite3.connect(tmp_path / "some.db")) as database, database:
        database.execute("CREATE TABLE kept (number INTEGER)")
        database.execute("CREATE TABLE named (name TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        places = [-(2**63), -5, *range(0, 60, 3), 2**62]
        database.executemany(
            "INSERT INTO kept (rowid, number) VALUES (?, 4111111111111111)", [(n,) for n in places]
        )
        database.executemany(
            "INSERT INTO named VALUES (?, 4111111111111111)", [(str(n),) for n in range(20)]
        )
    finds = {find.place: find.count for find in scan(tmp_path).finds}
    assert finds["table kept, column number"] == len(places)
    assert finds["table named, column n"] == 20
