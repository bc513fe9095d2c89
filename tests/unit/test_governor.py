"""The cap on what a model disturbs: a cap, sure, quick to tighten, slow to loosen, repeatable."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fraud_platform.cuts import Cuts
from fraud_platform.cuts import governed as under
from fraud_platform.decision import Thresholds, decide
from fraud_platform.governor import Governor, GovernorPolicy, GovernorState
from fraud_platform.score_cap import tie_breaker
from fraud_platform.stats.block_budget import Audits

HOUR_US = 3_600_000_000
OWN = Thresholds(0.8, 0.95)
SMALL = GovernorPolicy(window=300, min_scores=100, every=10)
CHANCES = st.floats(0, 1)


def governed(score, own, cuts):
    """What becomes of a payment whose score no other one has."""
    return under(decide(score, own), math.nan if score is None else score, cuts)


def told(governor, scores, *, start_us=0, per_hour=2_083, probabilities=None, amounts=None):
    """Everything at once, at so many payments an hour."""
    n = len(scores)
    probabilities = np.full(n, np.nan) if probabilities is None else probabilities
    amounts = np.full(n, 1_000) if amounts is None else amounts
    times = start_us + (np.arange(n) * HOUR_US / per_hour).astype(np.int64)
    return governor.observe(scores, probabilities, amounts, times)


def shares_over(governor, scores):
    """The share that each hundred disturbs under the cuts of the hundred before."""
    found = []
    for start in range(0, len(scores), 100):
        batch = scores[start : start + 100]
        found.append(float(np.mean(batch >= governor.cuts.review)))
        told(governor, batch, start_us=start * HOUR_US // 2_083)
    return np.array(found)


@given(
    st.lists(CHANCES, max_size=600),
    st.tuples(CHANCES, CHANCES).map(sorted),
    st.one_of(st.none(), st.floats(0.001, 0.5)),
)
def test_it_never_disturbs_a_payment_that_the_model_alone_would_not(scores, cuts, ordered):
    own = Thresholds(*cuts)
    governor = Governor(SMALL, own)
    governor.order(ordered)
    severity = {"approve": 0, "review": 1, "decline": 2}
    for score in scores:
        found = governed(score, own, governor.cuts)
        assert severity[found] <= severity[decide(score, own)]
        assert own.review <= governor.cuts.review <= governor.cuts.decline
        assert own.decline <= governor.cuts.decline
        governor.add(score, None, 1, 0)


@given(st.one_of(st.none(), st.just(math.nan), st.floats(1.01, 9)))
def test_what_is_no_score_is_reviewed_as_without_it(score):
    cuts = Cuts(0.9, 0.99, 0.049, is_held=True)
    assert governed(score, OWN, cuts) == decide(score, OWN) == "review"


def test_it_is_a_cap_and_never_a_target():
    governor = Governor(GovernorPolicy(), OWN)
    scores = np.random.default_rng(1).uniform(0, 0.81, 6_000)  # the model disturbs about 1 %
    cuts = told(governor, scores)
    assert (cuts.review, cuts.decline, cuts.is_held) == (OWN.review, OWN.decline, False)
    assert governor.state is GovernorState.SLACK
    assert cuts.fpr_bound == pytest.approx(np.mean(scores[-3_000:] >= 0.8) / 0.98)


def test_while_it_warms_up_the_models_own_cuts_hold_and_nothing_is_promised():
    governor = Governor(GovernorPolicy(), OWN)
    cuts = told(governor, np.ones(999))
    assert cuts == Cuts(OWN.review, OWN.decline, governor.budget)
    assert governor.state is GovernorState.WARMING
    told(governor, np.ones(1))
    assert governor.state is GovernorState.HOLDING


def test_off_means_that_the_model_alone_decides():
    governor = Governor(GovernorPolicy(is_on=False), OWN)
    assert told(governor, np.ones(5_000))[:2] == (OWN.review, OWN.decline)
    assert governor.state is GovernorState.OFF


def test_with_exchangeable_scores_the_budget_is_exceeded_with_a_chance_of_at_most_its_risk():
    """One step from each of many windows: the share above a cut is known exactly."""
    chance, runs, budget = np.random.default_rng(7), 2_000, GovernorPolicy().max_fpr * 0.98
    exceeded = 0
    for _ in range(runs):
        governor = Governor(GovernorPolicy(), Thresholds(0.0, 0.0))
        scores = chance.uniform(size=3_000)
        governor.rebase(Thresholds(0.0, 0.0), scores, np.full(3_000, np.nan), scores, 0)
        exceeded += 1.0 - governor.cuts.review > budget
    assert exceeded / runs <= 0.1 + 3 * math.sqrt(0.09 / runs)
    assert exceeded / runs > 0.05, "a cap far below its budget would cost fraud for nothing"


@pytest.mark.parametrize("seed", range(5))
def test_after_an_abrupt_shift_the_false_positives_are_few_within_minutes(seed):
    """The incident: of one payment to the next a cut that disturbed 4.8 % disturbs 18 %."""
    chance = np.random.default_rng(seed)
    governor = Governor(GovernorPolicy(), Thresholds(0.952, 0.999))
    shares_over(governor, chance.uniform(size=5_000))
    shifted = chance.uniform(size=12_500) ** (math.log(0.952) / math.log(0.82))
    assert np.mean(shifted >= 0.952) == pytest.approx(0.18, abs=0.02)
    after = shares_over(governor, shifted)
    assert after.mean() <= 0.055
    assert after[30:].mean() <= 0.05, "once the window holds new scores alone"


def burst(share, *, devices):
    """A window with a burst of high scores by so many devices, each card once; 0: none is known."""
    n = round(3_000 * share)
    scores = np.concatenate((np.random.default_rng(5).uniform(0, 0.84, 3_000 - n), np.ones(n)))
    device = np.concatenate((np.zeros(3_000 - n), 1 + np.arange(n) % max(1, devices)))
    payers = np.array([device if devices else np.zeros(3_000), np.arange(3_000)], np.int64)
    order = np.random.default_rng(6).permutation(3_000)
    governor = Governor(GovernorPolicy(), OWN)
    ignored = np.full(3_000, np.nan)
    return governor.rebase(OWN, scores[order], ignored, scores, 0, payers[:, order])


def test_a_burst_of_many_cards_by_few_devices_is_no_sign_that_the_model_went_wrong():
    usual = burst(0.0, devices=0)
    assert burst(0.03, devices=3).review == pytest.approx(usual.review, abs=0.003)
    assert burst(0.03, devices=0).review > usual.review + 0.01
    assert burst(0.03, devices=3).fpr_bound > GovernorPolicy().max_fpr, "nor is it kept quiet"


@pytest.mark.parametrize("share", [0.06, 0.5, 1.0])
def test_however_large_a_crowd_is_no_more_of_it_than_its_share_stands_beside_the_budget(share):
    cuts, policy = burst(share, devices=5), GovernorPolicy()
    assert cuts.fpr_bound <= policy.max_fpr + policy.max_crowd_share / (1 - policy.max_fraud_share)


def by_five_devices(numbers):
    return 1 + numbers % 5


def by_devices_of_five_cards(numbers):
    """Each of them gone before the next: five cards of five devices by turns."""
    return 1 + numbers // 25 * 5 + numbers % 5


def crowd_after_calm(*, calm, crowd, share, devices=by_five_devices, ahead_at=-1):
    """The review cut, and the share disturbed, after calm hours and then hours with a crowd."""
    rng, governor, disturbed = np.random.default_rng(7), Governor(GovernorPolicy(), OWN), []
    came = 0
    for start in range(0, calm + crowd, 100):
        is_crowd = (rng.random(100) < share) & (start >= calm)
        scores = np.where(is_crowd, 1.0, rng.uniform(0, 0.84, 100))
        payers = np.array([np.zeros(100, np.int64), start + np.arange(100)])
        payers[0, is_crowd] = devices(came + np.arange(is_crowd.sum()))
        came += int(is_crowd.sum())
        disturbed.append(float(np.mean(scores >= governor.cuts.review)))
        times = ((start + np.arange(100)) * HOUR_US / 2_083).astype(np.int64)
        times[50] += (start == ahead_at) * 10_000 * HOUR_US
        governor.observe(scores, np.full(100, np.nan), np.full(100, 1_000), times, payers)
    return governor.cuts.review, float(np.mean(disturbed[calm // 100 :]))


def test_a_short_burst_may_be_more_than_its_share_of_a_window_but_not_of_the_hours_around_it():
    usual, _ = crowd_after_calm(calm=3_000, crowd=3_000, share=0.0)
    burst = {"crowd": 2_000, "share": 0.12}
    assert crowd_after_calm(calm=12_000, **burst)[0] == pytest.approx(usual, abs=0.005)
    assert crowd_after_calm(calm=3_000, **burst)[0] > usual + 0.01


@pytest.mark.parametrize("devices", [by_five_devices, by_devices_of_five_cards])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
def test_a_crowd_that_stays_gets_no_more_than_its_share_beside_the_budget(share, devices):
    policy = GovernorPolicy()
    _, disturbed = crowd_after_calm(calm=12_000, crowd=60_000, share=share, devices=devices)
    assert disturbed <= policy.max_fpr + policy.max_crowd_share


def test_a_clock_that_ran_ahead_once_makes_no_day_of_calm_a_crowds():
    hours = {"calm": 60_000, "crowd": 6_000, "share": 0.1}
    assert crowd_after_calm(**hours, ahead_at=6_000) == crowd_after_calm(**hours)


def test_an_order_between_two_steps_spares_no_more_of_a_crowd_than_the_step_before():
    """What left since then was spared already, and its part of the share is spent."""
    rng, policy = np.random.default_rng(3), GovernorPolicy(window=1_000, every=200)
    governor, ignored = Governor(policy, OWN), np.full(1_000, np.nan)
    scores = rng.uniform(0, 0.84, 1_000)
    crowd = np.arange(1_000) < 30
    scores[crowd] = 1.0
    payers = np.array([np.where(crowd, 1, 0), np.arange(1_000)])
    governor.rebase(OWN, scores, ignored, scores, 0, payers)
    more = np.full(190, 1.0), np.full(190, np.nan), np.full(190, 1), np.zeros(190)
    governor.observe(*more, np.array([np.full(190, 2), 5_000 + np.arange(190)]))
    governor.order(0.04)
    assert np.count_nonzero(governor._was_spared) <= 0.03 * 1_190 - 30


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_tightening_is_immediate_and_loosening_slow(seed):
    chance = np.random.default_rng(seed)
    governor = Governor(SMALL, Thresholds(0.1, 0.9))
    calm = chance.uniform(0, 0.5, 300)
    told(governor, calm)
    held = told(governor, np.ones(300)).review
    assert held > 1.0, "at once: every score that follows is like those of the window"
    at_once = told(governor, calm, per_hour=1_000_000_000, start_us=HOUR_US).review
    assert at_once == held, "in no time at all nothing is loosened, although the window is new"
    cut, hours = held, 0.02
    for step in range(1, 5):
        start_us = int((1 + step * hours) * HOUR_US)
        lower = told(governor, calm[:10], per_hour=1e12, start_us=start_us).review
        opened = np.mean((calm >= lower) & (calm < cut))
        assert lower <= cut
        assert opened <= SMALL.loosen_per_hour * hours + 12 / 300, "ten of the window were replaced"
        cut = lower


def test_a_payment_from_the_future_neither_loosens_more_nor_stops_loosening():
    governor = Governor(SMALL, Thresholds(0.1, 0.9))
    told(governor, np.ones(300))
    calm = np.linspace(0, 0.5, 300)
    told(governor, calm, per_hour=1e12, start_us=0)
    ahead = told(governor, calm[:10], per_hour=1e12, start_us=10_000 * HOUR_US)
    assert np.mean(calm >= ahead.review) <= governor.budget
    told(governor, np.ones(300), per_hour=1e12, start_us=HOUR_US)
    told(governor, calm, per_hour=1e12, start_us=HOUR_US)
    later = told(governor, calm[:10], per_hour=1e12, start_us=3 * HOUR_US)
    assert later.review == pytest.approx(ahead.review, abs=0.01)


def test_payments_that_come_late_do_not_loosen_sooner():
    punctual, disordered = (
        Governor(SMALL, Thresholds(0.1, 0.9)),
        Governor(SMALL, Thresholds(0.1, 0.9)),
    )
    for governor, late_us in ((punctual, 0), (disordered, 500 * HOUR_US)):
        told(governor, np.ones(300), start_us=1_000 * HOUR_US)
        times = 1_000 * HOUR_US + np.arange(400) * 1_000_000
        times[9::20] -= late_us  # the last of every second step
        calm = np.tile(np.linspace(0, 0.5, 40), 10)
        governor.observe(calm, np.full(400, np.nan), np.ones(400), times)
    assert disordered.cuts == punctual.cuts
    assert punctual.cuts.review > 0.5


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 30), st.integers(0, 40))
@example(seed=8386562, before=25, after=1, fraud=36)
@settings(max_examples=30)
def test_the_window_and_the_cuts_in_force_are_all_of_its_state(seed, before, after, fraud):
    """So a restart from the newest records goes on as if none had been; credit is a step ahead."""
    chance = np.random.default_rng(seed)
    scores = chance.beta(2, 5, 300 + 10 * before)
    lived = Governor(SMALL, Thresholds(0.3, 0.6))
    lived.credit([Audits(fraud, 40)])
    told(lived, scores, per_hour=400)
    cuts, now_us = lived.cuts, int((len(scores) - 1) * HOUR_US / 400)
    woken = Governor(SMALL, Thresholds(0.3, 0.6))
    woken.credit([Audits(fraud, 40)])
    window = scores[-300:]
    woken.rebase(Thresholds(0.3, 0.6), window, np.full(300, np.nan), np.full(300, 1_000), now_us)
    resumed = woken.resume(cuts.review, cuts.decline)
    if fraud:  # what is declined now is credit of the next step, which is taken by then
        assert resumed.review >= cuts.review
        assert resumed.decline >= cuts.decline
        return
    assert resumed == cuts
    more = chance.beta(2, 5, 10 * after)
    for governor in (lived, woken):
        told(governor, more, start_us=now_us, per_hour=40_000)
    assert woken.cuts == lived.cuts


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 70), max_size=20))
@settings(max_examples=30)
def test_how_payments_are_grouped_changes_nothing(seed, groups):
    chance = np.random.default_rng(seed)
    scores = chance.uniform(size=sum(groups))
    at_once, one_by_one, grouped = (Governor(SMALL, Thresholds(0.3, 0.6)) for _ in range(3))
    chances, amounts = chance.uniform(size=(2, scores.size))
    times = np.arange(scores.size) * 1_000_000
    at_once.observe(scores, chances, amounts, times)
    for row in zip(scores, chances, amounts, times.tolist(), strict=True):
        one_by_one.add(*row)
    start = 0
    for size in groups:
        part = slice(start, start + size)
        grouped.observe(scores[part], chances[part], amounts[part], times[part])
        start += size
    assert at_once.cuts == one_by_one.cuts == grouped.cuts


def test_another_model_is_held_by_what_it_says_itself_about_the_same_payments():
    governor = Governor(GovernorPolicy(), OWN)
    told(governor, np.ones(3_000))
    other, scores = Thresholds(0.5, 0.9), np.linspace(0, 0.51, 3_000)
    cuts = governor.rebase(other, scores, np.full(3_000, np.nan), scores, 0)
    assert (cuts.review, cuts.decline, governor.thresholds) == (0.5, 0.9, other)


def test_the_price_is_the_fraud_let_go_per_false_block_that_was_avoided():
    governor = Governor(SMALL, Thresholds(0.5, 0.99))
    scores = np.array([0.1] * 275 + [0.6] * 20 + [0.9] * 5)
    chances = np.where(scores == 0.6, 0.2, 0.9)
    cuts = told(governor, scores, probabilities=chances, amounts=np.full(300, 5_000))
    assert cuts.is_held
    assert 0.6 < cuts.review <= 0.9
    assert cuts.price_minor == pytest.approx(0.2 * 5_000 / 0.8)
    assert cuts.held_share == pytest.approx(20 / 300)


def test_there_is_no_price_without_probabilities_or_without_anything_held():
    governor = Governor(SMALL, Thresholds(0.5, 0.99))
    assert told(governor, np.full(300, 0.1)).price_minor is None
    held = told(governor, np.full(300, 0.7))
    assert (held.is_held, held.price_minor) == (True, None)


def test_an_ordered_budget_holds_at_once_and_the_policys_comes_back_slowly():
    governor = Governor(GovernorPolicy(), Thresholds(0.5, 0.9))
    scores = np.random.default_rng(3).uniform(size=3_000)
    usual = told(governor, scores)
    governor.order(0.02)
    tight = governor.cuts
    assert tight.budget == 0.02
    assert tight.review > usual.review
    assert np.mean(scores >= tight.review) <= 0.02
    governor.order(None)
    assert governor.cuts.budget == usual.budget
    assert governor.cuts.review == tight.review, "no time has passed"


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 0.1), st.floats(1e-6, 0.1), st.integers(100, 300))
def test_a_smaller_budget_never_disturbs_more_however_small_it_is(seed, first, second, count):
    scores = np.random.default_rng(seed).uniform(size=count)
    found = []
    for budget in sorted((first, second)):
        governor = Governor(SMALL, Thresholds(0.1, 0.9))
        governor.order(budget)
        found.append(told(governor, scores)[:2])
    assert found[0] >= found[1]
    assert found[0][1] >= found[1][1]


def test_who_floods_with_suspicious_payments_frees_others_but_not_those_that_are_surely_fraud():
    flooded = np.concatenate((np.full(60, 0.99), np.linspace(0.0, 0.94, 940)))
    capped, sure = (Governor(GovernorPolicy(), OWN, floor) for floor in (math.inf, 0.9))
    assert governed(0.93, OWN, told(capped, flooded)) == "approve"
    cuts = told(sure, flooded)
    assert [governed(score, OWN, cuts) for score in (0.89, 0.9, 0.93)] == [
        "approve",
        "review",
        "review",
    ]
    assert cuts.fpr_bound > GovernorPolicy().max_fpr, "it says what it no longer promises"


def test_what_is_surely_fraud_is_freed_where_a_model_says_it_of_too_many():
    governor = Governor(GovernorPolicy(), OWN, 0.9)
    cuts = told(governor, np.linspace(0.8, 1.0, 3_000))
    assert cuts.review > 0.9
    assert cuts.fpr_bound <= GovernorPolicy().max_block_share / 0.98


def test_an_order_cannot_open_the_cap_beyond_the_policys_limit():
    governor = Governor(GovernorPolicy(), OWN)
    governor.order(0.9)
    assert governor.budget == GovernorPolicy().max_block_share


@pytest.mark.parametrize("share", [0.06, 1.0])
def test_of_payments_with_one_score_as_many_are_disturbed_as_there_is_room_for(share):
    """Neither none, which would fail open, nor all: the ids decide, and decide it again."""
    count = round(3_000 * share)
    ties = np.array([tie_breaker(f"t{n}") for n in range(3_000)])
    scores = np.concatenate((np.full(count, 0.9), np.linspace(0.0, 0.7, 3_000 - count))) + ties
    governor = Governor(GovernorPolicy(), OWN)
    cuts = told(governor, scores)
    disturbed = [governed(score, OWN, cuts) != "approve" for score in scores[:count]]
    assert sum(disturbed) == 131, "as among scores that are all different"
    later = [0.9 + tie_breaker(f"later{n}") for n in range(10_000)]
    let_go = np.mean([governed(score, OWN, cuts) == "approve" for score in later])
    assert 1.0 - let_go == pytest.approx(131 / count, abs=0.05)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2, unique=True), st.text(max_size=9)
)
def test_who_scores_more_stands_before_who_scores_less_whatever_the_ids_are(scores, name):
    low, high = sorted(scores)
    assert low + tie_breaker(name) < high + 2.0**-26 + tie_breaker("")
    assert high - low < 2.0**-26 or low + tie_breaker(name) < high


HALF_FRAUD = [Audits(20, 40), Audits(18, 40)]


def opened(governor, scores, *, hours=3.0):
    """What the cut comes to when there is time to loosen it."""
    told(governor, scores, start_us=HOUR_US, per_hour=len(scores) / hours)
    return governor.cuts


def test_audits_loosen_the_cap_towards_less_than_the_bound_and_their_credit_ends_with_them():
    governor = Governor(GovernorPolicy(), Thresholds(0.5, 0.5))
    scores = np.random.default_rng(1).uniform(size=6_000)
    certain = told(governor, scores[:3_000])
    governor.credit(HALF_FRAUD)
    loose = opened(governor, scores)
    assert loose.audited_fraud == pytest.approx(0.34, abs=0.01)
    assert loose.review < certain.review
    assert (
        certain.budget
        < loose.budget
        == pytest.approx(0.045 * 0.98 + 0.34 * declined(loose), abs=0.005)
    )
    assert loose.fpr_bound <= GovernorPolicy().max_fpr
    governor.credit([*HALF_FRAUD, Audits(0, 0)])
    assert governor.cuts.budget == certain.budget
    assert np.mean(scores[-3_000:] >= governor.cuts.review) <= certain.budget, "at once"
    governor.credit([Audits(1, 40)])
    assert governor.budget == certain.budget, "what little they show is no reason to disturb fewer"


def declined(cuts):
    return 1.0 - cuts.decline  # of uniform scores


def test_audits_of_declines_say_nothing_good_of_reviews():
    """Declines are fraud, and the same declines are no reason to review more than they replace."""
    scores = np.concatenate((np.full(2_970, 0.5), np.full(30, 0.99)))
    governor = Governor(GovernorPolicy(), OWN)
    told(governor, np.random.default_rng(1).permutation(scores))
    governor.credit([Audits(400, 400)])
    assert governor.budget == pytest.approx(0.045 * 0.98 + 0.01, abs=0.001)


def test_credit_never_opens_the_cap_beyond_the_policys_limit():
    governor = Governor(GovernorPolicy(), Thresholds(0.0, 0.0))
    scores = np.random.default_rng(1).uniform(size=20_000)
    governor.credit([Audits(4_000, 4_000)])
    cuts = opened(governor, scores, hours=20.0)
    assert cuts.budget == GovernorPolicy().max_block_share
    assert np.mean(scores[-3_000:] >= cuts.review) <= GovernorPolicy().max_block_share


@pytest.mark.parametrize("seed", range(4))
def test_through_an_attack_credit_catches_more_of_it_and_no_window_breaks_the_bound(seed):
    """For three checks 8 % is fraud that scores high, while the model disturbs 10 % of the rest."""
    chance = np.random.default_rng(seed)
    recall, rates = {}, {}
    for is_audited in (False, True):
        governor = Governor(GovernorPolicy(max_decline_fpr=0.05), Thresholds(0.9, 0.9))
        recall[is_audited], rates[is_audited] = played(governor, chance, is_audited=is_audited)
    assert recall[True] > recall[False] + 0.08
    assert max(rates[True][1:]) <= GovernorPolicy().max_fpr, "nor once the attack is over"
    assert rates[True][5] == pytest.approx(rates[False][5], abs=0.003), "and nothing of it is left"


def played(governor, chance, *, is_audited, check=6_000):
    """Six checks, fraud in three of them; each decline has a chance of 1 in 8 to be audited."""
    rates, caught, frauds, audits = [], 0, 0, []
    for at in range(6):
        share = 0.08 if 1 <= at < 4 else 0.001
        found, genuine, blocked_genuine = [], 0, 0
        for first in range(0, check, 100):
            is_fraud = chance.uniform(size=100) < share
            scores = np.where(is_fraud, chance.beta(60, 1, 100), chance.uniform(size=100))
            blocked = scores >= max(0.9, governor.cuts.decline)
            found += is_fraud[blocked & (chance.uniform(size=100) < 0.125)].tolist()
            if 1 <= at < 4:
                caught, frauds = caught + (blocked & is_fraud).sum(), frauds + is_fraud.sum()
            genuine += (~is_fraud).sum()
            blocked_genuine += (blocked & ~is_fraud).sum()
            told(governor, scores, start_us=(at * check + first) * 3_600_000, per_hour=1_000)
            if is_audited:
                told_now = [*audits, Audits(sum(found), len(found))]
                governor.credit(told_now[-4:])
        audits.append(Audits(sum(found), len(found)))
        rates.append(blocked_genuine / genuine)
    return caught / frauds, rates


@pytest.mark.parametrize(
    "changes",
    [
        {"max_fpr": 1.5},
        {"max_decline_fpr": 0.06},
        {"audited_max_fpr": 0.0},
        {"every": 0},
        {"every": 5_000},
        {"min_scores": 3_001},
        {"risk": 0.0},
        {"loosen_per_hour": 0.0},
        {"check_hours": 0.0},
        {"checks": 0},
        {"max_decline_fpr": 0.0005},
        {"always_review_from": 1.0},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        GovernorPolicy(**changes)
