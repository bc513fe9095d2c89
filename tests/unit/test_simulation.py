import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError, PermanentError
from fraud_platform.schemas import CONTEXT_COLUMNS, PAYLOAD_COLUMNS
from fraud_platform.simulation.fraud import ChargebackDelay
from fraud_platform.simulation.payments import FRAUD_TYPES, LABELLED_PAYLOAD
from fraud_platform.simulation.scenarios import Scenario, inject
from fraud_platform.simulation.world import World, simulate

WORLD = World(customers=400, terminals=200, days=28)
SINCE = WORLD.start + timedelta(days=14)
LATER = pl.col("event_timestamp") >= SINCE


def digest(frame: pl.DataFrame) -> str:
    """Of every value, by way of text: the same in every process and on every machine."""
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate(WORLD)


@pytest.fixture(scope="module")
def without_context(frame: pl.DataFrame) -> pl.DataFrame:
    """As from a user's file that knows amounts and labels, and nothing else."""
    nothing = {name: pl.lit(None, dtype=dtype) for name, dtype in CONTEXT_COLUMNS.items()}
    return frame.with_columns(**nothing, fraud_type=pl.lit(None))


def both(frame: pl.DataFrame, scenario: Scenario, **options) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The later rows of the frame, and what a scenario made of them."""
    disturbed = inject(frame, scenario, since=SINCE, seed=7, **options)
    return frame.filter(LATER), disturbed.filter(LATER)


# --- the world


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_other_threads(frame):
    program = (
        "import hashlib; from fraud_platform.simulation.world import World, simulate; "
        "frame = simulate(World(customers=400, terminals=200, days=28)); "
        "print(hashlib.sha256(frame.write_csv().encode()).hexdigest())"
    )
    environment = {"PYTHONHASHSEED": "11", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    assert answer.stdout.strip() == digest(frame)


def test_another_seed_gives_another_world(frame):
    assert digest(simulate(World(customers=400, terminals=200, days=28, seed=1))) != digest(frame)


def test_the_columns_and_types_are_those_of_the_payload_and_its_labels(frame):
    assert dict(frame.schema) == LABELLED_PAYLOAD


def test_every_needed_column_is_filled(frame):
    needed = [*(c for c in PAYLOAD_COLUMNS if c not in CONTEXT_COLUMNS), "is_fraud"]
    assert frame.select(needed).null_count().sum_horizontal().item() == 0


def test_ids_are_unique_and_count_up_in_time_order(frame):
    assert frame["transaction_id"].n_unique() == frame.height
    assert frame["transaction_id"].is_sorted()
    assert frame["event_timestamp"].is_sorted()


def test_no_id_looks_like_a_card_number(frame):
    ids = frame.select(
        "transaction_id", "card_id", "terminal_id", pl.col("device_id").drop_nulls().first()
    )
    looks_like_one = pl.all().str.contains(r"^\d|\d{13}").any()
    assert ids.select(looks_like_one).row(0) == (False, False, False, False)


def test_events_lie_inside_the_days_of_the_world(frame):
    assert frame["event_timestamp"].min() >= WORLD.start
    assert frame["event_timestamp"].max() < WORLD.start + timedelta(days=WORLD.days)


def test_the_fraud_rate_is_about_what_was_asked_for(frame):
    assert 0.005 < frame["is_fraud"].mean() < 0.02


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.05])
def test_the_fraud_rate_can_be_set(rate):
    frame = simulate(World(customers=1000, terminals=600, days=14, fraud_rate=rate))
    assert rate * 0.6 <= frame["is_fraud"].mean() <= rate * 1.6


def test_all_kinds_of_fraud_happen_and_only_to_frauds(frame):
    assert set(frame["fraud_type"].drop_nulls()) == set(FRAUD_TYPES)
    assert frame.filter(pl.col("is_fraud") != pl.col("fraud_type").is_not_null()).is_empty()


def test_only_frauds_have_a_label_and_it_comes_after_the_event_and_within_the_cap(frame):
    labelled = frame.filter(pl.col("label_timestamp").is_not_null())
    delay = labelled["label_timestamp"] - labelled["event_timestamp"]
    assert labelled["is_fraud"].all()
    assert labelled.height == frame["is_fraud"].sum()
    assert timedelta(0) < delay.min()
    assert delay.max() <= timedelta(days=30)
    assert timedelta(days=2) < delay.median() < timedelta(days=3)


def test_a_chargeback_never_comes_later_than_its_cap():
    world = World(customers=100, days=10, chargeback=ChargebackDelay(median_days=9, max_days=10))
    frauds = simulate(world).filter("is_fraud")
    assert (frauds["label_timestamp"] - frauds["event_timestamp"]).max() == timedelta(days=10)


def test_nights_are_quieter_than_noons_and_sundays_than_saturdays(frame):
    hours = frame["event_timestamp"].dt.hour()
    weekdays = frame["event_timestamp"].dt.weekday()
    assert 10 * hours.is_between(1, 3).sum() < hours.is_between(11, 13).sum()
    assert 1.5 * (weekdays == 7).sum() < (weekdays == 6).sum()


def test_cards_have_habits_of_their_own(frame):
    by_card = (
        frame.filter(~pl.col("is_fraud"))
        .group_by("card_id")
        .agg(pl.len(), mean=pl.col("amount_minor").mean(), places=pl.col("terminal_id").n_unique())
    )
    regulars = by_card.filter(pl.col("len") >= 40)
    assert regulars["mean"].quantile(0.9) > 3 * regulars["mean"].quantile(0.1)
    assert (regulars["places"] < regulars["len"]).mean() > 0.99


def test_a_few_terminals_take_a_large_part_of_the_payments(frame):
    takes = frame.group_by("terminal_id").len()["len"].sort(descending=True)
    assert takes.head(WORLD.terminals // 10).sum() > 0.25 * frame.height


def test_web_payments_have_a_device_and_no_place_and_shops_the_reverse(frame):
    web = frame.filter(payment_method="online")
    card_in_hand = frame.filter(pl.col("payment_method").is_in(["chip", "contactless"]))
    assert set(web["entry_mode"]) == {"not_present"}
    assert set(card_in_hand["entry_mode"]) == {"present"}
    assert web["device_id"].null_count() == 0
    assert web["latitude"].count() == web["longitude"].count() == 0
    assert card_in_hand["device_id"].count() == 0
    assert card_in_hand["latitude"].null_count() == 0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    days=st.integers(1, 6),
    customers=st.integers(1, 30),
    terminals=st.integers(2, 40),
    rate=st.sampled_from([0.0, 0.01, 0.5]),
)
def test_even_the_smallest_worlds_hold_together(seed, days, customers, terminals, rate):
    world = World(seed=seed, days=days, customers=customers, terminals=terminals, fraud_rate=rate)
    frame = simulate(world)
    assert dict(frame.schema) == LABELLED_PAYLOAD
    assert frame["transaction_id"].is_unique().all()
    assert (
        frame["event_timestamp"]
        .is_between(world.start, world.start + timedelta(days=days), closed="left")
        .all()
    )
    for scenario in Scenario:
        assert inject(frame, scenario, since=world.start, seed=seed).height >= frame.height


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": datetime(2026, 1, 5)},  # noqa: DTZ001 - the naive time is the point
        {"start": datetime(2026, 1, 5, 12, tzinfo=UTC)},
        {"days": 0},
        {"customers": 0},
        {"terminals": 1},
        {"seed": -1},
        {"fraud_rate": 0.9},
        {"payments_per_day": 0.0},
    ],
)
def test_a_world_that_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(PermanentError, match="expected"):
        World(**wrong)


# --- scenarios


@pytest.mark.parametrize("scenario", Scenario)
def test_a_scenario_leaves_the_past_identical_loses_no_row_and_changes_the_later_ones(
    frame, scenario
):
    disturbed = inject(frame, scenario, since=SINCE, seed=7)
    assert disturbed.filter(~LATER).equals(frame.filter(~LATER))
    assert not disturbed.filter(LATER).equals(frame.filter(LATER))
    assert set(frame["transaction_id"]) <= set(disturbed["transaction_id"])
    assert disturbed["transaction_id"].is_unique().all()
    assert disturbed["event_timestamp"].is_sorted()
    assert disturbed["event_timestamp"].max() == frame["event_timestamp"].max()
    assert disturbed.schema == frame.schema


@pytest.mark.parametrize("scenario", Scenario)
def test_a_scenario_with_the_same_seed_does_the_same(frame, scenario):
    once, again = (inject(frame, scenario, since=SINCE, seed=7) for _ in range(2))
    assert digest(once) == digest(again)


@pytest.mark.parametrize("scenario", Scenario)
def test_a_scenario_of_no_strength_or_after_the_end_does_nothing(frame, scenario):
    assert inject(frame, scenario, since=SINCE, seed=7, strength=0).equals(frame)
    end = WORLD.start + timedelta(days=WORLD.days)
    assert inject(frame, scenario, since=end, seed=7).equals(frame)


@pytest.mark.parametrize("scenario", Scenario)
def test_a_context_column_that_the_sender_never_fills_stays_null(without_context, scenario):
    disturbed = inject(without_context, scenario, since=SINCE, seed=7)
    assert disturbed.select(CONTEXT_COLUMNS.keys()).count().sum_horizontal().item() == 0
    if scenario is not Scenario.NULL_FLOOD:  # there is nothing left to lose
        later = disturbed.filter(LATER).drop("fraud_type")
        assert not later.equals(without_context.filter(LATER).drop("fraud_type"))


def test_inflation_raises_every_amount_by_eight_tenths_of_its_strength(frame):
    before, after = both(frame, Scenario.AMOUNT_INFLATION, strength=0.5)
    assert (after["amount_minor"] == (before["amount_minor"] * 1.4).round()).all()


def test_a_unit_change_multiplies_all_amounts_by_a_hundred_and_at_half_strength_half_of_them(frame):
    before, after = both(frame, Scenario.UNIT_CHANGE)
    assert after["amount_minor"].equals(before["amount_minor"] * 100)
    before, after = both(frame, Scenario.UNIT_CHANGE, strength=0.5)
    assert 0.45 < (after["amount_minor"] == before["amount_minor"] * 100).mean() < 0.55


def test_a_null_flood_takes_most_of_the_context_and_nothing_else(frame):
    before, after = both(frame, Scenario.NULL_FLOOD)
    context = list(CONTEXT_COLUMNS)
    assert after.drop(context).equals(before.drop(context))
    for column in context:
        assert after[column].count() < 0.15 * before[column].count()


def test_a_mix_shift_moves_payments_to_the_web_and_to_wallets_and_makes_them_larger(frame):
    before, after = both(frame, Scenario.PAYMENT_MIX_SHIFT)
    remote = pl.col("payment_method").is_in(["online", "wallet"]).mean()
    assert before.select(remote).item() < 0.45
    assert after.select(remote).item() > 0.7
    assert after["amount_minor"].mean() > 1.05 * before["amount_minor"].mean()
    web = after.filter(payment_method="online")
    assert set(web["entry_mode"]) == {"not_present"}
    assert web["latitude"].count() == 0
    assert web["device_id"].null_count() == 0
    known = frame.filter(payment_method="online")["terminal_id"].unique()
    assert web["terminal_id"].is_in(known.implode()).all()


def test_a_geography_shift_takes_cards_to_new_terminals_in_new_countries(frame):
    before, after = both(frame, Scenario.GEOGRAPHY_SHIFT)
    abroad = after.filter(~pl.col("terminal_id").is_in(frame["terminal_id"].unique().implode()))
    assert 0.5 < abroad.height / after.height < 0.7
    assert not set(abroad["country"]) & set(frame["country"])
    assert after["amount_minor"].equals(before["amount_minor"])


def test_the_new_pattern_adds_labelled_frauds_in_bursts_over_terminals_at_low_amounts(frame):
    before, after = both(frame, Scenario.NEW_FRAUD_PATTERN)
    added = after.filter(fraud_type="new_pattern")
    assert added.height == round(0.015 * before.height)
    assert after.filter(
        pl.col("transaction_id").is_in(added["transaction_id"].implode()).not_()
    ).equals(before)
    assert added["is_fraud"].all()
    assert added["transaction_id"].str.contains(r"^x\d{10}$").all()
    assert (added["label_timestamp"] > added["event_timestamp"]).all()
    bursts = added.group_by("card_id").agg(
        pl.len(), places=pl.col("terminal_id").n_unique(), amount=pl.col("amount_minor").mean()
    )
    usual = frame.group_by("card_id").agg(usual=pl.col("amount_minor").mean())
    ratio = bursts.join(usual, on="card_id").select(pl.col("amount") / pl.col("usual")).to_series()
    assert (bursts["places"] >= 4).mean() > 0.9
    assert 0.4 < ratio.median() < 0.9


def test_two_new_patterns_do_not_share_an_id(frame):
    once = inject(frame, Scenario.NEW_FRAUD_PATTERN, since=SINCE, seed=7)
    twice = inject(once, Scenario.NEW_FRAUD_PATTERN, since=SINCE, seed=7)
    assert twice.height > once.height > frame.height
    assert twice["transaction_id"].is_unique().all()


def test_a_column_of_the_user_own_is_kept_and_null_in_added_rows(frame):
    owned = frame.with_row_index("line")
    disturbed = inject(owned, Scenario.NEW_FRAUD_PATTERN, since=SINCE, seed=7)
    assert disturbed.columns == owned.columns
    assert disturbed["line"].drop_nulls().is_unique().all()
    assert disturbed["line"].null_count() == disturbed.height - frame.height


def test_a_frame_without_labels_a_naive_time_and_a_negative_strength_are_refused(frame):
    with pytest.raises(DataContractError, match="is_fraud"):
        inject(frame.drop("is_fraud"), Scenario.UNIT_CHANGE, since=SINCE, seed=7)
    naive = SINCE.replace(tzinfo=None)
    with pytest.raises(PermanentError, match="zone"):
        inject(frame, Scenario.UNIT_CHANGE, since=naive, seed=7)
    with pytest.raises(PermanentError, match="strength"):
        inject(frame, Scenario.UNIT_CHANGE, since=SINCE, seed=7, strength=-1)
