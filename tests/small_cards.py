"""A whole model card, for tests that register models or ask what a card must tell."""

from fraud_platform.calibration import Calibration
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.model import Model
from fraud_platform.model_card import ModelCard
from fraud_platform.model_card_facts import card_of, data_until, lineage_of
from tests.small_reports import small_report

MAPS = Calibration(frauds=3, genuine=40, knots=(), chances=(), steps=(0.1, 0.3), reached=(40, 1))


def small_card(model: Model, report: EvaluationReport | None = None) -> ModelCard:
    """The card of a model whose training set is gone."""
    told = report or small_report()
    lineage = lineage_of(model, told, "run", "d" * 64, None)
    return card_of(model, told, MAPS, data_until("2026-01-22T00:00:00+00:00", "d" * 64), lineage)
