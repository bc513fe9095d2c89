"""What the reading of a list of features is written as, and the order that windows keep."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.events import Transaction
from fraud_platform.features.declaration import OFFERED, PLAIN, Function, Stream
from fraud_platform.features.past import Entry, Past, Ring
from fraud_platform.features.reading_code import (
    FORMULAS,
    Asked,
    _is_among,
    compiled_reading,
    reading_source,
)
from fraud_platform.features.reading_code import PLAIN as PLAIN_FORMULAS

DAY = 86_400_000_000
STEPS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 40), st.integers(-3, 9)),
    st.tuples(st.just("drop"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("ask"), st.integers(0, 60), st.integers(0, 60)),
)


def asked(function: Function, place: int, reach_us: int, stream: Stream = Stream.PAYMENTS) -> Asked:
    return Asked("card", 0, 0, reach_us, place, (stream, function), "", -1, -1)


def test_every_function_that_is_offered_has_a_formula():
    offered = {(stream, f) for stream, functions in OFFERED.items() for f in functions}
    assert set(FORMULAS) == offered
    assert set(PLAIN_FORMULAS) == PLAIN


def test_each_window_is_cut_once_and_what_its_features_share_is_worked_out_once():
    source = reading_source(
        {},
        [
            asked(Function.MEAN, 0, 7 * DAY),
            asked(Function.SUM, 1, 30 * DAY),
            asked(Function.OVER_MEAN, 2, 7 * DAY),
        ],
        {},
    )
    assert source.count("bisect_left") == 3  # the end, and two starts
    assert source.count("total = ") == 2
    assert source.index(f"now - {30 * DAY}") < source.index(f"now - {7 * DAY}")


def test_windows_whose_amounts_are_kept_in_order_get_numbers_after_those_that_are_taken():
    slots = {("card", 0): [(0, 30 * DAY)]}
    features = [asked(Function.MEDIAN, 0, 90 * DAY), asked(Function.MAX, 1, 30 * DAY)]
    source = reading_source({}, [*features, asked(Function.MIN, 2, 90 * DAY)], slots)
    assert slots == {("card", 0): [(0, 30 * DAY), (0, 90 * DAY)]}
    assert source.count("ring.ordered(1, first, last)") == 1
    assert source.count("ring.ordered(0, first, last)") == 1


def test_what_is_written_for_no_feature_answers_with_nothing():
    source = reading_source({}, [], {})
    assert "rings" not in source
    assert source.endswith("return ()")


def test_what_is_written_can_be_run():
    read = compiled_reading(
        reading_source({0: Function.AMOUNT}, [asked(Function.COUNT, 1, DAY)], {})
    )
    past = Past(0, 0)
    past.insert(Entry(5, 1, 700, 0, ()))
    payment = Transaction("t", 6, "c", "m", 250, "EUR")
    assert read(payment, past, Past(0, 0)) == (250.0, 1.0)


def test_a_value_across_two_others_is_not_among_them():
    low, high = (int.from_bytes(bytes(part), "little") for part in (range(1, 9), range(9, 17)))
    across = int.from_bytes(bytes(range(5, 13)), "little")
    assert not _is_among(across, array("q", [low, high]))
    assert _is_among(across, array("q", [low, high, across]))
    assert _is_among(low, array("q", [low, high]))
    assert not _is_among(-1, array("q"))


@given(steps=st.lists(STEPS, max_size=60))
def test_amounts_are_in_order_whatever_came_late_was_dropped_or_asked_before(steps):
    ring = Ring(0)
    for seq, (step, one, other) in enumerate(steps):
        if step == "insert":
            ring.insert(Entry(one, seq, other, 0, ()))
        elif step == "drop":
            ring.drop_before(one)
        else:
            first, last = sorted(min(place, len(ring.times)) for place in (one, other))
            found = ring.ordered(seq % 2, first, last)
            assert list(found) == sorted(ring.amounts[first:last])
        assert ring.misplaced() == []
