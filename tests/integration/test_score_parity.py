"""The same row gets the same bits when it is trained, in a batch, and alone in a scorer."""

import json

import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters.model_bundle import Evidence, Lineage, load_bundle, write_bundle
from fraud_platform.decision import DecisionPolicy
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import LIBRARIES, Model
from serving.ruling import resident_of
from tests.small_cards import MAPS

ROWS, WIDTH = 10_000, len(FEATURE_NAMES)
RANDOM = np.random.default_rng(17)
FEATURES = np.where(
    RANDOM.random((ROWS, WIDTH)) < 0.1, np.nan, RANDOM.gamma(1.0, 2_000.0, (ROWS, WIDTH))
)
IS_FRAUD = (np.nan_to_num(FEATURES[:, 0] + FEATURES[:, 1]) > 9_000).astype(np.float32)
LINEAGE = Lineage(
    review_threshold=0.1,
    decline_threshold=0.5,
    trained_as_of="2026-01-22T00:00:00+00:00",
    training_set_digest="d" * 64,
    run_id="run",
    report={},
)


def trained(library: str) -> tuple[Model, np.ndarray]:
    """A model, and the scores that the booster gave before it was ever written."""
    small = FEATURES.astype(np.float32)
    if library == "xgboost":
        import xgboost

        matrix = xgboost.DMatrix(small, IS_FRAUD, nthread=1)
        parameters = {"objective": "binary:logistic", "max_depth": 5, "nthread": 1}
        booster = xgboost.train(parameters, matrix, num_boost_round=60)
        then, payload, version = booster.predict(matrix), booster.save_raw("ubj"), xgboost
    else:
        import lightgbm

        parameters = {"objective": "binary", "num_threads": 1, "verbosity": -1}
        wide = small.astype(np.float64)
        booster = lightgbm.train(parameters, lightgbm.Dataset(wide, IS_FRAUD), num_boost_round=60)
        text = booster.model_to_string()
        payload = (text[: text.index("\nparameters:")] + "\n").encode()
        then, version = booster.predict(wide, num_threads=1), lightgbm
    model = Model(
        library=library,
        payload=bytes(payload),
        feature_names=FEATURE_NAMES,
        library_version=version.__version__,
        parameters={},
        rounds=60,
    )
    return model, np.asarray(then, dtype=np.float64)


@pytest.mark.parametrize("library", LIBRARIES)
def test_ten_thousand_rows_score_alike_in_training_in_a_batch_and_one_by_one(library, tmp_path):
    """T-REP-3."""
    model, then = trained(library)
    reference = pl.DataFrame(FEATURES[:50], schema=list(FEATURE_NAMES))
    evidence = Evidence(calibration=MAPS, golden=FEATURES[:64], reference=reference)
    bundle = load_bundle(write_bundle(tmp_path, "1", model, LINEAGE, evidence))
    batch = bundle.model.score(FEATURES)
    scorer = resident_of(bundle, policy=DecisionPolicy()).scorer
    online = np.array([scorer.score(FEATURES[n : n + 1])[0] for n in range(ROWS)])
    equal = int(np.sum((then == batch) & (batch == online)))
    figures = {"rows": ROWS, "equal": equal, "distinct": len(np.unique(batch))}
    print(json.dumps({"test": "T-REP-3", "library": library, **figures}))
    assert scorer.fallback is None
    assert figures["distinct"] > 1_000
    assert equal == ROWS
