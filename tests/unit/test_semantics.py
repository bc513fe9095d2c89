"""One small example per rule of docs/semantics.md, answered alike by every engine."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from fraud_platform.events import Event, Transaction, TransactionEvent
from fraud_platform.features.declaration import (
    ORDINARY,
    OUTLIER,
    Feature,
    Function,
    Stream,
    Where,
)
from fraud_platform.features.rings import FeatureRings
from tests.unit.test_features import DAY, HOUR, by_batch, by_oracle, by_rings, label, payment

_CARD = {"entity": "card", "window": timedelta(days=1)}


def feature(function: Function, **parts: object) -> Feature:
    described = {"name": "f", "reason_code": "X", "reason_text": "", **_CARD, **parts}
    return Feature(function=function, **described)  # type: ignore[arg-type]  # parts of a declaration


def log_of(*happened: Transaction | tuple[int, str, int]) -> list[Event]:
    """Payments, and verdicts as (number of the payment, verdict, known at), in order of arrival."""
    events: list[Event] = []
    taken: list[TransactionEvent] = []
    for seq, what in enumerate(happened, start=1):
        if isinstance(what, Transaction):
            taken.append(TransactionEvent(seq, what))
            events.append(taken[-1])
        else:
            number, verdict, known = what
            start = taken[0].transaction.event_us
            events.append(label(seq, taken[number], verdict, start + known))
    return events


def last(
    function: Function, *happened: Transaction | tuple[int, str, int], **parts: object
) -> float | None:
    """What the last payment gets, by every engine."""
    declared, log = (feature(function, **parts),), log_of(*happened)
    (batch,) = by_batch(log, declared)[log[-1].seq]
    (rings,) = by_rings(log, FeatureRings(declared))[log[-1].seq]
    (oracle,) = by_oracle(log, declared)[log[-1].seq]
    assert batch == rings == oracle
    return batch


def pay(number: int, at: int, amount: int = 100, card: int = 0, **facts: str | None) -> Transaction:
    return payment(number, at, card, 0, amount, facts.get("country"), facts.get("entry_mode"))


def test_only_payments_of_the_same_entity_are_seen() -> None:
    past = (pay(0, 0), pay(1, 1, card=1))
    assert last(Function.COUNT, *past, pay(2, 10)) == 1
    assert last(Function.COUNT, *past, pay(2, 10), entity="terminal") == 2


def test_a_payment_exactly_as_old_as_the_window_is_seen() -> None:
    assert last(Function.COUNT, pay(0, 0), pay(1, DAY)) == 1


def test_a_payment_a_microsecond_older_than_the_window_is_not_seen() -> None:
    assert last(Function.COUNT, pay(0, 0), pay(1, DAY + 1)) == 0


def test_payments_of_the_same_instant_do_not_see_each_other() -> None:
    assert last(Function.COUNT, pay(0, 5), pay(1, 5)) == 0
    assert last(Function.COUNT, pay(0, 4), pay(1, 5)) == 1


def test_a_delay_moves_both_edges() -> None:
    delayed = {"delay": timedelta(days=2)}
    seen = [last(Function.COUNT, pay(0, 0), pay(1, at), **delayed) for at in (2 * DAY, 2 * DAY + 1)]
    assert seen == [0, 1]
    seen = [last(Function.COUNT, pay(0, 0), pay(1, at), **delayed) for at in (3 * DAY, 3 * DAY + 1)]
    assert seen == [1, 0]


def test_a_payment_that_arrives_later_is_not_seen() -> None:
    log = log_of(pay(0, HOUR), pay(1, 0))
    assert by_batch(log, (feature(Function.COUNT),)) == {1: (0.0,), 2: (0.0,)}


def test_a_late_payment_counts_from_its_arrival_at_its_own_place_in_time() -> None:
    late = (pay(0, 0, 10), pay(1, 2 * HOUR, 20), pay(2, HOUR, 40))
    assert last(Function.SUM, *late) == 10
    assert last(Function.SUM, *late, pay(3, 3 * HOUR)) == 70
    assert last(Function.SECONDS_SINCE_LAST, *late, pay(3, 3 * HOUR)) == 3600
    assert last(Function.SUM, *late, pay(3, DAY + HOUR + 1)) == 20


def test_a_verdict_counts_from_the_moment_it_is_known() -> None:
    fraud = {"stream": Stream.FRAUDS}
    told = (pay(0, 0), (0, "fraud", 2 * HOUR))
    assert last(Function.COUNT, *told, pay(1, 2 * HOUR - 1), **fraud) == 0
    assert last(Function.COUNT, *told, pay(1, 2 * HOUR), **fraud) == 1


def test_a_verdict_that_arrives_later_is_not_seen() -> None:
    fraud = {"stream": Stream.FRAUDS}
    log = log_of(pay(0, 0), pay(1, 3 * HOUR), (0, "fraud", HOUR), pay(2, 4 * HOUR))
    counts = by_batch(log, (feature(Function.COUNT, **fraud),))
    assert (counts[2], counts[4]) == ((0.0,), (1.0,))


def test_the_verdict_known_last_holds_whatever_arrived_last() -> None:
    fraud = {"stream": Stream.FRAUDS}
    told = (pay(0, 0), (0, "withdrawn", 3 * HOUR), (0, "fraud", 2 * HOUR))
    assert last(Function.COUNT, *told, pay(1, 2 * HOUR), **fraud) == 1
    assert last(Function.COUNT, *told, pay(1, 3 * HOUR), **fraud) == 0


def test_of_verdicts_known_at_the_same_time_the_one_that_arrived_last_holds() -> None:
    fraud = {"stream": Stream.FRAUDS}
    told = (pay(0, 0), (0, "fraud", HOUR), (0, "genuine", HOUR))
    assert last(Function.COUNT, *told, pay(1, 2 * HOUR), **fraud) == 0


def test_a_rate_is_known_frauds_over_all_payments_of_the_same_window() -> None:
    told = (pay(0, 0), pay(1, HOUR), pay(2, 2 * HOUR), pay(3, 3 * HOUR), (1, "fraud", 4 * HOUR))
    assert last(Function.RATE, *told, pay(4, 5 * HOUR), stream=Stream.FRAUDS) == 0.25


def test_a_streak_is_the_newest_known_frauds_without_a_gap() -> None:
    frauds = tuple((number, "fraud", 5 * HOUR) for number in (0, 2, 3))
    past = (*(pay(number, number * HOUR) for number in range(4)), *frauds)
    now = pay(4, 6 * HOUR)
    assert last(Function.STREAK_LENGTH, *past, now, stream=Stream.FRAUDS) == 2
    assert last(Function.SECONDS_SINCE_STREAK, *past, now, stream=Stream.FRAUDS) == 4 * 3600
    assert last(Function.SECONDS_SINCE_LAST, *past, now, stream=Stream.FRAUDS) == 3 * 3600
    assert last(Function.SECONDS_SINCE_LAST, *past, now, stream=Stream.GOOD) == 5 * 3600


def test_nothing_seen_is_zero_for_numbers_of_things_and_null_for_the_rest() -> None:
    values = {
        (stream, function): last(function, pay(0, 0, country="BE"), stream=stream, value=value)
        for stream, function, value in (
            (Stream.PAYMENTS, Function.COUNT, None),
            (Stream.PAYMENTS, Function.SUM, None),
            (Stream.PAYMENTS, Function.DISTINCT, "country"),
            (Stream.FRAUDS, Function.COUNT, None),
            (Stream.FRAUDS, Function.STREAK_LENGTH, None),
        )
    }
    assert set(values.values()) == {0.0}
    for function in (Function.MEAN, Function.MAX, Function.STD, Function.SECONDS_SINCE_LAST):
        assert last(function, pay(0, 0)) is None
    assert last(Function.RATE, pay(0, 0), stream=Stream.FRAUDS) is None
    assert last(Function.IS_FIRST, pay(0, 0, country="BE"), value="country") == 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Function.SUM, 400.0),
        (Function.MEAN, 100.0),
        (Function.MIN, 10.0),
        (Function.MAX, 210.0),
        (Function.MEDIAN, 90.0),
        (Function.STD, (4 * (10**2 + 80**2 + 100**2 + 210**2) - 400**2) ** 0.5 / 4),
        (Function.OVER_MEAN, 2.0),
        (Function.OVER_MEDIAN, 200 / 90),
        (Function.SECONDS_SINCE_FIRST, 4 * 3600.0),
        (Function.SECONDS_SINCE_LAST, 3600.0),
    ],
)
def test_what_each_function_makes_of_four_amounts(function: Function, expected: float) -> None:
    amounts = (100, 10, 210, 80)
    past = (pay(number, number * HOUR, amount) for number, amount in enumerate(amounts))
    assert last(function, *past, pay(4, 4 * HOUR, 200)) == expected


def test_a_z_score_counts_population_spreads_from_the_mean() -> None:
    assert last(Function.Z_SCORE, pay(0, 0, 100), pay(1, 1, 300), pay(2, 2, 400)) == 2.0
    assert last(Function.Z_SCORE, pay(0, 0, 100), pay(1, 1, 100), pay(2, 2, 400)) is None


def test_a_ratio_to_nothing_is_null() -> None:
    for function in (Function.OVER_MEAN, Function.OVER_MEDIAN):
        assert last(function, pay(0, 0, 0), pay(1, 1, 400)) is None


def test_unknown_values_are_not_values() -> None:
    past = (pay(0, 0, country="BE"), pay(1, 1), pay(2, 2, country="FR"), pay(3, 3, country="BE"))
    assert last(Function.DISTINCT, *past, pay(4, 4), value="country") == 2
    assert last(Function.IS_FIRST, *past, pay(4, 4), value="country") is None
    assert last(Function.IS_FIRST, *past, pay(4, 4, country="FR"), value="country") == 0
    assert last(Function.IS_FIRST, *past, pay(4, 4, country="DE"), value="country") == 1


def test_where_counts_payments_with_a_known_fact() -> None:
    past = (pay(0, 0, entry_mode="chip"), pay(1, 1), pay(2, 2, entry_mode="manual"))
    assert last(Function.COUNT, *past, pay(3, 3), where=Where("entry_mode", "chip")) == 1


def test_an_outlier_is_above_three_times_the_median_of_its_own_thirty_days() -> None:
    def outliers(*amounts: int, gap: int = HOUR) -> float | None:
        past = [pay(number, number * gap, amount) for number, amount in enumerate(amounts)]
        now = pay(len(past), len(past) * gap)
        return last(Function.COUNT, *past, now, where=OUTLIER, window=timedelta(days=90))

    assert outliers(100, 300) == 0  # exactly three times
    assert outliers(100, 301) == 1
    assert outliers(301) == 0  # no past to judge it by
    assert outliers(100, 301, gap=31 * DAY) == 0  # nor within thirty days
    assert outliers(100, 200, 451) == 1  # the median of an even number is the middle of two


def test_a_mark_is_fixed_when_the_payment_arrives() -> None:
    past = (pay(0, 0, 100), pay(1, 2 * HOUR, 301), pay(2, HOUR, 100_000))
    assert last(Function.COUNT, *past, pay(3, 3 * HOUR), where=OUTLIER) == 2
    assert last(Function.COUNT, *past, pay(3, 3 * HOUR), where=ORDINARY) == 1


def test_a_day_is_86400_seconds_and_the_calendar_is_utc() -> None:
    spring = 175 * DAY  # across a change of clocks in most of Europe
    plain = {"entity": "transaction", "window": None}
    assert last(Function.COUNT, pay(0, spring), pay(1, spring + DAY)) == 1
    assert last(Function.HOUR_OF_DAY, pay(0, spring + 7 * HOUR), **plain) == 7
    assert last(Function.IS_NIGHT, pay(0, 7 * HOUR - 1), **plain) == 1
    assert last(Function.IS_NIGHT, pay(0, 7 * HOUR), **plain) == 0
    weekend: Callable[[int], float | None] = lambda at: last(  # noqa: E731 -- one line says it
        Function.IS_WEEKEND, pay(0, at), **plain
    )
    assert [weekend(day * DAY) for day in range(7)] == [1, 0, 0, 0, 0, 0, 1]  # from a Sunday on


def test_the_same_event_delivered_again_changes_nothing() -> None:
    rings = FeatureRings((feature(Function.COUNT),))
    for event in log_of(pay(0, 0), pay(1, 1)) * 2:
        rings.apply(event)
    assert rings.read(pay(2, 2)) == (2.0,)
