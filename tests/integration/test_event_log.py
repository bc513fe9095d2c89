"""The event log on a real SQLite file."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import polars as pl
import pytest

from fraud_platform.adapters import log_sink
from fraud_platform.adapters.audit_queue import open_audits
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.errors import DataContractError, LogUnavailableError, UnknownTransactionError
from fraud_platform.events import (
    Decision,
    Label,
    LabelEvent,
    Transaction,
    TransactionEvent,
    microseconds,
)
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS, QUARANTINE, UTC_MICROSECONDS
from tests.apart import APART

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log" / "events.db")


def payments(*rows: tuple[str, float, int]) -> pl.DataFrame:
    """Rows of (transaction_id, days after START, amount_minor)."""
    blank = dict.fromkeys(PAYLOAD_COLUMNS)
    return pl.DataFrame(
        [
            blank
            | {
                "transaction_id": name,
                "event_timestamp": START + days * DAY,
                "card_id": "c1",
                "terminal_id": "m1",
                "amount_minor": amount,
                "currency": "EUR",
                "latitude": 0.1,
                "received_timestamp": START + 100 * DAY,
                "source": "test",
            }
            for name, days, amount in rows
        ],
        schema=PAYLOAD_COLUMNS | {"received_timestamp": UTC_MICROSECONDS, "source": pl.String()},
    )


def verdicts(*rows: tuple[str, float]) -> pl.DataFrame:
    """Fraud verdicts of (transaction_id, days after START at which they became known)."""
    columns = [
        c for c in LABELS.columns if c not in {"seq", "event_timestamp", "card_id", "terminal_id"}
    ]
    return pl.DataFrame(
        [
            {
                "transaction_id": name,
                "verdict": "fraud",
                "label_source": "chargeback",
                "reason": None,
                "label_timestamp": START + days * DAY,
                "received_timestamp": START + 100 * DAY,
            }
            for name, days in rows
        ],
        schema={c: LABELS.columns[c] for c in columns},
    )


def test_transactions_and_labels_share_one_order_by_the_time_they_became_known(log):
    log.append(payments(("a", 0, 1), ("b", 2, 1)), verdicts(("a", 1)))
    events = log.follow(0)
    assert [(e.seq, type(e)) for e in events] == [
        (1, TransactionEvent),
        (2, LabelEvent),
        (3, TransactionEvent),
    ]


def test_the_same_batch_again_changes_nothing(log):
    batch = payments(("a", 0, 1), ("b", 2, 1)), verdicts(("a", 1))
    log.append(*batch)
    again = log.append(*batch)
    assert (again.accepted, again.duplicates, again.labels_accepted, again.labels_duplicates) == (
        0,
        2,
        0,
        1,
    )
    assert log.last_seq() == 3


def test_another_payload_under_a_known_id_is_a_conflict_within_and_across_batches(log):
    first = log.append(payments(("a", 0, 1), ("a", 0, 1), ("a", 0, 2)), verdicts())
    assert (first.accepted, first.duplicates, first.conflicts.height) == (1, 1, 1)
    second = log.append(payments(("a", 0, 3)), verdicts())
    assert (second.accepted, second.duplicates, second.conflicts.height) == (0, 0, 1)
    assert log.transactions(START, START + DAY)["amount_minor"].to_list() == [1]


def test_a_label_about_nothing_is_told_and_not_kept(log):
    outcome = log.append(payments(("a", 0, 1)), verdicts(("ghost", 1)))
    assert outcome.labels_unknown["transaction_id"].to_list() == ["ghost"]
    assert log.labels(START, START + 9 * DAY).is_empty()


def test_days_are_half_open(log):
    log.append(payments(("a", 0, 1), ("b", 1, 1)), verdicts())
    assert log.transactions(START, START + DAY)["transaction_id"].to_list() == ["a"]


def test_arrivals_name_the_days_that_were_touched(log):
    log.append(payments(("a", 0, 1), ("b", 1, 1)), verdicts(("a", 1)))
    assert log.arrivals(0).rows() == [
        (START.date(), 1, 0, 1),
        ((START + DAY).date(), 1, 1, 3),
    ]
    assert log.arrivals(3).is_empty()


def a_payment(name: str, days: float = 0.0) -> Transaction:
    return Transaction(name, microseconds(START + days * DAY), "c1", "m1", 100, "EUR")


def a_decision(transaction: Transaction, seq: int) -> Decision:
    return Decision(
        transaction.transaction_id, f"d{seq}", seq, seq - 1, transaction.event_us, 5, "review", 0.5,
        ("C01",), 0.2, 0.01, "degraded", ("champion",), "canary", False, "1", "m", "p", "f",
        (1.0, None), 7, 9,
    )  # fmt: skip


def test_a_decision_comes_back_as_it_was_written(log):
    payment = a_payment("a")
    with log.writing() as writer:
        seq = writer.append_transaction(payment, received_us=9, source="scorer")
        writer.append_decision(a_decision(payment, seq))
    assert log.recorded("a") == (1, payment, a_decision(payment, 1))
    row = log.decisions(START, START + DAY).row(0, named=True)
    assert (row["features"], row["reasons"], row["is_late"]) == ([1.0, None], ["C01"], False)


def test_an_error_inside_a_write_leaves_no_trace(log):
    def write_a_payment_and_a_label_about_nothing() -> None:
        with log.writing() as writer:
            writer.append_transaction(a_payment("a"), received_us=9, source="scorer")
            writer.append_label(Label("ghost", "fraud", "analyst", None, 1, 1))

    with pytest.raises(UnknownTransactionError):
        write_a_payment_and_a_label_about_nothing()
    assert (log.last_seq(), log.recorded("a")) == (0, None)


def test_two_logs_on_one_file_see_each_others_events(log, tmp_path):
    other = EventLog(tmp_path / "log" / "events.db")
    log.append(payments(("a", 0, 1)), verdicts())
    with other.writing() as writer:
        assert [event.seq for event in writer.follow(0)] == [1]
        assert writer.append_transaction(a_payment("b"), received_us=9, source="scorer") == 2
    assert [event.seq for event in log.follow(1)] == [2]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailableError, match="Hint"):
        EventLog(tmp_path / "file" / "events.db").last_seq()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "events.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LogUnavailableError, match="Hint"):
        EventLog(tmp_path / "events.db").last_seq()


def test_the_same_rejected_row_is_kept_once(log):
    row = dict.fromkeys(QUARANTINE.columns) | {
        "partition_timestamp": START,
        "received_timestamp": START,
        "source": "ingest:x",
        "row_number": 1,
        "broken_rule": "amount_is_a_number",
        "detail": "found 'x'",
        "payload": "{}",
    }
    rows = pl.DataFrame([row], schema=QUARANTINE.columns)
    log.reject(rows)
    log.reject(rows)
    assert log.rejections(START, START + DAY).equals(rows)


def test_a_rejected_row_without_its_detail_is_refused_and_not_lost_in_silence(log):
    row = dict.fromkeys(QUARANTINE.columns) | {
        "partition_timestamp": START,
        "received_timestamp": START,
        "source": "ingest:x",
        "broken_rule": "amount_is_a_number",
        "payload": "{}",
    }
    with pytest.raises(DataContractError, match="detail"):
        log.reject(pl.DataFrame([row], schema=QUARANTINE.columns))
    assert log.rejections(START, START + DAY).is_empty()


def test_a_payment_committed_while_a_reader_follows_is_not_skipped(log, tmp_path):
    log.append(payments(("a", 0, 1)), verdicts())
    other = EventLog(tmp_path / "log" / "events.db")
    came: list[str] = []

    def commit_before_the_labels_are_read(statement: str) -> None:
        if "FROM labels l" in statement and not came:
            came.append("b")
            other.append(payments(("b", 1, 1)), verdicts(("b", 2)))

    # Known way in: the connection tells its statements just before it runs them.
    log._file._connection().set_trace_callback(commit_before_the_labels_are_read)
    first = log.follow(0)
    rest = log.follow(first[-1].seq)
    assert came == ["b"]
    assert [event.seq for event in first + rest] == [1, 2, 3]


def test_a_decision_is_read_from_the_same_state_as_its_transaction(log, tmp_path):
    payment = a_payment("a")
    log.append(payments(("a", 0, 1)), verdicts())
    other = EventLog(tmp_path / "log" / "events.db")

    def commit_before_the_decision_is_read(statement: str) -> None:
        if "FROM decisions" in statement and other.decision("a") is None:
            with other.writing() as writer:
                writer.append_decision(a_decision(payment, 1))

    log._file._connection().set_trace_callback(commit_before_the_decision_is_read)
    assert log.decision("a") is None
    assert log.decision("a") == a_decision(payment, 1)


def test_a_write_waits_for_another_writer_only_as_long_as_it_was_told(log, tmp_path):
    hasty = EventLog(tmp_path / "log" / "events.db", busy_seconds=0.2)
    hasty.last_seq()
    with log.writing():
        started = time.monotonic()
        with pytest.raises(LogUnavailableError, match="another process"):
            hasty.append(payments(("a", 0, 1)), verdicts())
        assert time.monotonic() - started < 5
    assert hasty.append(payments(("a", 0, 1)), verdicts()).accepted == 1


def _open_new_logs(folder: Path, rounds: int, barrier: Barrier, failures: Queue) -> None:
    for number in range(rounds):
        barrier.wait(60)
        log = EventLog(folder / f"{number}.db")
        try:
            log.last_seq()
        except LogUnavailableError as error:
            failures.put(str(error))
        log.close()


def test_many_processes_may_open_a_new_log_at_once(tmp_path):
    barrier, failures = APART.Barrier(8), APART.Queue()
    processes = [
        APART.Process(target=_open_new_logs, args=(tmp_path, 25, barrier, failures), daemon=True)
        for _ in range(8)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    assert failures.empty(), failures.get()


def _append_until_killed(path: Path, acknowledged: str) -> None:
    log = EventLog(path)
    with Path(acknowledged).open("a") as told:
        for number in range(1_000_000):
            payment = a_payment(f"t{number}")
            with log.writing() as writer:
                seq = writer.append_transaction(payment, received_us=9, source="scorer")
                writer.append_decision(a_decision(payment, seq))
            told.write(f"t{number}\n")
            told.flush()


def test_what_was_acknowledged_before_a_kill_is_there_after_it(log, tmp_path):
    path, told = tmp_path / "log" / "events.db", tmp_path / "told.txt"
    told.touch()
    process = APART.Process(target=_append_until_killed, args=(path, str(told)), daemon=True)
    process.start()
    deadline = time.monotonic() + 60
    while told.read_text().count("\n") < 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    acknowledged = told.read_text().split()
    assert len(acknowledged) >= 50
    assert all(log.decision(name) is not None for name in acknowledged)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_of_an_older_version_gets_the_columns_it_lacks(tmp_path):
    path = tmp_path / "old.db"
    log, payment = EventLog(path), a_payment("a")
    with log.writing() as writer:
        seq = writer.append_transaction(payment, received_us=9, source="scorer")
        writer.append_decision(a_decision(payment, seq))
    log.close()
    with closing(sqlite3.connect(path)) as older:
        for name in ("probability", "expected_fpr", "missing", "arm", "expires_us"):
            older.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
        older.execute("ALTER TABLE labels DROP COLUMN happened_us")
    decision = EventLog(path).decision("a")
    assert decision == a_decision(payment, seq)._replace(
        probability=None, expected_fpr=None, missing=(), arm="none", expires_us=0
    )


LATER = ("pass_propensity", "audit_propensity", "explored", "governed", "review_cut")
LATER += ("decline_cut", "fpr_bound", "budget", "price_minor", "worth_multiplier")


def test_a_log_of_before_exploration_gets_its_columns_and_nothing_drawn(tmp_path):
    path = tmp_path / "old.db"
    log, payment = EventLog(path), a_payment("a")
    with log.writing() as writer:
        seq = writer.append_transaction(payment, received_us=9, source="scorer")
        writer.append_decision(a_decision(payment, seq))
    log.close()
    with closing(sqlite3.connect(path)) as older:
        older.execute("DROP INDEX decisions_explored")
        for name in LATER:
            older.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
    assert open_audits(path) == []
    assert EventLog(path).decision("a") == a_decision(payment, seq)
    assert LogFile(path).spent() == {}


def test_what_is_spent_is_asked_of_the_few_that_were_drawn(tmp_path):
    """It is asked at each start: it must not read all decisions."""
    LogFile(tmp_path / "log.db").spent()
    with closing(sqlite3.connect(tmp_path / "log.db")) as tables:
        plan = tables.execute(f"EXPLAIN QUERY PLAN {log_sink.SPENT}").fetchall()
    assert any("decisions_explored" in str(row) for row in plan), plan
