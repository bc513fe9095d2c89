"""The benchmark of healing on a running scorer runs anywhere; its seconds are figures, no test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def measured(*asked: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.healing", "--json", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_step_is_seen_in_the_answers_and_none_costs_a_request():
    small = ("--rows", "20000", "--trees", "10", "--replayed", "1000", "--tick-seconds", "3")
    done = measured(*small)
    assert done.returncode == 0, done.stderr
    rows = {row["measure"]: row for row in json.loads(done.stdout)["rows"]}
    assert all(row["value"] is not None for row in rows.values()), rows
    failed = rows.pop("all of it: requests without a decision")
    assert failed["value"] == 0, failed["note"]
    assert len(rows) == 4
