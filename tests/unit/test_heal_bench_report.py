"""The figures of the scenario benchmark, by runs whose figures are known."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.heal_bench.figures import CONFIDENCE, Figure, mean_ratio, median, rate
from fraud_platform.heal_bench.measures import MEASURES, Verdict, named, recovered
from fraud_platform.heal_bench.report import (
    by_scenario,
    confusion,
    figure_text,
    headline,
    readme_block,
    verdicts,
)
from tests.bench_results import HARMLESS, bench_report, bench_run, bench_runs

BY_NAME = {measure.name: measure for measure in MEASURES}


def row(report, text):
    return next(row for row in headline(report)[3] if row[0] == text)


def test_every_promise_of_the_benchmark_has_a_goal():
    assert set(verdicts(bench_report())) == {
        *("windows_kept", "detection", "named", "forbidden"),
        *("false_alarms", "canaries", "recovered", "worst_scenario"),
    }


def test_recovered_money_is_the_mean_over_scenarios_not_over_cents():
    small = [bench_run(scenario="a", seed=s, none=200, oracle=100, cost=100) for s in (1, 2)]
    large = [bench_run(scenario="b", seed=s, none=20_000, oracle=0, cost=10_000) for s in (1, 2)]
    assert recovered(small + large).value == pytest.approx((1.0 + 0.5) / 2)


def test_where_nothing_can_be_recovered_no_share_is_told():
    runs = [bench_run(seed=s, none=1_000, oracle=999, cost=500) for s in (1, 2)]
    assert recovered(runs) == Figure()
    table = {line[0]: line for line in by_scenario(bench_report(runs))[3]}
    assert table["cents"][8] == "+50.0% (+50.0% to +50.0%)"


def test_the_worst_scenario_is_not_hidden_by_the_others():
    worse = [bench_run(scenario="sale", seed=s, none=100, oracle=99, cost=110) for s in (1, 2)]
    report = bench_report((*bench_runs(), *worse))
    assert verdicts(report)["worst_scenario"] is Verdict.MISSED
    text = BY_NAME["worst_scenario"].text
    assert row(report, text)[2].startswith("-10.0%")


def test_a_cause_is_judged_where_harm_is_clear_only():
    runs = [
        bench_run(seed=1, diagnosed="unit_change"),
        bench_run(seed=2, diagnosed="attack"),
        bench_run(seed=3, diagnosed="attack", severity=0.2),
        bench_run(seed=4, diagnosed="attack", harmful=False),
    ]
    assert named(runs).value == 0.5


def test_a_policy_that_names_nothing_has_no_share_of_names():
    told = row(bench_report(), BY_NAME["named"].text)
    assert told[2] != "-"
    assert told[3:5] == ("-", "-")


def test_delays_without_end_count_among_the_others():
    assert median([None, None, 5]).value == math.inf
    assert figure_text(median([None, None, 5]), ",.0f") == "never"
    assert median([1, 2, 3, None]).value == 2.5


@pytest.mark.parametrize("name", ["forbidden", "canaries", "named", "false_alarms"])
def test_a_goal_that_so_few_could_not_have_missed_is_not_met_by_them(name):
    measure = BY_NAME[name]
    perfect = Figure(value=1.0 if measure.at_most is None else 0.0, count=measure.needs - 1)
    assert measure.verdict(perfect) is Verdict.CANNOT_JUDGE
    assert measure.verdict(replace(perfect, count=measure.needs)) is Verdict.MET
    missed = Figure(value=0.0 if measure.at_most is None else 2.0, count=1)
    assert measure.verdict(missed) is Verdict.MISSED


def test_without_any_run_nothing_is_judged_and_nothing_fails():
    empty = bench_report(())
    assert set(verdicts(empty).values()) == {Verdict.CANNOT_JUDGE}
    assert confusion(empty)[3] == by_scenario(empty)[3] == ()


def test_the_interval_of_a_rate_holds_the_truth_as_often_as_it_says():
    counts = np.random.default_rng(5).poisson(3.0, 2_000)
    found = {events: rate(events, days=30.0, per_days=30.0) for events in set(counts.tolist())}
    held = [found[events].low <= 3.0 <= found[events].high for events in counts.tolist()]
    assert np.mean(held) >= CONFIDENCE - 0.02


def test_the_interval_of_recovered_money_holds_the_truth_about_as_often_as_it_says():
    random, held = np.random.default_rng(7), []
    for _ in range(1_000):
        world = random.normal(1.0, 0.15, 5)  # both scenarios of a seed share its world
        whole = 100.0 * world * np.array([[1.0], [3.0]])
        share = np.array([[0.9], [0.6]]) + 0.05 * random.normal(size=5)
        found = mean_ratio(share * whole, whole)
        held.append(found.low <= 0.75 <= found.high)
    assert CONFIDENCE - 0.06 <= np.mean(held) <= CONFIDENCE + 0.06


@given(
    st.lists(
        st.builds(
            bench_run,
            scenario=st.sampled_from(["incident", "cents", "season"]),
            seed=st.integers(1, 3),
            policy=st.sampled_from(["none", "retrain_on_drift", "diagnosis", "oracle"]),
            severity=st.floats(0.1, 1.0),
            diagnosed=st.sampled_from([None, "attack", "unknown"]),
            harmful=st.booleans(),
            none=st.integers(0, 10**9),
            oracle=st.integers(0, 10**9),
            cost=st.integers(0, 10**9),
        ),
        max_size=12,
    )
)
def test_whatever_was_run_is_told_and_every_run_is_in_the_matrix(runs):
    report = bench_report(runs)
    assert readme_block(report).count("\n|") == len(MEASURES) + 1
    _, _, header, rows = confusion(report)
    assert all(len(line) == len(header) for line in rows)
    told = sum(int(cell) for line in rows for cell in line[1:] if cell)
    assert told == sum(run.policy == "diagnosis" for run in runs)


def test_a_report_comes_back_from_its_file_as_it_went():
    report = bench_report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report


def test_a_harmless_scenario_says_none_was_named():
    matrix = confusion(bench_report([HARMLESS]))
    assert matrix[3] == (("benign_shift", "", "1"),)
