"""The benchmarks run anywhere and never fall silent; how fast anything is, is no test."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Cost, Row

ROOT = Path(__file__).parents[2]
PROMISED = (
    "batch (Polars): read + compute + write / read + write",
    "kernel: read + compute + write / read + write",
    "batch (Polars): 1 % of rows late",
    "batch (Polars): backfill, the older half ingested second / in order",
    "kernel: backfill, the older half ingested second / in order",
    "batch (Polars): CPU per row, history 16x / 1x",
    "pandas, entity by entity (the handbook's way) / Polars",
    "DuckDB RANGE windows / Polars",
    "Feast",
    "online: read + apply, p99 of CPU time",
    "online: vectors per CPU-second / Feast's SDK",
    "online: fold of the look-back",
    "online: replay of all events / batch (Polars)",
    "online: replay of all events / kernel",
    "Redis: read of one vector / PING",
    "Redis: read of a hot terminal",
    "Redis: bytes per payment and entity",
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    nowhere = tmp_path_factory.mktemp("no-data")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.features", "--rows", "2000", "--json"],
        cwd=ROOT,
        env={**os.environ, "FRAUD_BENCHMARK_DATA": str(nowhere)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_promised_row_has_a_value_or_says_why_not(document: dict[str, Any]):
    for promised in PROMISED:
        rows = [row for row in document["rows"] if row["measure"].startswith(promised)]
        assert rows, f"no row about: {promised}"
    for row in document["rows"]:
        print(Row(**{name: value for name, value in row.items() if name != "verdict"}).to_text())
        assert row["value"] is not None or row["note"], row["measure"]
        assert "differ" not in row["note"], "no peer is compared unless its values are equal"


def test_the_run_says_what_it_measured_and_where(document: dict[str, Any]):
    assert "the platform's own simulation (no benchmark data): 2,000 payments" in document["data"]
    assert "cores" in document["machine"]


def test_a_missed_goal_is_called_missed():
    row = Row(measure="anything", at_most=3)
    assert row.verdict == "absent"
    assert row.of(Cost(6.0, 1.0), Cost(2.0, 1.0)).verdict == "met"
    assert row.of(Cost(6.1, 1.0), Cost(2.0, 1.0)).verdict == "missed"
    fast = Row(measure="anything", at_least=20)
    assert fast.of(Cost(39.0, 1.0), Cost(2.0, 1.0)).verdict == "missed"
    assert fast.of(Cost(40.0, 1.0), Cost(2.0, 1.0)).verdict == "met"
    assert Row(measure="anything", value=1.0).verdict == "-"
