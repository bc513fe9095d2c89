"""The benchmarks run anywhere and never fall silent; how fast anything is, is no test."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Cost, Row
from benchmarks.serving_servers import must_be_sound
from fraud_platform.errors import UnavailableError
from fraud_platform.load.loops import Tally

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
PROMISED_OF_SERVING = (
    "inside: features read + update",
    "inside: inplace_predict / score of one row",
    "inside: scores unlike the library's",
    "inside: from the request's bytes to the answer's, no HTTP",
    "inside: full garbage collection after freezing",
    "Litestar hello: CPU per request",
    "Litestar @asgi hello: CPU per request",
    "scorer, durable: CPU per request",
    "scorer, written: CPU per request",
    "mlflow models serve: CPU per request",
    "tutorial FastAPI + pandas: CPU per request",
    "scorer, durable / Litestar hello: requests per CPU-second",
    "scorer, durable / Litestar @asgi hello: requests per CPU-second",
    "scorer, durable / scorer, written: CPU per request",
    "scorer, durable / mlflow models serve: requests per CPU-second",
    "scorer, durable / tutorial FastAPI + pandas: requests per CPU-second",
    "open loop at 300/s: p50",
    "open loop at 300/s: p99",
    "open loop at 1,000/s: p50",
    "open loop at 1,000/s: p99",
    "hot swap at 300/s: requests without a decision",
    "hot swap: from the pointer's move to the first decision by it",
)
GOALS_OF_SERVING = 15


def measured(tmp_path_factory: pytest.TempPathFactory, *arguments: str) -> dict[str, Any]:
    """A benchmark's document, measured where there is no data."""
    nowhere = tmp_path_factory.mktemp("no-data")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments, "--json"],
        cwd=ROOT,
        env={**os.environ, "FRAUD_BENCHMARK_DATA": str(nowhere)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(tmp_path_factory, "benchmarks.features", "--rows", "2000")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    small = ("--rows", "2000", "--trees", "20", "--rounds", "1", "--seconds", "0.4")
    return measured(tmp_path_factory, "benchmarks.serving", *small)


def test_the_scorer_and_all_its_peers_are_measured_in_one_run(serving: dict[str, Any]):
    rows = {row["measure"]: row for row in serving["rows"]}
    for row in serving["rows"]:
        print(Row(**{name: value for name, value in row.items() if name != "verdict"}).to_text())
    missing = [promised for promised in PROMISED_OF_SERVING if promised not in rows]
    assert not missing
    for name, row in rows.items():
        assert row["value"] is not None or row["note"].startswith(("not measurable", "the gen"))
        assert row["value"] is not None or name.startswith("open loop"), f"no figure for {name}"
    goals = [
        row
        for row in rows.values()
        if (row["at_most"], row["at_least"]) != (None, None) or "(goal" in row["note"]
    ]
    assert len(goals) == GOALS_OF_SERVING
    assert rows["inside: scores unlike the library's"]["value"] == 0
    assert rows["hot swap at 300/s: requests without a decision"]["value"] == 0
    assert "1 rounds of 0.4 s, 64 connections" in serving["conditions"]


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


def test_a_server_that_refuses_is_not_measured():
    answered = Tally(sent=2)
    answered.latency.add(1)
    must_be_sound(answered, "a server")
    answered.fail(1, 0.5, "HTTP 404")
    with pytest.raises(UnavailableError, match="answers of a server that are none: request 1"):
        must_be_sound(answered, "a server")
    with pytest.raises(UnavailableError):
        must_be_sound(Tally(), "a server")
