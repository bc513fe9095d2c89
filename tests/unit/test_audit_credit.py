"""Audits as counts by check: of which time, how long, and as if all had had the same chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.audit_credit import JudgedAudit, audits_by_check
from fraud_platform.stats.block_budget import Audits, audited_fraud_share
from tests.error_rates import at_least, keeps

CHECKS = {"check_us": 100, "checks": 4}
times = st.integers(0, 2_000)
audits = st.builds(
    JudgedAudit, st.text(max_size=6), times, times, st.sampled_from([0.1, 0.2, 1.0]), st.booleans()
)


def audit(name, judged_us, *, is_fraud=True, decided_us=None, propensity=0.1):
    decided_us = judged_us if decided_us is None else decided_us
    return JudgedAudit(name, decided_us, judged_us, propensity, is_fraud)


def test_an_audit_counts_in_the_check_in_which_it_was_judged():
    told = [audit("a", 1_000), audit("b", 901, is_fraud=False), audit("c", 900), audit("d", 601)]
    found = audits_by_check(told, 1_000, **CHECKS)
    assert found == (Audits(1, 1), Audits(0, 0), Audits(1, 1), Audits(1, 2))


@pytest.mark.parametrize(
    "one", [audit("old", 600), audit("future", 1_001), audit("stale", 990, decided_us=500)]
)
def test_what_is_too_old_or_not_yet_judged_counts_nowhere(one):
    assert audits_by_check([one], 1_000, **CHECKS) == (Audits(0, 0),) * 4


@given(st.lists(audits, max_size=30))
def test_credit_ends_a_check_after_the_last_verdict_whatever_came_before(told):
    newest = max((one.judged_us for one in told), default=0)
    assert audited_fraud_share(audits_by_check(told, newest + 100, **CHECKS), 0.9) == 0.0


@given(st.lists(audits, max_size=30), st.permutations(range(30)), times)
def test_the_order_in_which_audits_are_told_changes_nothing(told, order, now_us):
    mixed = [told[i] for i in order if i < len(told)]
    assert audits_by_check(mixed, now_us, **CHECKS) == audits_by_check(told, now_us, **CHECKS)


def test_audits_of_one_chance_are_all_kept():
    told = [audit(f"t{n}", 1_000, is_fraud=n % 2 == 0) for n in range(50)]
    assert audits_by_check(told, 1_000, **CHECKS)[-1] == Audits(25, 50)


def test_who_draws_large_payments_more_often_finds_no_more_fraud_than_there_is():
    """Of 1,000 declines 200 are large and fraud: audited surely, and the others 1 in 10."""
    rng, runs, truth = np.random.default_rng(4), at_least(400), 0.2
    over = []
    for run in range(runs):
        told = []
        for n, is_large in enumerate(rng.uniform(size=1_000) < truth):
            chance = 1.0 if is_large else 0.1
            if rng.uniform() < chance:
                told.append(audit(f"{run} {n}", 1_000, is_fraud=bool(is_large), propensity=chance))
        over.append(audited_fraud_share(audits_by_check(told, 1_000, **CHECKS), 0.9) > truth)
    assert keeps(np.array(over), 0.1)
