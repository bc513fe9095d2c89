"""The engine over a real log: groups, conflicts, restarts, and a log that fails."""

import asyncio
import resource
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal import Journal
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.decision import SET_ASIDE, DecisionPolicy
from fraud_platform.errors import (
    IdempotencyConflictError,
    InvalidLabelError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
    ScorerClosedError,
    ScorerFullError,
    UnavailableError,
)
from fraud_platform.events import Transaction, microseconds
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.modes import Mode
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS, UTC_MICROSECONDS
from serving.app import open_ledger
from serving.engine import Engine
from serving.group import DecisionResult, NewLabel
from serving.metrics import Metrics
from serving.parts import Parts
from serving.ruling import Resident, Ruling, resident_of, rules_only
from serving.stance import Stance

NONE = StateSnapshots(Path("no", "snapshots"))
NO_LABELS = LABELS.empty().select(
    "transaction_id", "verdict", "label_source", "reason", "label_timestamp", "received_timestamp"
)
T0 = microseconds(datetime(2026, 3, 1, tzinfo=UTC))
HOUR = 3_600_000_000


def transaction(number, **changes):
    """Few cards and terminals, so that most payments have a past."""
    drawn = Transaction(
        f"t{number}",
        T0 + number * HOUR // 4,
        f"c{number % 7}",
        f"m{number % 3}",
        (number * 7919) % 9_000,
        "EUR",
    )
    return drawn._replace(**changes)


@pytest.fixture
def ruling(publish):
    return Ruling(DecisionPolicy(), resident_of(load_bundle(publish("1")), DecisionPolicy()))


@pytest.fixture
def engine(tmp_path, ruling):
    def build(name="log", current=lambda: ruling, **parts):
        path = tmp_path / name / "events.db"
        usual = Parts(
            ledger=lambda: open_ledger(path),
            log=EventLog(path),
            snapshots=NONE,
            ruling=current,
            stance=lambda: Stance(Mode.NORMAL),
            clock=iter(range(T0, 2 * T0)).__next__,
            metrics=Metrics(),
        )
        return Engine(replace(usual, **parts))

    return build


async def decided(engine, *transactions):
    """Ask for all of them in one turn of the loop, so that they form one group."""
    asked = [engine.decide(asked, received_us=T0) for asked in transactions]
    return await asyncio.gather(*asked, return_exceptions=True)


def run(engine, story):
    async def whole():
        await engine.start()
        try:
            return await story(engine)
        finally:
            await engine.stop()

    return asyncio.run(whole())


def facts(results):
    """What must not depend on grouping, restarts or failures."""
    return [
        (r.decision.transaction_id, r.decision.seq, r.decision.features, r.decision.score)
        for r in results
    ]


async def one_by_one(engine, numbers):
    return [(await decided(engine, transaction(n)))[0] for n in numbers]


def test_a_group_decides_as_if_payments_had_come_one_by_one(engine):
    async def together(one):
        return await decided(one, *(transaction(n) for n in range(60)))

    alone = run(engine("alone"), lambda one: one_by_one(one, range(60)))
    assert facts(run(engine("together"), together)) == facts(alone)


def test_a_payment_is_in_the_past_of_the_next_one_of_its_own_group(engine):
    async def story(one):
        return await decided(one, transaction(0), transaction(7), transaction(14))

    counts = [r.decision.features[4] for r in run(engine(), story)]
    assert counts == [0.0, 0.0, 0.0], "7 payments are 105 minutes: beyond card_..._1h"
    again = [r.decision.features[5] for r in run(engine("b"), story)]
    assert again == [0.0, 1.0, 2.0]


def test_concurrent_requests_for_one_payment_are_decided_once(engine):
    async def story(one):
        return await decided(one, *[transaction(0)] * 20)

    results = run(engine(), story)
    assert [r.replayed for r in results] == [False] + [True] * 19
    assert len({r.decision for r in results}) == 1


def test_one_id_with_two_payloads_in_one_group_is_a_conflict_for_the_second(engine):
    async def story(one):
        return await decided(one, transaction(0), transaction(0, amount_minor=1), transaction(1))

    first, second, third = run(engine(), story)
    assert isinstance(first, DecisionResult)
    assert isinstance(second, IdempotencyConflictError)
    assert third.decision.seq == 2, "the refused one took no place in the log"


def test_a_restarted_engine_goes_on_with_the_same_features(engine):
    whole = run(engine("whole"), lambda one: one_by_one(one, range(80)))
    first = run(engine("cut"), lambda one: one_by_one(one, range(40)))
    second = run(engine("cut"), lambda one: one_by_one(one, range(40, 80)))
    assert facts(first + second) == facts(whole)


def test_labels_reach_the_features_of_later_payments(engine):
    label = NewLabel("t0", "fraud", "chargeback", None, T0 + HOUR)
    much_later = transaction(1, event_us=T0 + 10 * 24 * HOUR, terminal_id="m0")

    async def story(one):
        await decided(one, transaction(0))
        await one.label([label], received_us=T0 + 2 * HOUR, latest_us=T0 + 2 * HOUR)
        return await decided(one, much_later)

    [result] = run(engine(), story)
    counted = FEATURE_NAMES.index("terminal_fraud_count_7d_delayed")
    assert result.decision.features[counted] == 1.0


def test_a_label_and_its_payment_may_share_a_group(engine):
    async def story(one):
        label = NewLabel("t0", "fraud", "analyst", None, None)
        asked = (
            one.decide(transaction(0), received_us=T0),
            one.label([label], received_us=T0, latest_us=T0),
        )
        return await asyncio.gather(*asked)

    _, [label] = run(engine(), story)
    assert (label.seq, label.recorded) == (2, True)


def ingested(path, *numbers):
    """Payments of another process, appended to the log while a scorer has it."""
    rows = [transaction(n) for n in numbers]
    frame = pl.DataFrame(rows, schema=list(Transaction._fields), orient="row").select(
        pl.col("event_us").cast(UTC_MICROSECONDS).alias(name)
        if name == "event_timestamp"
        else pl.col(name).cast(dtype)
        for name, dtype in PAYLOAD_COLUMNS.items()
    )
    moment = pl.lit(T0).cast(UTC_MICROSECONDS)
    EventLog(path).append(
        frame.with_columns(received_timestamp=moment, source=pl.lit("ingest:test")), NO_LABELS
    )


def test_payments_of_an_ingest_are_in_the_past_of_the_next_decision(engine, tmp_path):
    async def story(one):
        results = []
        for n in range(0, 40, 2):
            await asyncio.to_thread(ingested, tmp_path / "log" / "events.db", n)
            results += await decided(one, transaction(n + 1))
        return results

    alone = run(engine("alone"), lambda one: one_by_one(one, range(40)))
    assert facts(run(engine(), story)) == facts(alone)[1::2]


def test_a_second_scorer_on_one_log_is_refused(engine):
    async def story(one):
        with pytest.raises(PermanentError, match="another scorer"):
            await engine().start()
        return await decided(one, transaction(0))

    [result] = run(engine(), story)
    assert result.decision.seq == 1


@contextmanager
def full_disk():
    """Let the system itself refuse: no file of this process may grow beyond a page."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until_usable(engine):
    async with asyncio.timeout(60):
        while engine.fault is not None:
            await asyncio.sleep(0.02)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("serving.engine._RETRY_SECONDS", 0.05)


@pytest.mark.usefixtures("hasty")
def test_after_a_failed_commit_the_features_hold_only_what_the_log_holds(engine):
    async def story(one):
        before = await one_by_one(one, range(40))
        with full_disk():
            lost = [transaction(n, transaction_id=f"lost{n}", amount_minor=1) for n in (40, 41)]
            refused = await decided(one, *lost)
            assert {type(answer) for answer in refused} == {LogUnavailableError}
            assert one.fault is not None
            with pytest.raises(LogUnavailableError):
                await one.decide(transaction(40), received_us=T0)
        await until_usable(one)
        return before + await one_by_one(one, range(40, 80))

    alone = run(engine("alone"), lambda one: one_by_one(one, range(80)))
    assert facts(run(engine(), story)) == facts(alone)


@pytest.mark.usefixtures("hasty")
def test_a_log_that_is_away_at_the_start_is_picked_up_when_it_comes_back(engine, tmp_path):
    (tmp_path / "log").write_text("a file where the folder should be")

    async def story(one):
        refused = await decided(one, transaction(0))
        assert isinstance(refused[0], LogUnavailableError)
        (tmp_path / "log").unlink()
        await until_usable(one)
        return await decided(one, transaction(0))

    [result] = run(engine(), story)
    assert result.decision.seq == 1


@pytest.mark.usefixtures("hasty")
def test_a_defect_while_deciding_refuses_the_group_and_keeps_the_engine_alive(engine):
    rulings = iter([None, rules_only(DecisionPolicy())])  # the first ruling breaks the group

    async def story(one):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        refused = await decided(one, transaction(0))
        assert isinstance(refused[0], LogUnavailableError)
        await until_usable(one)
        return await decided(one, transaction(0))

    [result] = run(engine(current=lambda: next(rulings)), story)
    assert (result.decision.seq, result.decision.decision) == (1, "review")


def test_a_long_ingest_is_folded_before_the_next_decision(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.engine._FAR_BEHIND", 5)
    monkeypatch.setattr("serving.engine.CHUNK", 3)

    async def story(one):
        await asyncio.to_thread(ingested, tmp_path / "log" / "events.db", *range(50))
        return await one_by_one(one, range(50, 55))

    alone = run(engine("alone"), lambda one: one_by_one(one, range(55)))
    assert facts(run(engine(), story)) == facts(alone)[50:]


def test_the_model_is_read_once_per_group(engine, ruling):
    read = []

    def current():
        read.append(1)
        return ruling

    results = run(
        engine(current=current), lambda one: decided(one, *(transaction(n) for n in range(30)))
    )
    assert len(read) == 1
    assert len({r.decision.model_digest for r in results}) == 1


def test_a_closed_scorer_decides_and_records_nothing(engine):
    async def story(one):
        with pytest.raises(ScorerClosedError):
            await one.decide(transaction(0), received_us=T0)
        return one.last_seq

    assert run(engine(stance=lambda: Stance(Mode.CLOSED)), story) == 0


def test_in_mode_rules_only_no_model_decides_although_there_is_one(engine):
    one = engine(stance=lambda: Stance(Mode.RULES_ONLY))
    [result] = run(one, lambda one: decided(one, transaction(0)))
    decision = result.decision
    assert (decision.decision, decision.score, decision.arm) == ("review", None, "none")
    assert (decision.mode, decision.reasons) == ("rules_only", (SET_ASIDE,))


def test_a_degraded_scorer_says_what_is_missing_in_each_decision(engine):
    one = engine(stance=lambda: Stance(Mode.DEGRADED, ("mirror",)))
    [result] = run(one, lambda one: decided(one, transaction(0)))
    assert (result.decision.mode, result.decision.missing) == ("degraded", ("mirror",))


def test_more_requests_than_may_wait_are_told_to_come_back(engine):
    async def story(one):
        answers = await decided(one, *(transaction(n) for n in range(20)))
        taken = await decided(one, *(transaction(n) for n in range(5)))
        assert all(isinstance(result, DecisionResult) for result in taken)
        return answers

    answers = run(engine(queue_limit=5), story)
    assert [isinstance(answer, ScorerFullError) for answer in answers] == [False] * 5 + [True] * 15


@pytest.mark.parametrize("durability", ["durable", "written", "async"])
def test_every_durability_gives_the_same_decisions(engine, durability):
    async def story(one):
        return await one_by_one(one, range(30))

    usual = facts(run(engine("usual"), story))
    assert facts(run(engine(durability, durability=durability), story)) == usual


def test_a_durable_answer_waits_for_the_disk_and_so_does_its_repeat(engine, monkeypatch):
    gate = threading.Event()
    sync = Journal.sync

    def slow(journal, position):
        gate.wait(5)
        return sync(journal, position)

    monkeypatch.setattr(Journal, "sync", slow)

    async def story(one):
        first = asyncio.create_task(one.decide(transaction(0), received_us=T0))
        await asyncio.sleep(0.05)
        again = asyncio.create_task(one.decide(transaction(0), received_us=T0))
        looked = asyncio.create_task(one.decision("t0"))
        await asyncio.sleep(0.1)
        early = [task.done() for task in (first, again, looked)]
        gate.set()
        return early, (await first).decision, (await again).decision, await looked

    early, *decisions = run(engine(), story)
    assert early == [False, False, False]
    assert len(set(decisions)) == 1


@pytest.fixture
def shadowed(publish, ruling):
    """The same ruling with a challenger beside it."""
    challenger = resident_of(load_bundle(publish("2")), DecisionPolicy())
    return replace(ruling, challenger=challenger)


def shadows(path):
    with closing(sqlite3.connect(path)) as log:
        query = "SELECT transaction_id, model_version, score, decision FROM shadow_scores"
        return log.execute(f"{query} ORDER BY seq").fetchall()


def test_a_challenger_scores_everything_and_changes_nothing(engine, tmp_path, shadowed):
    alone = facts(run(engine("alone"), lambda one: one_by_one(one, range(40))))
    one = engine(current=lambda: shadowed)
    assert facts(run(one, lambda one: one_by_one(one, range(40)))) == alone
    EventLog(tmp_path / "log" / "events.db").drain()
    told = shadows(tmp_path / "log" / "events.db")
    assert [name for name, *_ in told] == [f"t{n}" for n in range(40)]
    features = np.array([vector for _, _, vector, _ in alone], dtype=np.float64)
    expected = shadowed.challenger.model.score(features).tolist()
    assert [(version, score) for _, version, score, _ in told] == [("2", s) for s in expected]


def test_a_challenger_that_fails_harms_no_decision(engine, tmp_path, shadowed, monkeypatch):
    def fail(*_):
        raise ValueError("a challenger with a defect")

    monkeypatch.setattr(Resident, "shadow", fail)
    one = engine(current=lambda: shadowed)
    results = run(one, lambda one: one_by_one(one, range(5)))
    assert [result.decision.arm for result in results] == ["champion"] * 5
    assert shadows(tmp_path / "log" / "events.db") == []


def test_cards_of_the_canary_are_decided_by_the_challenger_and_always_the_same(engine, shadowed):
    one = engine(current=lambda: replace(shadowed, canary_share=0.5))
    results = run(one, lambda one: one_by_one(one, range(60)))
    arms: dict[str, set[str]] = {}
    for number, result in enumerate(results):
        decision = result.decision
        arms.setdefault(transaction(number).card_id, set()).add(decision.arm)
        version = {"control": "1", "canary": "2"}[decision.arm]
        assert decision.model_version == version
    assert all(len(found) == 1 for found in arms.values())
    assert set.union(*arms.values()) == {"control", "canary"}


def test_a_verdict_sent_again_without_a_moment_is_the_same_verdict(engine):
    fraud = NewLabel("t0", "fraud", "chargeback", None, None)
    genuine = replace(fraud, verdict="genuine")

    async def story(one):
        await decided(one, transaction(0))
        told = []
        for label, known in ((fraud, 1), (fraud, 2), (genuine, 3), (fraud, 4)):
            [result] = await one.label([label], received_us=T0 + known * HOUR, latest_us=2 * T0)
            told.append((result.seq, result.recorded))
        both = await one.label([fraud, fraud], received_us=T0 + 5 * HOUR, latest_us=2 * T0)
        return told, [result.recorded for result in both]

    told, both = run(engine(), story)
    assert told == [(2, True), (2, False), (3, True), (4, True)]
    assert both == [False, False], "the last word of this source was already fraud"


@pytest.mark.parametrize("known", [None, T0 + HOUR])
def test_nothing_can_have_happened_after_it_became_known(engine, known):
    label = NewLabel("t0", "fraud", "dispute", None, known, happened_us=T0 + 3 * HOUR)

    async def story(one):
        await decided(one, transaction(0))
        [late] = await one.label([label], received_us=T0 + HOUR, latest_us=T0 + 2 * HOUR)
        sound = replace(label, happened_us=T0 + HOUR)
        [taken] = await one.label([sound], received_us=T0 + HOUR, latest_us=T0 + 2 * HOUR)
        return late, taken

    late, taken = run(engine(), story)
    assert isinstance(late, InvalidLabelError)
    assert (taken.seq, taken.recorded) == (2, True)


def test_a_payment_takes_so_many_verdicts_and_no_more(engine):
    def at(minute):
        return NewLabel("t0", "fraud", "chargeback", None, T0 + minute)

    async def story(one):
        await decided(one, transaction(0), transaction(1))
        told = await one.label([at(n) for n in range(150)], received_us=T0, latest_us=2 * T0)
        again = await one.label([at(3)], received_us=T0, latest_us=2 * T0)
        other = replace(at(200), transaction_id="t1", known_us=2 * T0)
        return told, again, await one.label([other], received_us=T0, latest_us=2 * T0)

    told, [again], [other] = run(engine(), story)
    assert [isinstance(r, InvalidLabelError) for r in told] == [False] * 100 + [True] * 50
    assert (again.recorded, other.recorded) == (False, True)


# --- what may go wrong beside the decisions ---------------------------------------------------


def test_a_defect_beside_the_sync_leaves_nobody_waiting(engine, monkeypatch):
    def fail(_):
        raise OSError(24, "too many open files")

    monkeypatch.setattr(Journal, "prepare", fail)
    results = run(engine(), lambda one: one_by_one(one, range(5)))
    assert [result.decision.seq for result in results] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("hasty")
def test_a_defect_while_following_others_is_recovered_from(engine, tmp_path, monkeypatch):
    apply, broken = FeatureRings.apply, [True]

    def stumble(rings, event):
        if broken and event.seq == 2:
            broken.clear()
            raise ValueError("memory that cannot be read")
        apply(rings, event)

    monkeypatch.setattr("serving.engine._FOLLOW_SECONDS", 0.02)

    async def story(one):
        await decided(one, transaction(0))
        monkeypatch.setattr(FeatureRings, "apply", stumble)
        await asyncio.to_thread(ingested, tmp_path / "log" / "events.db", 1)
        async with asyncio.timeout(60):
            while broken or one.fault is not None:
                await asyncio.sleep(0.02)
        return await decided(one, transaction(2))

    alone = run(engine("alone"), lambda one: one_by_one(one, range(3)))
    assert facts(run(engine(), story)) == facts(alone)[2:]


def test_a_scorer_that_fails_as_it_stops_stops(engine):
    async def story(one):
        with full_disk():
            asking = asyncio.gather(
                *(one.decide(transaction(n), received_us=T0) for n in range(40)),
                return_exceptions=True,
            )
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.wait_for(one.stop(), 20)
        return await asking

    async def whole(one):
        await one.start()
        await one_by_one(one, range(100, 110))
        return await story(one)

    answers = asyncio.run(whole(engine()))
    assert all(isinstance(answer, UnavailableError) for answer in answers)


def test_a_scorer_far_behind_an_ingest_stops_and_answers_everybody(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.engine._FAR_BEHIND", 5)
    monkeypatch.setattr("serving.engine._FOLLOW_SECONDS", 30.0)

    async def whole(one):
        await one.start()
        await asyncio.to_thread(ingested, tmp_path / "log" / "events.db", *range(50))
        asking = asyncio.create_task(one.decide(transaction(60), received_us=T0))
        await asyncio.sleep(0)
        await asyncio.wait_for(one.stop(), 20)
        return await asking

    assert asyncio.run(whole(engine())).decision.seq == 51


@pytest.mark.usefixtures("hasty")
def test_a_disk_that_never_answers_is_noticed_and_bounds_the_queue(engine, monkeypatch):
    monkeypatch.setattr("serving.engine._PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("serving.engine._FOLLOW_SECONDS", 0.05)
    gate, sync = threading.Event(), Journal.sync

    def stuck(journal, position):
        gate.wait(20)
        return sync(journal, position)

    async def story(one):
        monkeypatch.setattr(Journal, "sync", stuck)
        first = [asyncio.create_task(one.decide(transaction(n), received_us=T0)) for n in range(5)]
        await asyncio.sleep(0.05)
        with pytest.raises(ScorerFullError):
            await one.decide(transaction(9), received_us=T0)
        refused = await asyncio.gather(*first, return_exceptions=True)
        assert {type(answer) for answer in refused} == {LogUnavailableError}
        gate.set()
        await until_usable(one)
        return await decided(one, transaction(0))

    [result] = run(engine(queue_limit=5), story)
    assert result.decision.seq == 1


def test_one_payment_that_a_model_fails_on_goes_to_a_person_alone(engine, ruling, monkeypatch):
    honest = Resident.verdicts

    def poisoned(resident, features, arm):
        if (features[:, 0] == 666.0).any():
            raise OSError("a model with a defect")
        return honest(resident, features, arm)

    monkeypatch.setattr(Resident, "verdicts", poisoned)
    payments = [transaction(n, amount_minor=666 if n == 7 else 100 * n) for n in range(15)]
    results = run(engine(), lambda one: decided(one, *payments))
    judged = {r.decision.seq: r.decision for r in results}
    assert [seq for seq, found in judged.items() if found.arm == "none"] == [8]
    assert (judged[8].decision, judged[8].reasons) == ("review", ("R98",))


@pytest.mark.usefixtures("hasty")
def test_while_the_log_fails_an_unknown_decision_is_not_called_unknown(engine):
    async def story(one):
        await one_by_one(one, range(12))
        with full_disk():
            await decided(one, transaction(20))
            with pytest.raises(LogUnavailableError):
                await one.decision("t20")
            known = await one.decision("t0")
        await until_usable(one)
        return known

    assert run(engine(), story).seq == 1


def test_a_journal_without_room_refuses_and_the_state_stays(engine, monkeypatch):
    begin, full = Ledger.begin, [True]

    def refuse(ledger):
        if full:
            raise JournalFullError("found too much that is not drained")
        begin(ledger)

    async def story(one):
        before = await one_by_one(one, range(5))
        monkeypatch.setattr(Ledger, "begin", refuse)
        [refused] = await decided(one, transaction(5))
        assert isinstance(refused, JournalFullError)
        assert one.fault is None
        full.clear()
        return before + await one_by_one(one, range(5, 10))

    alone = run(engine("alone"), lambda one: one_by_one(one, range(10)))
    assert facts(run(engine(), story)) == facts(alone)
