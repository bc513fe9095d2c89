"""The monitors of payments on simulated worlds: silent while all is well, and no wrong names."""

from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from fraud_platform.heal.evidence import TIERS, Reading, Signal, Standing, Tier
from fraud_platform.heal.monitors import Window, payment_readings
from fraud_platform.heal.reference import AMOUNT, Floats, MonitorPolicy, Reference
from fraud_platform.heal.units import units
from fraud_platform.simulation.scenarios import Scenario, inject
from fraud_platform.simulation.world import World, simulate

BREAKAGES = {s for s, tier in TIERS.items() if tier is Tier.INVARIANT}


@cache
def world(seed: int) -> pl.DataFrame:
    return simulate(World(seed=seed, days=45, customers=1_500, terminals=800))


def split(frame: pl.DataFrame) -> tuple[Reference, pl.DataFrame]:
    known = frame["event_timestamp"][0] + timedelta(days=28)
    is_known = pl.col("event_timestamp") < known
    return Reference(frame.filter(is_known)), frame.filter(~is_known)


def breached(reference: Reference, payments: pl.DataFrame) -> dict[Signal, Reading]:
    told = payment_readings(reference, Window(payments=payments))
    return {s: r for s, r in told.items() if r.standing is Standing.BREACHED}


def after(scenario: Scenario, strength: float, seed: int = 1) -> dict[Signal, Reading]:
    reference, later = split(world(seed))
    since = later["event_timestamp"][0]
    disturbed = inject(world(seed), scenario, since=since, seed=seed, strength=strength)
    return breached(reference, disturbed.filter(pl.col("event_timestamp") >= since)[:3_000])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_healthy_windows_breach_nothing(seed: int) -> None:
    reference, later = split(world(seed))
    starts = range(0, later.height - 3_000, 3_000)
    assert len(starts) >= 15
    assert [breached(reference, later[n : n + 3_000]) for n in starts] == [{}] * len(starts)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_change_of_unit_is_named_with_its_factor_and_share(strength: float) -> None:
    found = after(Scenario.UNIT_CHANGE, strength)[Signal.UNITS]
    assert found.subjects == ("transaction_amount",)
    assert found.details["factor"] == 100.0
    assert found.details["share"] == pytest.approx(strength, abs=0.05)
    assert found.details["ks_after"] < 0.05


MEAN = "card_amount_mean_30d"


def amounts(*parts: tuple[int, float]) -> Floats:
    """So many amounts one after another, each part times a factor."""
    chance = np.random.default_rng(sum(rows for rows, _ in parts))
    return np.concatenate([np.exp(chance.normal(8, 1, rows)) * times for rows, times in parts])


def unit_of(amount: Floats, mean: Floats | None = None) -> Reading:
    """What is told of amounts and of their mean, when both used to be alike."""
    usual = np.sort(amounts((20_000, 1.0)))
    now = {AMOUNT: amount, MEAN: amounts((3_000, 1.0)) if mean is None else mean}
    return units({AMOUNT: usual, MEAN: usual}, now, MonitorPolicy())


@pytest.mark.parametrize("since", [120, 500, 2_500])
@pytest.mark.parametrize("dearer", [1.0, 1.4])
def test_a_unit_is_exact_at_once_though_prices_rise(since: int, dearer: float) -> None:
    found = unit_of(amounts((3_000 - since, 1.0), (since, 100.0 * dearer)))
    assert found.subjects == (AMOUNT,)
    assert (found.details["factor"], found.details["sent"]) == (100.0, 1.0)
    assert found.details["plain"] < 0.005
    assert found.details["ks_after"] < 0.25


@pytest.mark.parametrize(("before", "broken", "right"), [(2_000, 990, 10), (0, 400, 2_600)])
def test_few_right_amounts_in_a_row_tell_that_the_sender_has_mended_it(
    before: int, broken: int, right: int
) -> None:
    found = unit_of(amounts((before, 1.0), (broken, 100.0), (right, 1.0)))
    assert found.standing is Standing.FINE


def test_what_remembers_the_other_unit_is_named_at_once_when_the_sender_mends_it() -> None:
    found = unit_of(amounts((2_000, 1.0), (980, 100.0), (20, 1.0)), amounts((3_000, 30.0)))
    assert (found.subjects, found.details["sent"]) == ((MEAN,), 0.0)


def test_what_remembers_the_other_unit_is_named_once_amounts_are_right() -> None:
    mixed = amounts((2_500, 1.0), (500, 100.0))
    found = unit_of(amounts((3_000, 1.0)), mixed)
    assert (found.subjects, found.details["sent"]) == ((MEAN,), 0.0)


@pytest.mark.parametrize(("usual_again", "is_over"), [(400, False), (500, True)])
def test_a_mixed_history_is_over_when_the_newest_memories_are_usual(
    usual_again: int, is_over: bool
) -> None:
    memories = amounts((3_000 - usual_again, 30.0), (usual_again, 1.0))
    found = unit_of(amounts((3_000, 1.0)), memories)
    assert (found.standing is Standing.FINE) is is_over


def test_a_mixture_of_units_is_never_exact() -> None:
    mixed = np.where(np.arange(3_000) % 2, 100.0, 1.0) * amounts((3_000, 1.0))
    found = unit_of(mixed)
    assert found.details["share"] == pytest.approx(0.5, abs=0.05)
    assert found.details["plain"] > 0.4


@pytest.mark.parametrize("strength", [0.3 / 0.8, 1.0], ids=["30-percent", "80-percent"])
def test_inflation_is_no_broken_feed(strength: float) -> None:
    found = after(Scenario.AMOUNT_INFLATION, strength)
    assert not BREAKAGES & set(found)
    assert strength < 1.0 or found[Signal.FEATURE_SHIFT].subjects == ("transaction_amount",)


@pytest.mark.parametrize("scenario", [Scenario.PAYMENT_MIX_SHIFT, Scenario.GEOGRAPHY_SHIFT])
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_what_customers_do_is_no_broken_feed(scenario: Scenario, strength: float) -> None:
    assert set(after(scenario, strength)) <= {Signal.FEATURE_SHIFT}


def test_a_move_abroad_is_a_shift_of_countries() -> None:
    assert after(Scenario.GEOGRAPHY_SHIFT, 0.5)[Signal.FEATURE_SHIFT].subjects == ("country",)


def test_a_new_fraud_leaves_the_inputs_quiet() -> None:
    assert after(Scenario.NEW_FRAUD_PATTERN, 1.0) == {}


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_a_feed_that_forgets_is_a_flood_of_nulls(strength: float) -> None:
    found = after(Scenario.NULL_FLOOD, strength)
    assert {"country", "payment_method"} <= set(found[Signal.NULLS].subjects)
    assert Signal.UNITS not in found
    assert Signal.CATEGORIES not in found


def test_another_spelling_is_a_change_of_categories_but_a_new_country_is_not() -> None:
    reference, later = split(world(1))
    recoded = later[:3_000].with_columns(pl.col("country").str.to_lowercase())
    assert breached(reference, recoded)[Signal.CATEGORIES].subjects == ("country",)


def test_a_feed_that_runs_twice_is_one_of_duplicates() -> None:
    reference, later = split(world(1))
    half = later[:1_500]
    again = half.with_columns(transaction_id="again" + pl.col("transaction_id"))
    found = set(breached(reference, pl.concat([half, again])))
    assert {Signal.DUPLICATES} <= found <= {Signal.DUPLICATES, Signal.VOLUME}


def arriving(frame: pl.DataFrame, ahead: timedelta = timedelta(0)) -> pl.DataFrame:
    shown = pl.col("event_timestamp") + ahead
    received = pl.col("event_timestamp") + timedelta(milliseconds=200)
    return frame.with_columns(received_timestamp=received, event_timestamp=shown)


@pytest.mark.parametrize("hours", [-2, 1])
def test_live_payments_tell_a_time_zone_by_their_arrival(hours: int) -> None:
    reference, later = split(arriving(world(1)))
    shifted = later.with_columns(pl.col("event_timestamp") + timedelta(hours=hours))[:600]
    found = breached(reference, shifted)[Signal.CLOCK]
    assert found.details["shift_hours"] == pytest.approx(hours, abs=0.01)


def test_payments_from_a_file_tell_a_time_zone_by_their_hours() -> None:
    reference, later = split(world(1))
    shifted = later.with_columns(pl.col("event_timestamp") + timedelta(hours=5))[:3_000]
    assert breached(reference, shifted)[Signal.CLOCK].details["shift_hours"] == 5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_payments_of_one_hour_behind_a_file_are_no_other_time_zone(seed: int) -> None:
    reference, later = split(world(seed))
    begin = later["event_timestamp"][1_700]
    moments = [begin + timedelta(milliseconds=450 * n) for n in range(1_300)]
    burst = later[1_700:3_000].with_columns(
        event_timestamp=pl.Series(moments).cast(later.schema["event_timestamp"])
    )
    assert Signal.CLOCK not in breached(reference, pl.concat([later[:1_700], burst]))


def test_contradicting_fields_are_named() -> None:
    reference, later = split(world(1))
    online = pl.col("payment_method") == "online"
    wrong = pl.when(online).then(pl.lit("present")).otherwise("entry_mode").alias("entry_mode")
    found = breached(reference, later[:3_000].with_columns(wrong))
    assert found[Signal.CROSS_FIELDS].subjects == ("payment_method|entry_mode",)


def test_a_flash_sale_is_volume_and_no_concentration() -> None:
    reference, later = split(world(1))
    start = later["event_timestamp"][0]
    faster = start + (pl.col("event_timestamp") - start) / 6
    assert set(breached(reference, later[:3_000].with_columns(event_timestamp=faster))) == {
        Signal.VOLUME
    }


def test_a_rush_shows_before_it_has_filled_the_window() -> None:
    reference, later = split(world(1))
    begins, at = later["event_timestamp"][2_000], pl.col("event_timestamp")
    faster = pl.when(at < begins).then(at).otherwise(begins + (at - begins) / 12)
    found = breached(reference, later[:3_000].with_columns(event_timestamp=faster))
    assert found[Signal.VOLUME].rows == 1_000


def test_a_burst_at_one_terminal_is_concentration() -> None:
    reference, later = split(world(1))
    at_one = pl.when(pl.int_range(pl.len()) % 8 == 0).then(pl.lit(later["terminal_id"][0]))
    burst = later[:3_000].with_columns(terminal_id=at_one.otherwise("terminal_id"))
    assert breached(reference, burst)[Signal.CONCENTRATION].subjects == ("terminal_id",)


@pytest.mark.parametrize(("times", "is_burst"), [(1, False), (4, True)])
def test_a_window_that_is_not_full_may_hold_what_a_full_one_held(
    times: int, is_burst: bool
) -> None:
    reference, later = split(world(1))
    most = round(reference.busiest["card_id", 1] * reference.policy.window)
    of_one = pl.when(pl.int_range(pl.len()) < times * most)
    of_one = of_one.then(pl.lit("c")).otherwise("card_id")
    few = later[:500].with_columns(card_id=of_one)
    assert (Signal.CONCENTRATION in breached(reference, few)) == is_burst


@pytest.mark.parametrize(("cards", "told"), [(3_000, 0.95), (8, 0.02)])
def test_a_burst_of_few_devices_tells_many_cards_from_few(cards: int, told: float) -> None:
    reference, later = split(world(1))
    row = pl.int_range(pl.len())
    one = "c" + (row // 8 % cards).cast(pl.String)
    burst = later[:3_000].with_columns(
        pl.when(row % 8 == 0).then(pl.lit("x")).otherwise("device_id").alias("device_id"),
        pl.when(row % 8 == 0).then(one).otherwise("card_id").alias("card_id"),
    )
    found = breached(reference, burst)[Signal.CONCENTRATION]
    assert found.details["cards_per_payment"] == pytest.approx(told, abs=0.02)


def test_rejections_and_missing_columns_are_a_change_of_schema() -> None:
    reference, later = split(world(1))
    rejecting = payment_readings(reference, Window(payments=later[:1_000], rejected=100))
    assert rejecting[Signal.SCHEMA].standing is Standing.BREACHED
    without = payment_readings(reference, Window(payments=later[:1_000].drop("country")))
    assert without[Signal.SCHEMA].subjects == ("country",)
    assert without[Signal.NULLS].standing is Standing.BLIND


def test_too_few_payments_make_blind_not_fine() -> None:
    reference, later = split(world(1))
    told = payment_readings(reference, Window(payments=later[:100]))
    assert {r.standing for s, r in told.items() if s is not Signal.SCHEMA} == {Standing.BLIND}


def test_amounts_beyond_everything_are_out_of_range() -> None:
    reference, later = split(world(1))
    far = pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit(10**9)).otherwise("amount_minor")
    found = breached(reference, later[:3_000].with_columns(amount_minor=far.cast(pl.Int64)))
    assert Signal.UNITS not in found
    assert found[Signal.RANGES].subjects == ("amount_minor",)


def test_a_policy_refuses_what_is_no_bound() -> None:
    with pytest.raises(ValueError, match="found max_null_gain=nan"):
        MonitorPolicy(max_null_gain=float("nan"))
    with pytest.raises(ValueError, match="expected below 1"):
        MonitorPolicy(confidence=1.0)
