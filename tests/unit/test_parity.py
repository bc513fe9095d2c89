from datetime import UTC, datetime

import polars as pl

from fraud_platform.features import parity
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.schemas import DECISIONS

VALUES = [None, *(float(i) for i in range(1, len(FEATURE_NAMES)))]


def features() -> pl.DataFrame:
    row = {"transaction_id": "a", **dict(zip(FEATURE_NAMES, VALUES, strict=True))}
    schema = {"transaction_id": pl.String, **dict.fromkeys(FEATURE_NAMES, pl.Float64)}
    return pl.DataFrame([row], schema=schema)


def decision(**changes: object) -> pl.DataFrame:
    row = dict.fromkeys(DECISIONS.columns) | {
        "transaction_id": "a",
        "event_timestamp": datetime(2026, 1, 5, tzinfo=UTC),
        "is_late": False,
        "feature_spec_digest": spec_digest(),
        "features": VALUES,
    }
    return pl.DataFrame([row | changes], schema=DECISIONS.columns)


def test_a_vector_that_was_served_as_computed_has_no_mismatch():
    found = parity.compare(features(), decision())
    assert (found.values_compared, found.mismatches) == (len(FEATURE_NAMES), 0)


def test_the_smallest_difference_is_a_mismatch():
    served = [VALUES[0], VALUES[1] + 2**-52, *VALUES[2:]]
    found = parity.compare(features(), decision(features=served))
    assert (found.mismatches, found.first_mismatches) == (1, ("a",))


def test_a_null_where_a_number_belongs_is_a_mismatch():
    assert parity.compare(features(), decision(features=[0.0, *VALUES[1:]])).mismatches == 1


def test_decisions_of_another_specification_and_late_ones_are_counted_and_left_out():
    other = pl.concat([decision(feature_spec_digest="x"), decision(is_late=True)])
    found = parity.compare(features(), other)
    assert (found.decisions, found.decisions_compared, found.values_compared) == (2, 0, 0)


def test_a_served_transaction_without_a_batch_row_is_missing():
    assert parity.compare(features(), decision(transaction_id="b")).missing == 1
