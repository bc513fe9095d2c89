"""How long answers take at a given rate, above the floor of a server that does nothing.

Both are asked in turn, with the same arrivals. What the scorer's threads waited for a processor is
part of its latency, and of the floor's; where it is more than a small part, the machine was not
ours: the figures are printed and not judged. The same while the model is swapped.
"""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, without
from benchmarks.serving_servers import CONNECTIONS, Server, must_be_sound, run
from fraud_platform.adapters.processor_time import spread, waiting
from fraud_platform.load.loops import Source, open_loop, poisson
from fraud_platform.load.payments import Payments, Sent
from fraud_platform.load.report import NOT_MEASURABLE, PERCENTILES, Report

RATES = (300, 1_000)
_SEED = 20_260_105
_QUIET = 0.05
"""Where waiting for a processor is more of the median latency than this, nothing is judged."""
_SYNCS = 200
_SWAPS_AT = 0.25
"""Share of a run after which the model is swapped."""


def rates(server: Server, floor: Server, home: Path, seconds: float) -> Iterator[Row]:
    """Latency at each rate, from the moment a payment should have been sent.

    Args:
        server: the scorer.
        floor: a server that reads the same payments and does nothing with them.
        home: a folder on the scorer's disk.
        seconds: how long each is asked at each rate.
    """
    sync_ms = _sync_ms(home)
    yield Row(
        measure="disk: fdatasync of 4 KiB, p99",
        value=sync_ms[_place(sync_ms, 99)],
        unit="ms",
        note=f"p50 {statistics.median(sync_ms):.2f} ms, the floor of a durable answer",
    )
    for one in (server, floor):
        spread(one.process.pid)  # the drain beside it must not have to share its one processor
    goals = {300: 2 * sync_ms[_place(sync_ms, 99)] + 5, 1_000: 25.0}
    for rate in RATES:
        below = _asked(floor, floor.source, rate, seconds)
        report = _asked(server, server.source, rate, seconds)
        yield _latency(report, below, "p50", None)
        yield _latency(report, below, "p99", goals[rate])


def swap(server: Server, publish: Callable[[], None], version: str, seconds: float) -> list[Row]:
    """Another model under load: who failed, and how long it took from the pointer's move.

    Args:
        server: the scorer.
        publish: moves the pointer.
        version: of the model that the pointer then names.
        seconds: how long to ask.
    """
    assert isinstance(server.source, Payments)  # noqa: S101 -- a scorer is asked about payments
    watch = _Watch(server.source, version)

    def act() -> None:
        watch.published = time.monotonic()
        publish()

    timer = threading.Timer(seconds * _SWAPS_AT, act)
    timer.start()
    tally = _asked(server, watch, RATES[0], seconds).report.tally
    timer.join()
    took = Row(
        measure="hot swap: from the pointer's move to the first decision by it",
        unit="s",
        at_most=1,
        note="polled every second",
    )
    failed = Row(
        measure=f"hot swap at {RATES[0]}/s: requests without a decision",
        value=float(tally.sent - tally.answered),
        unit="failed",
        at_most=0,
        note=f"of {tally.sent:,}",
    )
    if watch.seen is None:
        return [failed, without("no decision by it within the run", took)[0]]
    return [failed, replace(took, value=watch.seen - watch.published)]


@dataclass
class _Watch:
    """Payments, and when the first was decided by a version."""

    payments: Payments
    version: str
    published: float = 0.0
    seen: float | None = None

    def next(self) -> tuple[bytes, Sent]:
        return self.payments.next()

    def answered(self, sent: Sent, status: int, body: bytes) -> None:
        if self.seen is None and f'"model_version":"{self.version}"'.encode() in body:
            self.seen = time.monotonic()


@dataclass(frozen=True)
class _Asked:
    """One run of an open loop.

    Attributes:
        report: what the generator saw.
        queued: what the server's threads waited for a processor for each answer, as a share of the
            median latency.
    """

    report: Report
    queued: float


def _asked(server: Server, source: Source[Any], rate: float, seconds: float) -> _Asked:
    # Its threads are on the way of every answer; what runs below it drains the journal.
    before = waiting(server.process.pid, alone=True)
    tally = run(
        open_loop(
            server.target,
            source,
            poisson(rate, _SEED),
            seconds=seconds,
            connections=CONNECTIONS,
        )
    )
    must_be_sound(tally, server.name)
    waited = waiting(server.process.pid, alone=True).waited - before.waited
    queued = waited / tally.answered / tally.latency.at(0.5)
    return _Asked(Report(tally=tally, rate=rate, seconds=seconds), queued)


def _latency(asked: _Asked, floor: _Asked, name: str, at_most: float | None) -> Row:
    report, share = asked.report, PERCENTILES[name]
    value, below = report.latency_ms(share), floor.report.latency_ms(share)
    told = "not measurable" if below is None else f"{below:.2f} ms"
    row = Row(
        measure=f"open loop at {report.rate:,.0f}/s: {name}",
        value=value,
        unit="ms",
        at_most=at_most,
        note=f"floor (hello) {told}; run queue {asked.queued:.1%} of the median, the floor's"
        f" {floor.queued:.1%}; generator late {report.lateness_ms(share):.2f} ms",
    )
    if value is None:
        return without(NOT_MEASURABLE, row)[0]
    if asked.queued < _QUIET:
        return row
    goal = "" if at_most is None else f" (goal {row.goal})"
    return replace(row, at_most=None, note=f"not judged, busy machine{goal}: {row.note}")


def _sync_ms(folder: Path) -> list[float]:
    """How long it takes to make a page of a growing file durable, ascending."""
    path, times = folder / "sync.tmp", []
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in itertools.repeat(None, _SYNCS):
            started = time.perf_counter()
            os.write(file, b"\0" * 4_096)
            os.fdatasync(file)
            times.append((time.perf_counter() - started) * 1e3)
    finally:
        os.close(file)
        path.unlink()
    return sorted(times)


def _place(ascending: list[float], percent: int) -> int:
    return (len(ascending) - 1) * percent // 100
