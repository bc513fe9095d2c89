"""What the owner of a log knows: what is recorded, and what of that is durable."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.drain import Drained, appending, drain
from fraud_platform.adapters.journal_frames import Position
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.log_writer import pack
from fraud_platform.errors import (
    JournalBusyError,
    JournalFullError,
    LogUnavailableError,
    UnknownTransactionError,
)
from fraud_platform.events import Decision, Label, Transaction
from tests.unit.journal_simulation import SimDisk, SimSink


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


@pytest.fixture
def sink(disk: SimDisk) -> SimSink:
    sink = SimSink(disk)
    sink.parts = SimpleNamespace(Position=Position, Drained=Drained)
    return sink


@pytest.fixture
def ledger(disk: SimDisk, sink: SimSink) -> Ledger:
    ledger = Ledger(disk, sink, segment_bytes=2048, tail_limit=4)
    ledger.recover()
    return ledger


def a_payment(name: str) -> Transaction:
    return Transaction(name, 1, "c", "m", 5, "EUR")


def a_decision(name: str, seq: int) -> Decision:
    return Decision(
        *(name, f"dec_{seq}", seq, seq - 1, 1, 2, "approve", None, (), None, None, "normal"),
        *((), "none", False, None, None, "p", "f", (None,), 7, 9),
    )


def take(ledger: Ledger, *names: str) -> Position | None:
    ledger.begin()
    for name in names:
        seq = ledger.append_transaction(a_payment(name), received_us=5, source="scorer")
        ledger.append_decision(a_decision(name, seq))
    return ledger.commit()


def test_a_record_is_recorded_at_once_and_durable_once_synced(ledger):
    position = take(ledger, "a", "b")
    assert ledger.recorded("b") == (2, a_payment("b"), a_decision("b", 2))
    assert not ledger.is_durable(1)
    assert ledger.synced(ledger.journal.sync(position)) == 2
    assert ledger.is_durable(2)


def test_a_group_that_is_rolled_back_never_was(ledger):
    ledger.begin()
    seq = ledger.append_transaction(a_payment("a"), received_us=5, source="scorer")
    assert (seq, ledger.recorded("a").decision) == (1, None)
    ledger.rollback()
    assert ledger.recorded("a") is None
    take(ledger, "b")
    assert ledger.recorded("b").seq == 1


def test_a_transaction_without_its_decision_is_not_written(ledger):
    ledger.begin()
    ledger.append_transaction(a_payment("a"), received_us=5, source="scorer")
    with pytest.raises(ValueError, match="undecided"):
        ledger.commit()
    ledger.rollback()
    assert ledger.last_seq == 0


def test_an_empty_group_writes_nothing(ledger):
    assert take(ledger) is None


def test_a_label_is_about_a_payment_of_its_own_group_or_the_log_and_no_other(ledger, disk, sink):
    ledger.begin()
    seq = ledger.append_transaction(a_payment("a"), received_us=5, source="scorer")
    event, was_new = ledger.append_label(Label("a", "fraud", "analyst", None, 3, 4))
    assert (event.seq, event.transaction_seq, was_new) == (2, 1, True)
    with pytest.raises(UnknownTransactionError):
        ledger.append_label(Label("z", "fraud", "analyst", None, 3, 4))
    ledger.append_decision(a_decision("a", seq))
    ledger.commit()
    drain(disk, sink)
    ledger.drained()
    ledger.begin()
    event, was_new = ledger.append_label(Label("a", "fraud", "analyst", None, 3, 4))
    assert (event.seq, was_new) == (2, False)
    assert ledger.append_label(Label("a", "genuine", "analyst", None, 3, 4))[0].seq == 3
    ledger.commit()


def test_what_others_appended_is_seen_before_the_next_group(ledger, disk, sink):
    take(ledger, "a")
    with appending(disk, sink):
        with pytest.raises(JournalBusyError):
            ledger.begin()
        sink.ingest([a_payment("x")], [])
    ledger.begin()
    assert [event.seq for event in ledger.foreign(1)] == [2]
    assert ledger.append_transaction(a_payment("b"), received_us=5, source="scorer") == 3
    ledger.rollback()
    assert ledger.is_durable(2)  # whoever appends drains first


def test_a_tail_that_nobody_drains_refuses_the_next_group(ledger, disk, sink):
    take(ledger, "a", "b", "c", "d")
    with pytest.raises(JournalFullError):
        ledger.begin()
    drain(disk, sink)
    ledger.drained()
    assert (ledger.tail, ledger.undrained_bytes < 100) == (0, True)
    take(ledger, "e")


def test_after_an_error_nothing_goes_on_before_a_recovery_and_all_of_it_after(ledger, disk, sink):
    position = take(ledger, "a")
    disk.badness = 1.0
    with pytest.raises(LogUnavailableError):
        ledger.journal.sync(position)
    disk.badness = 0.0
    assert not ledger.is_durable(1)
    with pytest.raises(LogUnavailableError):
        ledger.begin()
    assert ledger.recover().frames == 2  # the header too
    assert ledger.is_durable(1)
    assert sink.known["a"].decision == a_decision("a", 1)
    take(ledger, "b")
    assert ledger.recorded("b").seq == 2


def test_the_tables_are_asked_once_about_all_new_ids_of_a_group(disk, sink, ledger, monkeypatch):
    take(ledger, "a")
    drain(disk, sink)
    ledger.drained()
    ledger.begin()
    ledger.look_up(["a", "b", "c"])
    assert ledger.recorded("a").seq == 1
    monkeypatch.setattr(sink, "recorded", None)  # whoever calls it, fails
    assert ledger.recorded("b") is ledger.recorded("c") is None
    ledger.rollback()


@given(values=st.lists(st.none() | st.floats(allow_nan=False), min_size=1))
def test_a_row_of_a_matrix_is_packed_as_its_vector_is(values):
    rows = np.array([values, values], dtype=np.float64)
    assert rows[1].tobytes() == pack(tuple(values))
