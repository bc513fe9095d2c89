"""The journal on real files: cut, flipped, full, killed and shared between processes."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.drain import APPEND_LOCK, drain, trim
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal_check import examine, repair
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.journal_frames import Position
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.errors import (
    JournalBusyError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
)
from fraud_platform.events import Decision, Label, Transaction
from fraud_platform.journal_commands import journal as command
from fraud_platform.settings import get_settings
from tests.apart import APART

SEGMENT = 4_096
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- syncing it is free


def a_payment(number: int, prefix: str = "t") -> Transaction:
    return Transaction(f"{prefix}{number}", 1_000 + number, "c", "m", 5, "EUR", latitude=0.1)


def a_decision(payment: Transaction, seq: int) -> Decision:
    return Decision(
        *(payment.transaction_id, f"dec_{seq}", seq, seq - 1, payment.event_us, 2, "approve", 0.3),
        *(("r",), 0.1, 0.2, "normal", (), "champion", False, "1", "m", "p", "f"),
        *((0.1, None, 3.0), 7, 9),
    )


class Home:
    """A log with its journal in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log" / "events.db"
        self.journal = folder / "log" / "journal"

    def ledger(self, **options: int) -> Ledger:
        options = {"segment_bytes": SEGMENT} | options
        ledger = Ledger(FolderDisk(self.journal), LogFile(self.path), **options)
        ledger.recover()
        return ledger

    def drain(self) -> int:
        return drain(FolderDisk(self.journal), LogFile(self.path))

    def ids(self) -> list[str]:
        """In the order of the log; it has no gap and no repeat."""
        events = EventLog(self.path).follow(0)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [event.transaction.transaction_id for event in events]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def write(ledger: Ledger, numbers: range, prefix: str = "t", *, sync: bool = True) -> None:
    """One group of decisions."""
    ledger.begin()
    for number in numbers:
        payment = a_payment(number, prefix)
        seq = ledger.append_transaction(payment, received_us=5, source="scorer")
        ledger.append_decision(a_decision(payment, seq))
    position = ledger.commit()
    if sync and position is not None:
        ledger.synced(ledger.journal.sync(position))


def killed(ledger: Ledger) -> None:
    """What a kill leaves: files as they are, locks gone."""
    ledger._owner.close()
    ledger._append_lock.close()


def files(home: Home) -> list[Path]:
    return sorted(home.journal.glob("*.seg"))


def test_what_was_decided_is_read_back_from_memory_from_the_journal_and_from_the_log(home):
    ledger = home.ledger()
    write(ledger, range(3))
    payment, decision = a_payment(1), a_decision(a_payment(1), 2)
    assert ledger.recorded("t1") == (2, payment, decision)
    assert ledger.tail == 3
    assert EventLog(home.path).decision("t1") == decision  # a reader drains
    ledger.drained()
    assert ledger.tail == 0
    assert ledger.recorded("t1") == (2, payment, decision)
    assert ledger.recorded("t9") is None


def test_a_second_owner_is_refused(home):
    ledger = home.ledger()
    with pytest.raises(PermanentError, match="another scorer"):
        home.ledger()
    ledger.close()
    home.ledger().close()


def test_an_owner_waits_while_another_process_appends(home):
    ledger = home.ledger()
    with EventLog(home.path).writing(), pytest.raises(JournalBusyError):
        ledger.begin()
    write(ledger, range(1))


def test_labels_come_once_whether_or_not_they_are_drained(home):
    ledger = home.ledger()
    write(ledger, range(1))
    label = Label("t0", "fraud", "analyst", None, 2_000, 3_000, 1_500, "someone")
    for _ in range(3):
        ledger.begin()
        event, was_new = ledger.append_label(label)
        again = ledger.append_label(label)
        ledger.commit()
        assert (event.seq, was_new) == (2, _ == 0)
        assert again == (event, False)
        home.drain()
        ledger.drained()
    row = sqlite3.connect(home.path).execute("SELECT * FROM labels").fetchall()
    assert row == [(2, *label)]


def test_a_journal_cut_at_any_byte_of_its_last_records_loses_only_what_was_cut(home, tmp_path):
    ledger = home.ledger(segment_bytes=1 << 16)
    ends = []
    for number in range(6):
        write(ledger, range(number, number + 1))
        ends.append(ledger.journal.position.offset)
    killed(ledger)
    data, base = files(home)[0].read_bytes(), home.folder
    for cut in range(ends[2], ends[5] + 1, 1 if os.environ.get("JOURNAL_ALL_CUTS") else 7):
        copy = Home(tmp_path / f"cut{cut}")
        shutil.copytree(base / "log", copy.folder / "log")
        zeroed = cut % 2  # cut the file, or have zeros there: both happen
        files(copy)[0].write_bytes(data[:cut] + bytes((len(data) - cut) * zeroed))
        ledger = Ledger(FolderDisk(copy.journal), LogFile(copy.path), segment_bytes=SEGMENT)
        kept = sum(end <= cut for end in ends)
        recovery = ledger.recover()
        assert copy.ids() == [f"t{number}" for number in range(kept)]
        assert recovery.tail.frames == 0
        write(ledger, range(10, 12))
        assert copy.ids()[kept:] == ["t10", "t11"]
        ledger.close()
        shutil.rmtree(copy.folder)


def test_a_flipped_bit_is_named_or_harmless(home):
    ledger = home.ledger()
    for number in range(30):
        write(ledger, range(number, number + 1))
    ledger.close()
    chance = random.Random(4)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        flips = int(os.environ.get("JOURNAL_FLIPS", "1000"))
        outcomes = Counter(flipped(home, Home(Path(folder)), chance) for _ in range(flips))
    print(dict(outcomes))
    assert set(outcomes) == {"named", "harmless"}
    assert outcomes["named"] > 0.9 * flips


def flipped(home: Home, copy: Home, chance: random.Random) -> str:
    """What becomes of a copy of a closed journal with one changed bit."""
    shutil.copytree(home.folder / "log", copy.folder / "log")
    path = chance.choice(files(copy))
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(bytes(data).rstrip(b"\0")))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    log = LogFile(copy.path)
    ledger = Ledger(FolderDisk(copy.journal), log, segment_bytes=SEGMENT)
    try:
        tail = ledger.recover().tail
    except PermanentError as error:
        return "named" if path.name in str(error) else "not named"
    finally:
        ids = [event.transaction.transaction_id for event in log.follow(0)]
        ledger.close()
        log.close()
        shutil.rmtree(copy.folder / "log")
    # Only the last mark: nothing depends on it.
    return "harmless" if tail.bytes and ids == [f"t{n}" for n in range(30)] else "silent"


def test_a_torn_tail_is_dropped_and_told(home):
    ledger = home.ledger()
    write(ledger, range(2))
    end = ledger.journal.position
    write(ledger, range(2, 4), sync=False)
    killed(ledger)
    data = bytearray(files(home)[0].read_bytes())
    data[end.offset + 3 : end.offset + 20] = b"x" * 17
    files(home)[0].write_bytes(data)
    ledger = Ledger(FolderDisk(home.journal), LogFile(home.path), segment_bytes=SEGMENT)
    tail = ledger.recover().tail
    assert tail.at == Position(1, end.offset)
    assert tail.file == "00000001.seg"
    assert tail.bytes > 100
    assert tail.frames == 2  # whole, and nobody was told of them
    assert home.ids() == ["t0", "t1"]


def test_another_logs_journal_and_a_newer_format_are_refused(home, tmp_path):
    ledger = home.ledger()
    write(ledger, range(2))
    ledger.close()
    home.path.unlink()
    for suffix in ("-wal", "-shm"):
        home.path.with_name(f"events.db{suffix}").unlink(missing_ok=True)
    with pytest.raises(PermanentError, match="of the log"):
        home.drain()


def test_a_full_disk_is_met_before_a_frame_is_written(home):
    """RLIMIT_FSIZE: allocating the next segment fails, nothing is torn."""
    ledger = home.ledger()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT - 1, hard))
    try:
        ledger.journal.prepare()
        assert ledger.journal.spare_error is not None  # visible while there is still room
        resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT, hard))
        ledger.journal.prepare()
        assert ledger.journal.spare_error is None
        resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT - 1, hard))
        written = fill(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)  # Python ignores it, and other tests rely on that
    write(ledger, range(written, written + 1))
    assert home.ids() == [f"t{number}" for number in range(written + 1)]


def fill(ledger: Ledger) -> int:
    """Decide until there is no room; returns how many were taken."""
    for number in range(10_000):
        try:
            write(ledger, range(number, number + 1))
        except JournalFullError:
            ledger.rollback()
            assert ledger.journal.broken is None
            return number
        except LogUnavailableError:
            ledger.rollback()
            raise
    raise AssertionError("never full")


def test_a_recovery_waits_for_a_drain_that_looks_at_the_torn_tail(home):
    ledger = home.ledger()
    lock = FolderDisk(home.journal).lock(APPEND_LOCK)
    assert lock.acquire(seconds=0)
    release = threading.Timer(0.1, lock.release)
    release.start()
    ledger.recover()
    release.join()
    ledger.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_runs_full_refuses_and_goes_on_by_itself(tmp_path, small_disk):
    path = tmp_path / "log" / "events.db"
    ledger = Ledger(FolderDisk(small_disk), LogFile(path), segment_bytes=SEGMENT)
    ledger.recover()
    written = fill(ledger)
    assert written > 50
    with pytest.raises(JournalFullError):
        write(ledger, range(written, written + 1))
    ledger.rollback()
    disk, log = FolderDisk(small_disk), LogFile(path)
    drain(disk, log)
    assert trim(disk, log, older_than_us=time.time_ns() // 1000 + 1)
    write(ledger, range(written, written + 1))
    drain(disk, log)
    assert log.drained().last_seq == written + 1
    ledger.close()


def test_too_much_undrained_is_refused_until_somebody_drains(home):
    ledger = home.ledger(tail_limit=5)
    write(ledger, range(5))
    with pytest.raises(JournalFullError, match="not drained"):
        ledger.begin()
    home.drain()
    ledger.drained()
    write(ledger, range(5, 6))


def test_sealed_segments_are_chained_cut_verified_and_trimmed(home):
    ledger = home.ledger()
    for number in range(60):
        write(ledger, range(number, number + 1))
    home.drain()
    disk, log = FolderDisk(home.journal), LogFile(home.path)
    seals = log.seals()
    assert len(seals) == 3
    assert [seal.previous for seal in seals] == ["", *(seal.sha256 for seal in seals[:-1])]
    assert [path.stat().st_size for path in files(home)[: len(seals)]] == [s.bytes for s in seals]
    assert {segment.state for segment in examine(disk, log)} == {"sealed", "open"}
    assert trim(disk, log, older_than_us=0) == []
    trimmed = trim(disk, log, older_than_us=time.time_ns() // 1000 + 1)
    assert trimmed == [seal.number for seal in seals]
    assert not any(segment.problem for segment in examine(disk, log))
    write(ledger, range(60, 61))
    assert home.ids()[-1] == "t60"


def test_damage_is_verified_and_repaired_by_command(home, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(home.folder))
    get_settings.cache_clear()
    ledger = home.ledger(segment_bytes=1 << 16)
    for number in range(6):
        write(ledger, range(number, number + 1))
    ledger.close()
    (path,) = files(home)
    data = bytearray(path.read_bytes())
    data[data.index(b"dec_3")] ^= 1
    path.write_bytes(data)
    runner = CliRunner()
    found = runner.invoke(command, ["verify"])
    assert found.exit_code == 1
    assert "00000001.seg" in found.output
    assert runner.invoke(command, ["repair"]).exit_code == 2  # only with --yes
    told = runner.invoke(command, ["repair", "--yes"])
    assert told.exit_code == 0, told.output
    assert "set aside: 00000001.damaged" in told.output
    assert "3 records at log positions 4 to 6" in told.output
    assert home.ids() == ["t0", "t1"]
    assert runner.invoke(command, ["verify"]).exit_code == 0
    ledger = home.ledger()
    write(ledger, range(7, 8))
    assert home.ids() == ["t0", "t1", "t7"]
    assert '"is_drained": true' in runner.invoke(command, ["status", "--json"]).output
    get_settings.cache_clear()


def test_a_sealed_segment_that_changed_is_named_with_its_first_bad_bytes(home):
    ledger = home.ledger()
    for number in range(30):
        write(ledger, range(number, number + 1))
    home.drain()
    data = bytearray(files(home)[0].read_bytes())
    data[data.index(b"dec_3")] ^= 1
    files(home)[0].write_bytes(data)
    disk, log = FolderDisk(home.journal), LogFile(home.path)
    bad = [segment for segment in examine(disk, log) if segment.problem]
    assert [segment.file for segment in bad] == ["00000001.seg"]
    assert "bytes " in str(bad[0].problem)
    ledger.close()
    assert repair(disk, log).set_aside == ("00000001.damaged",)
    assert not [segment for segment in examine(disk, log) if segment.problem]
    assert len(home.ids()) == 30


def _decide_for_ever(begun: Barrier, folder: Path, prefix: str, acknowledged: str) -> None:
    begun.wait(60)
    ledger = Home(folder).ledger()
    with Path(acknowledged).open("a", buffering=1) as told:
        for number in range(1_000_000):
            try:
                write(ledger, range(2 * number, 2 * number + 2), prefix)
            except JournalBusyError:
                time.sleep(0.001)
                continue
            told.write(f"{prefix}{2 * number}\n{prefix}{2 * number + 1}\n")
            if number % 5 == 0:
                ledger.drained()
                ledger.journal.prepare()


def _drain_for_ever(begun: Barrier, folder: Path) -> None:
    begun.wait(60)
    while True:
        Home(folder).drain()


def test_no_kill_of_a_writer_or_a_drainer_loses_or_repeats_a_decision(home, tmp_path):
    acknowledged = tmp_path / "acknowledged"
    chance = random.Random(8)
    for life in range(20):
        begun = APART.Barrier(4)
        writer = APART.Process(
            target=_decide_for_ever,
            args=(begun, home.folder, f"l{life}-", str(acknowledged)),
            daemon=True,
        )
        drainers = [
            APART.Process(target=_drain_for_ever, args=(begun, home.folder), daemon=True)
            for _ in "ab"
        ]
        for process in (writer, *drainers):
            process.start()
        begun.wait(60)
        for process in (drainers[0], writer, drainers[1]):
            time.sleep(chance.uniform(0.02, 0.15))
            process.kill()
            process.join()
    told = acknowledged.read_text().split()
    home.ledger().close()
    ids = home.ids()
    print(f"{len(told)} acknowledged, {len(ids)} in the log after 20 kills of each")
    assert len(told) > 200
    assert len(set(ids)) == len(ids)
    assert set(told) <= set(ids)
    assert not any(s.problem for s in examine(FolderDisk(home.journal), LogFile(home.path)))


def _ingest(folder: Path, done: Flag) -> None:
    log = EventLog(Home(folder).path)
    for number in range(60):
        with log.writing() as writer:
            for part in range(3):
                payment = a_payment(3 * number + part, "i")
                writer.append_transaction(payment, received_us=5, source="file")
        time.sleep(0.001)
    done.set()


def test_a_scorer_and_an_ingest_that_append_at_the_same_time_share_one_order(home):
    done = APART.Event()
    ledger, number, seen = home.ledger(), 0, 0
    other = APART.Process(target=_ingest, args=(home.folder, done), daemon=True)
    other.start()
    while not done.is_set() and other.exitcode is None:
        try:
            before = ledger.last_seq
            write(ledger, range(number, number + 2))
        except JournalBusyError:
            time.sleep(0.0005)
            continue
        number += 2
        seen += ledger.last_seq - before - 2
        if number % 10 == 0:
            ledger.drained()
    other.join(30)
    assert other.exitcode == 0
    ids = home.ids()
    ours = [name for name in ids if name.startswith("t")]
    assert ours == [f"t{n}" for n in range(number)]
    assert [name for name in ids if name.startswith("i")] == [f"i{n}" for n in range(180)]
    print(f"{number} decided, 180 ingested, of which the scorer saw {seen} while it decided")
    assert seen > 0
