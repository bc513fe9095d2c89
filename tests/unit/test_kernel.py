"""kernel == batch == oracle, bit for bit: late rows, reversals, lagging readers, huge amounts."""

import gc
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.events import Event, TransactionEvent
from fraud_platform.features import batch
from fraud_platform.features.declaration import Feature
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.schemas import LABELS, LARGEST_AMOUNT, TRANSACTIONS
from tests.unit.test_features import (
    ALL,
    HOUR,
    NAMES,
    START,
    Values,
    by_batch,
    by_oracle,
    differences,
    labels_of,
    logs,
    payment,
    random_log,
    transactions_of,
)

pytest.importorskip("numba", reason="the kernel is optional: install fraud-platform[kernel]")

# Only where numba is:
import numba

from fraud_platform.features import kernel, kernel_log, kernel_medians, kernel_past, kernel_spreads
from fraud_platform.features.compiled import compiled

PARTS = (kernel_log.Log, kernel_past.Side, kernel_past.Payments, kernel_past.Ring)


def by_kernel(
    log: list[Event], features: tuple[Feature, ...] = ALL, seen: pl.DataFrame | None = None
) -> Values:
    frame = kernel.compute(transactions_of(log), labels_of(log), features=features, seen=seen)
    names = [feature.name for feature in features]
    return dict(zip(frame["seq"].to_list(), frame.select(names).rows(), strict=True))


@given(logs())
@settings(max_examples=100, deadline=None)
def test_the_kernel_equals_the_oracle_bit_for_bit(log: list[Event]) -> None:
    expected, found = by_oracle(log), by_kernel(log)
    assert found.keys() == expected.keys()
    assert differences(found, expected, NAMES) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_equals_the_oracle_on_dense_logs_with_late_rows(seed: int) -> None:
    log = random_log(seed)
    assert differences(by_kernel(log), by_oracle(log), NAMES) == []


@pytest.mark.parametrize("seed", range(100, 102))
def test_the_kernel_equals_batch_on_longer_logs_with_many_late_rows(seed: int) -> None:
    log = random_log(seed, size=1_500, late=0.4)
    frames = [
        compute(transactions_of(log), labels_of(log), features=ALL)
        for compute in (kernel.compute, batch.compute)
    ]
    assert frames[0].equals(frames[1])
    assert frames[0].schema == frames[1].schema


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_kernel_believes_what_a_lagging_reader_says_it_saw(
    log: list[Event], rng: random.Random
) -> None:
    assert_lagging_readers_agree(log, rng)


@pytest.mark.parametrize("seed", range(2))
def test_lagging_readers_of_dense_logs_agree(seed: int) -> None:
    assert_lagging_readers_agree(random_log(seed, size=400), random.Random(seed))


def assert_lagging_readers_agree(log: list[Event], rng: random.Random) -> None:
    decisions = [event.seq for event in log if isinstance(event, TransactionEvent)]
    told = [seq for seq in decisions if rng.random() < 0.8]
    lags = [0, 0, 1, 3, 10]
    seen = pl.DataFrame(
        {
            "seq": told,
            "card_seen": [seq - 1 - rng.choice(lags) for seq in told],
            "terminal_seen": [rng.choice([None, seq - 1 - rng.choice(lags)]) for seq in told],
        },
        schema=dict.fromkeys(("seq", "card_seen", "terminal_seen"), pl.Int64),
    )
    assert differences(by_kernel(log, ALL, seen), by_batch(log, ALL, seen), NAMES) == []


@given(logs(), st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_since_cuts_the_answer_of_the_kernel_but_not_the_history(
    log: list[Event], days: int
) -> None:
    since = datetime.fromtimestamp(START // 1_000_000, UTC) + timedelta(days=days)
    payments, labels = transactions_of(log), labels_of(log)
    whole = batch.compute(payments, labels, features=ALL)
    part = kernel.compute(payments, labels, since=since, features=ALL)
    assert part.equals(whole.filter(pl.col("event_timestamp") >= since))


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_input_rows_does_not_matter_to_the_kernel(
    log: list[Event], rng: random.Random
) -> None:
    assert by_kernel(rng.sample(log, len(log)), FEATURES) == by_kernel(log, FEATURES)


def test_the_kernel_takes_marks_from_the_column_that_is_there() -> None:
    log = random_log(seed=21)
    marked = transactions_of(log).with_columns(is_outlier=pl.col("seq") % 3 == 0)
    found = kernel.compute(marked, labels_of(log), features=ALL)
    assert found.equals(batch.compute(marked, labels_of(log), features=ALL))


@pytest.mark.parametrize("feature", ALL, ids=lambda feature: feature.name)
def test_each_feature_can_be_asked_alone(feature: Feature) -> None:
    log = random_log(seed=22, size=60)
    assert by_kernel(log, (feature,)) == by_batch(log, (feature,))


def test_the_kernel_has_an_empty_table_of_the_same_columns_for_no_transactions() -> None:
    empty = kernel.compute(TRANSACTIONS.empty(), LABELS.empty())
    assert empty.equals(batch.compute(TRANSACTIONS.empty(), LABELS.empty()))
    assert empty.columns[-len(FEATURE_NAMES) :] == list(FEATURE_NAMES)
    assert empty.schema["card_amount_mean_1d"] == pl.Float64


def test_the_kernel_refuses_an_amount_beyond_exact_sums_by_name() -> None:
    log: list[Event] = [TransactionEvent(1, payment(0, 0, 0, 0, LARGEST_AMOUNT + 1))]
    with pytest.raises(PermanentError, match="found an amount of 1099511627777 minor units"):
        by_kernel(log)


@given(st.lists(st.sampled_from([0, 1, 2**20, LARGEST_AMOUNT - 1, LARGEST_AMOUNT]), max_size=30))
@settings(max_examples=20, deadline=None)
def test_the_largest_amounts_give_exact_spreads_in_the_kernel(amounts: list[int]) -> None:
    log: list[Event] = [
        TransactionEvent(seq, payment(seq, seq * HOUR, 0, 0, amount))
        for seq, amount in enumerate(amounts, start=1)
    ]
    assert differences(by_kernel(log), by_oracle(log), NAMES) == []


WORDS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(
        lambda bit, offset: max(0, min(2**64 - 1, 2**bit + offset)),
        st.integers(0, 64),
        st.integers(-3, 3),
    ),
)


@given(WORDS, WORDS)
@settings(max_examples=1_000, deadline=None)
def test_two_words_become_the_float_that_python_makes_of_the_integer(high: int, low: int) -> None:
    found = kernel_spreads.nearest_float(np.uint64(high), np.uint64(low))
    assert found == float(high * 2**64 + low)


@given(st.lists(st.lists(st.integers(0, 500))), st.sampled_from([1, 2**31]))
@settings(max_examples=100, deadline=None)
def test_amounts_are_in_the_same_order_whether_they_are_sorted_at_once_or_line_by_line(
    lines: list[list[int]], scale: int
) -> None:
    amounts = np.array([amount * scale for line in lines for amount in line], np.int64)
    starts = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    positions, ordered = kernel_medians.in_order(starts, amounts)
    by_line = kernel_medians.order_by_line(
        starts, amounts, np.empty_like(positions), np.empty_like(ordered)
    )
    assert np.array_equal(ordered, by_line[1])
    assert np.array_equal(ordered[positions], amounts)
    assert sorted(positions) == list(range(len(amounts)))


@given(st.lists(st.tuples(st.integers(0, LARGEST_AMOUNT), st.integers(1, 2**17)), max_size=32))
@settings(max_examples=1_000, deadline=None)
def test_a_variance_is_exact_until_it_is_rounded_once(amounts: list[tuple[int, int]]) -> None:
    count = sum(times for _, times in amounts)
    total = sum(amount * times for amount, times in amounts)
    squares = sum(amount * amount * times for amount, times in amounts)
    # The lower word of a running sum may have grown beyond its forty bits.
    carried = min(squares >> 40, 3)
    high, low = (squares >> 40) - carried, (squares & (2**40 - 1)) + (carried << 40)
    found = kernel_spreads.variance(count, total, high, low)
    assert found == float(count * squares - total * total)


def test_a_loop_is_compiled_where_machine_code_cannot_be_kept() -> None:
    nowhere: dict[str, Callable[[int], int]] = {}
    exec("def double(number): return 2 * number", nowhere)  # noqa: S102 -- has no file to cache by
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(nowhere["double"])
    assert compiled(nowhere["double"])(21) == 42


def test_a_call_leaves_nothing_behind_that_waits_for_the_garbage_collector() -> None:
    log = random_log(seed=23)
    transactions, labels = transactions_of(log), labels_of(log)
    kernel.compute(transactions, labels)  # compiles
    gc.collect()
    gc.disable()
    try:
        kernel.compute(transactions, labels)
        left = [thing for thing in map(type, gc.get_objects()) if issubclass(thing, PARTS)]
    finally:
        gc.enable()
    assert left == []
