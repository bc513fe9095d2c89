"""Frames and segments of the journal: what goes in comes out, and nothing else does."""

import errno
import os
import random
import time
import zlib
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.journal import Journal, name_of
from fraud_platform.adapters.journal_frames import (
    FORMAT,
    DecisionRecord,
    Header,
    Kind,
    LabelRecord,
    Position,
    ShadowScore,
    decision_frame,
    frame,
    frame_at,
    frames,
    header_frame,
    label_frame,
    mark_frame,
    read_record,
    salt_of,
    scattered,
    shadow_frame,
)
from fraud_platform.adapters.journal_reader import JournalReader
from fraud_platform.adapters.log_writer import Decided, row_of
from fraud_platform.errors import (
    JournalDamagedError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
)
from fraud_platform.events import Decision, Label, Transaction
from tests.unit.journal_simulation import SimDisk, SimFile

SALT = salt_of("a log")
FILE = "00000001.seg"
TEXT = st.text(max_size=8)
PAYMENTS = st.builds(
    Transaction,
    *(TEXT, st.integers(0, 2**62), TEXT, TEXT, st.integers(0, 2**53), st.just("EUR")),
    merchant_category=st.none() | TEXT,
    latitude=st.none() | st.floats(allow_nan=False),
    longitude=st.none() | st.floats(allow_nan=False),
)
FEATURES = st.lists(st.none() | st.floats(allow_nan=False), max_size=4).map(tuple)


def a_decision(features: tuple[float | None, ...]) -> Decision:
    return Decision(
        *("t", "dec_1", 1, 0, 1, 2, "approve", 0.5, ("a", "b"), 0.1, None, "normal", ("x",)),
        *("champion", True, None, "m", "p", "f", features, 7, 9),
    )


@given(PAYMENTS, FEATURES, st.integers(1, 2**40))
def test_a_decision_comes_out_as_it_went_in(payment, features, seq):
    decision = a_decision(features)
    record = DecisionRecord(Decided(seq, payment, 5, "scorer"), row_of(decision))
    (found,) = frames(decision_frame(record, SALT), SALT)
    assert read_record(found, FILE) == record
    assert record.decision == decision


def test_labels_and_shadow_scores_come_out_as_they_went_in():
    label = LabelRecord(8, Label("t", "fraud", "analyst", None, 1, 2, 3, "somebody"))
    shadow = ShadowScore(7, "t", "2", "digest", 0.25, "review")
    data = label_frame(label, SALT) + shadow_frame([shadow], 8, SALT)
    assert [read_record(found, FILE) for found in frames(data, SALT)] == [label, (shadow,)]


def test_a_sound_frame_with_other_content_is_damage():
    (found,) = frames(frame(Kind.LABEL, 1, b"\x93\x01\x02\x03", SALT), SALT)
    with pytest.raises(JournalDamagedError, match=FILE):
        read_record(found, FILE)


def test_a_frame_of_another_journal_is_no_frame():
    data = label_frame(LabelRecord(8, Label("t", "fraud", "analyst", None, 1, 2)), SALT)
    assert frame_at(data, 0, salt_of("another log")) is None


def test_no_flipped_bit_of_a_frame_passes():
    data = label_frame(LabelRecord(8, Label("t", "fraud", "analyst", None, 1, 2)), SALT)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert frame_at(bytes(flipped), 0, SALT) is None


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_frames_are_found_between_anything(before, after):
    one, other = (mark_frame(Position(1, n), n, SALT) for n in (7, 8))
    found = list(scattered(before + one + after + other, SALT))
    assert [sound.seq for sound in found] == [7, 8]


def test_the_unused_room_of_a_segment_is_not_searched():
    """Whoever drains searches under the append lock; a second of it would starve the scorer."""
    one = mark_frame(Position(1, 0), 7, SALT)
    data = b"torn" + one + bytes(16 << 20)

    def seconds(act) -> float:
        start = time.process_time()
        act()
        return time.process_time() - start

    assert [sound.seq for sound in scattered(data, SALT)] == [7]
    took = min(seconds(lambda: list(scattered(data, SALT))) for _ in range(3))
    assert took < 5 * min(seconds(lambda: zlib.crc32(data)) for _ in range(3))


def journal(disk: SimDisk, *, segment_bytes: int = 256) -> Journal:
    new = Journal(disk, "a log", segment_bytes=segment_bytes)
    new.begin(1)
    return new


def a_frame(seq: int, size: int = 60) -> bytes:
    return frame(Kind.LABEL, seq, bytes(size), SALT)


def test_nothing_is_appended_before_it_begins_or_after_it_broke():
    disk = SimDisk(random.Random(1))
    with pytest.raises(LogUnavailableError):
        Journal(disk, "a log").append([a_frame(1)], next_seq=1)
    broken = journal(disk)
    disk.badness = 1.0
    with pytest.raises(LogUnavailableError):
        broken.append([a_frame(1)], next_seq=1)
    disk.badness = 0.0
    for act in (
        lambda: broken.append([a_frame(1)], next_seq=1),
        lambda: broken.sync(broken.position),
    ):
        with pytest.raises(LogUnavailableError):
            act()


def test_a_segment_goes_on_in_the_next_and_both_are_synced_in_order():
    disk = SimDisk(random.Random(1))
    writer = journal(disk)
    ends = [writer.append([a_frame(seq)], next_seq=seq) for seq in range(1, 6)]
    assert {end.segment for end in ends} == {1, 2, 3}
    assert writer.sync(ends[-1]) == ends[-1]
    assert all(file.durable == file.written for file in disk.files.values())
    reader = JournalReader(disk, "a log")
    assert reader.following(Position(1, ends[1].offset)) == Position(2, 0)
    assert reader.following(Position(1, ends[1].offset - 1)) is None


def test_the_next_segment_that_cannot_be_had_is_seen_before_the_current_one_is_full():
    disk = SimDisk(random.Random(1))
    writer = journal(disk)
    disk.is_full = True
    writer.prepare()
    assert name_of(2) in str(writer.spare_error)
    writer.append([a_frame(1)], next_seq=1)
    writer.append([a_frame(2)], next_seq=2)
    with pytest.raises(JournalFullError):
        writer.append([a_frame(3)], next_seq=3)
    disk.is_full = False
    assert writer.append([a_frame(3)], next_seq=3).segment == 2


def test_a_folder_that_cannot_be_listed_is_told_like_a_full_disk(monkeypatch):
    disk = SimDisk(random.Random(1))
    writer = journal(disk)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "names", lambda: failed(errno.EMFILE))
        writer.prepare()
        assert "another segment" in str(writer.spare_error)
        for seq in (1, 2):
            writer.append([a_frame(seq)], next_seq=seq)
        with pytest.raises(JournalFullError):
            writer.append([a_frame(3)], next_seq=3)
        assert writer.broken is None
    writer.prepare()
    assert writer.spare_error is None
    assert writer.append([a_frame(3)], next_seq=3).segment == 2


def failed(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


def test_a_file_is_closed_once_even_where_that_fails(monkeypatch):
    disk = SimDisk(random.Random(1))
    closed: list[int] = []
    monkeypatch.setattr(SimFile, "close", lambda file: (closed.append(id(file)), failed(errno.EIO)))
    writer = journal(disk)
    ends = [writer.append([a_frame(seq)], next_seq=seq) for seq in (1, 2, 3)]
    assert writer.sync(ends[-1]) == ends[-1]  # closes the first segment
    writer.prepare()
    writer.begin(9)
    assert writer.append([a_frame(4)], next_seq=4).segment == 9
    writer.close()
    writer.close()
    assert sorted(closed) == sorted(id(file) for file in disk.files.values())


def test_a_hole_behind_which_nothing_was_confirmed_is_a_torn_tail_and_else_damage():
    for is_confirmed in (False, True):
        disk = SimDisk(random.Random(1))
        writer = journal(disk, segment_bytes=2048)
        ends = [writer.append([a_frame(seq)], next_seq=seq) for seq in (1, 2)]
        if is_confirmed:
            writer.sync(ends[1])
        writer.append([a_frame(3)], next_seq=3)
        disk.files[name_of(1)].cache[ends[0].offset + 9] ^= 1
        reader = JournalReader(disk, "a log")
        if is_confirmed:
            with pytest.raises(JournalDamagedError, match=f"byte {ends[0].offset} of"):
                reader.tail(ends[0])
        else:
            assert reader.tail(ends[0]).frames == 1


def test_what_is_appended_while_the_tail_is_looked_at_is_no_damage(monkeypatch):
    disk = SimDisk(random.Random(1))
    writer = journal(disk, segment_bytes=2048)
    end = writer.sync(writer.append([a_frame(1)], next_seq=1))
    writer.append([], next_seq=2)
    reader, listed = JournalReader(disk, "a log"), disk.names

    def more() -> list[str]:
        monkeypatch.setattr(disk, "names", listed)
        for seq in range(2, 9):
            writer.sync(writer.append([a_frame(seq, 400)], next_seq=seq))
        return listed()

    monkeypatch.setattr(disk, "names", more)
    assert reader.tail(end).frames > 7
    disk.files[name_of(1)].cache[end.offset + 40 : end.offset + 60] = b"x" * 20
    with pytest.raises(JournalDamagedError, match=name_of(1)):
        reader.tail(end)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (Header(FORMAT + 1, "a log", 1, 1, Position(0, 0)), "newer version"),
        (Header(FORMAT, "another log", 1, 1, Position(0, 0)), "of the log another log"),
    ],
)
def test_a_newer_format_and_another_logs_journal_are_refused(header, said):
    disk = SimDisk(random.Random(1))
    disk.create(name_of(1), 256).write(header_frame(header))
    with pytest.raises(PermanentError, match=said):
        JournalReader(disk, "a log").read(Position(1, 0), 10)
