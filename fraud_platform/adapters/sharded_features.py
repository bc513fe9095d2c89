"""The whole feature table from Parquet files into Parquet files, without holding it in memory.

Four passes; each is a list of independent tasks that hand files, never rows, to the next:

1. scatter: each stretch of the input goes to the shards of its cards;
2. card shards: features of the card; the payments, marked, go on to the shards of their terminals;
3. terminal shards: features of the terminal;
4. parts: both sides of a stretch of the log, side by side in seq order.

The tasks run one after the other in this process, or on a Dask cluster whose workers see the same
folders: `Runner`. At most one shard, or one part, per process is in memory at a time.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl

from fraud_platform.adapters import shard_tasks
from fraud_platform.adapters.memory import peak_mb, resident_mb, restart_peak
from fraud_platform.adapters.shard_files import Stretch, stretches
from fraud_platform.errors import PermanentError
from fraud_platform.features.declaration import Feature
from fraud_platform.features.shards import inputs
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.table_digest import TableDigest
from fraud_platform.schemas import LABELS, TRANSACTIONS

Item = TypeVar("Item")
Result = TypeVar("Result")


class Runner(Protocol):
    """How a pass is run: every task once, results in the order of the items."""

    def __call__(
        self, task: Callable[[Item], Result], items: Sequence[Item], /
    ) -> Sequence[Result]:
        """Run a task on each item."""
        ...


class DaskClient(Protocol):
    """The part of `distributed.Client` that is used; the library itself is not needed here."""

    def map(self, func: Callable[[Any], Any], *items: Sequence[Any], pure: bool) -> Any:
        """Start a task per item."""
        ...

    def gather(self, futures: Any) -> Any:
        """Wait for the results."""
        ...


def one_after_the_other(
    task: Callable[[Item], Result], items: Sequence[Item], /
) -> Sequence[Result]:
    """Run a pass in this process."""
    return [task(item) for item in items]


def on_dask(client: DaskClient) -> Runner:
    """Run passes on a Dask cluster; its workers must see input and output under the same paths.

    Args:
        client: a connected `distributed.Client`. One thread per worker keeps the memory of a
            worker at one shard.
    """

    def run(task: Callable[[Item], Result], items: Sequence[Item], /) -> Sequence[Result]:
        # Impure: the same shard of another run must be computed again.
        return list(client.gather(client.map(task, list(items), pure=False)))

    return run


@dataclass(frozen=True, kw_only=True)
class ScaleOutReport:
    """What was computed, and how much memory it took.

    Attributes:
        rows: payments in the output.
        features: columns of features.
        shards: into how many shards cards and terminals were split.
        largest_shard_rows: payments of the largest shard; memory grows with it.
        parts: files of the output.
        digest: `TableDigest` of the output in seq order.
        start_memory_mb: resident memory of this process before, MiB.
        peak_memory_mb: largest resident memory of any process that took part, MiB. Where the
            system cannot reset its record (it is not Linux), of the process's whole life.
    """

    rows: int
    features: int
    shards: int
    largest_shard_rows: int
    parts: int
    digest: str
    start_memory_mb: int
    peak_memory_mb: int

    def to_dict(self) -> dict[str, int | str]:
        """The fields by name, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """The fields as aligned lines, for people."""
        return "\n".join(
            f"{name.replace('_', ' '):<20}{value:>14,}"
            if isinstance(value, int)
            else f"{name:<20}{value}"
            for name, value in self.to_dict().items()
        )


def compute_out_of_core(  # noqa: PLR0913 -- the pure core of it takes as many
    transactions: Path,
    labels: Path,
    out: Path,
    *,
    shards: int,
    since: datetime | None = None,
    features: tuple[Feature, ...] = FEATURES,
    rows_at_a_time: int = 100_000,
    run: Runner = one_after_the_other,
) -> ScaleOutReport:
    """Every feature of every payment, bit for bit what `batch.compute` answers, on disk.

    Memory is bounded by the largest shard: a single card or terminal is never divided.

    Args:
        transactions: a Parquet file, or a folder of them, with `schemas.TRANSACTIONS` rows in any
            order; they must reach `LOOKBACK` further back than the first row wanted.
        labels: the same for `schemas.LABELS`.
        out: the folder to write: `part-00000.parquet`, ..., in seq order. It must not exist, and
            appears whole or not at all.
        shards: into how many shards cards and terminals are split, >= 1.
        since: answer only for payments at or after this time (UTC); None: for all.
        features: what to compute.
        rows_at_a_time: rows of the input, and of one file of the output, in memory at a time.
        run: where the tasks run.

    Raises:
        PermanentError: `out` exists, or `shards` is not positive.
        DataContractError: the input is missing or lacks columns.
    """
    if out.exists() or shards < 1:
        raise PermanentError(
            f"found {out} {'present' if out.exists() else 'absent'} and {shards} shards, expected"
            " a folder that does not exist yet and at least one shard",
            hint="name another output folder, or remove it",
        )
    start_mb = resident_mb()
    restart_peak()
    with _workshop(out) as work:
        plan = shard_tasks.Plan(work, shards, since, features, rows_at_a_time)
        done = _passes(plan, _inputs(transactions, labels, plan), run)
        parts = sorted((work / "out").glob("*.parquet"))
        digest = TableDigest()
        for part in parts:
            digest.update(pl.read_parquet(part))
        (work / "out").rename(out)
    return ScaleOutReport(
        rows=done.rows,
        features=len(features),
        shards=shards,
        largest_shard_rows=done.largest_shard_rows,
        parts=len(parts),
        digest=digest.hexdigest(),
        start_memory_mb=start_mb,
        peak_memory_mb=max(done.peak_mb, peak_mb()),
    )


def _passes(
    plan: shard_tasks.Plan, source: dict[str, list[Stretch]], run: Runner
) -> shard_tasks.Done:
    """The four passes, each after the one before; what a pass has used up is removed."""
    scattered = [
        *run(partial(shard_tasks.scatter_payments, plan), source["transactions"]),
        *run(partial(shard_tasks.scatter_verdicts, plan), source["labels"]),
    ]
    plan = replace(
        plan, cuts=shard_tasks.cuts_between([seq for done in scattered for seq in done.seqs])
    )
    shards = list(range(plan.shards))
    cards = run(partial(shard_tasks.card_shard, plan), shards)
    shutil.rmtree(plan.work / "card-rows", ignore_errors=True)
    terminals = run(partial(shard_tasks.terminal_shard, plan), shards)
    shutil.rmtree(plan.work / "terminal-rows", ignore_errors=True)
    parts = run(partial(shard_tasks.part, plan), list(range(len(plan.cuts) - 1)))
    return shard_tasks.Done(
        rows=sum(done.rows for done in parts),
        peak_mb=max(done.peak_mb for done in [*scattered, *cards, *terminals, *parts]),
        largest_shard_rows=max(done.rows for done in [*cards, *terminals]),
    )


def _inputs(transactions: Path, labels: Path, plan: shard_tasks.Plan) -> dict[str, list[Stretch]]:
    columns = {name: TRANSACTIONS.columns[name] for name in inputs(plan.features)}
    return {
        "transactions": stretches(transactions, columns, plan.rows_at_a_time),
        "labels": stretches(labels, LABELS.columns, plan.rows_at_a_time),
    }


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder beside the output, on the same disk, that leaves nothing behind."""
    work = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work)
