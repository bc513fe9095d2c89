from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.boosting import Parameters, Span
from fraud_platform.errors import PermanentError
from fraud_platform.search import Budget, Trial, best, search

BUDGET = Budget(trials=14, max_seconds=0.0, full_trials=3, seed=1)


class Hill:
    """A trainer whose quality is best at x = 0.3 and rises over a hundred rounds."""

    proven: ClassVar[Parameters] = {"x": 0.9, "leaves": 4}
    space: ClassVar[dict[str, Span]] = {"x": Span(0.0, 1.0), "leaves": Span(2, 64, log=True)}
    version: str = "1"
    constraints: ClassVar[Parameters] = {}

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def judge(self, chosen, watch):
        top = 1.0 - abs(chosen["x"] - 0.3) - chosen["leaves"] / 1000
        for rounds in range(1, 101):
            if watch(rounds, top * rounds / 100):
                break
        self.rounds.append(rounds)
        return rounds, top * rounds / 100


@dataclass
class Kept:
    """A study in memory; each trial takes five seconds."""

    kept: list[Trial] = field(default_factory=list)
    now: float = 0.0

    def trials(self):
        return self.kept

    def add(self, trial):
        self.kept.append(trial)

    def seconds(self):
        self.now += 5.0
        return self.now


def timeless(trials):
    return [replace(trial, seconds=0.0) for trial in trials]


ALL = search(Hill(), BUDGET, None)


def test_the_proven_set_comes_first_and_is_never_cut_short():
    assert dict(ALL[0].parameters) == Hill.proven
    assert [trial.number for trial in ALL] == list(range(14))
    assert not any(trial.is_pruned for trial in ALL[:3])


def test_whole_spans_give_whole_numbers_within_their_bounds():
    for trial in ALL:
        assert isinstance(trial.parameters["leaves"], int)
        assert 2 <= trial.parameters["leaves"] <= 64
        assert 0.0 <= trial.parameters["x"] <= 1.0


def test_a_hopeless_trial_is_cut_short_and_cannot_win():
    cut = [trial for trial in ALL if trial.is_pruned]
    assert {trial.rounds for trial in cut} == {30}
    assert best(ALL).quality > max(trial.quality for trial in cut)
    assert not best(ALL).is_pruned


def test_nothing_is_cut_short_where_all_trials_are_full():
    trials = search(Hill(), replace(BUDGET, full_trials=14), None)
    assert not any(trial.is_pruned for trial in trials)


def test_the_first_of_equals_wins():
    worse, first, second = (
        replace(ALL[0], number=number, quality=quality) for number, quality in enumerate((1, 2, 2))
    )
    cut = replace(first, is_pruned=True, quality=9.0)
    assert best([worse, cut, first, second]) is first


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 14), st.integers(0, 2**32))
def test_a_search_that_goes_on_makes_the_trials_of_one_that_never_stopped(done, seed):
    budget = replace(BUDGET, seed=seed)
    whole = search(Hill(), budget, None)
    trainer, study = Hill(), Kept(timeless(whole[:done]))
    assert timeless(search(trainer, budget, study)) == list(whole)
    assert len(trainer.rounds) == 14 - done
    assert timeless(study.kept) == list(whole)


def test_more_trials_leave_the_first_ones_as_they_were():
    assert search(Hill(), replace(BUDGET, trials=5), None) == ALL[:5]
    assert search(Hill(), replace(BUDGET, trials=5), Kept(list(ALL))) == ALL[:5]


def test_no_two_trials_are_the_same():
    assert len({tuple(trial.parameters.values()) for trial in ALL}) == len(ALL)


def test_another_seed_makes_other_trials():
    assert search(Hill(), replace(BUDGET, seed=2), None)[1:] != ALL[1:]


def test_the_search_learns_from_its_trials():
    drawn = [abs(trial.parameters["x"] - 0.3) for trial in search(Hill(), BUDGET, None)]
    assert sum(drawn[-5:]) < sum(drawn[:5])


@pytest.mark.parametrize(("ceiling", "made"), [(0.0, 14), (1.0, 1), (5.0, 1), (5.1, 2), (15.0, 3)])
def test_time_is_looked_at_between_trials_only(ceiling, made):
    # Five seconds pass between two looks at the clock, one before and one after each trial.
    trials = search(Hill(), replace(BUDGET, max_seconds=ceiling), Kept())
    assert len(trials) == made
    assert timeless(trials) == list(ALL[:made])


def test_time_spent_before_a_kill_counts():
    spent = [replace(trial, seconds=30.0) for trial in ALL[:2]]
    assert len(search(Hill(), replace(BUDGET, max_seconds=60.0), Kept(spent))) == 2


def test_a_ceiling_of_seconds_needs_a_clock():
    with pytest.raises(PermanentError, match="nobody times"):
        search(Hill(), replace(BUDGET, max_seconds=1.0), None)
