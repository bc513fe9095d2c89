"""The replay proof: what it delivers, and that it sees every planted difference."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.events import Event, LabelEvent, TransactionEvent
from fraud_platform.features import replay as replay_module
from fraud_platform.features.batch import compute
from fraud_platform.features.journal import LONGEST_LAG, Journal, Repeats, deliveries, journal
from fraud_platform.features.replay import Report, Restarting, replay
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.sample import sampled_cards
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES, LATENESS, spec_digest
from fraud_platform.features.state import FeatureState
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS, TRANSACTIONS

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
NAME = next(name for name in FEATURE_NAMES if name.startswith("card") and "_count_" in name)
"""A feature that is never null, and often zero."""


def world(seed: int, payments: int = 400, days: int = 60) -> Journal:
    """A few busy cards and terminals, full hours, so many ties; a third has verdicts, some two."""
    chance = random.Random(seed)
    rows = [
        {
            "transaction_id": f"t{number}",
            "event_timestamp": START + timedelta(hours=chance.randrange(24 * days)),
            "card_id": f"c{chance.randrange(6)}",
            "terminal_id": f"m{chance.randrange(4)}",
            "amount_minor": chance.randrange(20_000),
            "currency": "EUR",
            "country": chance.choice(["DE", "FR", None]),
        }
        for number in range(payments)
    ]
    verdicts = [
        {
            "transaction_id": row["transaction_id"],
            "verdict": chance.choice(["fraud", "fraud", "genuine", "withdrawn"]),
            "label_timestamp": row["event_timestamp"] + chance.randrange(20) * DAY,
        }
        for row in chance.choices(rows, k=payments // 3)
    ]
    told = {name: LABELS.columns[name] for name in verdicts[0]}
    return journal(pl.DataFrame(rows, schema=PAYLOAD_COLUMNS), pl.DataFrame(verdicts, schema=told))


def hard(seed: int) -> Journal:
    return world(seed).disturbed(late=0.2, seed=seed)


def proof(
    log: Journal,
    state: FeatureState | None = None,
    batch: pl.DataFrame | None = None,
    **options: object,
) -> Report:
    offline = compute(log.transactions, log.labels) if batch is None else batch
    return replay(log, offline, FeatureRings() if state is None else state, **options)


# --- the log ---------------------------------------------------------------------------------


def test_rows_become_a_log_in_the_order_in_which_they_became_known():
    at = {"a": START + DAY, "b": START, "c": START + 2 * DAY}
    rows = [
        {
            "transaction_id": name,
            "event_timestamp": moment,
            "card_id": "c",
            "terminal_id": "m",
            "amount_minor": 1,
            "currency": "EUR",
        }
        for name, moment in at.items()
    ]
    verdicts = {
        "transaction_id": ["b", "a", "unknown"],
        "verdict": ["fraud"] * 3,
        "label_timestamp": [START + DAY] * 3,
    }
    again = rows[0] | {"amount_minor": 2}
    log = journal(
        pl.DataFrame([*rows, again], schema=PAYLOAD_COLUMNS),
        pl.DataFrame(verdicts, schema={name: LABELS.columns[name] for name in verdicts}),
    )
    assert log.transactions.columns == list(TRANSACTIONS.columns)
    assert log.labels.columns == list(LABELS.columns)
    told = [
        (event.seq, event.transaction.transaction_id, event.transaction.amount_minor)
        if isinstance(event, TransactionEvent)
        else (event.seq, event.verdict, event.transaction.event_us // 86_400_000_000)
        for event in log.told()
    ]
    day = (START - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert told == [(1, "b", 1), (2, "a", 1), (3, "fraud", day), (4, "fraud", day + 1), (5, "c", 1)]


def test_a_log_without_late_rows_keeps_its_order():
    log, same = world(1), world(1).disturbed(late=0.0, seed=5)
    assert same.transactions.equals(log.transactions)
    assert same.labels.equals(log.labels)


@given(st.integers(0, 1_000), st.sampled_from([0.02, 0.5, 1.0]))
def test_a_disturbed_log_has_the_same_facts_and_no_verdict_before_its_payment(
    seed: int, late: float
) -> None:
    log = world(seed, payments=40)
    disturbed = log.disturbed(late=late, seed=seed)
    for rows, before in (
        (disturbed.transactions, log.transactions),
        (disturbed.labels, log.labels),
    ):
        facts = pl.exclude("seq")
        assert rows.select(facts).sort(facts).equals(before.select(facts).sort(facts))
        assert rows["seq"].is_sorted()
    seqs = pl.concat([disturbed.transactions["seq"], disturbed.labels["seq"]]).sort()
    assert seqs.to_list() == list(range(1, log.events + 1))
    arrived: set[str] = set()
    for event in disturbed.told():
        if isinstance(event, LabelEvent):
            assert event.transaction.transaction_id in arrived
        else:
            arrived.add(event.transaction.transaction_id)
    assert disturbed.transactions.equals(log.disturbed(late=late, seed=seed).transactions)


def test_late_rows_arrive_up_to_five_days_later_some_of_them_after_their_day():
    log = world(3, payments=1_000)
    told = proof(log.disturbed(late=0.1, seed=3))
    assert 50 < told.late_rows <= 130, "a row that nothing overtakes is not late"
    assert 20 < told.late_rows_of_earlier_days < told.late_rows
    assert LONGEST_LAG < LATENESS
    assert (told.late_decisions, told.is_exact) == (0, True)
    assert proof(log).late_rows == 0


@given(st.integers(0, 1_000))
def test_every_event_comes_once_in_order_and_repeats_only_after_it(seed: int) -> None:
    log = world(seed, payments=60)
    told = list(deliveries(log, Repeats(0.3, seed)))
    firsts = [delivery.event.seq for delivery in told if not delivery.is_again]
    assert firsts == list(range(1, log.events + 1))
    known: Counter[int] = Counter()
    for event, is_again in told:
        assert known[event.seq] == is_again
        known[event.seq] += 1
    assert 0.1 * log.events < len(told) - log.events < 0.5 * log.events


def test_all_payments_of_a_card_are_sampled_or_none_and_a_larger_sample_has_the_smaller():
    log = world(2)
    half, fifth = log.of_cards(0.5), log.of_cards(0.2)
    chosen = half.transactions["card_id"].unique().to_list()
    assert 0 < half.transactions.height < log.transactions.height
    assert half.transactions.equals(log.transactions.filter(pl.col("card_id").is_in(chosen)))
    assert half.labels.equals(log.labels.filter(pl.col("card_id").is_in(chosen)))
    assert set(fifth.transactions["card_id"]) <= set(chosen)
    assert log.of_cards(1.0).transactions.equals(log.transactions)
    with pytest.raises(PermanentError, match="expected a share"):
        sampled_cards(log.transactions["card_id"], 7)


# --- the proof -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_online_equals_batch_with_late_rows_ties_verdicts_and_duplicates(seed: int) -> None:
    log = hard(seed)
    found = proof(log, repeats=Repeats(0.2, seed))
    assert found.is_exact
    assert found.values_compared == log.transactions.height * len(FEATURES)
    assert (found.transactions, found.labels) == (log.transactions.height, log.labels.height)
    assert found.events == found.transactions + found.labels
    assert found.duplicates_delivered > found.events / 10
    assert found.late_rows > 10
    assert found.feature_spec_digest == spec_digest()
    assert json.loads(json.dumps(found.to_dict()))["mismatches_by_feature"] == {}


def test_one_changed_value_is_one_mismatch_with_its_feature_and_its_payment():
    log = hard(4)
    batch = compute(log.transactions, log.labels)
    changed = pl.when(pl.int_range(pl.len()) == 17).then(pl.col(NAME) + 1.0).otherwise(NAME)
    found = proof(log, batch=batch.with_columns(changed.alias(NAME)))
    assert (found.mismatches, found.mismatches_by_feature) == (1, {NAME: 1})
    assert not found.is_exact
    (first,) = found.first_mismatches
    assert (first.transaction_id, first.feature) == (batch["transaction_id"][17], NAME)
    assert first.batch == (first.online or 0.0) + 1.0


def test_a_null_where_a_zero_belongs_and_a_negative_zero_are_mismatches():
    log = hard(4)
    batch = compute(log.transactions, log.labels)
    for zero in (None, -0.0):
        other = pl.when(pl.col(NAME) == 0).then(pl.lit(zero, pl.Float64)).otherwise(NAME)
        found = proof(log, batch=batch.with_columns(other.alias(NAME)))
        assert found.mismatches == int((batch[NAME] == 0).sum()) > 0


def test_a_payment_without_a_batch_row_is_missing_and_a_row_without_a_payment_is_extra():
    log = hard(5)
    batch = compute(log.transactions, log.labels)
    without = batch.filter(pl.col("transaction_id") != "t7")
    found = proof(log, batch=without)
    assert (found.missing, found.extra, found.mismatches, found.is_exact) == (1, 0, 0, False)
    strange = batch.tail(1).with_columns(seq=pl.col("seq") + 1_000)
    found = proof(log, batch=pl.concat([batch, strange]))
    assert (found.missing, found.extra, found.mismatches, found.is_exact) == (0, 1, 0, False)


def test_an_empty_log_proves_nothing():
    empty = Journal(TRANSACTIONS.empty(), LABELS.empty())
    found = proof(empty)
    assert (found.values_compared, found.is_exact) == (0, False)


def test_decisions_beyond_the_lateness_bound_are_counted_and_left_out():
    log = world(6, days=20)
    newest_first = log.transactions.with_columns(
        seq=(log.events + 1 - pl.col("seq")).cast(pl.Int64)
    ).sort("seq")
    found = proof(Journal(newest_first, LABELS.empty()))
    too_old = newest_first["event_timestamp"] < newest_first["event_timestamp"].max() - LATENESS
    assert found.late_decisions == int(too_old.sum()) > 0
    assert found.decisions_compared == found.transactions - found.late_decisions
    assert found.is_exact


class Faulty(FeatureRings):
    """A memory state with one planted fault in how it treats deliveries."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.payments = fault, 0

    def apply(self, event: Event) -> None:
        self.payments += isinstance(event, TransactionEvent)
        if self.fault == "loses a payment" and self.payments == 100:
            return
        again = event.seq <= self.last_seq
        if self.fault == "folds duplicates" and again:
            event = event._replace(seq=self.last_seq + 1)
        super().apply(event)
        if self.fault == "folds duplicates" and again:
            self.last_seq -= 1


@pytest.mark.parametrize("fault", ["loses a payment", "folds duplicates"])
def test_a_faulty_delivery_is_seen(fault: str) -> None:
    found = proof(hard(7), Faulty(fault), repeats=Repeats(0.05, 7))
    assert found.mismatches > 0
    assert proof(hard(7), Faulty(""), repeats=Repeats(0.05, 7)).is_exact


def test_a_state_that_restarts_from_its_snapshot_is_exact_and_one_that_forgets_is_not():
    log = hard(8)

    def restored(state: FeatureState) -> FeatureState:
        assert isinstance(state, FeatureRings)
        return FeatureRings.restore(state.snapshot())

    for every in (1, 37, 10_000):
        state = Restarting(FeatureRings(), every, restored)
        found = proof(log, state, repeats=Repeats(0.2, 8))
        assert found.is_exact
        assert state.restarts == (found.events + found.duplicates_delivered) // every
    forgetful = Restarting(FeatureRings(), 300, lambda state: FeatureRings())
    assert proof(log, forgetful).mismatches > 0


def test_vectors_are_compared_by_the_chunk_and_progress_is_told(monkeypatch):
    monkeypatch.setattr(replay_module, "_CHUNK", 150)
    log = hard(9)
    told: list[int] = []
    found = proof(log, progress=told.append)
    assert found.is_exact
    assert found.decisions_compared == log.transactions.height
    assert told == list(range(150, log.events + 1, 150))
