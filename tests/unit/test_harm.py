import numpy as np
import pytest

from fraud_platform.heal.evidence import Signal, Standing
from fraud_platform.heal.harm import Harm, HarmPolicy, HarmState, Payments
from fraud_platform.heal.harm_bets import STEP, Watched
from fraud_platform.hourly import hours_of_day, shares_by_hour
from fraud_platform.rollout import CANARY_ARM, CONTROL_ARM
from tests.error_rates import at_least

EXPECTED = 0.05


def payments(
    disturbed, cards=None, *, slow=None, watched=None, arms=None, unusable=None, event_us=None
):
    count = len(disturbed)
    return Payments(
        cards=np.arange(count) if cards is None else cards,
        disturbed=np.asarray(disturbed, dtype=bool),
        is_watched=np.ones(count, dtype=bool) if watched is None else watched,
        latency_us=np.where(slow, 10**6, 0) if slow is not None else np.zeros(count, dtype=int),
        event_us=np.zeros(count, dtype=int) if event_us is None else event_us,
        arms=arms,
        unusable=unusable,
    )


def share(rng, rate, count):
    return payments(rng.random(count) < rate, rng.integers(0, 10**9, count))


def bursts(rng, rate, count, part, mean):
    """A share of disturbed payments of which a part comes in bursts of one card each."""
    hours = rate * (1 + 0.08 * np.sin(np.arange(count) * 2 * np.pi / 50_000))
    disturbed, cards = rng.random(count) < hours * (1 - part), rng.integers(0, 20_000, count)
    for card in np.flatnonzero(rng.random(count) < hours * part / mean):
        size = int(rng.geometric(1 / mean))
        places = card + np.concatenate(([0], np.cumsum(rng.geometric(1 / 60, size - 1))))
        places = places[places < count].astype(int)
        disturbed[places], cards[places] = True, 10**6 + card
    return payments(disturbed, cards)


VOLUME = np.array([2] * 4 + [5, 12, 27, 44, *[52] * 12, 35, 21, 11, 6])
"""Payments of the simulated world by hour of the day, in thousandths of a day or so."""
BY_HOUR = np.array([0.25] * 5 + [0.12, 0.07, 0.05, *[0.043] * 12, 0.05, 0.08, 0.13, 0.15])
"""What a champion disturbs there: frauds come at all hours, genuine payments by day."""


def days_of(rng, count, factor=1.0, part=0.0):
    """Payments with the rhythm of a day, 12,500 each; a part of the disturbed comes in bursts."""
    hours = np.arange(count) // 12_500 * 24 + rng.choice(24, count, p=VOLUME / VOLUME.sum())
    event_us = np.sort(hours * 3_600_000_000 + rng.integers(0, 3_600_000_000, count))
    chance = factor * BY_HOUR[event_us // 3_600_000_000 % 24]
    disturbed, cards = rng.random(count) < chance * (1 - part), rng.integers(0, 10**9, count)
    for first in np.flatnonzero(rng.random(count) < chance * part / 4):
        burst = slice(first, first + 60 * int(rng.geometric(1 / 4)), 60)
        disturbed[burst], cards[burst] = True, -first
    return payments(disturbed, cards, event_us=event_us)


def steps_of(told, step=STEP):
    for first in range(0, len(told.disturbed), step):
        rows = slice(first, first + step)
        yield payments(told.disturbed[rows], told.cards[rows], event_us=told.event_us[rows])


def harm_by_hour(rng, part=0.0):
    """It expects what a champion's test rows say, not the truth."""
    test = days_of(rng, 50_000, part=part)
    by_hour = shares_by_hour(test.disturbed, hours_of_day(test.event_us), np.ones(50_000))
    harm = Harm(HarmPolicy())
    harm.expect("model", float(test.disturbed.mean()), by_hour)
    return harm


def harm_of(*, rate=EXPECTED):
    harm = Harm(HarmPolicy())
    harm.expect("model", rate)
    return harm


def standing(harm, signal=Signal.DISTURBED_RATE):
    return {r.signal: r for r in harm.readings(7)}[signal].standing


def waits(harm, signal, batches, wanted):
    """Payments until a signal stands so, in steps; infinity if it never does."""
    for count, batch in enumerate(batches, 1):
        harm.observe(*batch if isinstance(batch, tuple) else (batch,))
        if standing(harm, signal) is wanted:
            return count * STEP
    return np.inf


def median_wait(rate, *, runs=11, steps=250, wanted=Standing.BREACHED, before=None):
    found = []
    for seed in range(runs):
        rng, harm = np.random.default_rng(seed), harm_of()
        if before:
            harm.observe(share(rng, before, 3_000))
        batches = (share(rng, rate, STEP) for _ in range(steps))
        found.append(waits(harm, Signal.DISTURBED_RATE, batches, wanted))
    return np.median(found)


@pytest.mark.parametrize(("part", "mean"), [(0.3, 4), (0.5, 6), (0.7, 10)])
@pytest.mark.parametrize("rate", [0.025, 0.055])
def test_a_healthy_share_that_wobbles_and_clusters_alarms_nowhere(rate, part, mean):
    rng = np.random.default_rng(3)
    for _ in range(at_least(2) // 100 + 2):
        harm = harm_of(rate=rate)
        for _ in range(10):
            harm.observe(bursts(rng, rate, 30_000, part, mean))
            assert all(r.standing is not Standing.BREACHED for r in harm.readings(0))


def breaches(harm, told):
    """Which of the two shares was called harmful, and when, in payments."""
    found = []
    for count, step in enumerate(steps_of(told, 1_000), 1):
        harm.observe(step)
        found += [
            (r.signal, 1_000 * count) for r in harm.readings(0)[:2] if r.standing == "breached"
        ]
    return found


@pytest.mark.parametrize("part", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(at_least(2) // 100 + 1))
def test_nights_on_which_much_is_disturbed_are_no_harm_where_they_are_expected(seed, part):
    rng = np.random.default_rng(seed)
    assert breaches(harm_by_hour(rng, part), days_of(rng, 200_000, part=part)) == []


def test_nights_on_which_much_is_disturbed_are_harm_to_who_expects_one_rate():
    rng = np.random.default_rng(0)
    assert breaches(harm_of(rate=0.052), days_of(rng, 100_000))


@pytest.mark.parametrize("begin", [0, 6_000], ids=["at-night", "by-day"])
@pytest.mark.parametrize(("factor", "within"), [(3.5, 1_000), (1.8, 9_000), (0.1, 3_000)])
def test_harm_is_found_as_soon_at_any_hour(factor, within, begin):
    found = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        harm, told = harm_by_hour(rng), days_of(rng, 25_000, factor)
        batches = list(steps_of(told))[begin // STEP :]
        signal = Signal.DISTURBED_RATE if factor > 1.0 else Signal.QUIET_RATE
        found.append(waits(harm, signal, batches, Standing.BREACHED))
    assert np.median(found) <= within


def test_harm_is_not_over_at_night_but_when_it_ends():
    rng = np.random.default_rng(4)
    harm = harm_by_hour(rng)
    bad = breaches(harm, days_of(rng, 50_000, 1.8))
    assert len(bad) >= 50 - 9
    assert (
        waits(harm, Signal.DISTURBED_RATE, steps_of(days_of(rng, 12_500)), Standing.FINE) <= 5_000
    )


@pytest.mark.parametrize(("rate", "within"), [(0.31, 500), (0.18, 1_000), (1.8 * EXPECTED, 9_000)])
def test_harm_is_found_within_so_many_payments_in_the_median(rate, within):
    assert median_wait(rate) <= within


def test_a_rise_within_the_bound_is_no_harm():
    assert median_wait(1.18 * EXPECTED, runs=3, steps=1_000) == np.inf


def test_a_model_that_has_stopped_seeing_is_found():
    harm, rng = harm_of(), np.random.default_rng(1)
    batches = (share(rng, EXPECTED / 10, STEP) for _ in range(100))
    assert waits(harm, Signal.QUIET_RATE, batches, Standing.BREACHED) <= 3_000


def test_harm_that_ended_is_told_as_fine_on_payments_that_came_after():
    assert median_wait(EXPECTED, before=0.18, wanted=Standing.FINE) <= 3_500


def test_harm_that_lasts_is_not_called_over():
    rng, harm = np.random.default_rng(2), harm_of()
    harm.observe(share(rng, 1.8 * EXPECTED, 20_000))
    batches = (share(rng, 1.8 * EXPECTED, STEP) for _ in range(2_000))
    assert waits(harm, Signal.DISTURBED_RATE, batches, Standing.FINE) == np.inf


def test_ten_payments_of_one_card_count_like_one():
    calm, torn = harm_of(), harm_of()
    disturbed = np.tile(np.arange(STEP) < 50, 30)
    torn.observe(payments(disturbed, np.arange(3_000)))
    calm.observe(payments(disturbed, np.where(disturbed, 7, np.arange(3_000))))
    assert (standing(calm), standing(torn)) == (Standing.FINE, Standing.BREACHED)


def test_below_its_least_rows_a_signal_is_blind_but_not_to_a_breach():
    harm = harm_of()
    harm.observe(payments(np.arange(900) % 20 == 0))
    assert standing(harm) is Standing.BLIND
    harm = harm_of()
    harm.observe(payments(np.ones(300, dtype=bool)))
    assert standing(harm) is Standing.BREACHED


def test_without_an_expected_rate_the_shares_are_blind_and_the_rest_is_not():
    harm = Harm(HarmPolicy())
    harm.observe(share(np.random.default_rng(5), EXPECTED, 5_000))
    told = {r.signal: r.standing for r in harm.readings(0)}
    assert told[Signal.DISTURBED_RATE] is told[Signal.QUIET_RATE] is Standing.BLIND
    assert told[Signal.ERRORS] is told[Signal.LATENCY] is Standing.FINE


def test_another_model_is_watched_from_nothing_and_the_same_one_goes_on():
    harm, rng = harm_of(), np.random.default_rng(6)
    harm.observe(share(rng, 0.18, 3_000))
    harm.expect("model", EXPECTED)
    assert standing(harm) is Standing.BREACHED
    harm.expect("another", EXPECTED)
    assert standing(harm) is Standing.BLIND


def test_payments_of_another_model_count_for_errors_only():
    harm, rng = harm_of(), np.random.default_rng(7)
    harm.observe(payments(rng.random(5_000) < 0.5, watched=np.zeros(5_000, dtype=bool)), refused=0)
    assert (standing(harm), standing(harm, Signal.ERRORS)) == (Standing.BLIND, Standing.FINE)


@pytest.mark.parametrize(("refused", "within"), [(5, 800), (50, 500)])
def test_errors_are_found_and_end(refused, within):
    harm, calm = harm_of(), payments(np.zeros(STEP, dtype=bool))
    found = 0
    while standing(harm, Signal.ERRORS) is not Standing.BREACHED:
        harm.observe(calm, refused=refused)
        found += STEP
    assert found <= within
    assert waits(harm, Signal.ERRORS, [calm] * 40, Standing.FINE) <= 4_000


def test_one_burst_of_failures_is_no_breach():
    harm = harm_of()
    harm.observe(payments(np.zeros(5_000, dtype=bool)))
    harm.observe(payments(np.zeros(0, dtype=bool)), refused=100)
    assert standing(harm, Signal.ERRORS) is Standing.FINE


def test_slow_answers_are_found_and_end():
    harm, rng = harm_of(), np.random.default_rng(8)
    slow = (payments(np.zeros(STEP, dtype=bool), slow=rng.random(STEP) < 0.1) for _ in range(40))
    assert waits(harm, Signal.LATENCY, slow, Standing.BREACHED) <= 1_500
    fast = [payments(np.zeros(STEP, dtype=bool))] * 20
    assert waits(harm, Signal.LATENCY, fast, Standing.FINE) <= 1_500


def test_how_payments_are_cut_into_calls_changes_nothing():
    rng, whole, cut = np.random.default_rng(9), harm_of(), harm_of()
    disturbed, cards = rng.random(4_000) < 0.1, rng.integers(0, 50, 4_000)
    whole.observe(payments(disturbed, cards))
    for first in range(0, 4_000, 17):
        rows = slice(first, first + 17)
        cut.observe(payments(disturbed[rows], cards[rows]))
    left, right = whole.readings(0)[0], cut.readings(0)[0]
    assert left.details["evidence"] == pytest.approx(right.details["evidence"])
    assert (left.rows, left.standing) == (right.rows, right.standing)


def test_evidence_survives_a_restart_as_json():
    import msgspec

    harm, rng = harm_of(), np.random.default_rng(10)
    harm.compare("pair", "2", 0.5)
    harm.observe(share(rng, 0.18, 3_000))
    kept = msgspec.json.decode(msgspec.json.encode(harm.state), type=HarmState)
    again = Harm(HarmPolicy(), kept)
    assert again.readings(5) == harm.readings(5)


def test_what_another_release_left_costs_its_evidence_and_nothing_else():
    held = Watched(rows=5_000, logs=(1.0, 2.0), recent=(0.5,))
    kept = HarmState(model="model", rate=EXPECTED, watched={"mood": held, "errors": held})
    harm = Harm(HarmPolicy(), kept)
    harm.observe(payments(np.zeros(STEP, dtype=bool)))
    told = {reading.signal: reading for reading in harm.readings(0)}
    assert told[Signal.ERRORS].rows == 5_000 + STEP
    assert told[Signal.DISTURBED_RATE].rows == STEP


def test_what_a_release_that_knew_one_rate_left_goes_on_under_it():
    import msgspec

    harm = harm_of()
    harm.observe(share(np.random.default_rng(11), 0.18, 3_000))
    left = msgspec.to_builtins(harm.state)
    del left["by_hour"]
    for held in left["watched"].values():
        del held["bounds"]
    again = Harm(HarmPolicy(), msgspec.convert(left, HarmState))
    again.expect("model", EXPECTED)
    before, after = harm.readings(5)[0], again.readings(5)[0]
    assert (after.standing, after.details) == (before.standing, before.details)
    assert after.bound == pytest.approx(before.bound)


def test_a_canary_is_compared_by_cards_and_another_one_inherits_nothing():
    harm = harm_of()
    harm.compare("2 over 1", "2", 0.5)
    cards = np.arange(2_000) // 2  # each twice
    arms = [CANARY_ARM if card % 2 else CONTROL_ARM for card in cards]
    bad = (cards % 2 == 1) & (cards % 20 < 10) | (cards % 40 == 0)
    harm.observe(payments(bad, cards, arms=arms))
    assert harm.comparison.canary.disturbed == 250
    assert harm.comparison.canary.payments == 1_000
    assert standing(harm, Signal.CANARY) is Standing.BREACHED
    harm.compare("3 over 1", "3", 0.5)
    assert standing(harm, Signal.CANARY) is Standing.BLIND
    harm.compare("", "", 0.5)
    assert standing(harm, Signal.CANARY) is Standing.FINE


def test_a_canary_whose_model_fails_on_cards_is_harmful():
    harm = harm_of()
    harm.compare("2 over 1", "2", 0.5)
    arms = [CANARY_ARM, CONTROL_ARM] * 500
    failed = np.arange(1_000) % 20 == 0
    harm.observe(payments(np.zeros(1_000, dtype=bool), arms=arms, unusable=failed))
    assert standing(harm, Signal.CANARY) is Standing.BREACHED


def test_columns_of_different_lengths_and_policies_out_of_order_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        payments([True, False], np.arange(3))
    for wrong in ({"max_rise": 1.6}, {"false_alarm": 0.0}, {"min_rows": 1}, {"max_fall": 0.4}):
        with pytest.raises(ValueError, match="expected"):
            HarmPolicy(**wrong)
    with pytest.raises(ValueError, match="expected"):
        harm_of(rate=1.5)
    with pytest.raises(ValueError, match="found rates of 7 hours, expected 24 or none"):
        harm_of().expect("model", EXPECTED, [EXPECTED] * 7)
