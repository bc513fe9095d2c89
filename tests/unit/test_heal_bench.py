"""The scenario benchmark's lists and rules; what takes a world is tested beside the adapters."""

import numpy as np

from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal_bench.bench import HELD_OUT_SEEDS, TUNING_SEEDS, units
from fraud_platform.heal_bench.dealt import Dealt
from fraud_platform.heal_bench.faults import FAST as FAST_SCENARIOS
from fraud_platform.heal_bench.faults import SCENARIOS
from fraud_platform.heal_bench.loop import Journal
from fraud_platform.heal_bench.scoring import _name, deeds_of, healed


def test_the_list_has_controls_faults_and_composites_and_the_fast_form_is_part_of_it() -> None:
    assert sum(scenario.is_control for scenario in SCENARIOS.values()) == 5
    assert len(SCENARIOS) >= 30
    assert set(FAST_SCENARIOS) <= set(SCENARIOS)


def test_no_scenario_allows_what_it_forbids() -> None:
    assert not [s.name for s in SCENARIOS.values() if s.allowed & s.forbidden]


def test_held_out_seeds_are_no_tuning_seeds_and_units_of_a_seed_stand_together() -> None:
    assert not set(HELD_OUT_SEEDS) & set(TUNING_SEEDS)
    assert [unit.seed for unit in units((2, 1), is_fast=True)] == [2] * 9 + [1] * 9


def test_what_was_breached_before_the_onset_is_no_detection() -> None:
    journal = Journal(Dealt.blank(10))
    journal.harmed = [(900, Signal.LATENCY), (1_500, Signal.LATENCY), (2_000, Signal.UNITS)]
    assert deeds_of(journal, 1_000).noticed == (900, 2_000)


def test_a_run_is_healed_when_a_whole_check_costs_hardly_more_than_the_oracles() -> None:
    cost = np.array([9.0] * 8 + [1.0] * 8)
    assert healed(cost, np.ones(16), check=8) == 8
    assert healed(cost[:8], np.ones(8), check=8) is None


def test_a_harm_has_the_first_name_that_is_one() -> None:
    assert _name(["blind", "unknown", "benign_shift", "attack", "bots"]) == "attack"
    assert _name(["benign_shift", "unknown"]) == "benign_shift"
    assert _name(["blind"]) is None


def test_an_episode_that_begins_is_a_detection_and_a_shift_that_harms_nobody_is_none() -> None:
    journal = Journal(Dealt.blank(1))
    journal.records = [
        (row, Record(kind=Kind.DIAGNOSED, event_us=0, now_us=0, cause=cause))
        for row, cause in ((5, "benign_shift"), (7, "unknown"))
    ]
    assert deeds_of(journal, 0).noticed == (7,)
