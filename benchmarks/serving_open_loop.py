"""How long answers take at a given rate, and while the model is swapped; or why nobody can tell."""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import Row, without
from benchmarks.serving_servers import CONNECTIONS, Server, must_be_sound, run
from fraud_platform.adapters.processor_time import spread, waiting
from fraud_platform.load.loops import Source, open_loop, poisson
from fraud_platform.load.payments import Payments, Sent
from fraud_platform.load.report import NOT_MEASURABLE, Report

RATES = (300, 1_000)
_SEED = 20_260_105
_QUIET = 0.05
"""A scorer that waited for a processor for more of its time was not alone."""
_SYNCS = 200
_SWAPS_AT = 0.25
"""Share of a run after which the model is swapped."""


def rates(server: Server, home: Path, seconds: float) -> Iterator[Row]:
    """Latency at each rate, from the moment a payment should have been sent."""
    sync_ms = _sync_ms(home)
    yield Row(
        measure="disk: fdatasync of 4 KiB, p99",
        value=sync_ms[_place(sync_ms, 99)],
        unit="ms",
        note=f"p50 {statistics.median(sync_ms):.2f} ms, the floor of a durable answer",
    )
    spread(server.process.pid)  # the drain beside it must not have to share its one processor
    goals = {300: 2 * sync_ms[_place(sync_ms, 99)] + 5, 1_000: 25.0}
    for rate in RATES:
        report = _asked(server, server.source, rate, seconds)
        yield _latency(report, "p50", 0.5, None)
        yield _latency(report, "p99", 0.99, goals[rate])


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
    report = _asked(server, watch, RATES[0], seconds)
    timer.join()
    took = Row(
        measure="hot swap: from the pointer's move to the first decision by it",
        unit="s",
        at_most=1,
        note="polled every second",
    )
    failed = Row(
        measure=f"hot swap at {RATES[0]}/s: requests without a decision",
        value=float(report.tally.sent - report.tally.answered),
        unit="failed",
        at_most=0,
        note=f"of {report.tally.sent:,}",
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


def _asked(server: Server, source: Source[Sent], rate: float, seconds: float) -> Report:
    # What runs below it drains the journal: no answer waits for that.
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
    share = waiting(server.process.pid, alone=True).share_since(before)
    return Report(tally=tally, rate=rate, seconds=seconds, run_queue_share=share)


def _latency(report: Report, name: str, share: float, at_most: float | None) -> Row:
    queue = report.run_queue_share or 0.0
    value = report.latency_ms(share)
    row = Row(
        measure=f"open loop at {report.rate:,.0f}/s: {name}",
        value=value,
        unit="ms",
        at_most=at_most,
        note=f"run queue {queue:.1%}, generator late {report.lateness_ms(share):.2f} ms",
    )
    if queue >= _QUIET:
        return without(f"not measurable (run queue {queue:.0%})", row)[0]
    return row if value is not None else without(NOT_MEASURABLE, row)[0]


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
