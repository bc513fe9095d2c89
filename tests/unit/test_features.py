"""Oracle == batch == rings, bit for bit, and what a feature declaration promises."""

import contextlib
import math
import os
import random
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent, moment_of
from fraud_platform.features import spec
from fraud_platform.features.batch import compute
from fraud_platform.features.declaration import (
    OF_VALUES,
    OFFERED,
    ORDINARY,
    OUTLIER,
    Feature,
    Function,
    Stream,
    Where,
    digest_of,
    named_once,
)
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES, LATENESS, LOOKBACK, spec_digest
from fraud_platform.schemas import LABELS, LARGEST_AMOUNT, TRANSACTIONS
from fraud_platform.validation import ValidationPolicy
from tests.unit.feature_oracle import answer

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_522_540_800_000_000  # 2018-04-01, a Sunday


def odd(entity: str, function: Function, number: int, **parts: object) -> Feature:
    name = f"{entity}_{function}_odd_{number}"
    return Feature(
        name=name,
        entity=entity,
        function=function,
        reason_code="X",
        reason_text="",
        window=timedelta(days=9),
        delay=timedelta(hours=1),
        **parts,  # type: ignore[arg-type]  # the parts of a declaration
    )


def every_declaration() -> list[Feature]:
    """Every function over every stream, entity and kind of `where`, in odd windows.

    No engine may know the standard features by heart.
    """
    found: list[Feature] = []
    for entity in ("card", "terminal"):
        for stream, functions in OFFERED.items():
            for function in sorted(functions):
                for where in (None, WHERES[len(found) % len(WHERES)]):
                    for value in VALUES if function in OF_VALUES else (None,):
                        with contextlib.suppress(PermanentError):
                            parts = {"stream": stream, "where": where, "value": value}
                            found.append(odd(entity, function, len(found), **parts))
    return found


WHERES = (OUTLIER, ORDINARY, Where("entry_mode", "chip"), Where("country", "FR"))
VALUES = ("terminal_id", "card_id", "country")
MORE = tuple(every_declaration())
ALL = FEATURES + MORE


def payment(
    number: int,
    at: int,
    card: int,
    terminal: int,
    amount: int,
    country: str | None = None,
    entry_mode: str | None = None,
) -> Transaction:
    return Transaction(
        f"t{number}",
        START + at,
        f"c{card}",
        f"m{terminal}",
        amount,
        "EUR",
        country=country,
        entry_mode=entry_mode,
    )


# Instants that make ties, exact window edges and their neighbours likely.
INSTANTS = st.builds(
    lambda days, hours, shift: days * DAY + hours * HOUR + shift,
    st.sampled_from([0, 1, 2, 7, 8, 14, 30, 31, 37, 38, 45, 90, 91]),
    st.sampled_from([0, 0, 1, 6, 7]),
    st.sampled_from([0, 0, 0, -1, 1]),
)
AMOUNTS = st.one_of(st.integers(0, 500), st.sampled_from([0, 1, 999_999_999_99]))
PAYMENTS = st.tuples(
    INSTANTS,
    st.integers(0, 1),
    st.integers(0, 1),
    AMOUNTS,
    st.sampled_from([None, "BE", "FR"]),
    st.sampled_from([None, "chip", "manual"]),
)
VERDICTS = st.tuples(
    st.integers(0, 30), st.sampled_from(["fraud", "fraud", "withdrawn", "genuine"]), INSTANTS
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events in seq order with gaps: late payments, ties, verdicts known early, late and twice."""
    events: list[Event] = []
    drawn: list[TransactionEvent] = []
    seq = 0
    for item in draw(st.lists(st.one_of(PAYMENTS, PAYMENTS, VERDICTS), max_size=24)):
        seq += draw(st.integers(1, 3))
        if len(item) == 6:
            drawn.append(TransactionEvent(seq, payment(len(drawn), *item)))
            events.append(drawn[-1])
        elif drawn:
            which, verdict, known = item
            about = drawn[which % len(drawn)]
            known_us = max(about.transaction.event_us, START + known)
            events.append(label(seq, about, verdict, known_us))
    return events


def label(seq: int, about: TransactionEvent, verdict: str, known_us: int) -> LabelEvent:
    return LabelEvent(seq, about.seq, about.transaction, verdict, known_us)


def random_log(seed: int, size: int = 120, late: float = 0.2) -> list[Event]:
    """A denser log than hypothesis makes: 3 cards, 3 terminals, 110 days, 20 % late rows."""
    rng = random.Random(seed)
    payments = [
        payment(
            number,
            rng.randrange(110 * 24) * HOUR,
            rng.randrange(3),
            rng.randrange(3),
            amount,
            rng.choice([None, "BE", "FR"]),
            rng.choice([None, "chip", "manual"]),
        )
        for number, amount in enumerate(rng.choices(range(400), k=size))
    ]
    moments: list[tuple[int, str, Transaction, int]] = []
    for about in payments:
        lag = rng.randrange(20 * 24) * HOUR if rng.random() < late else 0
        arrived = about.event_us + lag
        moments.append((arrived, "payment", about, 0))
        for verdict in rng.choices(["fraud", "fraud", "withdrawn", "genuine"], k=rng.randrange(4)):
            known = about.event_us + rng.randrange(20 * 24) * HOUR
            reported = max(arrived, known) + rng.randrange(10) * DAY
            moments.append((reported, verdict, about, known))
    moments.sort(key=lambda moment: moment[0])
    return numbered(moments)


def numbered(moments: list[tuple[int, str, Transaction, int]]) -> list[Event]:
    """What happened, in order, as the log would number it."""
    events: list[Event] = []
    taken: dict[str, TransactionEvent] = {}
    for seq, (_, kind, about, known) in enumerate(moments, start=1):
        if kind == "payment":
            taken[about.transaction_id] = TransactionEvent(seq, about)
            events.append(taken[about.transaction_id])
        else:
            events.append(label(seq, taken[about.transaction_id], kind, known))
    return events


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
    rows = [
        {
            "seq": event.seq,
            "transaction_id": event.transaction.transaction_id,
            "verdict": event.verdict,
            "label_source": "chargeback",
            "label_timestamp": moment_of(event.known_us),
            "received_timestamp": moment_of(event.known_us),
            "event_timestamp": moment_of(event.transaction.event_us),
            "card_id": event.transaction.card_id,
            "terminal_id": event.transaction.terminal_id,
        }
        for event in log
        if isinstance(event, LabelEvent)
    ]
    return pl.DataFrame(rows, schema=LABELS.columns)


Values = dict[int, tuple[float | None, ...]]


def by_batch(
    log: list[Event], features: tuple[Feature, ...] = ALL, seen: pl.DataFrame | None = None
) -> Values:
    frame = compute(transactions_of(log), labels_of(log), features=features, seen=seen)
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
@settings(max_examples=60, deadline=None)
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
        self._reader.horizon_us = 20 * DAY


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
        if event.transaction.event_us >= recent:
            restarted.apply(event)
    probe = payment(10_000, 110 * DAY, 1, 1, 100)
    assert restarted.read(probe) == whole.read(probe)
    assert (restarted.last_seq, restarted.newest_us) == (whole.last_seq, whole.newest_us)


def test_old_entries_and_empty_pasts_are_dropped() -> None:
    rings = FeatureRings()
    for number in range(3_000):  # one new card every hour
        rings.apply(TransactionEvent(number + 1, payment(number, number * HOUR, number, 0, 1)))
    horizon_days = (LOOKBACK + LATENESS).days
    assert len(rings._pasts["card"]) < 2 * horizon_days * 24
    (terminal,) = rings._pasts["terminal"].values()
    assert len(terminal.rings[0].times) <= horizon_days * 24 + 1


def test_an_empty_past_gives_zero_counts_and_null_means() -> None:
    values = dict(zip(FEATURE_NAMES, FeatureRings().read(payment(0, 0, 0, 0, 250)), strict=True))
    expected = {feature.name: feature.default for feature in FEATURES} | {
        "transaction_amount": 250.0,
        "transaction_hour_of_day": 0.0,
        "transaction_is_weekend": 1.0,
        "transaction_is_night": 1.0,
        "card_is_new_country_90d": None,  # the payment's own country is unknown
    }
    assert expected["card_payment_count_1h"] == 0.0
    assert expected["card_is_new_terminal_30d"] == 1.0
    assert expected["card_amount_mean_30d"] is None
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
        (replace(first, function=Function.SUM), second),
        (replace(first, name="card_transaction_count"), second),
        (replace(first, entity="terminal"), second),
        (replace(first, stream=Stream.FRAUDS), second),
        (replace(first, where=OUTLIER), second),
        (replace(first, where=ORDINARY), second),
        (second, first),
        (second,),
    ]
    digests = {digest_of((*FEATURES[:4], *change, *rest)) for change in changes}
    assert len(digests | {spec_digest()}) == len(changes) + 1
    reworded = replace(first, reason_text="Many payments.", reason_code="C99")
    assert digest_of((*FEATURES[:4], reworded, second, *rest)) == spec_digest()


@pytest.mark.parametrize(
    "parts",
    [
        {"window": None},
        {"window": timedelta(0)},
        {"delay": timedelta(days=-1)},
        {"entity": "transaction"},
        {"entity": "merchant"},
        {"function": Function.AMOUNT},
        {"function": Function.RATE},
        {"function": Function.STREAK_LENGTH},
        {"function": Function.DISTINCT},
        {"value": "country"},
        {"function": Function.DISTINCT, "value": "amount_minor"},
        {"where": Where("nonsense", "x")},
        {"where": Where("amount_minor", "x")},
        {"where": Where("is_outlier", "yes")},
        {"where": Where("country", True)},
        {"stream": Stream.FRAUDS, "function": Function.MEAN},
        {"stream": Stream.FRAUDS, "function": Function.STREAK_LENGTH, "where": ORDINARY},
        {"stream": Stream.GOOD, "function": Function.SECONDS_SINCE_LAST, "where": ORDINARY},
    ],
    ids=str,
)
def test_a_declaration_that_contradicts_itself_is_refused(parts: dict[str, object]) -> None:
    with pytest.raises(PermanentError, match="Hint: "):
        replace(FEATURES[4], **parts)  # type: ignore[arg-type]  # the parts of a declaration


def test_an_amount_beyond_exact_sums_is_refused_by_name() -> None:
    event = TransactionEvent(1, payment(0, 0, 0, 0, LARGEST_AMOUNT + 1))
    found = "found an amount of 1099511627777 minor units"
    with pytest.raises(PermanentError, match=found):
        by_batch([event])
    rings = FeatureRings()
    with pytest.raises(PermanentError, match=found):
        rings.apply(event)
    assert rings.last_seq == 0
    with pytest.raises(ValueError, match="up to which features are exact"):
        ValidationPolicy(max_amount_minor=LARGEST_AMOUNT + 1)


def test_two_features_of_one_name_or_reason_are_refused() -> None:
    with pytest.raises(PermanentError, match="card_payment_count_1h"):
        named_once((*FEATURES, replace(FEATURES[4], reason_code="X")))
    with pytest.raises(PermanentError, match="C01"):
        named_once((*FEATURES, replace(FEATURES[4], name="x")))


def test_the_line_of_the_how_to_page_is_all_that_a_new_feature_takes() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/add-a-feature.md").read_text("utf-8")
    (line,) = re.findall(r"^_windowed\(.*\)$", page, re.MULTILINE)
    wheres = re.findall(r"`(Where\(.*?\)|OUTLIER|ORDINARY)`", page)
    assert len(wheres) == 3
    lines = [line, *(f"{line[:-1]}, where={where})" for where in wheres)]
    added = tuple(eval(text, vars(spec)) for text in lines)  # noqa: S307 -- our own page
    assert added[0].name == "card_distinct_merchant_categories_30d"
    others = [f for f in FEATURES if f.name != added[0].name]  # whoever follows the page adds it
    numbered_anew = (replace(f, reason_code=f"N{n}") for n, f in enumerate(added))
    features = named_once((*others, *numbered_anew))
    log, names = random_log(seed=21), [feature.name for feature in features]
    expected = by_oracle(log, features)
    assert differences(by_batch(log, features), expected, names) == []
    assert differences(by_rings(log, FeatureRings(features)), expected, names) == []


def test_the_largest_amounts_give_exact_spreads() -> None:
    amounts = [LARGEST_AMOUNT, LARGEST_AMOUNT - 1, LARGEST_AMOUNT, 0]
    log: list[Event] = [
        TransactionEvent(seq, payment(seq, seq * HOUR, 0, 0, amount))
        for seq, amount in enumerate(amounts, start=1)
    ]
    assert differences(by_batch(log), by_oracle(log), NAMES) == []
    assert differences(by_rings(log, FeatureRings(ALL)), by_oracle(log), NAMES) == []


@given(logs(), st.integers(0, 24))
@settings(max_examples=30, deadline=None)
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(log: list[Event], cut: int) -> None:
    whole, interrupted = FeatureRings(ALL), FeatureRings(ALL)
    expected = by_rings(log, whole)
    values = by_rings(log[:cut], interrupted)
    restored = FeatureRings.restore(interrupted.snapshot(), ALL)
    values |= by_rings(log[cut:], restored)
    assert differences(values, expected, NAMES) == []
    assert values.keys() == expected.keys()
    assert restored.snapshot() == whole.snapshot()


def test_a_damaged_or_foreign_snapshot_is_refused() -> None:
    rings = FeatureRings()
    for event in random_log(seed=8):
        rings.apply(event)
    packed = rings.snapshot()
    for damaged in (packed[:-1], packed[:40] + b"x" + packed[41:], b""):
        with pytest.raises(PermanentError, match="damaged"):
            FeatureRings.restore(damaged)
    with pytest.raises(PermanentError, match="expected"):
        FeatureRings.restore(packed, FEATURES[:-1])


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_reader_that_lags_sees_exactly_what_it_says_it_saw(
    log: list[Event], rng: random.Random
) -> None:
    rows = [
        {
            "seq": event.seq,
            "card_seen": event.seq - 1 - rng.choice([0, 0, 1, 3, 10]),
            "terminal_seen": event.seq - 1 - rng.choice([0, 0, 1, 3, 10]),
        }
        for event in log
        if isinstance(event, TransactionEvent)
    ]
    schema = {"seq": pl.Int64, "card_seen": pl.Int64, "terminal_seen": pl.Int64}
    seen = {row["seq"]: row for row in rows}
    expected = {
        event.seq: tuple(
            answer(log, event, f, seen_seq=seen[event.seq].get(f"{f.entity}_seen")) for f in ALL
        )
        for event in log
        if isinstance(event, TransactionEvent)
    }
    lagging = by_batch(log, ALL, pl.DataFrame(rows, schema=schema))
    assert differences(lagging, expected, NAMES) == []


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
    moments: list[tuple[int, str, Transaction, int]] = []
    for *fields, is_fraud in raw.iter_rows():
        about = Transaction(*fields, "EUR")
        lag = rng.randrange(12 * HOUR) if rng.random() < 0.01 else 0
        moments.append((about.event_us + lag, "payment", about, 0))
        if is_fraud:
            known = about.event_us + rng.randrange(7 * DAY, 21 * DAY)
            moments.append((known, "fraud", about, known))
    moments.sort(key=lambda moment: moment[0])
    return numbered(moments)


def test_batch_and_rings_agree_bit_for_bit_on_the_benchmark() -> None:
    root = Path(__file__).parents[2]
    data = Path(os.environ.get("FRAUD_BENCHMARK_DATA", root.parent / "shared" / "data"))
    path = data / "handbook" / "transactions.parquet"
    if not path.exists():
        pytest.skip(f"no benchmark data at {path}; set FRAUD_BENCHMARK_DATA to its folder")
    last_week = datetime(2018, 8, 28, tzinfo=UTC)
    log = benchmark_log(path, last_week - LOOKBACK, cards=25)
    offline = by_batch(log, FEATURES)
    online = by_rings(log, FeatureRings())
    assert differences(online, offline, list(FEATURE_NAMES)) == []
    assert len(online) * len(FEATURE_NAMES) > 400_000
