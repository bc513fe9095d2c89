import json
from datetime import UTC, datetime

import polars as pl
import pytest

from fraud_platform.decision import LARGE_AMOUNT, NO_MODEL, STATE_IN_DOUBT
from fraud_platform.features import parity
from fraud_platform.features.sample import is_sampled
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.schemas import DECISIONS

VALUES = [None, *(float(i) for i in range(1, len(FEATURE_NAMES)))]
FIRST, SECOND = FEATURE_NAMES[:2]


def features(*rows: tuple[str, str]) -> pl.DataFrame:
    """The same recomputed vector for each (transaction, card)."""
    values = dict(zip(FEATURE_NAMES, VALUES, strict=True))
    told = [{"transaction_id": name, "card_id": card, **values} for name, card in rows]
    names = {"transaction_id": pl.String, "card_id": pl.String}
    return pl.DataFrame(told, schema=names | dict.fromkeys(FEATURE_NAMES, pl.Float64))


def decision(**changes: object) -> pl.DataFrame:
    row = dict.fromkeys(DECISIONS.columns) | {
        "transaction_id": "a",
        "event_timestamp": datetime(2026, 1, 5, tzinfo=UTC),
        "is_late": False,
        "feature_spec_digest": spec_digest(),
        "features": VALUES,
    }
    return pl.DataFrame([row | changes], schema=DECISIONS.columns)


ONE = features(("a", "card"))


def test_a_vector_that_was_served_as_computed_has_no_mismatch():
    found = parity.compare(ONE, decision())
    assert (found.values_compared, found.mismatches) == (len(FEATURE_NAMES), 0)
    assert (found.mismatches_by_feature, found.smape_by_feature) == ({}, {})
    assert json.loads(json.dumps(found.to_dict()))["first_mismatches"] == []


def test_the_smallest_difference_is_a_mismatch_of_its_feature():
    served = [VALUES[0], VALUES[1] + 2**-52, *VALUES[2:]]
    found = parity.compare(ONE, decision(features=served))
    assert (found.mismatches, found.first_mismatches) == (1, ("a",))
    assert found.mismatches_by_feature == {SECOND: 1}


def test_a_null_where_a_number_belongs_is_a_mismatch_of_full_size():
    found = parity.compare(ONE, decision(features=[0.0, *VALUES[1:]]))
    assert (found.mismatches, found.smape_by_feature) == (1, {FIRST: 2.0})


def test_the_size_of_a_difference_is_told_over_all_compared_decisions():
    # 1 and 3 differ by 2, twice that over their sum is 1; the second decision agrees.
    both = pl.concat(
        [
            decision(features=[None, 3.0, *VALUES[2:]]),
            decision(transaction_id="b"),
        ]
    )
    found = parity.compare(features(("a", "c"), ("b", "c")), both)
    assert found.smape_by_feature == {SECOND: pytest.approx(0.5)}


def test_decisions_of_another_specification_and_late_ones_are_counted_and_left_out():
    other = pl.concat([decision(feature_spec_digest="x"), decision(is_late=True)])
    found = parity.compare(ONE, other)
    assert (found.decisions, found.decisions_compared, found.values_compared) == (2, 0, 0)
    assert (found.mismatches, found.missing, found.extra) == (0, 0, 0)


def test_a_vector_that_its_scorer_doubted_is_counted_and_left_out():
    wrong = [9.0, *VALUES[1:]]
    doubted = decision(transaction_id="b", features=wrong, reasons=[STATE_IN_DOUBT, LARGE_AMOUNT])
    other = decision(transaction_id="c", features=wrong, reasons=[NO_MODEL])
    found = parity.compare(
        features(("a", "x"), ("b", "y"), ("c", "z")), pl.concat([decision(), doubted, other])
    )
    assert (found.in_doubt, found.decisions, found.decisions_compared) == (1, 3, 2)
    assert (found.mismatches, found.first_mismatches) == (1, ("c",))
    assert (found.missing, found.extra) == (0, 0)
    assert parity.together([found, found]).in_doubt == 2


def test_a_served_transaction_without_a_batch_row_is_missing_whatever_the_sample():
    for sample in (1.0, 0.0):
        assert parity.compare(ONE, decision(transaction_id="b"), sample=sample).missing == 1


def test_a_row_that_nobody_decided_is_extra_and_no_fault():
    found = parity.compare(features(("a", "card"), ("b", "card")), decision())
    assert (found.extra, found.missing, found.mismatches) == (1, 0, 0)


def test_a_sample_looks_at_all_decisions_of_some_cards_and_at_no_others():
    pairs = [(f"{card}-{number}", f"c{card}") for card in range(40) for number in range(3)]
    wrong = [9.0, *VALUES[1:]]
    served = pl.concat([decision(transaction_id=name, features=wrong) for name, _ in pairs])
    found = parity.compare(features(*pairs), served, sample=0.3)
    chosen = sum(is_sampled(card, 0.3) for _, card in pairs)
    assert 0 < chosen < len(pairs)
    assert found.decisions_compared == found.mismatches_by_feature[FIRST] == chosen
    assert (found.decisions, found.missing, found.extra) == (len(pairs), 0, 0)
    assert found.sample == 0.3


def test_several_days_are_told_together():
    wrong = parity.compare(ONE, decision(features=[0.0, *VALUES[1:]]))
    right = parity.compare(features(("a", "c"), ("b", "c")), decision(), sample=1.0)
    found = parity.together([right, wrong])
    assert (found.decisions, found.values_compared) == (2, 2 * len(FEATURE_NAMES))
    assert (found.mismatches, found.extra, found.sample) == (1, 1, 1.0)
    assert found.mismatches_by_feature == {FIRST: 1}
    assert found.smape_by_feature == {FIRST: 1.0}
    assert found.first_mismatches == ("a",)
    assert parity.together([]).values_compared == 0
