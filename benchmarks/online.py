"""The online state: one event at a time, from nothing, from the log, and against Feast's SDK."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.measure import Cost, Row, measured, without
from fraud_platform.events import Event, TransactionEvent
from fraud_platform.features.journal import Journal
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import FEATURES, LATENESS, LOOKBACK

LAST = 50_000
"""Events measured one by one, after all that came before them."""
_ASKED = 300
"""Vectors asked from Feast."""


@dataclass(frozen=True)
class _Steady:
    """What one event costs a state that has its whole look-back.

    Attributes:
        events: how many were measured.
        cpu: of reading (payments only) and applying all of them.
        p50: of a payment's read and apply, wall, microseconds.
        p99: the same.
    """

    events: int
    cpu: Cost
    p50: float
    p99: float


def online(log: Journal, computed: pl.DataFrame, batch_cost: Cost, folder: Path) -> Iterator[Row]:
    """Latency and cost per event, rebuilding, and a whole replay.

    Args:
        log: all events.
        computed: the batch table of the log.
        batch_cost: of computing the same features of the same log at once.
        folder: for files.
    """
    lookback = _since_lookback(log)
    events = list(lookback.told())
    warm_up = len(events) - min(LAST, len(events) // 2)
    rings = FeatureRings()
    _, fold = measured(lambda: _apply(rings, events[:warm_up]))
    steady = _steady(rings, events[warm_up:])
    note = f"{len(FEATURES)} features, the last {steady.events:,} events, {steady.cpu}"
    yield Row(measure="online: read + apply, p50", value=steady.p50, unit="us", note=note)
    p99 = Row(measure="online: read + apply, p99", value=steady.p99, unit="us", at_most=50)
    yield replace(p99, note=note)
    whole = log.events / steady.events
    replay = Cost(steady.cpu.cpu * whole, steady.cpu.wall * whole)
    row = Row(measure="online: replay of all events / batch (Polars)", at_most=40)
    yield row.of(replay, batch_cost)
    yield from _rebuilding(rings, fold, lookback, folder)
    yield from _against_feast(steady, computed, folder)


def _since_lookback(log: Journal) -> Journal:
    """The part of the log that a scorer started now would need."""
    newest: Any = log.transactions["event_timestamp"].max()
    needed = pl.col("event_timestamp") >= newest - LOOKBACK - LATENESS
    return Journal(log.transactions.filter(needed), log.labels.filter(needed))


def _apply(rings: FeatureRings, events: list[Event]) -> None:
    for event in events:
        rings.apply(event)


def _steady(rings: FeatureRings, events: list[Event]) -> _Steady:
    clock, times = time.perf_counter_ns, []

    def run() -> None:
        for event in events:
            before = clock()
            if isinstance(event, TransactionEvent):
                rings.read(event.transaction)
                rings.apply(event)
                times.append(clock() - before)
            else:
                rings.apply(event)

    _, cost = measured(run)
    cuts = statistics.quantiles(times, n=100)
    return _Steady(len(events), cost, cuts[49] / 1e3, cuts[98] / 1e3)


def _rebuilding(rings: FeatureRings, fold: Cost, lookback: Journal, folder: Path) -> Iterator[Row]:
    paths = [folder / "lookback.parquet", folder / "lookback-labels.parquet"]
    for rows, path in zip((lookback.transactions, lookback.labels), paths, strict=True):
        rows.write_parquet(path, compression="zstd", compression_level=1)
    _, read = measured(lambda: [pl.read_parquet(path) for path in paths], 3)
    row = Row(measure="online: fold of the look-back / reading its Parquet", at_most=5)
    yield row.of(fold, read)
    saved = rings.snapshot()
    restored, cost = measured(lambda: FeatureRings.restore(saved))
    row = Row(measure="online: restore of a snapshot / reading the look-back", at_most=5)
    yield row.of(cost, read) if restored.last_seq == rings.last_seq else without("differs", row)[0]


def _against_feast(steady: _Steady, computed: pl.DataFrame, folder: Path) -> Iterator[Row]:
    """Exact vectors of ours over stored vectors of Feast's SDK, per CPU-second."""
    from fraud_platform.adapters.feature_store import FeatureStore

    stored = computed.tail(_ASKED)
    feast = FeatureStore(folder / "feast")
    feast.apply()
    feast.push(stored)
    keys = stored.select("card_id", "terminal_id").rows()
    feast.online(*keys[0])  # what is imported late is not measured
    _, cost = measured(lambda: [feast.online(*key) for key in keys])
    theirs, ours = cost.cpu / len(keys), steady.cpu.cpu / steady.events
    yield Row(
        measure="online: vectors per CPU-second / Feast's SDK, stored vectors",
        value=theirs / ours,
        at_least=100,
        note=f"{1 / ours:,.0f} / {1 / theirs:,.0f} per CPU-second",
    )
