"""The benchmark of learning runs anywhere; how well anything learns is its figure, not a test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_way_to_learn_is_judged_by_the_truth_and_every_estimate_held_against_it():
    small = ("--seeds", "1", "--customers", "150", "--draws", "2", "--json")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.learning", *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["arms"]) == 8
    assert all(0 < line["recall"] < 1 for line in found["arms"])
    assert sum(line["of_it_exploration"] != 0 for line in found["arms"]) == 2
    assert {line["estimand"] for line in found["coverage"]} == {
        *("fraud rate among declined", "recall", "precision", "cost per payment")
    }
    assert all(line["covered"] <= line["draws"] == 2 for line in found["coverage"])
