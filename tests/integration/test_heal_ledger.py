"""The heal ledger on a real disk, between real processes."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.hash_chain import START, Chain, Link
from fraud_platform.adapters.heal_ledger import HealLedger, holder_of, lease
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.errors import (
    HistoryChangedError,
    HistoryDamagedError,
    LeaseHeldError,
    UnavailableError,
)
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.settings import Settings
from tests.apart import APART

ROOT = Path(__file__).parents[2]


def said(cause: str, kind: Kind = Kind.PAUSED) -> Record:
    return Record(kind=kind, event_us=1, now_us=2, cause=cause, by="anna", why="a test")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "heal" / "ledger.jsonl"


@pytest.fixture
def ledger(path) -> HealLedger:
    return HealLedger(path)


# --- appending and reading ---------------------------------------------------------------------


def test_what_was_appended_is_read_in_order_and_folded(ledger, path):
    assert ledger.records() == ()
    assert not ledger.state().paused
    entries = [ledger.append(said("attack")), ledger.append(said("bots"))]
    assert HealLedger(path).records() == (said("attack"), said("bots"))
    assert set(ledger.state().paused) == {"attack", "bots"}
    assert entries[1].before == sha256(path.read_bytes().splitlines()[0])


def test_a_look_again_decodes_only_what_is_new(ledger, path, monkeypatch):
    ledger.commit([said(f"cause {number}") for number in range(100)])
    ledger.state()
    decoded = []
    decode = Chain._decoded
    monkeypatch.setattr(
        Chain, "_decoded", lambda *given: decoded.append(given[1]) or decode(*given)
    )
    HealLedger(path).append(said("attack"))
    decoded.clear()
    assert "attack" in ledger.state().paused
    assert len(decoded) == 1


def test_who_decided_on_an_older_state_is_refused_and_nothing_is_written(ledger, path):
    ledger.state()
    HealLedger(path).append(said(EVERYTHING, Kind.KILLED))
    with pytest.raises(HistoryChangedError, match="1 new lines"):
        ledger.commit([said("attack")])
    assert len(ledger.records()) == 1
    assert ledger.state().is_killed
    ledger.commit([said("attack")])
    assert len(ledger.records()) == 2


def test_nothing_decided_writes_nothing(ledger, path):
    ledger.commit([])
    assert not path.exists()


# --- damage ------------------------------------------------------------------------------------


@given(cut=st.integers(min_value=1))
def test_a_line_whose_writer_died_never_was_and_the_next_one_says_so(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "ledger.jsonl"
    ledger = HealLedger(path)
    ledger.append(said("attack"))
    whole = path.read_bytes()
    ledger.append(said("bots"))
    torn = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + torn[: cut % len(torn)])
    again = HealLedger(path)
    assert again.records() == (said("attack"),)
    again.append(said("latency"))
    assert again.records() == (said("attack"), said("latency"))
    assert again.verify().links == 2


def test_a_torn_line_is_told(ledger, path, caplog):
    ledger.append(said("attack"))
    with path.open("ab") as file:
        file.write(b"{" * 5_000)
    ledger.append(said("bots"))
    assert "dropping 5000 bytes" in caplog.text
    assert path.read_bytes().count(b"{{") == 0
    assert ledger.verify().links == 2


EDITS = {
    "changed": (lambda a, b, c: (a, b.replace(b"anna", b"otto"), c), "line 3 follows"),
    "lost": (lambda a, b, c: (a, c), "line 2 follows"),
    "swapped": (lambda a, b, c: (b, a, c), "line 1 follows"),
    "no entry": (lambda a, b, c: (a, b"{}\n", c), "line 2 is no entry"),
    "first lost": (lambda a, b, c: (b, c), "line 1 follows"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_ledger_is_refused_and_the_first_bad_line_is_named(ledger, path, edit):
    for cause in ("attack", "bots", "latency"):
        ledger.append(said(cause))
    change, found = EDITS[edit]
    path.write_bytes(b"".join(change(*path.read_bytes().splitlines(keepends=True))))
    for ask in (HealLedger(path).verify, HealLedger(path).state):
        with pytest.raises(HistoryDamagedError, match=found):
            ask()
    before = path.read_bytes()
    with pytest.raises(HistoryDamagedError):
        HealLedger(path).append(said("attack"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("harm", ["cut", "replaced", "removed"])
def test_a_ledger_exchanged_under_a_running_reader_is_seen(ledger, path, harm):
    ledger.append(said("attack"))
    ledger.append(said("bots"))
    ledger.state()
    if harm == "removed":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    else:
        path.unlink()
        HealLedger(path).commit([said("bots"), said("bots")])
    with pytest.raises((HistoryDamagedError, UnavailableError)):
        ledger.state()


def test_a_digest_that_was_kept_shows_a_cut_end(ledger, path):
    ledger.append(said("attack"))
    first = ledger.verify().digest
    ledger.append(said("bots"))
    last = ledger.verify().digest
    assert ledger.verify(first).links == ledger.verify(last[:16]).links == 2
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert ledger.verify(first).links == 1
    with pytest.raises(HistoryDamagedError, match="no line with digest"):
        ledger.verify(last)


@pytest.mark.parametrize("place", ["folder", "link"])
def test_what_is_no_file_is_refused(path, tmp_path, place):
    path.parent.mkdir()
    path.mkdir() if place == "folder" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HistoryDamagedError, match="no regular file"):
        HealLedger(path).append(said("attack"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_what_was_there(ledger, path):
    ledger.append(said("attack"))
    ledger.state()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300, hard))
    try:
        with pytest.raises(UnavailableError, match="File too large"):
            ledger.commit([said("bots"), said("latency"), said("unknown")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert ledger.records() == (said("attack"),)
    assert path.read_bytes().endswith(b"\n")


# --- processes ---------------------------------------------------------------------------------


def write_many(path: Path, name: str) -> None:
    ledger = HealLedger(path)
    for number in range(60):
        ledger.append(said(f"{name} {number}"))


def test_two_processes_appending_at_once_never_interleave(path):
    writers = [
        APART.Process(target=write_many, args=(path, name), daemon=True) for name in ("one", "two")
    ]
    for writer in writers:
        writer.start()
    reader, looks = HealLedger(path), 0
    while any(writer.is_alive() for writer in writers):
        reader.state()  # never sees half a line
        looks += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    causes = [record.cause for record in HealLedger(path).records()]
    for name in ("one", "two"):
        mine = [cause for cause in causes if cause.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(60)]
    assert len(causes) == 120
    assert looks
    assert len(reader.state().paused) == 120


PROGRAM = (
    "import sys, time; from pathlib import Path;"
    "from fraud_platform.adapters.heal_ledger import HealLedger;"
    "from fraud_platform.heal.records import Kind, Record;"
    "ledger = HealLedger(Path(sys.argv[1]));"
    "print('ready', flush=True);"
    "[ledger.commit([Record(kind=Kind.PAUSED, event_us=1, now_us=n, cause='x' * 5000)] * 3)"
    " for n in range(10**6) if ledger.state()]"
)


@pytest.mark.parametrize("pause", [0.02, 0.1, 0.3])
def test_a_writer_killed_at_any_moment_leaves_a_sound_chain(path, pause):
    writer = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert writer.stdout.readline() == b"ready\n"
    time.sleep(pause)
    writer.kill()
    writer.wait()
    writer.stdout.close()
    ledger = HealLedger(path)
    kept = ledger.verify().links
    ledger.append(said("attack"))
    assert ledger.verify().links == kept + 1


# --- the lease ---------------------------------------------------------------------------------

HOLDER = (
    "import sys, time; from pathlib import Path;"
    "from fraud_platform.adapters.heal_ledger import lease\n"
    "with lease(Path(sys.argv[1]), 'sensor'):\n"
    "    print('held', flush=True); time.sleep(600)"
)


def test_a_second_one_that_heals_is_refused_and_told_who_does(tmp_path):
    path = tmp_path / "heal" / "lease"
    assert holder_of(path) is None
    with lease(path, "sensor") as holder:
        assert holder_of(path) == holder
        assert (holder.name, holder.pid) == ("sensor", os.getpid())
        with (
            pytest.raises(LeaseHeldError, match=f"held by sensor, process {os.getpid()}"),
            lease(path, "anna"),
        ):
            pytest.fail("two of them heal")
    assert holder_of(path) is None
    with lease(path, "anna"):
        pass


def test_a_killed_holder_holds_nothing(tmp_path):
    path = tmp_path / "lease"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout.readline() == b"held\n"
    assert holder_of(path).pid == holder.pid
    with pytest.raises(LeaseHeldError, match=f"process {holder.pid}"), lease(path, "anna"):
        pytest.fail("two of them heal")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert holder_of(path) is None
    with lease(path, "anna") as mine:
        assert holder_of(path) == mine


def test_who_only_looks_at_a_lease_keeps_nobody_from_it(tmp_path):
    path = tmp_path / "lease"
    path.touch()
    looker = path.open()
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.05, looker.close).start()
    with lease(path, "anna") as mine:
        assert holder_of(path) == mine


def test_a_person_is_heard_while_another_process_heals(tmp_path, ledger):
    with lease(tmp_path / "heal" / "lease", "sensor"):
        ledger.append(said(EVERYTHING, Kind.KILLED))
    assert ledger.state().is_killed


# --- the chain alone ---------------------------------------------------------------------------


class Word(Link, frozen=True, kw_only=True):
    text: str


@given(words=st.lists(st.text(), max_size=8), at=st.integers(0, 8))
def test_reading_in_two_parts_is_reading_at_once(tmp_path_factory, words, at):
    chain = Chain(tmp_path_factory.mktemp("chain") / "words.jsonl", Word)
    chain.append([Word(text=word) for word in words[:at]])
    first, place = chain.since()
    chain.append([Word(text=word) for word in words[at:]], behind=place)
    second, end = chain.since(place)
    assert [word.text for word in (*first, *second)] == words
    assert chain.since(START) == ((*first, *second), end)


def test_a_healer_reads_a_long_ledger_once(tmp_path, monkeypatch):
    healer = Healer(Settings(home=tmp_path), None, None)
    path = healer.settings.heal_ledger_path
    HealLedger(path).append(Record(kind=Kind.CHECKED, event_us=1, now_us=1))
    healer.ledger.doubtful()

    def read_again(self, line, place):
        raise AssertionError("a line is read again")

    monkeypatch.setattr(Chain, "_decoded", read_again)
    assert healer.ledger.doubtful() == ()
    assert healer.ledger.state() is not None
