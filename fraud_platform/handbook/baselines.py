"""The handbook's own models on its own fifteen inputs, made again to prove the protocol.

Parameters and seeds are the published ones. XGBoost needs two that were its defaults when the
handbook was written: exact splits and a base score of a half; with those of today it ranks worse.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_platform.handbook import published
from fraud_platform.handbook.inputs import INPUTS
from fraud_platform.handbook.protocol import Cut

_SEED = 0  # the handbook's


def scores(model: str, cut: Cut) -> NDArray[np.float64]:
    """What a baseline, fitted on the fold's first week, says of its judged rows.

    Args:
        model: a name of `MODELS`.
        cut: the fold's rows with `INPUTS`.

    Returns:
        Probabilities, shape (rows judged,).
    """
    from sklearn.preprocessing import StandardScaler

    learn, judged = (part.select(INPUTS).to_numpy() for part in (cut.learn, cut.judged))
    scaler = StandardScaler().fit(learn)
    classifier = MODELS[model]()
    classifier.fit(scaler.transform(learn), cut.learn["is_fraud"].to_numpy().astype(np.int64))
    found = classifier.predict_proba(scaler.transform(judged))[:, 1]
    return np.asarray(found, dtype=np.float64)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(random_state=_SEED)


def _tree(depth: int) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(max_depth=depth, random_state=_SEED)

    return make


def _forest(depth: int | None) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(max_depth=depth, random_state=_SEED)

    return make


def _xgboost(rate: float, depth: int) -> Callable[[], Any]:
    def make() -> Any:
        from xgboost import XGBClassifier

        return XGBClassifier(
            learning_rate=rate,
            max_depth=depth,
            tree_method="exact",
            base_score=0.5,
            random_state=_SEED,
            n_jobs=1,
        )

    return make


MODELS: dict[str, Callable[[], Any]] = {
    published.LOGISTIC: _logistic,
    published.TREE_2: _tree(2),
    published.TREE_3: _tree(3),
    published.TREE_5: _tree(5),
    published.FOREST: _forest(None),
    published.FOREST_20: _forest(20),
    published.XGBOOST: _xgboost(0.3, 6),
    published.XGBOOST_3: _xgboost(0.1, 3),
}
"""The baselines that are made again, by their names in `published`; 100 trees where there are
several."""
