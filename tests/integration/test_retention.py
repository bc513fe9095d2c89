"""T-RET: what is past its limit goes, provably, and nothing else; what stays is what it was."""

import importlib.util
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from fraud_platform.adapters import audit_sqlite, log_seals, retention_log
from fraud_platform.adapters.audit_check import Wanted, check_audit_log
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.decision_proof import decision_proof
from fraud_platform.adapters.decision_source import Choice, DecisionSource
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.lineage_graph import LineageGraph
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.log_pages import read_page
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.adapters.mirror_status import MirrorStatus, status_path, write_status
from fraud_platform.adapters.replay_source import read_log
from fraud_platform.adapters.retention_run import hold, planned, purge, release, status_of
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.adapters.tables import Tables
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.merkle import root
from fraud_platform.cli import main
from fraud_platform.errors import (
    HistoryChangedError,
    HistoryDamagedError,
    PermanentError,
    PurgedError,
    UnavailableError,
    UnknownTransactionError,
)
from fraud_platform.events import TransactionEvent, moment_of
from fraud_platform.features.batch import compute
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import LATENESS, LOOKBACK
from fraud_platform.lineage import Node, Record, State
from fraud_platform.retention import least_days
from fraud_platform.settings import Settings, get_settings
from tests.integration.aged_logs import DAY_US, START_US, aged_log

DAYS, PER_DAY, LIMIT = 500, 4, 200
NOW_US = START_US + DAYS * DAY_US
ACT = partial(Act, actor="ann", role="", origin="test")
VERIFIER = Path(__file__).parents[2] / "deploy" / "verify_audit.py"


def _loaded():
    spec = importlib.util.spec_from_file_location("verify_audit", VERIFIER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stand_alone = _loaded()


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch):
    monkeypatch.setattr(log_seals, "MOST_POSITIONS", 64)
    monkeypatch.setattr(retention_log, "_BATCH", 100)


def settings_of(home, **told) -> Settings:
    return Settings(home=home, retention={"log_days": LIMIT, **told})


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A home of 500 days whose log is sealed; nobody writes to it any more."""
    home = settings_of(tmp_path_factory.mktemp("home"))
    aged_log(home, DAYS, per_day=PER_DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_seals, "MOST_POSITIONS", 64)
        seals_of(home).seal()
    audit_log_of(home).head()
    return home


@pytest.fixture
def settings(sealed, tmp_path):
    """A copy of that home that a test may purge."""
    for folder in (sealed.audit_dir, sealed.log_path.parent):
        target = tmp_path / folder.name
        target.mkdir(mode=0o700)
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy(file, target)
    return settings_of(tmp_path)


def stored(settings, query, *arguments):
    with closing(sqlite3.connect(settings.log_path)) as connection:
        found = connection.execute(query, arguments).fetchall()
        connection.commit()
    return found


def remove(settings, first, last):
    stored(settings, "DELETE FROM transactions WHERE seq BETWEEN ? AND ?", first, last)
    stored(settings, "DELETE FROM labels WHERE seq BETWEEN ? AND ?", first, last)


def bad_of(settings):
    """What our check finds in the event log, and whether the stand-alone one agrees."""
    bad = [(one.first, one.kind) for one in seals_of(settings).compare().bad]
    audit = settings.audit_dir / "audit.db"
    try:
        stand_alone.check_log(audit, audit_log_of(settings).keys.public, events=settings.log_path)
    except stand_alone.Bad:
        assert bad, "only the stand-alone verifier found something"
    else:
        assert not bad, "the stand-alone verifier found nothing"
    return bad


# --- what goes ---------------------------------------------------------------------------------


def test_what_is_past_its_limit_goes_and_nothing_else(settings):
    (done,) = purge(settings, ACT, NOW_US).purged
    limit_us = NOW_US - LIMIT * DAY_US
    ((oldest,),) = stored(settings, "SELECT MIN(event_us) FROM transactions")
    assert limit_us - 17 * DAY_US < oldest <= limit_us, "a range may hold a little more"
    assert int(done.facts["newest_us"]) < limit_us
    (counts,) = stored(
        settings,
        "SELECT (SELECT COUNT(*) FROM transactions), (SELECT COUNT(*) FROM decisions),"
        " (SELECT COUNT(*) FROM decisions d LEFT JOIN transactions t USING (transaction_id)"
        " WHERE t.seq IS NULL)",
    )
    assert counts[0] == counts[1] == DAYS * PER_DAY - int(done.facts["transactions"])
    assert counts[2] == 0
    assert purge(settings, ACT, NOW_US).purged == ()


def test_the_day_before_the_limit_nothing_of_the_first_range_goes(settings):
    with closing(sqlite3.connect(settings.log_path)) as log:
        (newest,) = log.execute(retention_log._NEWEST, {"first": 1, "last": 64}).fetchone()
    at = newest + LIMIT * DAY_US
    assert planned(settings, at).purged == ()
    (due,) = planned(settings, at + 1).purged
    assert (due.facts["first"], due.facts["last"], due.audit_row) == ("1", "64", 0)


def test_without_a_limit_nothing_goes_and_nothing_is_written(settings):
    free = Settings(home=settings.home)
    before = audit_log_of(free).store.tail()
    assert purge(free, ACT, NOW_US).purged == ()
    assert audit_log_of(free).store.tail() == before
    assert {one.days for one in status_of(free, NOW_US).classes} == {None, 30}


def test_what_a_payment_to_come_still_needs_stays_although_it_is_past_the_limit(settings):
    late = NOW_US + 400 * DAY_US  # no payment came for more than a year
    purge(settings, ACT, late)
    ((oldest, newest),) = stored(settings, "SELECT MIN(event_us), MAX(event_us) FROM transactions")
    least, _ = least_days(settings.labels, settings.training)["log"]
    assert newest - oldest >= least * DAY_US


def test_the_state_after_a_purge_is_bit_for_bit_that_of_the_whole_log(settings):
    log = EventLog(settings.log_path)
    whole = fold(log, None)
    purge(settings, ACT, NOW_US)
    newest = log.newest_event_timestamp()
    assert fold(log, newest - LOOKBACK - LATENESS).digest(0, 1) == whole.digest(0, 1)
    later = [event for event in log.follow(0) if isinstance(event, TransactionEvent)][-1]
    again = fold(log, newest - LOOKBACK - LATENESS)
    for day in range(1, 200):
        payment = later.transaction._replace(
            transaction_id=f"n-{day}", event_us=later.transaction.event_us + day * DAY_US // 2
        )
        assert again.read(payment) == whole.read(payment), day
        for state in (whole, again):
            state.apply(TransactionEvent(later.seq + day, payment))


def fold(log, since) -> FeatureRings:
    rings = FeatureRings()
    for event in log.follow(0, since=since):
        rings.apply(event)
    return rings


# --- what proves it ------------------------------------------------------------------------------


def test_the_row_says_what_goes_and_both_verifiers_take_it_for_purged(settings):
    (done,) = purge(settings, ACT, NOW_US).purged
    first, second = audit_log_of(settings).rows(RowFilter(action="retention.purge"))
    assert (first.outcome, second.outcome, second.begun) == ("begun", "done", first.seq)
    (name,) = stored(settings, "SELECT log FROM identity")[0]
    gone = [one for one in seals_of(settings).all(name) if one.last <= int(done.facts["last"])]
    assert first.before == root([one.root for one in gone]).hex()
    assert {"transactions", "labels", "oldest_us", "newest_us", "days"} <= set(first.told)
    assert bad_of(settings) == []
    assert seals_of(settings).compare().purged == len(gone)
    check = check_audit_log(settings, Wanted())
    assert (check.is_intact, check.purged) == (True, len(gone))


def test_a_deletion_without_such_a_row_is_found(settings):
    remove(settings, 1, 64)
    assert bad_of(settings)[0] == (1, "deleted")


def test_a_deletion_beyond_what_the_row_says_is_found(settings):
    (done,) = purge(settings, ACT, NOW_US).purged
    beyond = int(done.facts["last"]) + 1
    remove(settings, beyond, beyond)
    assert bad_of(settings) == [(beyond, "deleted")]


FORGED = {
    "another root": {"before": "ab" * 32},
    "half a range": {"last": "32"},
    "a range and a half": {"last": "70"},
    "ranges behind a gap": {"first": "65", "last": "128"},
    "too young": {"newest_us": str(2**60)},
    "a limit of nothing": {"days": "0", "newest_us": str(time.time_ns() // 1_000)},
    "no numbers": {"first": "one"},
    "another log": {"object": "log:other"},
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_claim_that_does_not_fit_what_was_sealed_excuses_nothing(settings, kind):
    (due,) = planned(settings, NOW_US).purged
    (name,) = stored(settings, "SELECT log FROM identity")[0]
    first_seal, second_seal, *_ = seals_of(settings).all(name)
    told = due.facts | {"first": "1", "last": "64", "class": "log"}
    told |= {"newest_us": str(START_US + 20 * DAY_US)} | FORGED[kind]
    of = second_seal if told["first"] == "65" else first_seal
    before = told.pop("before", root([of.root]).hex())
    about = told.pop("object", f"log:{name}")
    act = ACT(action="retention.purge", object=about, before=before, facts=told)
    with audit_log_of(settings).recording(act):
        remove(settings, of.first, of.last)
    assert bad_of(settings)[0] == (of.first, "deleted")


def test_what_is_put_back_after_a_purge_is_found_and_goes_with_the_next(settings, sealed):
    purge(settings, ACT, NOW_US)
    for query, table in (
        ("SELECT * FROM transactions WHERE seq = 3", "transactions"),
        ("SELECT * FROM decisions WHERE seq = 3", "decisions"),
    ):
        (row,) = stored(sealed, query)
        marks = ", ".join("?" * len(row))
        stored(settings, f"INSERT INTO {table} VALUES ({marks})", *row)  # noqa: S608 -- names
    assert bad_of(settings) == [(3, "put back")]
    (done,) = purge(settings, ACT, NOW_US).purged
    assert done.facts["transactions"] == "1"
    assert bad_of(settings) == []


def test_what_was_changed_before_is_evidence_and_is_not_purged(settings):
    stored(settings, "UPDATE transactions SET amount_minor = 1 WHERE seq = 70")
    with pytest.raises(HistoryDamagedError, match="position 70"):
        purge(settings, ACT, NOW_US)
    assert list(audit_log_of(settings).rows(RowFilter(action="retention.*"))) == []


def test_what_was_changed_in_the_log_does_not_keep_days_of_tables(settings):
    stored(settings, "UPDATE transactions SET amount_minor = 1 WHERE seq = 70")
    home = settings_of(settings.home, tables_days=300)
    for day in (date(2022, 1, 1), date(2024, 1, 1)):
        Tables(home.tables_dir).write("labels", day, pl.DataFrame({"n": [1]}))
    with pytest.raises(HistoryDamagedError, match="position 70"):
        purge(home, ACT, NOW_US)
    assert Tables(home.tables_dir).days("labels") == [date(2024, 1, 1)]


# --- what can still be asked ---------------------------------------------------------------------


def test_what_was_purged_is_said_to_be_by_its_row_and_never_unknown(settings):
    (done,) = purge(settings, ACT, NOW_US).purged
    for name in ("t-00000-000", f"d-{1:032x}"):
        with pytest.raises(PurgedError, match=f"by row {done.audit_row:,} of the audit log"):
            decision_proof(settings, name)
    with pytest.raises(UnknownTransactionError) as unknown:
        decision_proof(settings, "t-unknown")
    assert not isinstance(unknown.value, PurgedError)
    assert decision_proof(settings, f"t-{DAYS - 1:05}-000")["position"]


def test_an_id_that_somebody_deleted_is_not_said_to_be_purged(settings):
    purge(settings, ACT, NOW_US)
    stored(settings, "INSERT INTO purged_ids SELECT randomblob(16), 1990")
    stored(settings, "UPDATE purged_ids SET seq = 1990 WHERE seq = 1")
    with pytest.raises(HistoryDamagedError, match="deleted"):
        decision_proof(settings, "t-00000-000")


@pytest.mark.parametrize(
    "words", [("decision", "t-00000-000"), ("prove", "t-00000-000"), ("replay", "t-00000-000")]
)
def test_every_question_about_a_purged_decision_gets_the_row(settings, monkeypatch, words):
    (done,) = purge(settings, ACT, NOW_US).purged
    told = run(settings, monkeypatch, "audit", *words)
    assert told.exit_code == 1
    assert "unknown" not in told.output
    assert f"by row {done.audit_row:,} of the audit log" in told.output


def run(settings, monkeypatch, *words):
    monkeypatch.setenv("FRAUD_HOME", str(settings.home))
    monkeypatch.setenv("FRAUD_RETENTION__LOG_DAYS", str(LIMIT))
    get_settings.cache_clear()
    try:
        return CliRunner().invoke(main, list(words))
    finally:
        get_settings.cache_clear()


def test_a_stretch_of_which_a_part_was_purged_is_refused_and_the_rest_is_whole(settings):
    log = EventLog(settings.log_path)
    start, end = moment_of(START_US), moment_of(NOW_US)
    before = log.transactions(start, end)
    purge(settings, ACT, NOW_US)
    for read in (log.transactions, log.labels, log.decisions, log.outcomes, log.rejections):
        with pytest.raises(PurgedError, match="row"):
            read(start, end)
    whole = moment_of(log.horizon().newest_us + 1)
    kept = before.filter(pl.col("event_timestamp") >= whole)
    assert log.transactions(whole, end).equals(kept)


def test_the_kept_log_is_still_a_log_that_both_sides_of_features_agree_on(settings):
    purge(settings, ACT, NOW_US)
    source = read_log(EventLog(settings.log_path))
    assert source.purged_positions > 1_000
    batch = compute(source.log.transactions, source.log.labels)
    assert batch.height == source.log.transactions.height > 0


def test_features_verify_finds_the_kept_log_equal_and_says_what_it_lacks(settings, monkeypatch):
    purge(settings, ACT, NOW_US)
    found = run(settings, monkeypatch, "features", "verify", "--json")
    told = json.loads(found.output)
    assert (found.exit_code, told["mismatches"]) == (0, 0)
    assert told["purged_positions"] > 1_000
    assert told["decisions_compared"] > 500


def test_lineage_tells_a_day_that_retention_deleted_from_one_that_somebody_did(
    settings, monkeypatch
):
    home, nodes = settings_of(settings.home, tables_days=300), []
    for day in (date(2022, 1, 1), date(2024, 1, 1), date(2024, 1, 2)):
        frame = pl.DataFrame({"n": [1]})
        path = Tables(home.tables_dir).write("raw_transactions", day, frame)
        nodes.append(Node("raw_transactions", day.isoformat(), sha256(path.read_bytes())))
        made = Record(node=nodes[-1], path=str(path.relative_to(home.home)), at_us=0)
        LineageStore(home.lineage_path).record(made)
    log, table = purge(home, ACT, NOW_US).purged
    Tables(home.tables_dir).path("raw_transactions", date(2024, 1, 1), "parquet").unlink()
    with closing(EventLog(home.log_path)) as events:
        states = [LineageGraph(home, events).state(node) for node in nodes]
    assert states == [State.PURGED, State.GONE, State.SAME]
    told = run(settings, monkeypatch, "audit", "uses", "raw_transactions", "2022-01-01").output
    assert f"purged by row {log.audit_row:,} of the audit log" in told
    assert f"2022-01-01 itself was purged by row {table.audit_row:,}" in told
    assert "decisions that could look at it" not in told


def test_a_mirror_follows_over_a_purge_and_a_new_one_begins_behind_it(settings):
    page = read_page(settings.log_path, None, 2_200)
    purge(settings, ACT, NOW_US)
    following = read_page(settings.log_path, page.position, 10_000)
    assert following.behind.rows == 0
    fresh = read_page(settings.log_path, None, 10_000)
    ((first,),) = stored(settings, "SELECT MIN(seq) FROM transactions")
    assert fresh.tables["transactions"][0][0] == first


def test_a_mirror_whose_last_decision_was_purged_goes_on_and_one_of_a_lost_one_does_not(settings):
    position = read_page(settings.log_path, None, 2_200).position
    purge(settings, ACT, NOW_US)
    old = replace(position, decision_id=f"d-{1:032x}")
    ((kept,),) = stored(settings, "SELECT COUNT(*) FROM decisions")
    assert len(read_page(settings.log_path, old, 10_000).tables["decisions"]) == kept
    with pytest.raises(PermanentError, match="only grows"):
        read_page(settings.log_path, replace(position, decision_id="d-lost"), 10_000)


def test_what_the_mirror_has_not_got_yet_stays(settings):
    mirrored = settings.model_copy(update={"postgres_url": "set"})
    assert planned(mirrored, NOW_US).purged == ()
    told = MirrorStatus(state="running", at=0.0, pid=1, seq=400)
    write_status(status_path(settings.log_path), told)
    (due,) = planned(mirrored, NOW_US).purged
    assert int(due.facts["last"]) <= 200


# --- a purge that dies, two at once, a hold -----------------------------------------------------

DYING = """
import os, signal, sys
from functools import partial
from pathlib import Path
from fraud_platform.adapters import log_seals, retention_log
from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.adapters.retention_run import purge
from fraud_platform.audit_log.acts import Act
from fraud_platform.settings import Settings
home, when, now_us = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log_seals.MOST_POSITIONS, retention_log._BATCH = 64, 100
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if when == "before the end":
    append = AuditLog._append
    AuditLog._append = lambda s, act, **k: append(s, act, **k) if k["outcome"] == "begun" else die()
elif when == "before the first batch":
    retention_log._delete = die
else:
    delete, count = retention_log._delete, []
    def some(*told):
        count.append(1)
        die() if len(count) > 5 else delete(*told)
    retention_log._delete = some
act = partial(Act, actor="ann", role="", origin="test")
purge(Settings(home=home, retention={"log_days": 200}), act, now_us)
"""


@pytest.mark.parametrize("when", ["before the first batch", "between two", "before the end"])
def test_a_purge_that_is_killed_is_carried_out_by_the_next(settings, when):
    command = [sys.executable, "-c", DYING, str(settings.home), when, str(NOW_US)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert seals_of(settings).compare().bad == ()
    (row,) = status_of(settings, NOW_US).unsettled
    if when == "between two":
        with pytest.raises(PurgedError, match=f"row {row}"):
            decision_proof(settings, "t-00000-000")
    report = purge(settings, ACT, NOW_US)
    assert (report.settled, report.purged) == ((row,), ())
    assert status_of(settings, NOW_US).unsettled == ()
    assert bad_of(settings) == []


def test_a_change_in_a_range_that_is_being_purged_is_found(settings):
    command = [sys.executable, "-c", DYING, str(settings.home), "between two", str(NOW_US)]
    subprocess.run(command, check=False)
    stored(settings, "UPDATE transactions SET amount_minor = 1 WHERE seq = 700")
    assert [(one.first, one.kind) for one in seals_of(settings).compare().bad] == [(700, "changed")]


def test_what_was_changed_after_a_purge_was_interrupted_is_evidence_and_stays(settings):
    command = [sys.executable, "-c", DYING, str(settings.home), "between two", str(NOW_US)]
    subprocess.run(command, check=False)
    stored(settings, "UPDATE transactions SET amount_minor = 1 WHERE seq = 700")
    with pytest.raises(HistoryDamagedError, match="position 700"):
        purge(settings, ACT, NOW_US)
    assert stored(settings, "SELECT amount_minor FROM transactions WHERE seq = 700") == [(1,)]


def test_an_interrupted_purge_of_another_log_takes_nothing_from_this_one(settings):
    command = [sys.executable, "-c", DYING, str(settings.home), "between two", str(NOW_US)]
    subprocess.run(command, check=False)
    shutil.rmtree(settings.log_path.parent)
    aged_log(settings, 20)
    (row,) = status_of(settings, START_US).unsettled
    assert purge(settings, ACT, START_US).settled == (row,)
    assert stored(settings, "SELECT COUNT(*) FROM transactions") == [(80,)]
    assert status_of(settings, START_US).unsettled == ()


def test_of_two_at_once_one_is_refused(settings):
    import fcntl

    with (settings.home / "retention.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another purge"):
            purge(settings, ACT, NOW_US)


def test_a_hold_stops_purges_until_it_is_released_and_is_seen(settings):
    hold(settings, ACT, "case 7")
    assert purge(settings, ACT, NOW_US).hold.startswith("case 7")
    assert status_of(settings, NOW_US).hold.startswith("case 7")
    release(settings, ACT, "closed")
    assert len(purge(settings, ACT, NOW_US).purged) == 1


def test_a_hold_stops_a_purge_that_is_under_way_and_the_next_goes_on(settings, monkeypatch):
    delete, batches = retention_log._delete, []

    def held(*told):
        batches.append(told)
        delete(*told)
        if len(batches) == 2:
            hold(settings, ACT, "case 7")

    monkeypatch.setattr(retention_log, "_delete", held)
    assert purge(settings, ACT, NOW_US).hold.startswith("case 7")
    assert len(batches) == 2
    assert seals_of(settings).compare().bad == ()
    release(settings, ACT, "closed")
    assert len(purge(settings, ACT, NOW_US).purged) == 1
    assert bad_of(settings) == []


def test_a_hold_of_the_settings_stops_purges_too(settings):
    held = settings_of(settings.home, hold="case 8")
    assert "case 8" in purge(held, ACT, NOW_US).hold


def test_a_claim_under_a_hold_excuses_nothing(settings):
    hold(settings, ACT, "case 7")
    (name,) = stored(settings, "SELECT log FROM identity")[0]
    seal = next(seals_of(settings).all(name))
    facts = {"first": "1", "last": "64", "newest_us": "0", "days": "200", "class": "log"}
    told = ACT(
        action="retention.purge",
        object=f"log:{name}",
        before=root([seal.root]).hex(),
        facts=facts,
    )
    with audit_log_of(settings).recording(told):
        remove(settings, 1, 64)
    assert bad_of(settings)[0] == (1, "deleted")


# --- the file, the other classes, the settings --------------------------------------------------


def test_the_file_gets_smaller_and_holds_nothing_of_what_went(settings):
    size = settings.log_path.stat().st_size
    purge(settings, ACT, NOW_US)
    assert settings.log_path.stat().st_size < size * 0.7
    content = settings.log_path.read_bytes()
    assert b"t-00000-000" not in content
    assert f"t-{DAYS - 1:05}-000".encode() in content


def test_a_file_of_an_older_version_keeps_its_size_and_holds_nothing_of_what_went(settings):
    with closing(sqlite3.connect(settings.log_path, isolation_level=None)) as log:
        log.execute("PRAGMA auto_vacuum=NONE")
        log.execute("VACUUM")
    size = settings.log_path.stat().st_size
    purge(settings, ACT, NOW_US)
    assert settings.log_path.stat().st_size >= size
    assert b"t-00000-000" not in settings.log_path.read_bytes()


def test_days_of_tables_go_except_the_newest_and_a_reader_is_told(tmp_path):
    home = Settings(home=tmp_path, retention={"tables_days": 300})
    tables, first = Tables(home.tables_dir), date(2024, 1, 1)
    days = [first + timedelta(days=n) for n in range(0, 600, 10)]
    for day in days:
        tables.write("labels", day, pl.DataFrame({"n": [1]}))
    tables.write("rare", first, pl.DataFrame({"n": [1]}))
    now_us = START_US + 600 * DAY_US
    (done,) = purge(home, ACT, now_us).purged
    kept = tables.days("labels")
    assert [day for day in days if day not in kept] == [d for d in days if d < date(2024, 10, 27)]
    assert tables.days("rare") == [first], "the newest day stays"
    with pytest.raises(PurgedError):
        tables.read("labels", [first, days[-1]])
    assert tables.read("labels", kept).height == len(kept)
    listed = (tmp_path / "retention" / f"{done.audit_row}.sha256").read_text("utf-8")
    assert listed.count("\n") == done.count == 30


def test_a_list_of_other_files_is_not_deleted_by(tmp_path):
    home = Settings(home=tmp_path, retention={"tables_days": 300})
    for day in (date(2022, 1, 1), date(2024, 1, 1)):
        Tables(home.tables_dir).write("labels", day, pl.DataFrame({"n": [1]}))
    (tmp_path / "retention").mkdir()
    (tmp_path / "retention" / "1.sha256").write_text("ab  tables/labels/2024-01-01.parquet\n")
    with pytest.raises(HistoryChangedError, match="row 1 of the audit log"):
        purge(home, ACT, START_US + 600 * DAY_US)
    assert len(Tables(home.tables_dir).days("labels")) == 2


def test_days_that_the_newest_is_made_of_stay_however_old_they_are(tmp_path):
    home = Settings(home=tmp_path, retention={"tables_days": 300})
    days = [date(2024, 1, 1) + timedelta(days=n) for n in (0, 100, 250, 300)]
    for day in days:
        Tables(home.tables_dir).write("labels", day, pl.DataFrame({"n": [1]}))
    purge(home, ACT, START_US + 2_000 * DAY_US)
    assert Tables(home.tables_dir).days("labels") == days[2:]


def test_a_limit_that_something_still_needs_is_refused_with_the_least(tmp_path):
    for name, least in (("log_days", 181), ("tables_days", 195), ("runs_days", 30)):
        Settings(home=tmp_path, retention={name: least})
        with pytest.raises(ValidationError, match=f"expected at least {least}"):
            Settings(home=tmp_path, retention={name: least - 1})
    with pytest.raises(ValidationError, match="journal_keep_days=0"):
        Settings(home=tmp_path, retention={"log_days": 400}, journal_keep_days=0)


def test_the_commands_say_what_is_due_and_purge_it(settings, monkeypatch):
    told = json.loads(run(settings, monkeypatch, "retention", "status", "--json").output)
    log = next(one for one in told["classes"] if one["name"] == "log")
    assert (log["days"], log["oldest"][:10]) == (LIMIT, "2024-01-01")
    assert log["due"] > 0
    assert "positions due" in run(settings, monkeypatch, "retention", "purge", "--dry-run").output
    assert "purged (row" in run(settings, monkeypatch, "retention", "purge").output
    assert "nothing is due" in run(settings, monkeypatch, "retention", "purge").output
    assert "is purged" in run(settings, monkeypatch, "retention", "hold", "case 7").output
    assert run(settings, monkeypatch, "retention", "purge").exit_code == 1
    assert "HOLD" in run(settings, monkeypatch, "retention", "status").output
    assert run(settings, monkeypatch, "retention", "release", "closed").exit_code == 0


def test_of_200000_acts_of_a_year_those_of_three_months_are_found_within_a_second(
    tmp_path, monkeypatch
):
    """T-RET: the audit log keeps twelve months, and three of them are at hand."""
    monkeypatch.setattr(audit_sqlite, "_DURABLE", "PRAGMA synchronous=OFF")
    home = Settings(home=tmp_path, retention={"log_days": 200, "tables_days": 200})
    audit_log_of(home).record(ACT(action="audit.head", object="log"))
    rows, year_us = 200_000, 365 * DAY_US
    now_us = time.time_ns() // 1_000
    fill(home.audit_dir / "audit.db", rows, now_us - year_us, now_us)
    purge(home, ACT, now_us)
    audit = audit_log_of(home)
    assert audit.store.tail().size >= rows, "nothing of it goes"
    since = RowFilter(since_us=now_us - 92 * DAY_US)
    started = time.process_time()
    newest = list(audit.rows(since, limit=50, newest=True))
    page_cpu = time.process_time() - started
    started = time.process_time()
    found = sum(1 for _ in audit.rows(since))
    seconds = time.process_time() - started
    told = {"test": "T-RET", "audit_rows": rows, "audit_days": 365, "found": found}
    print(json.dumps(told | {"cpu_s": round(seconds, 3), "page_cpu_s": round(page_cpu, 3)}))
    assert len(newest) == 50
    assert 45_000 < found < 55_000
    assert seconds <= 1.0
    assert page_cpu <= 1.0


def fill(path, rows, start_us, end_us):
    """Rows as long ago as told; their chain is of no concern here."""
    step = (end_us - start_us) // rows
    with closing(sqlite3.connect(path)) as database:
        database.executescript("DROP TRIGGER acts_in_order; DROP TRIGGER tail_grows;")
        (template,) = database.execute("SELECT * FROM acts WHERE seq = 1").fetchall()
        (size,) = database.execute("SELECT size FROM tail").fetchone()
        marks = ", ".join("?" * len(template))
        database.executemany(
            f"INSERT INTO acts VALUES ({marks})",  # noqa: S608 -- marks
            (
                (size + n + 1, start_us + n * step, *template[2:14], bytes(32), bytes(32))
                for n in range(rows)
            ),
        )
        database.execute("UPDATE tail SET size = ?, chain = ?", (size + rows, bytes(32)))
        database.commit()


def test_what_is_replayed_after_a_purge_saw_all_that_it_had_seen_and_the_rest_is_counted(settings):
    seen, rings = {}, FeatureRings()
    for event in EventLog(settings.log_path).follow(0):
        if isinstance(event, TransactionEvent):
            seen[event.seq] = rings.read(event.transaction)
        rings.apply(event)
    purge(settings, ACT, NOW_US)
    with closing(DecisionSource(settings.log_path, Choice())) as source:
        rings = source.state(EventLog(settings.log_path), None)
        pages = list(source.pages(0))
    asked = {one.seq for page in pages for one in page.asked}
    ((kept,),) = stored(settings, "SELECT COUNT(*) FROM decisions")
    assert source.extent.cut > 100
    assert len(asked) + source.extent.cut == kept
    for event in (event for page in pages for event in page.events):
        if event.seq in asked:
            assert rings.read(event.transaction) == seen[event.seq], event.seq
        rings.apply(event)
