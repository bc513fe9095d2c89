"""T-RET, the pure part: whatever the moment, what is past a limit goes, and nothing younger."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.retention import (
    DAY_US,
    Range,
    before_us,
    due_days,
    due_ranges,
    first_kept_day,
)

LIMITS = st.integers(1, 4_000)
MOMENTS = st.integers(20_000 * DAY_US, 30_000 * DAY_US)
FIRST = date(1970, 1, 1)


@given(st.lists(st.integers(0, 4_000 * DAY_US)), LIMITS, MOMENTS, st.integers(0, 300))
def test_ranges_go_after_their_limit_and_not_before(ages_us, limit, now_us, upto):
    ranges = [Range(n * 10 + 1, n * 10 + 10, now_us - age) for n, age in enumerate(ages_us)]
    due = due_ranges(iter(ranges), before_us=before_us(now_us, limit), upto=upto)
    assert due == ranges[: len(due)], "from the start, without a gap"
    assert all(now_us - one.newest_us > limit * DAY_US and one.last <= upto for one in due)
    if len(due) < len(ranges):
        kept = ranges[len(due)]
        assert now_us - kept.newest_us <= limit * DAY_US or kept.last > upto


@given(st.sets(st.integers(19_000, 30_000)), LIMITS, MOMENTS)
def test_days_go_once_they_ended_longer_ago_than_their_limit(numbers, limit, now_us):
    days = [FIRST + timedelta(days=number) for number in numbers]
    due = due_days(days, until=first_kept_day(now_us, limit))
    for day in days:
        ended_us = ((day - FIRST).days + 1) * DAY_US
        is_past = now_us - ended_us >= limit * DAY_US
        assert (day in due) == (is_past and day != max(days))
