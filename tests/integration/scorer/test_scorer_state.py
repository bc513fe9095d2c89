"""The scorer's memory: what it starts from, and what happens when it is wrong."""

import asyncio
import contextlib
import itertools
import logging
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.decision import STATE_IN_DOUBT, DecisionPolicy
from fraud_platform.errors import UnavailableError
from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.past import Past
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.shards import shard_of
from fraud_platform.features.spec import LATENESS, LOOKBACK
from fraud_platform.modes import Mode
from serving.app import open_ledger
from serving.beside import answer_of
from serving.engine import Engine
from serving.metrics import Metrics
from serving.parts import Parts
from serving.refold import Failure, Finding, Mark, Order, refold
from serving.ruling import Ruling, resident_of
from serving.stance import Stance
from serving.state_check import ALONE_EVERY, StateCheck, _digest

T0 = 1_772_323_200_000_000  # 2026-03-01
MINUTE = 60_000_000


def transaction(number: int) -> Transaction:
    at = T0 + number * MINUTE
    amount = number * 7919 % 9_000
    return Transaction(f"t{number}", at, f"c{number % 7}", f"m{number % 3}", amount, "EUR")


@dataclass
class Scorer:
    """An engine with its audit, on a log of its own."""

    engine: Engine
    audit: StateCheck
    metrics: Metrics
    log: EventLog
    snapshots: StateSnapshots

    async def decide(self, number: int) -> Any:
        decided = await self.engine.decide(transaction(number), received_us=T0)
        return decided.decision


@pytest.fixture
def scorer(settings, publish):
    ruling = Ruling(DecisionPolicy(), resident_of(load_bundle(publish("1")), DecisionPolicy()))

    def build(seconds: float = 0.3) -> Scorer:
        log, metrics = EventLog(settings.log_path), Metrics()
        snapshots = StateSnapshots(settings.state_dir)
        clock = iter(range(T0, 2 * T0)).__next__
        engine = Engine(
            Parts(
                ledger=lambda: open_ledger(settings.log_path),
                log=log,
                snapshots=snapshots,
                ruling=lambda: ruling,
                stance=lambda: Stance(Mode.NORMAL),
                clock=clock,
                metrics=metrics,
            )
        )
        audit = StateCheck(settings.home, engine, seconds=seconds, metrics=metrics)
        return Scorer(engine, audit, metrics, log, snapshots)

    return build


def run(scorer: Scorer, story: Any) -> Any:
    async def whole() -> Any:
        await scorer.engine.start()
        audit = asyncio.create_task(scorer.audit.run())
        try:
            return await story(scorer)
        finally:
            audit.cancel()
            await asyncio.gather(audit, return_exceptions=True)
            await scorer.engine.stop()

    return asyncio.run(whole())


def truth(log: EventLog) -> dict[str, tuple[float | None, ...]]:
    """The features of every payment, folded from the log and from nothing else."""
    rings, found = FeatureRings(), {}
    for event in log.follow(0):
        if isinstance(event, TransactionEvent):
            found[event.transaction.transaction_id] = rings.read(event.transaction)
        rings.apply(event)
    return found


def fill(scorer: Scorer, numbers: range) -> list[Any]:
    async def story(one: Scorer) -> list[Any]:
        return [await one.decide(number) for number in numbers]

    return run(scorer, story)


def folded(log: EventLog, upto: int | None = None) -> FeatureRings:
    """The state of a log, or of its first events."""
    rings = FeatureRings()
    for event in log.follow(0, limit=upto):
        rings.apply(event)
    return rings


def asked_of(rings: FeatureRings, *, is_alone: bool = False) -> Order:
    """What a scorer with this memory would ask."""
    marks = [Mark(rings.last_seq, shard, rings.digest(shard)) for shard in range(SHARDS)]
    return Order("home", marks, SHARDS, is_alone)


def order(log: EventLog) -> Order:
    """What a scorer would ask that folded the whole log."""
    return asked_of(folded(log))


def log_of(path: Path, payments: Iterable[Transaction]) -> EventLog:
    """A log of these, as they come."""
    log = EventLog(path)
    with log.writing() as writer:
        for payment in payments:
            writer.append_transaction(payment, received_us=T0, source="s")
    return log


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.rings"))


async def until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


class Sender:
    """Payments one after the other until told to stop, and what was in doubt around each."""

    def __init__(self) -> None:
        self.decisions: dict[int, Any] = {}
        self.during_doubt: list[int] = []
        self.done = False

    async def send(self, one: Scorer, first: int) -> None:
        for number in itertools.count(first):
            if self.done:
                return
            before = one.engine.doubtful
            self.decisions[number] = await one.decide(number)
            if before and one.engine.doubtful:
                self.during_doubt.append(number)
            await asyncio.sleep(0.002)

    async def go_on(self, payments: int) -> None:
        sent = len(self.decisions)
        await until(lambda: len(self.decisions) > sent + payments)


@pytest.fixture
def damaged(scorer, monkeypatch, caplog):
    """A scorer whose memory of the card c3 was damaged while payments came in."""
    caplog.set_level(logging.INFO)
    load = StateSnapshots.load

    def slowly(*arguments):
        time.sleep(0.3)  # in a thread, as when the state is large
        return load(*arguments)

    monkeypatch.setattr(StateSnapshots, "load", slowly)
    sender = Sender()

    async def story(one: Scorer) -> None:
        sending = asyncio.create_task(sender.send(one, 0))
        await until(lambda: one.audit._sound[1] > 100)
        one.engine._rings._pasts["card"]["c3"].rings[0].sums[-1] += 1
        await until(lambda: one.engine.doubtful)
        await until(lambda: not one.engine.doubtful)
        await sender.go_on(50)
        sound = one.audit._sound
        await until(lambda: one.audit._sound[0] > sound[1])  # the next round finds it sound
        sender.done = True
        await sending

    one = scorer()
    run(one, story)
    return one, sender, caplog.text


def test_a_fault_in_memory_is_found_stated_and_repaired_while_payments_are_answered(
    damaged,
):
    one, sender, said = damaged
    decisions, during, right = sender.decisions, sender.during_doubt, truth(one.log)
    assert len({transaction(n).card_id for n in during}) == 7, "others went on meanwhile"
    of_c3 = [n for n in during if transaction(n).card_id == "c3"]
    assert {decisions[n].mode for n in during if n not in of_c3} == {"normal"}
    stated = {(decisions[n].mode, decisions[n].decision, decisions[n].reasons) for n in of_c3}
    assert stated == {("rules_only", "review", (STATE_IN_DOUBT,))}
    wrong = {n for n, d in decisions.items() if d.features != right[d.transaction_id]}
    assert {transaction(n).card_id for n in wrong} == {"c3"}, "the fault had its effect, there"
    after = {n for n in decisions if n > max(during) + 1}
    assert len(after) > 40
    assert not wrong & after
    bad = shard_of("c3", SHARDS)
    assert f"found shards [{bad}] of the state not as the log says" in said
    assert "the state was folded again; all of it is sound" in said
    page = one.metrics.page().decode()
    assert "fraud_state_shards_differing_total 1.0" in page
    assert "fraud_state_shards_in_doubt 0.0" in page


def test_a_scorer_goes_on_from_a_snapshot_as_if_it_had_folded_everything(scorer, settings, caplog):
    caplog.set_level(logging.INFO)
    one = scorer()
    decisions = fill(one, range(120))
    finding = refold(one.log, one.snapshots, order(one.log))
    assert (finding.differing, finding.snapshot_seq) == ([], 120)
    decisions += fill(scorer(), range(120, 160))
    assert "took the snapshot" in caplog.text
    assert "folded the log from position 120 to 120" in caplog.text
    right = truth(one.log)
    assert {d.transaction_id: d.features for d in decisions} == right


def test_damaged_snapshots_and_those_of_another_log_are_said_and_skipped(scorer, settings, caplog):
    one = scorer()
    fill(one, range(50))
    refold(one.log, one.snapshots, order(one.log))
    fill(scorer(), range(50, 90))
    refold(one.log, one.snapshots, order(one.log))
    newest, older = sorted(settings.state_dir.iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert one.snapshots.newest(one.log).last_seq == 50
    assert f"skipped the snapshot {newest.name}: found a snapshot" in caplog.text
    older.rename(older.with_name(f"{50:015d}-{'0' * 16}-{'0' * 16}.rings"))
    assert one.snapshots.newest(one.log) is None
    assert "it is of another log" in caplog.text
    decisions = fill(scorer(), range(90, 120))
    right = truth(one.log)
    assert all(d.features == right[d.transaction_id] for d in decisions)


def test_only_the_newest_snapshots_are_kept_and_no_part_of_one(scorer, settings):
    one = scorer()
    settings.state_dir.mkdir()
    for name, age in ((".abandoned.part", 7_200), (".being-written.part", 0)):
        (settings.state_dir / name).write_bytes(b"half")
        os.utime(settings.state_dir / name, (time.time() - age,) * 2)
    for number in range(4):
        fill(scorer(), range(number * 5, number * 5 + 5))
        refold(one.log, one.snapshots, order(one.log))
    half, *whole = sorted(path.name for path in settings.state_dir.iterdir())
    assert half == ".being-written.part"
    assert [int(name.split("-")[0]) for name in whole] == [15, 20]


def test_a_wrong_snapshot_is_replaced_and_the_memory_is_not_blamed(scorer, settings):
    one = scorer()
    fill(one, range(60))
    rings = folded(one.log)
    rings._pasts["terminal"]["m1"].rings[0].amounts[4] += 1
    one.snapshots.write(rings, one.log)
    finding = refold(one.log, one.snapshots, order(one.log))
    assert (finding.differing, finding.distrusted) == ([], True)
    [kept] = settings.state_dir.iterdir()
    assert refold(one.log, one.snapshots, order(one.log)).distrusted is False
    assert one.snapshots.load(kept) is not None


def test_a_fault_is_found_with_and_without_a_snapshot_to_begin_with(scorer, settings):
    one = scorer()
    fill(one, range(60))
    rings = folded(one.log)
    rings._pasts["card"]["c3"].rings[0].sums[-1] += 1
    asked = asked_of(rings)
    for _ in range(2):
        finding = refold(one.log, one.snapshots, asked)
        assert (finding.differing, finding.distrusted) == ([shard_of("c3", SHARDS)], False)


def test_each_shard_is_compared_at_its_own_position(scorer, settings):
    one = scorer()
    fill(one, range(300))
    rings, marks = FeatureRings(), []
    for event in one.log.follow(0):
        rings.apply(event)
        if event.seq > 20:
            marks.append(Mark(event.seq, event.seq % SHARDS, rings.digest(event.seq % SHARDS)))
    asked = Order("home", marks, SHARDS, is_alone=False)
    assert refold(one.log, one.snapshots, asked).differing == []
    moved = [Mark(mark.seq - 1, mark.shard, mark.digest) for mark in marks]
    assert refold(one.log, one.snapshots, structs.replace(asked, marks=moved)).differing


def test_memory_that_cannot_even_be_read_is_repaired_before_anybody_asks_for_it(scorer, caplog):
    caplog.set_level(logging.INFO)

    async def story(one: Scorer) -> list[Any]:
        decisions = [await one.decide(number) for number in range(30)]
        await until(lambda: one.audit._sound[1] == 30)
        del one.engine._rings._pasts["card"]["c3"].rings[0].sums[:]
        decisions += [await one.decide(number) for number in (30, 32, 33)]  # other cards
        await until(lambda: "is sound" in caplog.text)
        return [*decisions, *[await one.decide(number) for number in range(34, 45)]]

    one = scorer()
    decisions = run(one, story)
    right = truth(one.log)
    assert all(d.features == right[d.transaction_id] for d in decisions)


def test_a_check_that_cannot_run_is_counted_and_harms_nobody(scorer, settings, caplog):
    one = scorer()
    (settings.home / "file").write_text("")
    one.audit._home = settings.home / "file" / "no-home"

    async def story(one: Scorer) -> None:
        await one.decide(0)
        await until(lambda: "the state was not checked" in caplog.text)
        await one.decide(1)

    run(one, story)
    assert "fraud_state_checks_failed_total 1.0" in one.metrics.page().decode()
    assert "no-home" in caplog.text, "why, as whoever failed has put it"
    assert not one.engine.doubtful


def test_a_check_that_does_not_end_is_ended_and_counted(scorer, monkeypatch, caplog):
    started = []
    honest = asyncio.create_subprocess_exec

    async def hanging(*_: str, **pipes: Any) -> asyncio.subprocess.Process:
        started.append(await honest("sleep", "600", **pipes))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", hanging)
    one = scorer(seconds=0.05)
    assert one.audit._patience == 600, "an ordinary round does not take ten minutes"
    one.audit._patience = 0.2

    async def story(one: Scorer) -> None:
        await one.decide(0)
        await until(lambda: "the state was not checked" in caplog.text, seconds=10)
        assert started[0].returncode == -9

    run(one, story)
    failed = re.search(r"fraud_state_checks_failed_total (\d+)", one.metrics.page().decode())
    assert int(failed.group(1)) >= 1
    assert not one.engine.doubtful


def test_without_checks_nothing_is_written(scorer, settings):
    one = scorer(seconds=0)
    fill(one, range(5))
    with contextlib.suppress(FileNotFoundError):
        assert not list(settings.state_dir.iterdir())


def test_a_wrong_newest_time_in_memory_is_found_and_no_snapshot_is_blamed_for_it(tmp_path):
    log = log_of(tmp_path / "a.db", (transaction(number) for number in range(100)))
    snapshots = StateSnapshots(tmp_path / "state")
    snapshots.write(folded(log, 50), log)
    snapshots.write(folded(log), log)
    before = names(tmp_path / "state")
    for fault in (1 << 50, -(1 << 50), 1 << 3, -(1 << 20)):
        rings = folded(log)
        rings.newest_us += fault
        for is_alone in (False, True):
            finding = refold(log, snapshots, asked_of(rings, is_alone=is_alone))
            assert (len(finding.differing), finding.distrusted) == (SHARDS, False), fault
            assert names(tmp_path / "state") == before


@pytest.mark.parametrize("fault", [1 << 40, 1, -1, -40])
def test_a_wrong_position_in_memory_is_found(tmp_path, fault):
    log = log_of(tmp_path / "a.db", (transaction(number) for number in range(100)))
    snapshots = StateSnapshots(tmp_path / "state")
    rings = folded(log)
    rings.last_seq += fault
    finding = refold(log, snapshots, asked_of(rings))
    assert finding.differing
    assert not finding.distrusted
    right = asked_of(folded(log)).marks
    jumped = [*right[:200], *(structs.replace(mark, seq=mark.seq + fault) for mark in right[200:])]
    assert refold(log, snapshots, Order("home", jumped, SHARDS, is_alone=False)).differing


def test_the_fold_of_the_log_alone_begins_where_the_log_says_however_long_it_is(tmp_path):
    far = (LOOKBACK + LATENESS).days * 1440 // 100 + 1
    old_and_new = [transaction(n)._replace(event_us=T0 + n * far * MINUTE) for n in range(120)]
    late = transaction(200)._replace(event_us=T0 + 110 * far * MINUTE)
    log = log_of(tmp_path / "a.db", [*old_and_new, late])
    assert log.newest_event_timestamp(up_to=50) < log.newest_event_timestamp()
    assert log.newest_event_timestamp(up_to=0) is None
    asked = asked_of(folded(log), is_alone=True)
    finding = refold(log, StateSnapshots(tmp_path / "state"), asked)
    assert (finding.differing, finding.snapshot_seq) == ([], 121)


def test_a_snapshot_that_was_wrong_before_a_scorer_started_from_it_is_found(
    scorer, settings, caplog
):
    caplog.set_level(logging.INFO)
    one = scorer()
    fill(one, range(60))
    wrong = folded(one.log)
    wrong._pasts["card"]["c3"].rings[0].amounts[2] += 1_000
    wrong = FeatureRings.restore(wrong.snapshot())  # with sums that fit the wrong amount
    one.snapshots.write(wrong, one.log)
    asked = asked_of(one.snapshots.newest(one.log))
    assert refold(one.log, one.snapshots, asked).differing == [], "with snapshots it looks right"

    async def story(another: Scorer) -> Any:
        await until(lambda: "all of it is sound" in caplog.text)
        return await another.decide(66)

    decided = run(scorer(), story)
    assert transaction(66).card_id == "c3"
    assert "replaced the snapshots" in caplog.text
    assert decided.features == truth(one.log)[decided.transaction_id]


def test_the_first_round_and_every_sixth_fold_the_log_alone(scorer, monkeypatch):
    asked = []

    async def sound(order: Order) -> Finding:
        asked.append(order.is_alone)
        return Finding([], False, 1)

    monkeypatch.setattr("serving.state_check._asked", sound)

    async def story(one: Scorer) -> None:
        for number in range(2 * ALONE_EVERY + 1):
            await one.decide(number)
            await until(lambda: len(asked) > number)  # noqa: B023 -- waited for right here

    run(scorer(seconds=0.05), story)
    alone = [True, *[False] * (ALONE_EVERY - 1)]
    assert asked[: 2 * ALONE_EVERY + 1] == [*alone, *alone, True]


def test_a_log_restored_from_a_backup_gets_snapshots_and_those_beyond_its_end_go(tmp_path, caplog):
    log = log_of(tmp_path / "a.db", (transaction(number) for number in range(60)))
    snapshots = StateSnapshots(tmp_path / "state")
    backup = sqlite3.connect(tmp_path / "b.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as source:
        source.backup(backup)
    backup.close()
    early = snapshots.write(folded(log, 40), log)
    with log.writing() as writer:
        for number in range(60, 100):
            writer.append_transaction(transaction(number), received_us=T0, source="s")
    snapshots.write(folded(log), log)
    snapshots.write(folded(log, 90), log)
    snapshots.write(folded(log, 40), log)
    assert not early.exists(), "two newer ones are kept"
    restored = EventLog(tmp_path / "b.db")
    assert snapshots.newest(restored) is None
    assert "the log ends before it, at position 60" in caplog.text
    assert "of another log" not in caplog.text
    written = snapshots.write(folded(restored, 50), restored)
    assert names(tmp_path / "state") == [written.name]
    last = snapshots.write(folded(restored), restored)
    assert snapshots.of(restored) == [last, written]
    assert snapshots.of(log) == [last, written], "both are of its beginning"


def test_a_log_that_went_on_differently_or_was_built_anew_is_told_from_the_first(tmp_path, caplog):
    payments = [transaction(number) for number in range(50)]
    log = log_of(tmp_path / "a.db", payments)
    log.close()
    snapshots = StateSnapshots(tmp_path / "state")
    snapshots.write(folded(log), log)
    other = [*(payment._replace(amount_minor=1) for payment in payments[:49]), payments[49]]
    assert snapshots.newest(log_of(tmp_path / "other.db", other)) is None
    assert snapshots.newest(log_of(tmp_path / "same.db", payments)) is None
    assert caplog.text.count("it is of another log") == 2
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "a.db").read_bytes())
    assert snapshots.newest(EventLog(copy)) is not None
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE transactions SET amount_minor = 1 WHERE seq = 45")
        connection.commit()
    assert snapshots.newest(EventLog(copy)) is None
    assert "the log has gone on differently before its position" in caplog.text


@pytest.mark.parametrize("age", [99, 1])
def test_files_that_nobody_named_like_a_snapshot_are_skipped_and_removed(tmp_path, age, caplog):
    log = log_of(tmp_path / "a.db", [transaction(1)])
    (tmp_path / "state").mkdir()
    for name in (f"{age:015d}-{'0' * 16}.rings", "by-hand.rings"):
        (tmp_path / "state" / name).write_bytes(b"old")
    snapshots = StateSnapshots(tmp_path / "state")
    assert snapshots.newest(log) is None
    assert caplog.text.count("of another log") == 2
    written = snapshots.write(folded(log), log)
    assert names(tmp_path / "state") == [written.name]


def damage_frauds(past: Past) -> None:
    past.frauds = None


def damage_columns(past: Past) -> None:
    past.rings[0].running = (None, None)


def damage_key(past: Past) -> None:
    past.rings[0].times = None


@pytest.mark.parametrize("damage", [damage_frauds, damage_columns, damage_key])
def test_damage_of_any_kind_is_a_difference_and_not_the_end_of_the_checks(tmp_path, damage):
    log = log_of(tmp_path / "a.db", (transaction(number) for number in range(50)))
    rings = folded(log)
    with contextlib.suppress(AttributeError):
        damage(rings._pasts["card"]["c3"])
    shard = shard_of("c3", SHARDS)
    assert _digest(rings, shard, SHARDS) == "unreadable"


def test_a_defect_costs_one_round_and_is_said_and_counted_without_what_it_quotes(
    scorer, monkeypatch, caplog
):
    rounds = []

    async def broken(order: Order) -> Finding:
        rounds.append(order)
        if len(rounds) < 3:
            raise KeyError("c3")
        return Finding([], False, 1)

    monkeypatch.setattr("serving.state_check._asked", broken)

    async def story(one: Scorer) -> None:
        await one.decide(0)
        await until(lambda: one.audit._sound[1] == 1)

    one = scorer(seconds=0.05)
    run(one, story)
    assert "fraud_state_checks_failed_total 2.0" in one.metrics.page().decode()
    assert "ended with a defect: found KeyError at test_scorer_state.py" in caplog.text
    assert "c3" not in caplog.text


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"type": "Finding"}'])
def test_an_answer_that_is_none_is_an_error_that_says_so(answer, tmp_path, monkeypatch):
    (tmp_path / "mumbler.py").write_text(f"import os; os.write(1, {answer!r}); os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    expected = f"found mumbler ended with 1 and {len(answer)} bytes that are no answer"
    with pytest.raises(UnavailableError, match=expected):
        asyncio.run(answer_of("mumbler", Order("home", [], 1, is_alone=True), Finding | Failure))


def run_refold(told: bytes) -> tuple[int, Failure]:
    done = subprocess.run(
        [sys.executable, "-m", "serving.refold"], input=told, capture_output=True, check=False
    )
    return done.returncode, msgspec.json.decode(done.stdout, type=Failure)


def test_the_other_process_says_why_it_failed_and_quotes_no_payment(tmp_path):
    log = tmp_path / "log" / "events.db"
    log.parent.mkdir()
    log.write_bytes(b"no database" * 100)
    mark = Mark(1, 0, "digest of 4929 1234 5678 9012")
    asked = msgspec.json.encode(Order(str(tmp_path), [mark], SHARDS, is_alone=False))
    code, failure = run_refold(asked)
    assert code == 1
    assert "events.db unusable" in failure.message
    assert "Hint" not in failure.message
    code, failure = run_refold(asked.replace(b'"seq":1', b'"seq":"4929"'))
    assert code == 1
    assert failure.message.startswith("found ValidationError")
    assert "4929" not in failure.message


def test_more_pasts_are_checked_in_more_shards_and_the_doubt_covers_them(scorer, monkeypatch):
    monkeypatch.setattr(FeatureRings, "shards", 1_024)  # as if there were thousands
    asked = []

    async def differing(order: Order) -> Finding:
        asked.append(order)
        return Finding([shard_of("c3", order.shards)], False, 1)

    monkeypatch.setattr("serving.state_check._asked", differing)
    doubts = []

    async def story(one: Scorer) -> None:
        async def repair(shards: frozenset[int]) -> None:
            doubts.append(shards)

        monkeypatch.setattr(one.engine, "repair", repair)
        for number in range(10):
            await one.decide(number)
        await until(lambda: doubts)

    run(scorer(), story)
    assert asked[-1].shards == 1024 == len(asked[-1].marks)
    assert doubts[-1] == {shard_of("c3", SHARDS)}
