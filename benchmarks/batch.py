"""The batch engines against the disk, against late rows, and against a growing history."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.data import backfilled, repeated, thinned
from benchmarks.measure import Cost, Row, found, measured, without
from fraud_platform.errors import FraudPlatformError
from fraud_platform.features import batch
from fraud_platform.features.journal import Journal
from fraud_platform.features.shards import inputs
from fraud_platform.features.spec import FEATURES

Compute = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]

GROWTH = (1, 4, 16)
_RUNS = 2
"""Of everything that is compared, on both sides of a ratio."""
_BACKFILL_PARTS = 16
_WARM_UP_ROWS = 20_000
_SEED = 20_260_105


@dataclass(frozen=True)
class Computed:
    """What the batch engines answered for the whole log, and what that cost.

    Attributes:
        features: the answer.
        costs: of each engine by its name, or why there is none.
    """

    features: pl.DataFrame
    costs: dict[str, Cost | str]


def against_the_disk(log: Journal, folder: Path) -> tuple[Computed, list[Row]]:
    """Read, compute and write, over reading and writing the same files."""
    files = _Files.of(log, folder)
    (payments, labels), read = measured(files.read, _RUNS)
    features, compute = measured(lambda: batch.compute(payments, labels), _RUNS)
    _, write = measured(lambda: files.write(features), _RUNS)
    kernel = _kernel_cost(Journal(payments, labels), features)
    floor = _sum(read, write)
    rows = [
        Row(
            measure="batch (Polars): CPU per row",
            value=compute.cpu / features.height * 1e6,
            unit="us",
            note=f"{compute} for {len(FEATURES)} features of {features.height:,} rows",
        ),
        Row(measure="batch (Polars): read + compute + write / read + write", at_most=3).of(
            _sum(compute, floor), floor
        ),
    ]
    over_disk = Row(measure="kernel: read + compute + write / read + write", at_most=1.5)
    over_read = Row(measure="kernel: compute / reading the input", at_most=5)
    if isinstance(kernel, str):
        rows += without(kernel, over_disk, over_read)
    else:
        rows += [over_disk.of(_sum(kernel, floor), floor), over_read.of(kernel, read)]
    return Computed(features, {"batch (Polars)": compute, "kernel": kernel}), rows


def _kernel_cost(log: Journal, features: pl.DataFrame) -> Cost | str:
    kernel = _engines()["kernel"]
    if isinstance(kernel, str):
        return kernel
    compute: Compute = kernel
    warm_up(compute, log)
    table, cost = measured(lambda: compute(log.transactions, log.labels), _RUNS)
    return cost if table.equals(features) else "its values differ from those of Polars"


def warm_up(compute: Compute, log: Journal) -> None:
    """Have everything compiled before it is measured, also what only late rows need."""
    payments = log.transactions.head(_WARM_UP_ROWS)
    labels = log.labels.join(payments, on="transaction_id", how="semi", maintain_order="left")
    some = Journal(payments, labels).disturbed(late=0.05, seed=_SEED)
    compute(some.transactions, some.labels)


@dataclass(frozen=True)
class _Files:
    """The input as Parquet files, and where the output goes; zstd level 1, as tables are stored."""

    payments: Path
    labels: Path
    out: Path

    @classmethod
    def of(cls, log: Journal, folder: Path) -> "_Files":
        files = cls(*(folder / f"{name}.parquet" for name in ("payments", "labels", "out")))
        payments = log.transactions.select(inputs(FEATURES))
        payments.write_parquet(files.payments, compression="zstd", compression_level=1)
        log.labels.write_parquet(files.labels, compression="zstd", compression_level=1)
        return files

    def read(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        return pl.read_parquet(self.payments), pl.read_parquet(self.labels)

    def write(self, features: pl.DataFrame) -> None:
        features.write_parquet(self.out, compression="zstd", compression_level=1)


def late_rows(log: Journal) -> Iterator[Row]:
    """The same facts, one percent of them late, over all of them in the order of event time."""
    in_order, late = (log.disturbed(late=share, seed=_SEED) for share in (0.0, 0.01))
    for name, compute in _engines().items():
        row = Row(measure=f"{name}: 1 % of rows late / all in order of event time", at_most=1.5)
        yield _over(row, compute, late, in_order)


def backfill(log: Journal) -> Iterator[Row]:
    """The older half of the same facts ingested second, over all of them in order."""
    in_order = thinned(log, _BACKFILL_PARTS)
    late = backfilled(in_order)
    for name, compute in _engines().items():
        row = Row(measure=f"{name}: backfill, the older half ingested second / in order")
        yield _over(row, compute, late, in_order)


def _over(row: Row, compute: Compute | str, one: Journal, other: Journal) -> Row:
    """The cost of one log over that of another, of as many rows."""
    if isinstance(compute, str):
        return without(compute, row)[0]
    try:
        costs = [
            measured(partial(compute, log.transactions, log.labels), _RUNS)[1]
            for log in (one, other)
        ]
    except FraudPlatformError as error:
        return without(f"refused: {error.message}", row)[0]
    told = row.of(*costs)
    return replace(told, note=f"{told.note}, {one.transactions.height:,} rows")


def growing_history(log: Journal) -> Iterator[Row]:
    """CPU per row of the same cards and terminals over 1, 4 and 16 times as long a history."""
    small = thinned(log, GROWTH[-1])
    logs = {times: repeated(small, times) for times in GROWTH}
    for name, compute in _engines().items():
        rows = [
            Row(measure=f"{name}: CPU per row, history {times}x / 1x", at_most=1.2)
            for times in GROWTH[1:]
        ]
        if isinstance(compute, str):
            yield from without(compute, *rows)
            continue
        costs = {
            times: measured(partial(compute, long.transactions, long.labels), _RUNS)[1].cpu
            / long.transactions.height
            for times, long in logs.items()
        }
        told = ", ".join(f"{times}x {cost * 1e6:.2f} us" for times, cost in costs.items())
        for row, times in zip(rows, GROWTH[1:], strict=True):
            note = f"{small.transactions.height:,} rows: {told}"
            yield replace(row, value=costs[times] / costs[1], note=note)


def _engines() -> dict[str, Compute | str]:
    """The batch engines by name, or why one cannot be used."""
    kernel, why = found("fraud_platform.features.kernel")
    return {"batch (Polars)": batch.compute, "kernel": why or kernel.compute}


def _sum(*costs: Cost) -> Cost:
    return Cost(sum(cost.cpu for cost in costs), sum(cost.wall for cost in costs))
