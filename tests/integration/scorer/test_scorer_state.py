"""The scorer's memory: what it starts from, and what happens when it is wrong."""

import asyncio
import contextlib
import itertools
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.decision import STATE_IN_DOUBT, DecisionPolicy
from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.shards import shard_of
from serving.audit import Audit
from serving.engine import Engine
from serving.metrics import Metrics
from serving.refold import Mark, Order, refold
from serving.ruling import ruling_of

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
    audit: Audit
    metrics: Metrics
    log: EventLog
    snapshots: StateSnapshots

    async def decide(self, number: int) -> Any:
        decided = await self.engine.decide(transaction(number), received_us=T0)
        return decided.decision


@pytest.fixture
def scorer(settings, publish):
    ruling = ruling_of(load_bundle(publish("1")), DecisionPolicy())

    def build(seconds: float = 0.3) -> Scorer:
        log, metrics = EventLog(settings.log_path), Metrics()
        snapshots = StateSnapshots(settings.state_dir)
        clock = iter(range(T0, 2 * T0)).__next__
        engine = Engine(log, lambda: ruling, clock=clock, metrics=metrics, snapshots=snapshots)
        audit = Audit(settings.home, engine, seconds=seconds, metrics=metrics)
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


def order(log: EventLog, home: Path, *, damage: bool = False) -> Order:
    """What a scorer would ask that folded the whole log, with a fault in its memory or without."""
    rings = FeatureRings()
    for event in log.follow(0):
        rings.apply(event)
    since_us = rings.sees_since_us
    if damage:
        rings._pasts["card"]["c3"].rings[0].sums[-1] += 1
    marks = [Mark(rings.last_seq, shard, rings.digest(shard)) for shard in range(SHARDS)]
    return Order(str(home), since_us, marks)


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
    assert {decisions[n].mode for n in during if n not in of_c3} == {"champion"}
    stated = {(decisions[n].mode, decisions[n].decision, decisions[n].reasons) for n in of_c3}
    assert stated == {("rules_only", "review", (STATE_IN_DOUBT,))}
    wrong = {n for n, d in decisions.items() if d.features != right[d.transaction_id]}
    assert {transaction(n).card_id for n in wrong} == {"c3"}, "the fault had its effect, there"
    after = {n for n in decisions if n > max(during) + 1}
    assert len(after) > 40
    assert not wrong & after
    bad = shard_of("c3", SHARDS)
    assert f"found shards [{bad}] of the state not as the log says" in said
    assert f"shards [{bad}] are sound" in said
    page = one.metrics.page().decode()
    assert "fraud_state_shards_differing_total 1.0" in page
    assert "fraud_state_shards_in_doubt 0.0" in page


def test_a_scorer_goes_on_from_a_snapshot_as_if_it_had_folded_everything(scorer, settings, caplog):
    caplog.set_level(logging.INFO)
    one = scorer()
    decisions = fill(one, range(120))
    finding = refold(one.log, one.snapshots, order(one.log, settings.home))
    assert (finding.differing, finding.snapshot_seq) == ([], 120)
    decisions += fill(scorer(), range(120, 160))
    assert "took the snapshot" in caplog.text
    assert "folded the log from position 120 to 120" in caplog.text
    right = truth(one.log)
    assert {d.transaction_id: d.features for d in decisions} == right


def test_damaged_snapshots_and_those_of_another_log_are_said_and_skipped(scorer, settings, caplog):
    one = scorer()
    fill(one, range(50))
    refold(one.log, one.snapshots, order(one.log, settings.home))
    fill(scorer(), range(50, 90))
    refold(one.log, one.snapshots, order(one.log, settings.home))
    newest, older = sorted(settings.state_dir.iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert one.snapshots.newest(one.log).last_seq == 50
    assert f"skipped the snapshot {newest.name}: found a snapshot" in caplog.text
    older.rename(older.with_name(f"{50:015d}-{'0' * 16}.rings"))
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
        refold(one.log, one.snapshots, order(one.log, settings.home))
    half, *whole = sorted(path.name for path in settings.state_dir.iterdir())
    assert half == ".being-written.part"
    assert [int(name.split("-")[0]) for name in whole] == [15, 20]


def test_a_wrong_snapshot_is_replaced_and_the_memory_is_not_blamed(scorer, settings):
    one = scorer()
    fill(one, range(60))
    rings = FeatureRings()
    for event in one.log.follow(0):
        rings.apply(event)
    rings._pasts["terminal"]["m1"].rings[0].amounts[4] += 1
    one.snapshots.write(rings, one.log)
    finding = refold(one.log, one.snapshots, order(one.log, settings.home))
    assert (finding.differing, finding.distrusted) == ([], True)
    [kept] = settings.state_dir.iterdir()
    assert refold(one.log, one.snapshots, order(one.log, settings.home)).distrusted is False
    assert one.snapshots.load(kept) is not None


def test_a_fault_is_found_with_and_without_a_snapshot_to_begin_with(scorer, settings):
    one = scorer()
    fill(one, range(60))
    asked = order(one.log, settings.home, damage=True)
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
    asked = Order(str(settings.home), T0 - 200 * 1440 * MINUTE, marks)
    assert refold(one.log, one.snapshots, asked).differing == []
    moved = [Mark(mark.seq - 1, mark.shard, mark.digest) for mark in marks]
    assert refold(one.log, one.snapshots, Order(str(settings.home), 0, moved)).differing


def test_memory_that_cannot_even_be_read_is_repaired_before_anybody_asks_for_it(scorer, caplog):
    caplog.set_level(logging.INFO)

    async def story(one: Scorer) -> list[Any]:
        decisions = [await one.decide(number) for number in range(30)]
        await until(lambda: one.audit._sound[1] == 30)
        del one.engine._rings._pasts["card"]["c3"].rings[0].sums[:]
        decisions += [await one.decide(number) for number in (30, 32, 33)]  # other cards
        await until(lambda: "are sound" in caplog.text)
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
    assert not one.engine.doubtful


def test_without_checks_nothing_is_written(scorer, settings):
    one = scorer(seconds=0)
    fill(one, range(5))
    with contextlib.suppress(FileNotFoundError):
        assert not list(settings.state_dir.iterdir())
