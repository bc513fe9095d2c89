"""A report for tests that ask what follows from one, not how it is made."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport, evaluate


def small_report(**changes: object) -> EvaluationReport:
    """The report on four payments of two cards, with these fields replaced."""
    rows = pl.DataFrame(
        {
            "event_timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * 4,
            "card_id": ["a", "a", "b", "b"],
            "amount_minor": [5000, 4000, 3000, 2000],
            "is_fraud": [True, True, False, False],
            "score": [0.9, 0.4, 0.6, 0.1],
        }
    )
    return replace(evaluate(rows, EvaluationPolicy()), **changes)  # type: ignore[arg-type]
