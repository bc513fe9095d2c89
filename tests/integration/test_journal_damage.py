"""Sectors of the journal that were on the disk and read as zeros: seen before it does harm."""

import threading
import time
from pathlib import Path

import pytest

from fraud_platform.adapters import journal_check
from fraud_platform.adapters.drain import append_lock, checked, drain, trim
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal_check import examine, repair
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.journal_frames import Kind, Position
from fraud_platform.adapters.journal_reader import JournalReader, Tail
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.errors import JournalBusyError, JournalDamagedError
from fraud_platform.events import Label
from tests.integration.test_journal_files import Home, a_payment, files, killed, write

LOST_SECTOR = 2_048


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def lose_a_sector(home: Home, *, decided: int, kept: int) -> int:
    """A scorer answers, marks and dies; then a sector reads as zeros.

    Returns:
        How many records the sector took with it.
    """
    ledger = home.ledger(segment_bytes=1 << 16)
    for number in range(decided):
        write(ledger, range(number, number + 1))
    ledger.drained()  # a mark
    killed(ledger)
    disk, log = FolderDisk(home.journal), LogFile(home.path)
    frames = JournalReader(disk, log.identity()).read(log.drained().position, 1_000).frames
    records = [frame for frame in frames if frame.kind == Kind.DECISION]
    start = records[kept].start
    with files(home)[0].open("r+b") as file:
        file.seek(start)
        file.write(bytes(LOST_SECTOR))
    return sum(start < frame.end and frame.start < start + LOST_SECTOR for frame in records)


def test_nobody_takes_the_positions_of_decisions_behind_a_lost_sector(home):
    gone = lose_a_sector(home, decided=40, kept=10)
    log = EventLog(home.path)
    assert log.last_seq() == 10  # a read does not look
    with pytest.raises(JournalDamagedError, match=r"00000001\.seg"), log.writing() as writer:
        writer.append_transaction(a_payment(1, "i"), received_us=5, source="file")
    assert len(home.ids()) == 10
    done = repair(FolderDisk(home.journal), LogFile(home.path))
    assert done.lost == tuple(range(11 + gone, 41))
    with log.writing() as writer:
        writer.append_transaction(a_payment(1, "i"), received_us=5, source="file")
    assert home.ids() == [*(f"t{number}" for number in range(10)), "i1"]


def test_whoever_looks_once_a_minute_sees_a_lost_sector(home):
    lose_a_sector(home, decided=40, kept=10)
    log = EventLog(home.path)
    assert log.drain() > 0
    assert log.drain() == 0
    with pytest.raises(JournalDamagedError):
        log.drain(checks=True)


def test_a_repair_counts_what_lost_its_position_to_others(home):
    gone = lose_a_sector(home, decided=40, kept=10)
    home.drain()
    with LogFile(home.path).transaction() as connection:  # what an ingest did before it looked
        connection.executemany(
            "INSERT INTO transactions (seq, transaction_id, event_us, card_id, terminal_id,"
            " amount_minor, currency, received_us, source)"
            " VALUES (?, ?, 1, 'c', 'm', 5, 'EUR', 5, 'file')",
            # Of two lost payments the file has the payment, and not the decision.
            [(seq, f"t{seq - 1}" if seq > 58 else f"i{seq}") for seq in range(11, 61)],
        )
    done = repair(FolderDisk(home.journal), LogFile(home.path))
    assert done.lost == tuple(range(11 + gone, 41))
    assert done.kept == 0
    assert len(home.ids()) == 60


def test_a_sink_knows_its_own_decisions_and_verdicts(home):
    ledger = home.ledger()
    write(ledger, range(2))
    ledger.begin()
    ledger.append_label(Label("t0", "fraud", "analyst", None, 2_000, 3_000))
    ledger.commit()
    ledger.close()
    disk, log = FolderDisk(home.journal), LogFile(home.path)
    at = log.drained().position
    records = [r for _, r in journal_check._behind(disk, at, ledger._salt)]
    with log.draining() as rows:
        assert [rows.has(record) for record in records] == [False] * 3
    drain(disk, log)
    with log.draining() as rows:
        assert [rows.has(record) for record in records] == [True] * 3


def test_a_recovery_while_the_tail_is_looked_at_is_no_damage(home, monkeypatch):
    ledger = home.ledger()
    write(ledger, range(3))
    ledger.drained()
    real, recovered = JournalReader.tail, []

    def meanwhile(reader: JournalReader, at: Position) -> Tail:
        if not recovered:
            recovered.append(at)  # first: a recovery looks at the tail too
            ledger.recover()
            write(ledger, range(3, 6))
            ledger.drained()  # a mark that speaks of the new segment
        return real(reader, at)

    monkeypatch.setattr(JournalReader, "tail", meanwhile)
    checked(FolderDisk(home.journal), LogFile(home.path))
    assert recovered
    assert len(home.ids()) == 6


def decide_and_recover(ledger: Ledger, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        try:
            write(ledger, range(number, number + 3))
            number += 3
            if number % 150 == 0:
                ledger.recover()
        except JournalBusyError:
            time.sleep(0.001)


def test_a_scorer_that_works_and_recovers_is_never_taken_for_damage(home):
    ledger, stop = home.ledger(), threading.Event()
    scorer = threading.Thread(target=decide_and_recover, args=(ledger, stop))
    scorer.start()
    disk, log, looks, until = FolderDisk(home.journal), LogFile(home.path), 0, time.monotonic() + 3
    try:
        while time.monotonic() < until:
            checked(disk, log)
            assert not [segment for segment in examine(disk, log) if segment.problem]
            looks += 1
    finally:
        stop.set()
        scorer.join()
        ledger.close()
    print(f"{looks} looks, {ledger.last_seq} decisions")
    assert looks > 5
    assert ledger.last_seq > 300


def test_an_examination_does_not_hold_the_log_and_takes_a_trimmed_segment_as_trimmed(
    home, monkeypatch
):
    ledger = home.ledger()
    for number in range(60):
        write(ledger, range(number, number + 1))
    home.drain()
    disk, log = FolderDisk(home.journal), LogFile(home.path)
    real, trimmed = journal_check._sealed, []

    def meanwhile(*args):
        if not trimmed:  # another connection writes, without waiting for this one
            other = LogFile(home.path, busy_seconds=0.0)
            trimmed.extend(trim(disk, other, older_than_us=time.time_ns() // 1_000 + 1))
        return real(*args)

    monkeypatch.setattr(journal_check, "_sealed", meanwhile)
    states = [segment.state for segment in examine(disk, log)]
    assert states[: len(trimmed)] == ["trimmed"] * len(trimmed)
    assert trimmed
    assert "damaged" not in states


def test_a_read_waits_for_an_appender_only_as_long_as_the_log_may_wait(home):
    ledger = home.ledger()
    write(ledger, range(2))
    end = ledger.journal.position
    write(ledger, range(2, 3), sync=False)
    killed(ledger)
    data = bytearray(files(home)[0].read_bytes())
    data[end.offset + 3 : end.offset + 20] = b"x" * 17  # a torn tail: who reads looks at it
    files(home)[0].write_bytes(data)
    log = EventLog(home.path, busy_seconds=0.1)
    log.drain()
    with append_lock(FolderDisk(home.journal)):
        begun = time.monotonic()
        for read in (log.last_seq, log.drain, lambda: log.drain(checks=True)):
            with pytest.raises(JournalBusyError, match=r"0\.1 seconds"):
                read()
        assert time.monotonic() - begun < 5
    assert log.last_seq() == 2
