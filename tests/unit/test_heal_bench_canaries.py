"""Canaries of the benchmark go through the real ramp."""

import numpy as np

from fraud_platform.heal_bench.canaries import innocent, ramped
from fraud_platform.rollout import Step


def test_an_innocent_canary_gets_all_cards_and_none_of_some_is_taken_back():
    assert ramped(np.random.default_rng(1), 0.03).step is Step.FINISH
    found = innocent(seed=5, count=20)
    assert (found.canaries, found.canaries_rolled_back) == (20, 0)


def test_a_canary_that_disturbs_three_times_as_many_never_gets_there():
    random = np.random.default_rng(2)
    assert {ramped(random, 0.03, ratio=3.0).step for _ in range(20)} == {Step.STOP}


def test_the_same_seed_gives_the_same_run():
    assert innocent(seed=3, count=3) == innocent(seed=3, count=3)
