"""Small real models and their bundles, for tests that need a scorer to decide with something."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from fraud_platform.adapters.deployment import (
    Deployment,
    Pointer,
    read_deployment,
    write_deployment,
)
from fraud_platform.adapters.model_bundle import Evidence, Lineage, manifest_digest, write_bundle
from fraud_platform.adapters.promotion_signature import Authority, sign_roles
from fraud_platform.calibration import Calibration, CalibrationPolicy, calibrate
from fraud_platform.errors import BundleIntegrityError
from fraud_platform.fallbacks import features_of
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Model
from fraud_platform.model_card import ModelCard


@cache
def trained(seed: int, without: tuple[str, ...] = ()) -> Model:
    """A real booster that suspects large amounts; the seed makes versions differ.

    Without groups of features it looks at nothing of them.
    """
    import xgboost

    rows = _matrix(seed)
    is_fraud = _is_fraud(rows)
    rows[:, [FEATURE_NAMES.index(name) for name in features_of(without)]] = np.nan
    matrix = xgboost.DMatrix(rows.astype(np.float32), is_fraud, nthread=1)
    parameters = {"objective": "binary:logistic", "max_depth": 3, "seed": seed, "nthread": 1}
    booster = xgboost.train(parameters, matrix, num_boost_round=10 + seed)
    return Model(
        library="xgboost",
        payload=bytes(booster.save_raw("ubj")),
        feature_names=FEATURE_NAMES,
        library_version=xgboost.__version__,
        parameters={},
        rounds=10 + seed,
    )


def write_small_bundle(
    models_dir: Path,
    version: str,
    model: Model,
    *,
    review: float = 0.3,
    decline: float = 0.8,
    without: tuple[str, ...] = (),
    trees_of: str = "",
    by_hour: tuple[float, ...] = (),
    card: ModelCard | None = None,
    trained_by: str = "",
) -> Path:
    """A sound bundle of a model; its folder."""
    lineage = Lineage(
        review_threshold=review,
        decline_threshold=decline,
        trained_as_of="2026-03-01T00:00:00Z",
        training_set_digest="0" * 64,
        run_id=f"run-{version}",
        report={"average_precision": 0.5, "alert_rate": 0.1},
        without=without,
        trees_of=trees_of,
        alert_rate_by_hour=by_hour,
        trained_by=trained_by,
    )
    evidence = Evidence(
        calibration=_calibrated(model),
        golden=_matrix(99)[:8],
        reference=pl.DataFrame(_matrix(98), schema=list(FEATURE_NAMES)),
        card=card,
    )
    return write_bundle(models_dir, version, model, lineage, evidence)


def pointer_to(bundle: Path) -> Pointer:
    """What names a bundle in a deployment."""
    return Pointer(version=bundle.name, path=bundle.name, manifest_digest=manifest_digest(bundle))


def deploy(models_dir: Path, deployment: Deployment) -> None:
    """Give models their roles as a promotion does: signed with the home's key."""
    try:
        before = read_deployment(models_dir)
    except BundleIntegrityError:
        before = None
    signed = sign_roles(models_dir, deployment, Authority(by="a test"), before)
    write_deployment(models_dir, signed)


def _matrix(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).gamma(1.0, 2000.0, (400, len(FEATURE_NAMES)))
    rows[rows < 300] = np.nan
    return rows


def _is_fraud(rows: np.ndarray) -> np.ndarray:
    return np.nan_to_num(rows[:, 0]) > 4_000


def _calibrated(model: Model) -> Calibration:
    rows = _matrix(97)
    return calibrate(_is_fraud(rows), model.score(rows), CalibrationPolicy(min_frauds=20))
