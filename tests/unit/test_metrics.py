import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.metrics import (
    CardDays,
    Ranking,
    auc_roc,
    average_precision,
    card_precision,
    recall_at_fpr,
    threshold_at_fpr,
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)
few = settings(max_examples=25)
"""For comparisons that sort frames or ask another library, tens of milliseconds each."""
FPRS = [0.0, 0.01, 0.1, 0.3, 0.5, 1.0]

# Few distinct scores, so that ties are common.
judged = st.lists(
    st.tuples(st.booleans(), st.integers(min_value=0, max_value=6), st.floats(0.1, 9.0)),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({row[0] for row in rows}) == 2)


def arrays(rows):
    return np.array([row[0] for row in rows]), np.array([row[1] / 6 for row in rows])


def weights(rows):
    return np.array([row[2] for row in rows])


def table(rows: list[tuple[int, str, bool, float]]) -> pl.DataFrame:
    """Rows of (day, card, is fraud, score)."""
    return pl.DataFrame(
        {
            "event_timestamp": [DAY + timedelta(days=row[0]) for row in rows],
            "card_id": [row[1] for row in rows],
            "is_fraud": [row[2] for row in rows],
            "score": [row[3] for row in rows],
        }
    )


@few
@given(judged)
def test_average_precision_equals_an_independent_one(rows):
    is_fraud, scores = arrays(rows)
    for given_weights in (None, weights(rows)):
        assert average_precision(is_fraud, scores, given_weights) == pytest.approx(
            average_precision_score(is_fraud, scores, sample_weight=given_weights), abs=1e-12
        )


@few
@given(judged)
def test_auc_equals_an_independent_one(rows):
    is_fraud, scores = arrays(rows)
    for given_weights in (None, weights(rows)):
        assert auc_roc(is_fraud, scores, given_weights) == pytest.approx(
            roc_auc_score(is_fraud, scores, sample_weight=given_weights), abs=1e-12
        )


@given(judged)
def test_auc_equals_the_share_of_pairs_in_order(rows):
    is_fraud, scores = arrays(rows)
    pairs = list(itertools.product(scores[is_fraud], scores[~is_fraud]))
    share = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auc_roc(is_fraud, scores) == pytest.approx(share, abs=1e-12)


@given(judged, st.randoms())
def test_row_order_never_changes_a_ranking_metric(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    for metric in (average_precision, auc_roc):
        assert metric(*arrays(rows)) == metric(*arrays(shuffled))


@given(judged, st.data())
def test_a_weight_of_n_is_the_row_n_times(rows, data):
    times = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows))))
    is_fraud, scores = arrays(rows)
    weighted = Ranking(is_fraud, scores).curve(times.astype(float))
    repeated = Ranking(np.repeat(is_fraud, times), np.repeat(scores, times)).curve()
    assert weighted.average_precision() == repeated.average_precision()
    assert weighted.auc_roc() == repeated.auc_roc()
    for fpr in FPRS:
        assert weighted.threshold_at_fpr(fpr) == repeated.threshold_at_fpr(fpr)
        assert weighted.recall_at_fpr(fpr) == repeated.recall_at_fpr(fpr)


@few
@given(judged, st.data())
def test_a_row_without_weight_counts_for_nothing(rows, data):
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    is_fraud, scores = arrays(rows)
    if len(set(is_fraud[kept])) == 2:
        for metric in (average_precision, auc_roc):
            assert metric(is_fraud, scores, kept.astype(float)) == pytest.approx(
                metric(is_fraud[kept], scores[kept]), abs=1e-12
            )
        for fpr in FPRS:
            assert recall_at_fpr(is_fraud, scores, fpr, kept.astype(float)) == pytest.approx(
                recall_at_fpr(is_fraud[kept], scores[kept], fpr)
            )


@few
@given(judged, st.sampled_from(FPRS))
def test_the_threshold_is_the_lowest_that_keeps_the_false_positive_rate(rows, fpr):
    is_fraud, scores = arrays(rows)
    for given_weights in (None, weights(rows)):
        told = np.ones(scores.size) if given_weights is None else given_weights
        threshold = threshold_at_fpr(is_fraud, scores, fpr, given_weights)

        def disturbed(at, told=told):
            return told[~is_fraud & (scores >= at)].sum() / told[~is_fraud].sum()

        assert disturbed(threshold) <= fpr + 1e-9
        for lower in scores[scores < threshold]:
            assert disturbed(lower) > fpr


def test_a_score_shared_by_too_many_genuine_rows_catches_nothing():
    is_fraud, scores = np.array([True, False, False]), np.array([0.7, 0.7, 0.7])
    assert threshold_at_fpr(is_fraud, scores, 0.01) > 0.7
    assert recall_at_fpr(is_fraud, scores, 0.01) == 0.0


@pytest.mark.parametrize("metric", [average_precision, auc_roc])
def test_a_class_without_weight_is_missing(metric):
    is_fraud, scores = np.array([True, False]), np.array([0.7, 0.2])
    for told in (np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        with pytest.raises(LabelsNotMatureError):
            metric(is_fraud, scores, told)


def test_card_precision_counts_a_card_once_and_not_again_after_it_was_found():
    rows = table(
        [
            (0, "a", True, 0.9),  # found on day 0 ...
            (0, "a", False, 0.1),
            (0, "b", False, 0.8),
            (0, "c", True, 0.2),  # ... compromised, but third of two: not found
            (1, "a", True, 0.99),  # known, left out
            (1, "c", True, 0.5),
            (1, "b", False, 0.4),
        ]
    )
    # Day 0: {a, b} -> 1 of 2. Day 1: {c, b} -> 1 of 2.
    assert card_precision(rows, k=2) == 0.5


def test_a_genuine_card_that_was_checked_is_checked_again():
    rows = table([(0, "a", False, 0.9), (1, "a", True, 0.9)])
    assert card_precision(rows, k=1) == 0.5


def test_card_precision_divides_by_k_even_on_a_quiet_day():
    assert card_precision(table([(0, "a", True, 0.9)]), k=4) == 0.25


cards_of_days = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("abcde"), st.booleans(), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


@few
@given(cards_of_days, st.integers(1, 4))
def test_card_precision_equals_the_handbooks_list_of_found_cards(rows, k):
    found, precisions = set(), []
    for day in sorted({row[0] for row in rows}):
        cards = {}
        for _, card, is_fraud, score in (row for row in rows if row[0] == day):
            best, any_fraud = cards.get(card, (-1, False))
            cards[card] = (max(best, score), any_fraud or is_fraud)
        left = sorted((c for c in cards if c not in found), key=lambda c: (-cards[c][0], c))
        hits = [card for card in left[:k] if cards[card][1]]
        precisions.append(len(hits) / k)
        found.update(hits)
    assert card_precision(table(rows), k) == pytest.approx(sum(precisions) / len(precisions))


@few
@given(cards_of_days, st.integers(1, 4), st.data())
def test_a_card_drawn_n_times_is_n_cards(rows, k, data):
    cards = sorted({row[1] for row in rows})
    size = len(cards)
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    times = dict(zip(cards, drawn, strict=True))
    # Days without any card that was drawn still count, as they do for the drawing.
    copies = [(d, f"{c}{n}", f, s) for d, c, f, s in rows for n in range(times[c])]
    if {row[0] for row in copies} == {row[0] for row in rows}:
        found = CardDays(table(rows)).precision(k, np.array(drawn))
        assert found == pytest.approx(card_precision(table(copies), k))
