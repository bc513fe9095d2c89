"""All feature benchmarks in one run, as one table: `python -m benchmarks.features`.

Every row is a ratio or a time with its goal; a goal that is missed is printed as missed, and what
cannot be measured says why.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import batch, online, peers, remote
from benchmarks.data import Data, load
from benchmarks.measure import HEADER, Row, Table, found

_FEAST_ROWS = 50_000


def main(arguments: list[str]) -> int:
    """Measure, print and return the exit code: 0, also where goals are missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--rows", type=int, help="use about so many payments, not all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    run = Table(asked.json)
    data = load(asked.rows)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    run.say(f"{data.origin}; {machine}; ratios of CPU seconds unless a unit says else\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        _measure(run, data, Path(folder))
    counts = Counter(row.verdict for row in run.rows)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("met", "missed", "absent"))
    run.say(f"\ngoals: {told}")
    if asked.json:
        rows = [row.to_dict() for row in run.rows]
        document = {"data": data.origin, "machine": machine, "rows": rows}
        print(json.dumps(document, indent=1))  # noqa: T201 -- a program's output
    return 0


def _measure(run: Table, data: Data, folder: Path) -> None:
    computed, rows = batch.against_the_disk(data.log, folder)
    run.add(rows)
    run.add(batch.late_rows(data.log))
    run.add(batch.backfill(data.log))
    run.add(batch.growing_history(data.log))
    run.add(peers.against_peers(data.log))
    run.add(_feast_retrieval(data, computed))
    run.add(online.online(data.log, computed.features, computed.costs, folder))
    run.add(remote.redis(data.log))


def _feast_retrieval(data: Data, computed: batch.Computed) -> Iterator[Row]:
    module, why = found("benchmarks.feast_retrieval")
    if module is None:
        yield Row(measure="Feast's retrieval / ours, 50,000 rows", at_least=20, note=why)
        return
    rows = min(_FEAST_ROWS, max(data.log.transactions.height // 2, 1))
    for line in module.rows(data.log.transactions, computed.features, entity_rows=rows):
        yield _row(line)


def _row(line: dict[str, Any]) -> Row:
    """A line of that benchmark, whose goal is a text: ">= 20", "0" or none."""
    goal = str(line["goal"])
    return Row(
        measure=f"Feast: {line['name']}",
        value=line["value"],
        unit=line["unit"],
        at_least=float(goal[3:]) if goal.startswith(">= ") else None,
        at_most=0 if goal == "0" else None,
        note="" if line["value"] is not None else "not measured",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
