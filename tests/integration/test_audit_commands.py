"""`fraud-platform audit ...`, as the page about it runs it."""

import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.adapters import audit_check
from fraud_platform.adapters.audit_check import Wanted, check_audit_log
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.cli import main
from fraud_platform.settings import Settings, get_settings
from tests.integration.sealed_logs import log_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "verify-the-audit-log.md"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FRAUD_AUDIT__ANCHOR_DIR", raising=False)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def _run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["audit", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_the_commands_of_the_page_do_what_it_says(tmp_path):
    home = Settings(home=tmp_path / ".fraud")
    log_of(home, 30)
    log = audit_log_of(home)
    (tmp_path / "anchor").mkdir()
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    (evidence / "old.head").write_text(_recorded(log).head().note, "utf-8")
    shutil.move(home.audit_dir / "first.key", evidence / "first.key")
    shutil.copy(home.audit_dir / "head.key.pub", evidence)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    script = "set -e\n" + "\n".join(block for block in blocks if "FRAUD_AUDIT__URL" not in block)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=kept | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("good: ") == 3
    assert "intact: " in done.stdout
    assert "note: the first key" not in done.stdout
    anchor = (tmp_path / "anchor").glob("*.heads")
    assert next(anchor).read_text("utf-8").startswith("fraud-platform/audit/")


def _recorded(log):
    log.record(Act(actor="ann", role="auditor", action="audit.head", object="log", origin="cli"))
    return log


def test_reading_is_recorded_and_listed_the_newest_first(settings):
    _recorded(audit_log_of(settings))
    assert "ann (auditor)  audit.head" in _run("log")
    told = json.loads(_run("log", "--json", "--action", "audit.*", "--limit", "2"))
    assert [(row["seq"], row["action"]) for row in told] == [(3, "audit.read"), (2, "audit.read")]
    assert json.loads(_run("log", "--json", "--actor", "ann", "--since", "2026-01-01")) != []
    assert json.loads(_run("log", "--json", "--since", "2999-01-01")) == []


def test_a_row_from_before_cannot_write_over_the_terminal(settings, monkeypatch):
    log = audit_log_of(settings)
    with monkeypatch.context() as older:
        older.setattr(Act, "__post_init__", lambda _: None)
        reason = "x\r\x1b[2Kann  model.promote"
        act = Act(actor="m", role="", action="mode.order", object="o", origin="c", reason=reason)
        begun = log.record(act, outcome="begun")
    assert "m  mode.order  o  begun  c  x\\x0d\\x1b[2Kann" in _run("log")
    assert log.settle(begun, "failed: interrupted").reason == "x  [2Kann  model.promote"


def test_a_damaged_log_ends_with_code_1_the_row_and_no_further_row(settings):
    log_of(settings, 20)
    seals_of(settings).seal()
    log = _recorded(audit_log_of(settings))
    log.close()
    with closing(sqlite3.connect(settings.audit_dir / "audit.db")) as database, database:
        database.execute("DROP TRIGGER acts_no_update")
        database.execute("UPDATE acts SET actor = 'nobody' WHERE seq = 2")
    assert "row 2: edited" in _run("verify", code=1)
    assert log.store.tail().size == 2


def test_a_changed_decision_ends_with_code_1_and_its_position(settings):
    log_of(settings, 20)
    _run("seal")
    with closing(sqlite3.connect(settings.log_path)) as database, database:
        database.execute("UPDATE decisions SET score = 0 WHERE seq = 7")
    found = json.loads(_run("verify", "--json", code=1))["findings"]
    assert found == [{"first": 7, "last": 7, "kind": "changed", "where": "event log"}]


def test_a_second_check_reads_only_what_is_new(settings):
    for _ in range(5):
        _recorded(audit_log_of(settings))
    assert json.loads(_run("verify", "--json"))["rows"] == 5
    assert json.loads(_run("verify", "--json", "--since-last"))["rows"] == 1


def _verified(settings: Settings, *words: str) -> tuple[int, int]:
    """Rows and heads that a check from where the last one ended reads."""
    told = json.loads(_run("verify", "--json", "--since-last", *words))
    return told["rows"], told["heads"]


def _end_moved(settings: Settings) -> None:
    """What somebody without the key can do: let the newest head pass for checked."""
    path = settings.audit_dir / "verified.json"
    sealed = json.loads(path.read_text("utf-8"))
    sealed["mark"]["note"] = audit_log_of(settings).head().note
    path.write_text(json.dumps(sealed), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        _end_moved,
        lambda s: (s.audit_dir / "verified.json").write_text("{}", "utf-8"),
        lambda s: (s.audit_dir / "verified.json").unlink(),
    ],
    ids=["moved", "broken", "gone"],
)
def test_an_end_of_a_check_that_somebody_changed_makes_the_next_one_whole(settings, change):
    for _ in range(5):
        _recorded(audit_log_of(settings))
    _run("verify")
    _recorded(audit_log_of(settings))
    change(settings)
    told = json.loads(_run("verify", "--json", "--since-last"))
    assert told["rows"] == told["size"] == 7
    assert any("from its first row" in remark for remark in told["remarks"])
    assert _verified(settings)[0] == 1


def test_a_check_that_goes_by_more_than_the_last_one_is_whole(settings, tmp_path):
    for _ in range(5):
        _recorded(audit_log_of(settings))
    first_key = shutil.move(settings.audit_dir / "first.key", tmp_path / "first.key")
    _run("verify")
    assert _verified(settings)[0] == 1
    assert _verified(settings, "--first-key", str(first_key))[0] == 7
    assert _verified(settings, "--first-key", str(first_key))[0] == 1
    heads = tmp_path / "kept.heads"
    heads.write_text(audit_log_of(settings).head().note, "utf-8")
    assert _verified(settings, "--anchor", str(heads))[0] == 9


def test_a_second_check_reads_no_older_head_here_nor_in_the_anchor(settings, monkeypatch):
    folder = settings.home.parent / "volume"
    folder.mkdir()
    monkeypatch.setenv("FRAUD_AUDIT__ANCHOR_DIR", str(folder))
    get_settings.cache_clear()
    for _ in range(5):
        _recorded(audit_log_of(get_settings()))
    _run("verify")
    with closing(sqlite3.connect(settings.audit_dir / "audit.db")) as database, database:
        database.execute("DROP TRIGGER heads_no_update")
        database.execute("UPDATE heads SET note = 'changed since' WHERE size = 2")
    (kept,) = folder.glob("*.heads")
    kept.write_bytes(kept.read_bytes().replace(b"audit/", b"xxxxx/", 1))
    assert _verified(settings) == (1, 4), "heads of rows 5 and 6, here and there"
    assert "found no head of an audit log" in _run("verify", code=1), "a whole one does"


def _key_changed(settings: Settings) -> None:
    """As the page says."""
    folder = settings.audit_dir
    with (folder / "former.pub").open("ab") as file:
        file.write((folder / "head.key.pub").read_bytes())
    for name in ("head.key", "head.key.pub"):
        (folder / name).rename(folder.parent / name)


def _said_with(settings: Settings, public: Path) -> str:
    command = [sys.executable, str(ROOT / "deploy" / "verify_audit.py"), "log"]
    command += [str(settings.audit_dir / "audit.db"), "--public", str(public)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_heads_count_by_the_keys_of_their_time_and_by_none_that_was_replaced(settings, tmp_path):
    for _ in range(3):
        _recorded(audit_log_of(settings))
    _key_changed(settings)
    for _ in range(3):
        _recorded(audit_log_of(settings))
    folder, keys = settings.audit_dir, tmp_path / "keys"
    lines = [(folder / name).read_text("utf-8") for name in ("former.pub", "head.key.pub")]
    assert check_audit_log(settings, Wanted()).is_intact
    for order, is_good in ((lines, True), (lines[1:], False), (lines[::-1], False)):
        keys.write_text("".join(order), "utf-8")
        assert check_audit_log(settings, Wanted(public=keys)).is_intact is is_good
        assert ("good: " in _said_with(settings, keys)) is is_good
    keys.write_text("".join(lines), "utf-8")
    for name in ("head.key", "head.key.pub"):  # somebody kept the former key
        (folder.parent / name).replace(folder / name)
    _recorded(audit_log_of(settings))
    found = check_audit_log(settings, Wanted(public=keys)).log.finding
    assert (found.kind, found.seq) == ("head forged", 7)
    assert "head forged" in _said_with(settings, keys)


def test_an_anchor_that_is_away_delays_no_act_and_catches_up(settings, monkeypatch, caplog):
    folder = settings.home.parent / "volume"
    away = settings.model_copy(update={"audit": type(settings.audit)(anchor_dir=str(folder))})
    log = _recorded(audit_log_of(away))
    assert "not copied to the anchor" in caplog.text
    folder.mkdir()
    _recorded(log)
    (path,) = folder.glob("*.heads")
    assert path.read_text("utf-8").count("fraud-platform/1 ") == 2
    assert path.with_suffix(".pub").exists()


@pytest.fixture
def anchored(settings):
    """A home whose log has heads in its anchor."""
    folder = settings.home.parent / "volume"
    folder.mkdir()
    audit = type(settings.audit)(anchor_dir=str(folder))
    settings = settings.model_copy(update={"audit": audit})
    for _ in range(3):
        _recorded(audit_log_of(settings)).close()
    return settings


def _kind(settings) -> str | None:
    finding = check_audit_log(settings, Wanted()).log.finding
    return finding.kind if finding else None


def _stand_alone(settings) -> int:
    """The exit code of the verifier that knows nothing of the platform."""
    folder = settings.audit_dir
    command = [sys.executable, str(ROOT / "deploy" / "verify_audit.py"), "log"]
    command += [str(folder / "audit.db"), "--public", str(folder / "head.key.pub")]
    command += ["--anchor", settings.audit.anchor_dir]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_log_that_was_made_anew_is_found_by_the_heads_of_the_one_before(anchored):
    assert (_kind(anchored), _stand_alone(anchored)) == (None, 0)
    shutil.rmtree(anchored.audit_dir)
    _recorded(audit_log_of(anchored)).close()
    assert (_kind(anchored), _stand_alone(anchored)) == ("replaced", 1)


def test_an_anchor_that_has_lost_the_heads_is_a_finding(anchored, monkeypatch):
    monkeypatch.setattr(audit_check, "_ON_ITS_WAY_SECONDS", 0)
    for file in Path(anchored.audit.anchor_dir).iterdir():
        file.unlink()
    assert (_kind(anchored), _stand_alone(anchored)) == ("not anchored", 1)


def test_a_torn_end_of_the_anchor_is_cut_off_and_copying_goes_on(anchored):
    (path,) = Path(anchored.audit.anchor_dir).glob("*.heads")
    whole = path.read_bytes()
    for torn in (1, 60, 200):
        path.write_bytes(whole[:-torn])
        assert (_kind(anchored), _stand_alone(anchored)) == (None, 0)
        _recorded(audit_log_of(anchored)).close()
        heads = audit_log_of(anchored).store.heads()
        assert path.read_text("utf-8") == "".join(heads)
        whole = path.read_bytes()


def test_a_check_finds_nothing_wrong_while_others_write(settings):
    anchored = type(settings.audit)(anchor_dir=str(settings.home.parent))
    settings = settings.model_copy(update={"audit": anchored})
    stop = threading.Event()

    def write() -> None:
        log = audit_log_of(settings)
        for number in itertools.count():
            if stop.is_set():
                break
            log_of(settings, 10, start=10 * number)
            seals_of(settings).seal()
            _recorded(log)
        log.close()

    with ThreadPoolExecutor(1) as others:
        writing, rows = others.submit(write), 0
        try:
            while rows < 24 and not writing.done():
                check = check_audit_log(settings, Wanted())
                assert (check.log.finding, check.ranges) == (None, ())
                rows = check.log.rows
        finally:
            stop.set()
    writing.result()
    assert rows >= 24
