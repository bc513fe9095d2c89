"""Builders for the scorer's tests: small real models, settings on a temporary home, payments."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters.deployment import Deployment, Pointer, write_deployment
from fraud_platform.adapters.model_bundle import (
    Evidence,
    Lineage,
    manifest_digest,
    write_bundle,
)
from fraud_platform.calibration import Calibration, CalibrationPolicy, calibrate
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Model
from fraud_platform.settings import Settings

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def _matrix(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).gamma(1.0, 2000.0, (400, len(FEATURE_NAMES)))
    rows[rows < 300] = np.nan
    return rows


def _is_fraud(rows: np.ndarray) -> np.ndarray:
    return np.nan_to_num(rows[:, 0]) > 4_000


def _calibrated(model: Model) -> Calibration:
    rows = _matrix(97)
    return calibrate(_is_fraud(rows), model.score(rows), CalibrationPolicy(min_frauds=20))


def _train(seed: int) -> Model:
    """A real booster that suspects large amounts; the seed makes versions differ."""
    import xgboost

    rows = _matrix(seed)
    matrix = xgboost.DMatrix(rows.astype(np.float32), _is_fraud(rows), nthread=1)
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


@pytest.fixture
def now() -> datetime:
    """The scorer's clock stands still here."""
    return NOW


@pytest.fixture(scope="session")
def models() -> dict[str, Model]:
    return {str(seed): _train(seed) for seed in (1, 2)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", champion_poll_seconds=0.05)


@pytest.fixture
def publish(models: dict[str, Model], settings: Settings) -> Callable[..., Path]:
    """Writes the bundle of a version and moves the pointer to it."""

    def act(version: str, *, review: float = 0.3, decline: float = 0.8) -> Path:
        lineage = Lineage(
            review_threshold=review,
            decline_threshold=decline,
            trained_as_of="2026-03-01T00:00:00Z",
            training_set_digest="0" * 64,
            run_id=f"run-{version}",
            report={"average_precision": 0.5},
        )
        golden = _matrix(99)[:8]
        reference = pl.DataFrame(_matrix(98), schema=list(FEATURE_NAMES))
        path = write_bundle(
            settings.models_dir,
            version,
            models[version],
            lineage,
            Evidence(calibration=_calibrated(models[version]), golden=golden, reference=reference),
        )
        pointer = Pointer(version=version, path=version, manifest_digest=manifest_digest(path))
        write_deployment(settings.models_dir, Deployment(champion=pointer))
        return path

    return act


@pytest.fixture
def payment() -> Callable[..., dict[str, Any]]:
    """A payment as a request body; number 7 happens seven minutes after number 0."""

    def build(number: int = 0, **changes: Any) -> dict[str, Any]:
        moment = NOW - timedelta(days=1) + timedelta(minutes=number)
        return {
            "transaction_id": f"t{number}",
            "event_timestamp": moment.isoformat(),
            "card_id": f"card-{number % 5}",
            "terminal_id": f"terminal-{number % 3}",
            "amount_minor": 1_000 + 700 * (number % 11),
            "currency": "EUR",
            **changes,
        }

    return build
