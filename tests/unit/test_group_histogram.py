"""What one call for a group counts is what the client library counts one by one."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from serving.histogram import GroupHistogram

BOUNDS = (0.001, 0.5, 1.0, 10.0)
VALUES = st.lists(st.sampled_from(BOUNDS) | st.floats(0, 100), max_size=20)


def page(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(groups=st.lists(VALUES, max_size=5))
def test_groups_are_shown_as_the_library_shows_their_values(groups):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    grouped = GroupHistogram("seen_seconds", "Seen", BOUNDS, ours)
    single = Histogram("seen_seconds", "Seen", buckets=BOUNDS, registry=theirs)
    for values in groups:
        grouped.observe([round(value * 1024) / 1024 for value in values])
        for value in values:
            single.observe(round(value * 1024) / 1024)  # such values add up without rounding
    assert page(ours) == page(theirs)
