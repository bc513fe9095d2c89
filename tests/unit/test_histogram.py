"""A histogram's percentiles against sorted durations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.load.histogram import Histogram

durations = st.lists(st.integers(0, 10**12), min_size=1, max_size=60)


def counted(some: list[int]) -> Histogram:
    histogram = Histogram()
    for duration in some:
        histogram.add(duration)
    return histogram


@given(durations, st.floats(0.001, 1.0))
def test_a_percentile_is_the_sorted_one_and_at_most_a_thousandth_more(some: list[int], share):
    exact = sorted(some)[math.ceil(share * len(some)) - 1]
    found = counted(some).at(share)
    assert exact <= found <= exact * (1 + 1 / 1_000) + 1


@given(durations)
def test_the_largest_is_exact(some: list[int]):
    histogram = counted(some)
    assert histogram.at(1.0) == histogram.largest == max(some)
    assert histogram.count == len(some)


def test_a_million_durations_take_a_few_thousand_buckets():
    histogram = counted([number * 997 for number in range(200_000)])
    assert len(histogram._counts) < 20_000


def test_nothing_has_no_percentile():
    with pytest.raises(ValueError, match="found no duration"):
        Histogram().at(0.5)
