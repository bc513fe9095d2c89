"""A small home with everything that two models were trained on, for tests that train them again."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from fraud_platform import fallbacks
from fraud_platform.adapters.model_bundle import Evidence, Lineage, write_bundle
from fraud_platform.adapters.reproduction_run import recipe_here
from fraud_platform.adapters.tables import Tables
from fraud_platform.calibration import Calibration
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.labels import LabelPolicy
from fraud_platform.model import ModelPolicy, matrix, refit
from fraud_platform.settings import Settings
from fraud_platform.training_document import TABLE, document
from fraud_platform.training_set import TrainingPolicy, build

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, ROWS, MATURITY = 24, 6_000, timedelta(days=7)
DAY = (START + timedelta(days=DAYS) + MATURITY).date() - timedelta(days=1)
AS_OF = START + timedelta(days=DAYS) + MATURITY
MAPS = Calibration(frauds=3, genuine=40, knots=(), chances=(), steps=(0.1, 0.3), reached=(40, 1))
VERSIONS = {"1": ("xgboost", ()), "2": ("lightgbm", ()), "1-without-money": ("xgboost", ("money",))}
PARAMETERS = {
    "xgboost": {"max_depth": 3, "learning_rate": 0.2, "subsample": 0.8, "colsample_bytree": 0.6},
    "lightgbm": {"num_leaves": 6, "bagging_fraction": 0.8, "feature_fraction": 0.6},
}


def small_inputs() -> dict[str, pl.DataFrame]:
    """What a training set is built from: features, mature labels and validated payments."""
    random = np.random.default_rng(11)
    seconds = np.sort(random.integers(0, DAYS * 86_400, ROWS)).tolist()
    values = random.gamma(1.0, 2000.0, (ROWS, len(FEATURE_NAMES)))
    signal = values[:, 0] + values[:, 1] + random.normal(0, 1_000, ROWS)
    when = [START + timedelta(seconds=second) for second in seconds]
    names = [f"t{number}" for number in range(ROWS)]
    base = pl.DataFrame({"transaction_id": names, "event_timestamp": when})
    base = base.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))
    cards = pl.Series("card_id", [f"c{number}" for number in random.integers(0, 400, ROWS)])
    features = pl.DataFrame(values, schema=list(FEATURE_NAMES))
    mature = pl.col("event_timestamp").dt.truncate("1d") + timedelta(days=1) + MATURITY
    return {
        "transaction_features": base.with_columns(cards).hstack(features),
        "mature_labels": base.with_columns(
            cards,
            pl.Series("is_fraud", signal > 12_000),
            propensity=pl.lit(1.0),
            as_of_timestamp=mature,
        ),
        "validated_transactions": base.with_columns(
            pl.Series("amount_minor", random.integers(100, 90_000, ROWS))
        ),
    }


def small_rows(inputs: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The training set of these inputs."""
    policy = TrainingPolicy(train_days=10, delay_days=7, test_days=7, min_train_frauds=20)
    tables = [
        inputs[name] for name in ("transaction_features", "mature_labels", "validated_transactions")
    ]
    return build(*tables, as_of=AS_OF, policy=policy)


def trained_home(home: Path, *, threads: int = 1, order: int = 0) -> Settings:
    """A home with the tables, the document and a bundle per version of `VERSIONS`.

    Args:
        home: where.
        threads: of the fits.
        order: seed of the order in which the days' files are written.
    """
    settings = Settings(home=home, model=ModelPolicy(seed=5, threads=threads), code_commit="c0ffee")
    inputs, tables = small_inputs(), Tables(settings.tables_dir)
    by_day = {
        (name, day): rows
        for name, table in inputs.items()
        for day, rows in _by_day(name, table).items()
    }
    keys = list(by_day)
    np.random.default_rng(order).shuffle(keys)
    for name, day in keys:
        tables.write(name, day, by_day[name, day])
    rows = small_rows(inputs)
    policy = TrainingPolicy(train_days=10, delay_days=7, test_days=7, min_train_frauds=20)
    told = document(rows, inputs, as_of=AS_OF, training=policy, labels=LabelPolicy())
    tables.write_document(TABLE, DAY, told)
    for version, (library, without) in VERSIONS.items():
        _write(settings, version, library, rows, told.digest, without)
    return settings


def _write(settings, version, library, rows, digest, without) -> None:
    train = fallbacks.without(rows.filter(pl.col("slice") == "train"), without)
    model = refit(library, train, PARAMETERS[library], 20, settings.model)
    lineage = Lineage(
        review_threshold=0.1,
        decline_threshold=0.5,
        trained_as_of=AS_OF.isoformat(),
        training_set_digest=digest,
        run_id="run",
        report={"average_precision": 0.5},
        without=without,
        recipe=recipe_here(settings),
    )
    test = rows.filter(pl.col("slice") == "test")
    evidence = Evidence(
        calibration=MAPS,
        golden=matrix(test.head(64), FEATURE_NAMES),
        reference=train.select(FEATURE_NAMES).head(50),
    )
    write_bundle(settings.models_dir, version, model, lineage, evidence)


def _by_day(name: str, table: pl.DataFrame) -> dict[date, pl.DataFrame]:
    lag = MATURITY if name == "mature_labels" else timedelta(0)
    day = pl.col("event_timestamp").dt.date() + lag
    parts = table.with_columns(day=day).partition_by("day", as_dict=True, include_key=False)
    return {key: rows for (key,), rows in parts.items()}
