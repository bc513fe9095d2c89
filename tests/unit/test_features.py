"""Oracle == batch == rings, bit for bit, and what a feature declaration promises."""

import math
import os
import random
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.batch import compute
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import (
    FEATURE_NAMES,
    FEATURES,
    LATENESS,
    LOOKBACK,
    UNWINDOWED,
    Feature,
    Function,
    digest_of,
    spec_digest,
)
from fraud_platform.schemas import LABELS, TRANSACTIONS
from tests.unit.feature_oracle import answer

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_522_540_800_000_000  # 2018-04-01, a Sunday
# No engine may know the features by heart: every function, over both entities, in odd windows.
MORE = tuple(
    Feature(f"{entity}_{function}_{window}_{delay}", entity, function, "X", "", window, delay)
    for entity in ("card", "terminal")
    for function in sorted(set(Function) - UNWINDOWED)
    for window, delay in ((timedelta(days=9), timedelta(hours=1)),)
)
ALL = FEATURES + MORE


def payment(number: int, at: int, card: int, terminal: int, amount: int) -> Transaction:
    return Transaction(f"t{number}", START + at, f"c{card}", f"m{terminal}", amount, "EUR")


# Instants that make ties, exact window edges and their neighbours likely.
INSTANTS = st.builds(
    lambda days, hours, shift: days * DAY + hours * HOUR + shift,
    st.sampled_from([0, 1, 2, 7, 8, 14, 30, 31, 37, 38, 45]),
    st.sampled_from([0, 0, 1, 6, 7]),
    st.sampled_from([0, 0, 0, -1, 1]),
)
AMOUNTS = st.one_of(st.integers(0, 500), st.sampled_from([0, 1, 999_999_999_99]))
PAYMENTS = st.tuples(INSTANTS, st.integers(0, 1), st.integers(0, 1), AMOUNTS)
VERDICTS = st.tuples(
    st.integers(0, 30), st.sampled_from(["fraud", "fraud", "withdrawn", "genuine"]), INSTANTS
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events in seq order with gaps: late payments, ties, verdicts known early, late and twice."""
    events: list[Event] = []
    drawn: list[Transaction] = []
    seq = 0
    for item in draw(st.lists(st.one_of(PAYMENTS, PAYMENTS, VERDICTS), max_size=24)):
        seq += draw(st.integers(1, 3))
        if len(item) == 4:
            drawn.append(payment(len(drawn), *item))
            events.append(TransactionEvent(seq, drawn[-1]))
        elif drawn:
            which, verdict, known = item
            about = drawn[which % len(drawn)]
            known_us = max(about.event_us, START + known)
            events.append(label(seq, about, verdict, known_us))
    return events


def label(seq: int, about: Transaction, verdict: str, known_us: int) -> LabelEvent:
    return LabelEvent(
        seq,
        about.transaction_id,
        verdict,
        known_us,
        about.event_us,
        about.card_id,
        about.terminal_id,
    )


def random_log(seed: int, size: int = 120, late: float = 0.2) -> list[Event]:
    """A denser log than hypothesis makes: 3 cards, 3 terminals, 60 days, 20 % late rows."""
    rng = random.Random(seed)
    payments = [
        payment(number, rng.randrange(60 * 24) * HOUR, rng.randrange(3), rng.randrange(3), amount)
        for number, amount in enumerate(rng.choices(range(400), k=size))
    ]
    moments: list[tuple[int, str, Transaction, int]] = []
    for about in payments:
        lag = rng.randrange(20 * 24) * HOUR if rng.random() < late else 0
        arrived = about.event_us + lag
        moments.append((arrived, "payment", about, 0))
        for verdict in rng.choices(["fraud", "withdrawn", "genuine"], k=rng.randrange(4)):
            known = about.event_us + rng.randrange(20 * 24) * HOUR
            reported = max(arrived, known) + rng.randrange(10) * DAY
            moments.append((reported, verdict, about, known))
    moments.sort(key=lambda moment: moment[0])
    return [
        TransactionEvent(seq, about) if kind == "payment" else label(seq, about, kind, known)
        for seq, (_, kind, about, known) in enumerate(moments, start=1)
    ]


def transactions_of(log: list[Event]) -> pl.DataFrame:
    rows = [
        {"seq": event.seq, **event.transaction._asdict()}
        for event in log
        if isinstance(event, TransactionEvent)
    ]
    if not rows:
        return TRANSACTIONS.empty()
    return (
        pl.DataFrame(rows, infer_schema_length=None)
        .with_columns(
            event_timestamp=pl.from_epoch("event_us", "us").dt.replace_time_zone("UTC"),
            received_timestamp=pl.from_epoch("event_us", "us").dt.replace_time_zone("UTC"),
            source=pl.lit("test"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in TRANSACTIONS.columns.items())
    )


def labels_of(log: list[Event]) -> pl.DataFrame:
    rows = [event._asdict() for event in log if isinstance(event, LabelEvent)]
    if not rows:
        return LABELS.empty()
    return (
        pl.DataFrame(rows)
        .with_columns(
            event_timestamp=pl.from_epoch("event_us", "us").dt.replace_time_zone("UTC"),
            label_timestamp=pl.from_epoch("known_us", "us").dt.replace_time_zone("UTC"),
            received_timestamp=pl.from_epoch("known_us", "us").dt.replace_time_zone("UTC"),
            label_source=pl.lit("chargeback"),
            reason=pl.lit(None, pl.String),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in LABELS.columns.items())
    )


Values = dict[int, tuple[float | None, ...]]


def by_batch(log: list[Event], features: tuple[Feature, ...] = ALL) -> Values:
    frame = compute(transactions_of(log), labels_of(log), features=features)
    names = [feature.name for feature in features]
    return dict(zip(frame["seq"].to_list(), frame.select(names).rows(), strict=True))


def by_rings(log: list[Event], rings: FeatureRings) -> Values:
    """Decisions in the order of the log; late ones, whose windows may be cut, are left out."""
    values: Values = {}
    for event in log:
        if isinstance(event, TransactionEvent) and not rings.is_late(event.transaction.event_us):
            values[event.seq] = rings.read(event.transaction)
        rings.apply(event)
        rings.apply(event)  # delivered twice
    return values


def by_oracle(log: list[Event], features: tuple[Feature, ...] = ALL, mutant: str = "") -> Values:
    return {
        event.seq: tuple(answer(log, event, feature, mutant) for feature in features)
        for event in log
        if isinstance(event, TransactionEvent)
    }


def bits(values: tuple[float | None, ...]) -> bytes:
    """The bits of all values; None as a NaN, which no engine may answer."""
    return struct.pack(f"<{len(values)}d", *(math.nan if v is None else v for v in values))


def differences(left: Values, right: Values, names: list[str]) -> list[str]:
    """Where the two disagree in any bit, for the decisions that both have."""
    return [
        f"seq {seq} {name}: {ours} != {theirs}"
        for seq in left.keys() & right.keys()
        if bits(left[seq]) != bits(right[seq])
        for name, ours, theirs in zip(names, left[seq], right[seq], strict=True)
        if bits((ours,)) != bits((theirs,))
    ]


NAMES = [feature.name for feature in ALL]


@given(logs())
@settings(max_examples=150, deadline=None)
def test_batch_and_rings_equal_the_oracle_bit_for_bit(log: list[Event]) -> None:
    expected, offline, online = by_oracle(log), by_batch(log), by_rings(log, FeatureRings(ALL))
    assert offline.keys() == expected.keys()
    assert differences(offline, expected, NAMES) == []
    assert differences(online, expected, NAMES) == []


@pytest.mark.parametrize("seed", range(4))
def test_dense_logs_with_late_rows_agree_bit_for_bit(seed: int) -> None:
    log = random_log(seed)
    expected = by_oracle(log)
    assert differences(by_batch(log), expected, NAMES) == []
    assert differences(by_rings(log, FeatureRings(ALL)), expected, NAMES) == []


@pytest.mark.parametrize(
    "mutant",
    [
        "the old edge is excluded",
        "ties see each other",
        "the delay is ignored",
        "late rows are visible before they arrive",
        "verdicts count before they are known",
        "verdicts count before they arrive",
        "a withdrawal is ignored",
        "the verdict that arrived last wins",
    ],
)
def test_the_comparison_catches_a_planted_bug(mutant: str) -> None:
    log = random_log(seed=11)
    wrong = by_oracle(log, FEATURES, mutant)
    assert differences(by_batch(log, FEATURES), wrong, list(FEATURE_NAMES))
    assert differences(by_rings(log, FeatureRings()), wrong, list(FEATURE_NAMES))


class RingsThatCountTwice(FeatureRings):
    """A planted bug: a second delivery is folded in again."""

    def apply(self, event: Event) -> None:
        self.last_seq = 0
        super().apply(event)


class RingsThatForgetTooEarly(FeatureRings):
    """A planted bug: the state ends before the longest window does."""

    def __init__(self) -> None:
        super().__init__()
        self._horizon_us = 20 * DAY


@pytest.mark.parametrize("broken", [RingsThatCountTwice, RingsThatForgetTooEarly])
def test_the_comparison_catches_broken_rings(broken: type[FeatureRings]) -> None:
    log = random_log(seed=12)
    right = by_oracle(log, FEATURES)
    assert differences(by_rings(log, broken()), right, list(FEATURE_NAMES))


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_input_rows_does_not_matter(log: list[Event], rng: random.Random) -> None:
    shuffled = rng.sample(log, len(log))
    assert by_batch(shuffled, FEATURES) == by_batch(log, FEATURES)


@given(logs(), st.integers(0, 24))
@settings(max_examples=30, deadline=None)
def test_what_comes_later_in_the_log_changes_no_earlier_answer(log: list[Event], cut: int) -> None:
    whole, known = by_batch(log, FEATURES), by_batch(log[:cut], FEATURES)
    assert {seq: whole[seq] for seq in known} == known


def test_since_cuts_the_answer_but_not_the_history() -> None:
    log = random_log(seed=3)
    since = datetime.fromtimestamp(START // 1_000_000, UTC) + timedelta(days=45)
    whole = compute(transactions_of(log), labels_of(log))
    part = compute(transactions_of(log), labels_of(log), since=since)
    assert part.equals(whole.filter(pl.col("event_timestamp") >= since))
    needed = transactions_of(log).filter(pl.col("event_timestamp") >= since - LOOKBACK)
    assert compute(needed, labels_of(log), since=since).equals(part)


def test_rings_started_from_the_recent_log_answer_like_rings_that_saw_all_of_it() -> None:
    log = random_log(seed=5, late=0.0)
    horizon = max(e.transaction.event_us for e in log if isinstance(e, TransactionEvent))
    recent = horizon - (LOOKBACK + LATENESS) // timedelta(microseconds=1)
    whole, restarted = FeatureRings(), FeatureRings()
    for event in log:
        whole.apply(event)
        happened = (event.transaction if isinstance(event, TransactionEvent) else event).event_us
        if happened >= recent:
            restarted.apply(event)
    probe = payment(10_000, 60 * DAY, 1, 1, 100)
    assert restarted.read(probe) == whole.read(probe)
    assert (restarted.last_seq, restarted.newest_us) == (whole.last_seq, whole.newest_us)


def test_old_entries_and_empty_pasts_are_dropped() -> None:
    rings = FeatureRings()
    for number in range(3_000):  # one new card every hour
        rings.apply(TransactionEvent(number + 1, payment(number, number * HOUR, number, 0, 1)))
    horizon_days = (LOOKBACK + LATENESS).days
    assert len(rings._pasts["card"]) < 2 * horizon_days * 24
    (terminal,) = rings._pasts["terminal"].values()
    assert len(terminal.ring.times) <= horizon_days * 24 + 1


def test_an_empty_past_gives_zero_counts_and_null_means() -> None:
    values = dict(zip(FEATURE_NAMES, FeatureRings().read(payment(0, 0, 0, 0, 250)), strict=True))
    expected: dict[str, float | None] = {
        "transaction_amount": 250.0,
        "transaction_hour_of_day": 0.0,
        "transaction_is_weekend": 1.0,
        "transaction_is_night": 1.0,
        "card_is_new_terminal_30d": 1.0,
    }
    null = ("mean", "max", "seconds", "rate")
    for name in set(FEATURE_NAMES) - expected.keys():
        expected[name] = None if any(word in name for word in null) else 0.0
    assert values == expected
    assert list(by_batch([TransactionEvent(1, payment(0, 0, 0, 0, 250))], FEATURES).values()) == [
        tuple(values.values())
    ]


def test_no_transactions_give_an_empty_table_of_the_same_columns() -> None:
    empty = compute(TRANSACTIONS.empty(), LABELS.empty())
    assert empty.height == 0
    assert empty.columns[-len(FEATURE_NAMES) :] == list(FEATURE_NAMES)
    assert empty.schema["card_amount_mean_1d"] == pl.Float64


def test_a_decision_older_than_the_lateness_bound_is_called_late() -> None:
    rings = FeatureRings()
    assert not rings.is_late(START)
    rings.apply(TransactionEvent(1, payment(0, 10 * DAY, 0, 0, 1)))
    assert not rings.is_late(START + 3 * DAY)
    assert rings.is_late(START + 3 * DAY - 1)


def test_names_and_reason_codes_are_unique_and_every_feature_explains_itself() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert len({feature.reason_code for feature in FEATURES}) == len(FEATURES)
    assert all(feature.reason_text.endswith(".") for feature in FEATURES)
    assert all(feature.name.startswith(feature.entity) for feature in FEATURES)


def test_the_digest_follows_the_definition_and_not_the_wording() -> None:
    first, second, *rest = FEATURES[4:]
    changes = [
        (replace(first, window=timedelta(hours=2)), second),
        (replace(first, delay=timedelta(hours=1)), second),
        (replace(first, function=Function.AMOUNT_SUM), second),
        (replace(first, name="card_transaction_count"), second),
        (replace(first, entity="terminal"), second),
        (second, first),
        (second,),
    ]
    digests = {digest_of((*FEATURES[:4], *change, *rest)) for change in changes}
    assert len(digests | {spec_digest()}) == len(changes) + 1
    reworded = replace(first, reason_text="Many payments.", reason_code="C99")
    assert digest_of((*FEATURES[:4], reworded, second, *rest)) == spec_digest()


def test_a_windowed_function_without_a_window_is_refused() -> None:
    with pytest.raises(PermanentError, match="Hint: "):
        Feature("card_count", "card", Function.COUNT, "C99", "Broken.")


def benchmark_log(path: Path, since: datetime, cards: int) -> list[Event]:
    """Every `cards`-th card of the benchmark; 1 % of rows late, frauds known 7 to 21 days later."""
    raw = (
        pl.read_parquet(path)
        .filter(
            (pl.col("TX_DATETIME") >= since.replace(tzinfo=None))
            & (pl.col("CUSTOMER_ID").cast(pl.Int64) % cards == 0)
        )
        .select(
            pl.col("TRANSACTION_ID").cast(pl.String),
            pl.col("TX_DATETIME").dt.epoch("us"),
            pl.col("CUSTOMER_ID").cast(pl.String),
            pl.col("TERMINAL_ID").cast(pl.String),
            (pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64),
            pl.col("TX_FRAUD").cast(pl.Int64) == 1,
        )
    )
    rng = random.Random(7)
    moments: list[tuple[int, Transaction, int | None]] = []
    for *fields, is_fraud in raw.iter_rows():
        about = Transaction(*fields, "EUR")
        lag = rng.randrange(12 * HOUR) if rng.random() < 0.01 else 0
        moments.append((about.event_us + lag, about, None))
        if is_fraud:
            known = about.event_us + rng.randrange(7 * DAY, 21 * DAY)
            moments.append((known, about, known))
    moments.sort(key=lambda moment: moment[0])
    return [
        TransactionEvent(seq, about) if known is None else label(seq, about, "fraud", known)
        for seq, (_, about, known) in enumerate(moments, start=1)
    ]


def test_batch_and_rings_agree_bit_for_bit_on_the_benchmark() -> None:
    root = Path(__file__).parents[2]
    data = Path(os.environ.get("FRAUD_BENCHMARK_DATA", root.parent / "shared" / "data"))
    path = data / "handbook" / "transactions.parquet"
    if not path.exists():
        pytest.skip(f"no benchmark data at {path}; set FRAUD_BENCHMARK_DATA to its folder")
    last_week = datetime(2018, 8, 28, tzinfo=UTC)
    log = benchmark_log(path, last_week - LOOKBACK, cards=10)
    offline = by_batch(log, FEATURES)
    online = by_rings(log, FeatureRings())
    assert differences(online, offline, list(FEATURE_NAMES)) == []
    assert len(online) * len(FEATURE_NAMES) > 1_000_000
