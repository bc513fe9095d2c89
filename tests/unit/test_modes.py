"""The modes of a scorer: entered for a reason, left after a while, never flapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.modes import Mode, ModePolicy, ModeSwitch, Situation

SECOND = 1_000_000
POLICY = ModePolicy(degrade_seconds=2.0, recover_seconds=3.0)

WELL = Situation(has_model=True, can_record=True)
WITHOUT_MODEL = Situation(has_model=False, can_record=True)
WITHOUT_RECORD = Situation(has_model=True, can_record=False)
WITHOUT_MIRROR = Situation(has_model=True, can_record=True, missing=frozenset({"mirror"}))

SITUATIONS = st.builds(
    Situation,
    has_model=st.booleans(),
    can_record=st.booleans(),
    missing=st.frozensets(st.sampled_from(["mirror", "champion"])),
    ceiling=st.sampled_from([Mode.NORMAL, Mode.RULES_ONLY, Mode.CLOSED]),
)
ORDER = list(Mode)


def switch_after(*looks: tuple[float, Situation]) -> ModeSwitch:
    switch = ModeSwitch(POLICY)
    for seconds, situation in looks:
        switch.look(situation, int(seconds * SECOND))
    return switch


def test_the_first_look_decides_at_once():
    assert switch_after((0, WITHOUT_MODEL)).mode is Mode.RULES_ONLY
    assert switch_after((0, WELL)).mode is Mode.NORMAL


@pytest.mark.parametrize(
    ("found", "mode"), [(WITHOUT_MODEL, Mode.RULES_ONLY), (WITHOUT_RECORD, Mode.CLOSED)]
)
def test_without_a_model_or_a_record_the_mode_changes_at_once(found, mode):
    assert switch_after((0, WELL), (0.001, found)).mode is mode


def test_a_capability_that_is_missing_for_a_moment_changes_nothing():
    assert switch_after((0, WELL), (1, WITHOUT_MIRROR), (2.9, WITHOUT_MIRROR)).mode is Mode.NORMAL


def test_a_capability_that_stays_away_is_named():
    switch = switch_after((0, WELL), (1, WITHOUT_MIRROR), (3, WITHOUT_MIRROR))
    assert (switch.mode, switch.missing) == (Mode.DEGRADED, ("mirror",))


def test_a_better_mode_is_entered_after_a_while_and_not_before():
    looks = [(0, WITHOUT_MODEL), (1, WELL), (3.9, WELL)]
    assert switch_after(*looks).mode is Mode.RULES_ONLY
    assert switch_after(*looks, (4, WELL)).mode is Mode.NORMAL


def test_what_flaps_faster_than_the_wait_never_recovers():
    looks = [(second, WELL if second % 2 else WITHOUT_MODEL) for second in range(60)]
    assert switch_after(*looks).mode is Mode.RULES_ONLY


def test_leaving_a_bad_mode_names_what_is_still_missing():
    switch = switch_after((0, WITHOUT_RECORD), (1, WITHOUT_MIRROR), (4, WITHOUT_MIRROR))
    assert (switch.mode, switch.missing) == (Mode.DEGRADED, ("mirror",))


def test_a_look_that_asked_for_less_within_the_wait_keeps_the_better_mode_away():
    looks = [(0, WITHOUT_MODEL), (0.5, WELL), (1, WITHOUT_MIRROR), (3, WITHOUT_MIRROR), (3.5, WELL)]
    switch = switch_after(*looks)
    assert (switch.mode, switch.missing) == (Mode.DEGRADED, ("mirror",))
    assert switch_after(*looks, (6.4, WELL)).mode is Mode.DEGRADED
    assert switch_after(*looks, (6.5, WELL)).mode is Mode.NORMAL


def test_while_a_mode_is_being_left_it_names_what_was_missing_last():
    looks = [(0, WITHOUT_MIRROR), (1, WELL), (3.9, WELL)]
    switch = switch_after(*looks)
    assert (switch.mode, switch.missing) == (Mode.DEGRADED, ("mirror",))
    switch = switch_after(*looks, (4, WELL))
    assert (switch.mode, switch.missing) == (Mode.NORMAL, ())


def test_degraded_cannot_be_ordered_because_nothing_would_be_missing():
    with pytest.raises(ValueError, match="ceiling=degraded"):
        Situation(has_model=True, can_record=True, ceiling=Mode.DEGRADED)


STEPS = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 1.0, 3.0, 5.0]), SITUATIONS), min_size=1, max_size=40
)


@given(STEPS)
def test_a_better_mode_is_entered_when_all_looks_of_the_wait_asked_for_it_or_better(steps):
    switch, now, asked = ModeSwitch(POLICY), 0.0, []
    for wait, situation in steps:
        before, now = switch.mode, now + wait
        asked.append((now, ORDER.index(situation.mode)))
        mode = switch.look(situation, int(now * SECOND))
        recent = [place for at, place in asked if at >= now - POLICY.recover_seconds]
        is_long = now - asked[0][0] >= POLICY.recover_seconds
        if before is not None and ORDER.index(mode) < ORDER.index(before):
            assert is_long
            assert max(recent) <= ORDER.index(mode)


@given(STEPS)
def test_degraded_always_names_what_is_missing_and_no_other_mode_does(steps):
    switch, now = ModeSwitch(POLICY), 0.0
    for wait, situation in steps:
        now += wait
        mode = switch.look(situation, int(now * SECOND))
        assert bool(switch.missing) is (mode is Mode.DEGRADED)


@given(st.lists(st.tuples(st.floats(0, 5), SITUATIONS), min_size=1, max_size=40))
def test_no_mode_ever_promises_a_model_or_a_record_that_is_not_there(steps):
    switch, now = ModeSwitch(POLICY), 0.0
    for wait, situation in steps:
        now += wait
        mode = switch.look(situation, int(now * SECOND))
        if not situation.has_model:
            assert mode in (Mode.RULES_ONLY, Mode.CLOSED)
        if not situation.can_record or situation.ceiling is Mode.CLOSED:
            assert mode is Mode.CLOSED
        if situation.ceiling is Mode.RULES_ONLY:
            assert mode in (Mode.RULES_ONLY, Mode.CLOSED)
        assert bool(switch.missing) <= (mode is Mode.DEGRADED)


@given(st.lists(SITUATIONS, max_size=20), SITUATIONS)
def test_whatever_happened_a_lasting_situation_wins(before, lasting):
    switch = ModeSwitch(POLICY)
    for second, situation in enumerate(before):
        switch.look(situation, second * SECOND)
    for second in range(30):
        switch.look(lasting, (100 + second) * SECOND)
    assert switch.mode is lasting.mode


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_a_wait_that_is_no_wait_is_refused(wrong):
    with pytest.raises(ValueError, match="degrade_seconds"):
        ModePolicy(degrade_seconds=wrong)
