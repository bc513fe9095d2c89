"""Which days a tick of the arrival sensor asks for."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sensors.arrivals import ranges_to_materialize, span

ORIGIN = date(2026, 1, 1)
CLOSED = ORIGIN + timedelta(days=60)
DAYS = st.lists(st.integers(0, 60).map(lambda n: ORIGIN + timedelta(days=n)), max_size=8)
MATURITY = st.integers(0, 14)


def days_of(ranges):
    return [day for first, last in ranges for day in span(first, last)]


@given(DAYS, DAYS, MATURITY)
def test_ranges_are_in_order_and_never_touch_each_other(missing, late, maturity):
    ranges = ranges_to_materialize(missing, late, CLOSED, maturity)
    assert all(first <= last for first, last in ranges)
    for (_, last), (first, _) in pairwise(ranges):
        assert first - last > timedelta(days=1)


@given(DAYS, DAYS, MATURITY)
def test_exactly_the_missing_days_and_what_late_events_change_are_computed(missing, late, maturity):
    changed = {day + timedelta(days=n) for day in late for n in range(maturity + 1)}
    wanted = set(missing) | {day for day in changed if day <= CLOSED}
    assert set(days_of(ranges_to_materialize(missing, late, CLOSED, maturity))) == wanted


@given(MATURITY)
def test_nothing_missing_and_nothing_late_asks_for_nothing(maturity):
    assert ranges_to_materialize([], [], CLOSED, maturity) == []


def test_two_late_days_near_each_other_become_one_range():
    # Maturity 2: the 3rd brings back 3 to 5, the 6th brings back 6 to 8, and the 10th is missing.
    late = [date(2026, 1, 6), date(2026, 1, 3)]
    ranges = ranges_to_materialize([date(2026, 1, 10)], late, date(2026, 1, 10), 2)
    assert ranges == [
        (date(2026, 1, 3), date(2026, 1, 8)),
        (date(2026, 1, 10), date(2026, 1, 10)),
    ]
