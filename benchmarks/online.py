"""The online state: one event at a time, from nothing, from the log, and against Feast's SDK."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
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
_REPLAY_GOALS = {"kernel": 40}
_CHUNK = 20_000
_ASKED = 300
"""Vectors asked from Feast."""


@dataclass(frozen=True)
class _Steady:
    """What one event costs a state that has its whole look-back.

    Attributes:
        events: how many were measured.
        cost: of reading (payments only) and applying all of them.
        cpu_us: CPU of reading and applying each payment, microseconds, ascending.
        wall_us: the same by the clock on the wall: other programs' turns are in it.
    """

    events: int
    cost: Cost
    cpu_us: list[float]
    wall_us: list[float]

    def latency(self, percent: int, **goal: float) -> Row:
        """A percentile."""
        place = (len(self.cpu_us) - 1) * percent // 100
        note = f"wall {self.wall_us[place]:,.1f} us; {len(FEATURES)} features, last {self.events:,}"
        return Row(
            measure=f"online: read + apply, p{percent} of CPU time",
            value=self.cpu_us[place],
            unit="us",
            note=f"{note} events",
            at_most=goal.get("at_most"),
        )


def online(
    log: Journal, computed: pl.DataFrame, batch_costs: dict[str, Cost | str], folder: Path
) -> Iterator[Row]:
    """Latency and cost per event, rebuilding, and a whole replay.

    Args:
        log: all events.
        computed: the batch table of the log.
        batch_costs: of computing the same features of the same log at once, by engine.
        folder: for files.
    """
    lookback = since_lookback(log)
    told = lookback.told()
    last = min(LAST, lookback.events // 2)
    rings = FeatureRings()
    fold = _folded(rings, islice(told, lookback.events - last))
    steady = _steady(rings, list(told))
    yield steady.latency(50)
    yield steady.latency(99, at_most=50)
    whole = log.events / steady.events
    replay = Cost(steady.cost.cpu * whole, steady.cost.wall * whole)
    for name, cost in batch_costs.items():
        row = Row(measure=f"online: replay of all events / {name}", at_most=_REPLAY_GOALS.get(name))
        yield without(cost, row)[0] if isinstance(cost, str) else row.of(replay, cost)
    yield from _rebuilding(rings, fold, lookback, folder)
    yield from _against_feast(steady, computed, folder)


def since_lookback(log: Journal) -> Journal:
    """The part of the log that a scorer started now would need."""
    newest: Any = log.transactions["event_timestamp"].max()
    needed = pl.col("event_timestamp") >= newest - LOOKBACK - LATENESS
    return Journal(log.transactions.filter(needed), log.labels.filter(needed))


def _folded(rings: FeatureRings, told: Iterator[Event]) -> Cost:
    """What applying the events costs, without making them."""
    costs = []
    while events := list(islice(told, _CHUNK)):
        _, cost = measured(partial(_apply, rings, events))
        costs.append(cost)
    return Cost(sum(cost.cpu for cost in costs), sum(cost.wall for cost in costs))


def _apply(rings: FeatureRings, events: list[Event]) -> None:
    for event in events:
        rings.apply(event)


def _steady(rings: FeatureRings, events: list[Event]) -> _Steady:
    cpu_clock, wall_clock = time.thread_time_ns, time.perf_counter_ns
    cpu_us, wall_us = [], []

    def run() -> None:
        for event in events:
            wall, cpu = wall_clock(), cpu_clock()
            if isinstance(event, TransactionEvent):
                rings.read(event.transaction)
                rings.apply(event)
                cpu_us.append((cpu_clock() - cpu) / 1e3)
                wall_us.append((wall_clock() - wall) / 1e3)
            else:
                rings.apply(event)

    _, cost = measured(run)
    return _Steady(len(events), cost, sorted(cpu_us), sorted(wall_us))


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
    theirs, ours = cost.cpu / len(keys), steady.cost.cpu / steady.events
    yield Row(
        measure="online: vectors per CPU-second / Feast's SDK, stored vectors",
        value=theirs / ours,
        at_least=100,
        note=f"{1 / ours:,.0f} / {1 / theirs:,.0f} per CPU-second",
    )
