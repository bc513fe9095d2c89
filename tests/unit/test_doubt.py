"""Payments of days on which an input was broken are kept out of what is learnt from."""

from datetime import UTC, datetime, timedelta

import polars as pl

from fraud_platform.events import microseconds
from fraud_platform.heal.doubt import doubtful_spans, in_doubt, outside
from fraud_platform.heal.records import Kind, Record

START = datetime(2026, 3, 1, tzinfo=UTC)


def record(kind: Kind, cause: str, hours: int) -> Record:
    at = microseconds(START + timedelta(hours=hours))
    return Record(kind=kind, event_us=at, now_us=at, cause=cause, episode=f"{cause}@1")


def test_only_a_broken_input_puts_payments_in_doubt() -> None:
    drift = [
        record(Kind.DIAGNOSED, "covariate_shift", 5),
        record(Kind.CLOSED, "covariate_shift", 9),
    ]
    assert doubtful_spans(drift) == ()


def test_payments_of_a_breakage_are_left_out_and_those_after_it_come_back() -> None:
    spans = doubtful_spans(
        [record(Kind.DIAGNOSED, "unit_change", 24), record(Kind.CLOSED, "unit_change", 48)]
    )
    times = [START + timedelta(hours=hours) for hours in (0, 20, 30, 47, 49)]
    frame = pl.DataFrame({"event_timestamp": times})
    assert outside(frame, spans)["event_timestamp"].to_list() == [times[0], times[-1]]


def test_a_breakage_that_goes_on_has_no_end() -> None:
    spans = doubtful_spans([record(Kind.DIAGNOSED, "null_flood", 24)])
    frame = pl.DataFrame({"event_timestamp": [START, START + timedelta(days=90)]})
    assert outside(frame, spans).height == 1


def test_payments_of_a_wrong_model_or_policy_are_in_no_doubt_themselves() -> None:
    wrong = ("model_artifact", "configuration_error")
    assert doubtful_spans([record(Kind.DIAGNOSED, cause, 5) for cause in wrong]) == ()


def test_what_two_breakages_keep_out_counts_once_and_to_the_earlier_one() -> None:
    spans = doubtful_spans(
        [
            record(Kind.DIAGNOSED, "null_flood", 30),
            record(Kind.DIAGNOSED, "unit_change", 24),
            record(Kind.CLOSED, "unit_change", 30),
        ]
    )
    times = [START + timedelta(hours=hours) for hours in (0, 20, 25, 31)]
    found = in_doubt(pl.DataFrame({"event_timestamp": times}), spans)
    assert {span.cause: rows for span, rows in found.items()} == {"unit_change": 2, "null_flood": 1}
