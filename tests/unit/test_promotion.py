from dataclasses import replace

import pytest

from fraud_platform.errors import PermanentError
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.promotion import PromotionPolicy, judge
from tests.small_reports import small_report

REPORT = small_report(rows=1000, frauds=20, average_precision=0.6, cost_per_transaction=50.0)
POLICY = PromotionPolicy(
    min_average_precision=0.1,
    max_average_precision=0.98,
    max_average_precision_loss=0.005,
    min_average_precision_gain=0.002,
    min_cost_reduction=0.01,
)


def answer(precision: float, cost: float = 50.0, champion: EvaluationReport | None = REPORT) -> str:
    challenger = replace(REPORT, average_precision=precision, cost_per_transaction=cost)
    return judge(challenger, champion, POLICY).answer.value


def test_the_first_model_above_the_floor_becomes_champion():
    assert answer(0.1, champion=None) == "promote"


def test_the_first_model_below_the_floor_is_rejected():
    assert answer(0.09, champion=None) == "reject"


@pytest.mark.parametrize("champion", [None, REPORT])
def test_a_leak_is_refused_with_the_number_in_the_reason(champion):
    verdict = judge(replace(REPORT, average_precision=0.991), champion, POLICY)
    assert verdict.answer == "reject"
    assert "0.991" in verdict.reasons[0]
    assert "leak" in verdict.reasons[0]


def test_a_better_ranking_is_promoted():
    assert answer(0.61) == "promote"


def test_an_equal_ranking_at_a_lower_cost_is_promoted():
    assert answer(0.6, cost=45.0) == "promote"


def test_neither_better_nor_worse_may_only_watch():
    assert answer(0.6) == "shadow_only"
    assert answer(0.598, cost=49.9) == "shadow_only"


def test_a_loss_beyond_the_margin_is_rejected_even_if_it_costs_less():
    assert answer(0.59, cost=10.0) == "reject"


def test_a_free_champion_cannot_be_undercut_by_nothing():
    assert answer(0.6, cost=0.0, champion=replace(REPORT, cost_per_transaction=0.0)) == (
        "shadow_only"
    )


def test_reasons_are_sentences_with_both_numbers():
    verdict = judge(replace(REPORT, average_precision=0.61), REPORT, POLICY)
    assert verdict.reasons[0] == (
        "Average precision 0.610 against the champion's 0.600 on the same 1000 rows (+0.010): "
        "better."
    )


def test_reports_on_other_rows_are_not_compared():
    with pytest.raises(PermanentError, match="expected the same"):
        judge(REPORT, replace(REPORT, rows_digest="b" * 64), POLICY)
