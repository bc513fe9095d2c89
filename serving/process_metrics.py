"""What the process itself does to answers: pauses of the garbage collector, waiting for a core."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_PAUSES = (0.0001, 0.001, 0.005, 0.02, 0.1, 0.5)
_SCHEDSTAT = Path("/proc/self/schedstat")


@contextmanager
def watched_process(registry: CollectorRegistry) -> Iterator[None]:
    """Have the process in a registry: pauses, run queue, memory, open files, processor time."""
    pause = Histogram(
        "fraud_gc_pause_seconds", "Garbage collections", buckets=_PAUSES, registry=None
    )
    started = 0.0

    def measure(phase: str, _: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            pause.observe(time.perf_counter() - started)

    collectors = (pause, _RunQueue(), ProcessCollector(registry=None))
    for collector in collectors:
        registry.register(collector)
    gc.callbacks.append(measure)
    try:
        yield
    finally:
        gc.callbacks.remove(measure)
        for collector in collectors:
            registry.unregister(collector)


class _RunQueue(Collector):
    """How long the main thread was ready to run while other programs had the cores."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        try:
            waited = int(_SCHEDSTAT.read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return  # this system does not say: no figure is better than a made-up one
        yield CounterMetricFamily(
            "fraud_run_queue_seconds", "Ready to run, waiting for a core", value=waited
        )
