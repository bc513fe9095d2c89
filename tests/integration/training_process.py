"""A training in a process of its own, for tests that kill it or compare it with another.

`python -m tests.integration.training_process LIBRARY THREADS FOLDER` prints the model's digest and
how many trials this process made.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from fraud_platform.adapters.study_store import StudyStore
from fraud_platform.model import ModelPolicy, fit, study_key

DIGEST = "d" * 64
TRIALS = 8


def rows() -> pl.DataFrame:
    """Train rows of three weeks with six features, of which two matter."""
    random = np.random.default_rng(7)
    values = random.normal(size=(4000, 6))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    minutes = np.sort(random.integers(0, 21 * 1440, 4000)).tolist()
    signal = values[:, 0] + values[:, 1] * values[:, 2] + random.normal(size=4000)
    return pl.DataFrame(
        {
            "event_timestamp": [start + timedelta(minutes=minute) for minute in minutes],
            "is_fraud": signal > 2.5,
            "slice": ["train"] * 4000,
        }
        | {f"f{column}": values[:, column] for column in range(6)}
    )


def policy(threads: int) -> ModelPolicy:
    """Eight trials, of which the later ones may be cut short."""
    return ModelPolicy(trials=TRIALS, max_rounds=150, threads=threads, full_trials=2)


def main(library: str, threads: str, folder: str) -> None:
    """Train, and print the digest and the number of trials made here."""
    told = policy(int(threads))
    with StudyStore(Path(folder)).study(study_key(library, DIGEST, told)) as study:
        before = len(study.trials())
        model = fit(library, rows(), told, study)
        print(model.digest, len(study.trials()) - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
