"""Which days a tick of the arrival sensor asks for."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sensors.arrivals import ranges_to_materialize

ORIGIN = date(2026, 1, 1)
DAYS = st.integers(0, 60).map(lambda n: ORIGIN + timedelta(days=n))
ARRIVALS = st.lists(DAYS, max_size=8)
MATURITY = st.integers(0, 14)


def days_of(ranges):
    return [
        first + timedelta(days=n) for first, last in ranges for n in range((last - first).days + 1)
    ]


@given(ARRIVALS, DAYS, DAYS, MATURITY)
def test_ranges_are_in_order_and_never_touch_each_other(touched, through, closed, maturity):
    ranges = ranges_to_materialize(touched, through, closed, maturity)
    assert all(first <= last for first, last in ranges)
    for (_, last), (first, _) in pairwise(ranges):
        assert first - last > timedelta(days=1)


@given(ARRIVALS, DAYS, DAYS, MATURITY)
def test_every_day_that_closed_is_computed_and_no_open_one(touched, through, closed, maturity):
    days = days_of(ranges_to_materialize(touched, through, closed, maturity))
    new = {through + timedelta(days=n) for n in range(1, (closed - through).days + 1)}
    assert new <= set(days)
    assert all(day <= max(closed, through) for day in days)


@given(ARRIVALS, DAYS, DAYS, MATURITY)
def test_a_late_event_brings_back_its_day_until_its_label_matures(
    touched, through, closed, maturity
):
    days = set(days_of(ranges_to_materialize(touched, through, closed, maturity)))
    late = [day for day in touched if day <= through]
    again = {day + timedelta(days=n) for day in late for n in range(maturity + 1)}
    assert {day for day in days if day <= through} == {day for day in again if day <= through}


@given(ARRIVALS, DAYS, MATURITY)
def test_nothing_late_and_nothing_closed_asks_for_nothing(touched, through, maturity):
    newer = [day for day in touched if day > through]
    assert ranges_to_materialize(newer, through, through, maturity) == []


def test_two_late_days_near_each_other_become_one_range():
    # Maturity 2: the 3rd brings back 3 to 5, the 6th brings back 6 to 8, and the 10th is new.
    touched = [date(2026, 1, 6), date(2026, 1, 3)]
    ranges = ranges_to_materialize(touched, date(2026, 1, 9), date(2026, 1, 10), 2)
    assert ranges == [
        (date(2026, 1, 3), date(2026, 1, 8)),
        (date(2026, 1, 10), date(2026, 1, 10)),
    ]
