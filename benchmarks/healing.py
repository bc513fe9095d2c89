"""How long healing takes on a running scorer: `python -m benchmarks.healing`.

A scorer with a real log, registry and model answers 300 payments a second, from the first line of
the table to the last. Meanwhile other processes flip the pointer, update the model, and release a
bad one. Times are on the wall, from the beginning of a step to the first answer from which on all
show its end, so they hold what importing and a busy machine cost.
"""

import argparse
import itertools
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import httpx

from benchmarks import healing_steps
from benchmarks.healing_steps import BAD, GOOD, UPDATE, Step
from benchmarks.measure import HEADER, Row, Table
from benchmarks.serving_home import Prepared, prepare
from benchmarks.serving_servers import Server, first_answer, must_be_sound, run, started
from fraud_platform.errors import FraudPlatformError
from fraud_platform.load.client import Target
from fraud_platform.load.loops import closed_loop, open_loop, poisson
from fraud_platform.load.payments import ROUTE, Payments, Sent
from fraud_platform.processes import free_port

RATE = 300.0
_PAYMENTS = 240_000
"""So dense that the replay finds 20,000 of them in the two weeks that it looks back."""
_SEED = 20_260_105
_CONNECTIONS = 64
_AFTER_SECONDS = 3.0
"""So long payments go on after a step, so that its end is seen."""
_LONGEST_SECONDS = 300.0
_VERSION = re.compile(rb'"model_version":"(\w+)"')


def main(arguments: list[str]) -> int:
    """Measure, print and return the exit code: 1 if a step failed, 0 also for missed goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.healing", description=__doc__)
    parser.add_argument("--rows", type=int, help="use about so many payments")
    parser.add_argument("--trees", type=int, default=300, help="of the model")
    parser.add_argument("--replayed", type=int, default=20_000, help="payments, in a model update")
    parser.add_argument(
        "--tick-seconds",
        type=float,
        default=30.0,
        help="between two looks of healing",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    table = Table(asked.json)
    logging.disable(logging.WARNING)  # of libraries: the table is what is to be read
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = _measure(table, asked, Path(folder))
        except FraudPlatformError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201 -- a program's output
            return 1
    if asked.json:
        rows = [row.to_dict() for row in table.rows]
        print(json.dumps({"conditions": told, "rows": rows}, indent=1))  # noqa: T201 -- the same
    return 0


def _measure(table: Table, asked: argparse.Namespace, folder: Path) -> str:
    now = datetime.now(UTC)  # noqa: TID251 -- an entry point reads the clock
    prepared = prepare(asked.rows, folder, trees=asked.trees, now=now, enough=_PAYMENTS)
    past = prepared.history.transactions["event_timestamp"]
    healing_steps.register(prepared.home, past.max())  # type: ignore[arg-type]  # of moments
    told = (
        f"{prepared.origin}; {asked.trees} trees; {len(os.sched_getaffinity(0))} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start; {RATE:g} payments a second"
    )
    table.say(f"{told}\n\n{HEADER}")
    for server in _scorer(prepared, folder):
        _history(server, asked.replayed)
        bench = _Bench(server)
        table.add(_flips(bench, prepared.home))
        table.add(_updated(bench, prepared.home, asked.replayed))
        table.add(_rolled_back(bench, prepared.home, asked.tick_seconds))
        table.add([bench.failed()])
    return told


def _scorer(prepared: Prepared, folder: Path) -> Iterator[Server]:
    """A durable scorer on the home, for as long as the loop's body lasts."""
    port, log = free_port(), folder / "scorer.log"
    settings = {
        "FRAUD_HOME": str(prepared.home),
        "FRAUD_SCORER_PORT": str(port),
        "FRAUD_STATE_CHECK_SECONDS": "0",
        "FRAUD_ACCESS__REQUESTS_PER_SECOND": "0",
        # A machine that is busy with other things is no slow release.
        "FRAUD_HARM__SLOW_MS": "1000",
    }
    address = f"http://127.0.0.1:{port}"
    with started([sys.executable, "-m", "serving"], log, settings) as child:
        first_answer(child, lambda: httpx.get(f"{address}/health/ready"), log)
        source = prepared.payments()
        yield Server("scorer", child, Target.of(address, ROUTE, {}), source, answers_alone=True)


def _history(server: Server, decisions: int) -> None:
    """Enough decisions to replay.

    Raises:
        UnavailableError: one was refused.
    """
    answered = 0
    while answered < decisions * 1.05:
        tally = run(closed_loop(server.target, server.source, seconds=2.0, connections=64))
        must_be_sound(tally, server.name)
        answered += tally.answered


@dataclass
class _Watched:
    """Payments, and when decisions began to name another version."""

    payments: Payments
    changes: list[tuple[float, str]] = field(default_factory=list)

    def next(self) -> tuple[bytes, Sent]:
        return self.payments.next()

    def answered(self, sent: Sent, status: int, body: bytes) -> None:
        found = _VERSION.search(body)
        version = found[1].decode() if found else ""
        if not self.changes or self.changes[-1][1] != version:
            self.changes.append((time.monotonic(), version))

    def settled(self, version: str, since: float) -> float | None:
        """Seconds from a moment to when all decisions were by a version; None: they are not.

        0 where they were all along: what was to decide in between was gone before it did.
        """
        at, name = self.changes[-1]
        return max(0.0, at - since) if name == version else None


@dataclass
class _Bench:
    """One scorer under a steady load, and what became of all requests."""

    server: Server
    sent: int = 0
    failures: int = 0
    said: list[str] = field(default_factory=list)

    def during(self, step: Callable[..., Step], *words: object) -> tuple[Step, _Watched]:
        """Do a step in another process while payments come; what was done and seen."""
        assert isinstance(self.server.source, Payments)  # noqa: S101 -- as above
        watched = _Watched(self.server.source)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            future = pool.submit(step, *words)
            until = _until(future)
            moments = itertools.takewhile(until, poisson(RATE, _SEED))
            tally = run(
                open_loop(
                    self.server.target,
                    watched,
                    moments,
                    seconds=_LONGEST_SECONDS,
                    connections=_CONNECTIONS,
                )
            )
            done = future.result()
        self.sent += tally.sent
        self.failures += tally.sent - tally.answered
        self.said += tally.first_failures
        return done, watched

    def failed(self) -> Row:
        """How many of all requests had no decision."""
        return Row(
            measure="all of it: requests without a decision",
            value=float(self.failures),
            unit="failed",
            at_most=0,
            note="; ".join([f"of {self.sent:,}", *self.said]),
        )


def _until(future: Future[Step]) -> Callable[[int], bool]:
    """Whether payments are still to be sent: until some time after a step is over."""
    over: list[float] = []
    future.add_done_callback(lambda _: over.append(time.monotonic()))
    return lambda _: not over or time.monotonic() - over[0] < _AFTER_SECONDS


def _flips(bench: _Bench, home: Path) -> Iterator[Row]:
    for version in (UPDATE, GOOD):
        step, watched = bench.during(healing_steps.flip, home, version)
        yield Row(
            measure=f"pointer flip to version {version}: until all decisions are by it",
            value=watched.settled(version, step.began),
            unit="s",
            at_most=10,
            note=f"{step.told()}: imported and connected",
        )


def _updated(bench: _Bench, home: Path, replayed: int) -> Iterator[Row]:
    step, watched = bench.during(healing_steps.update, home, UPDATE, replayed)
    yield Row(
        measure=f"model update with golden rows and {replayed:,} replayed payments",
        value=watched.settled(UPDATE, step.began),
        unit="s",
        at_most=45,
        note=step.told(),
    )


def _rolled_back(bench: _Bench, home: Path, tick_seconds: float) -> Iterator[Row]:
    step, watched = bench.during(healing_steps.release, home, BAD, tick_seconds)
    yield Row(
        measure="bad release to roll-back done: until all decisions are by the version before",
        value=watched.settled(UPDATE, step.began),
        unit="s",
        at_most=120,
        note=f"{step.told()}; a tick every {tick_seconds:g} s",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
