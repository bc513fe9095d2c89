"""Our model on the handbook's weeks: the platform's features, the platform's fit.

Features, parameters and rounds were chosen on the validation folds; `docs/handbook.md` has the log.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.declaration import Feature
from fraud_platform.features.spec import FEATURES
from fraud_platform.handbook.protocol import ROW_COLUMNS, Cut
from fraud_platform.model import ModelPolicy, matrix, refit

NAME = "fraud-platform"

FEATURE_NAMES = (
    "transaction_amount",
    "card_amount_z_score_90d",
    "card_amount_over_median_90d",
    "card_outlier_count_7d",
    "card_outlier_count_14d",
    "card_seconds_since_last_outlier_14d",
    "terminal_fraud_count_30d_delayed",
    "terminal_fraud_rate_30d_delayed",
    "terminal_ordinary_fraud_count_14d_delayed",
    "terminal_ordinary_fraud_count_30d_delayed",
    "terminal_seconds_since_last_fraud_30d_delayed",
    "terminal_seconds_since_last_good_payment_30d_delayed",
    "terminal_fraud_streak_length_30d_delayed",
    "terminal_seconds_since_fraud_streak_30d_delayed",
)
"""The third of the standard features that one week of training can make use of."""

PARAMETERS: dict[str, float | int | str] = {
    "learning_rate": 0.03,
    "max_depth": 4,
    "subsample": 0.7,
    "colsample_bytree": 0.5,
}
ROUNDS = 300


def declared() -> tuple[Feature, ...]:
    """The declarations of `FEATURE_NAMES`, for the engine that computes them."""
    return tuple(feature for feature in FEATURES if feature.name in FEATURE_NAMES)


def scores(cut: Cut, policy: ModelPolicy) -> NDArray[np.float64]:
    """What our model, fitted on the fold's first week, says of its judged rows.

    Args:
        cut: the fold's rows with `FEATURE_NAMES`.
        policy: seed and threads of the fit.

    Returns:
        Log-odds, shape (rows judged,): probabilities would make ties of the surest rows.
    """
    rows = cut.learn.select(*ROW_COLUMNS, *(pl.col(name) for name in FEATURE_NAMES))
    model = refit("xgboost", rows, PARAMETERS, ROUNDS, policy)
    return model.margin(matrix(cut.judged, FEATURE_NAMES))
