"""The benchmark of the gates runs, and its truth is true; its full size is no test."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.promotion import _POINT, _SIGNAL, drawn, true_cost
from fraud_platform.promotion_backtest import Duel


@pytest.mark.parametrize("gap", [0.0, 0.6])
def test_the_formula_of_the_true_cost_is_what_many_payments_cost(gap):
    costs = []
    for seed in range(8):
        scores = drawn(gap, seed)
        duel = Duel(
            rows=scores.rows,
            new_scores=scores.new,
            old_scores=scores.old,
            segments=scores.rows.select("is_fraud"),
        )
        new, _ = duel.sides(_POINT)
        costs.append(new.worth(duel.weights)[0] / duel.weights.size)
    spread = float(np.std(costs)) / np.sqrt(len(costs))
    assert abs(float(np.mean(costs)) - true_cost(_SIGNAL + gap)) < 4.0 * spread


def test_a_small_benchmark_promotes_nothing_worse_and_says_both_promises():
    done = subprocess.run(
        [
            sys.executable,
            *[
                "-W",
                "ignore",
                "-m",
                "benchmarks.promotion",
                "--share",
                "0.02",
                "--worlds",
                "0",
                "--json",
            ],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = {row["measure"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {
        f"{title}: {promise}"
        for title in ("simulated", "real fits")
        for promise in (
            "worse challengers promoted",
            "better challengers promoted, where detectable",
        )
    }
    assert rows["simulated: worse challengers promoted"]["value"] == 0.0
