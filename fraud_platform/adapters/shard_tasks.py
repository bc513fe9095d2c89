"""The tasks of `sharded_features`: each reads files, computes, and hands files on.

They keep no state and may run in any process, in any order within a pass, and again.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import polars as pl

from fraud_platform.adapters.memory import peak_mb, restart_peak
from fraud_platform.adapters.shard_files import Stretch, put, take
from fraud_platform.features import batch
from fraud_platform.features.declaration import Feature
from fraud_platform.features.shards import card_side, join, mark, split, terminal_side
from fraud_platform.schemas import LABELS, TRANSACTIONS

_SAMPLES = 100
"""Seqs drawn per part of the output, to cut the log evenly."""
EVERY_SEQ = (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Plan:
    """What every task must know.

    Attributes:
        work: where files are handed on.
        shards: of cards and of terminals.
        since: first event time answered.
        features: what to compute.
        rows_at_a_time: of input and output.
        cuts: seqs at which the log is cut into parts, both ends included.
    """

    work: Path
    shards: int
    since: datetime | None
    features: tuple[Feature, ...]
    rows_at_a_time: int
    cuts: tuple[int, ...] = EVERY_SEQ


@dataclass(frozen=True)
class Done:
    """What a task, or all of them, tell: payments, the largest shard, memory, a few seqs."""

    rows: int
    peak_mb: int
    largest_shard_rows: int = 0
    seqs: tuple[int, ...] = ()


def scatter_payments(plan: Plan, stretch: Stretch) -> Done:
    """Hand the payments of a stretch to the shards of their cards."""
    restart_peak()
    height, seqs = 0, []
    for number, rows in enumerate(stretch.read(plan.rows_at_a_time)):
        for shard, some in split(rows, "card_id", plan.shards).items():
            put(plan.work, "card-rows", shard, f"{stretch.number:06}-{number:06}", some)
        wanted = (
            rows if plan.since is None else rows.filter(pl.col("event_timestamp") >= plan.since)
        )
        seqs += wanted["seq"].to_list()[:: max(plan.rows_at_a_time // _SAMPLES, 1)]
        height += rows.height
    return Done(height, peak_mb(), seqs=tuple(seqs))


def scatter_verdicts(plan: Plan, stretch: Stretch) -> Done:
    """Hand the verdicts of a stretch to the shards of both their card and their terminal."""
    restart_peak()
    height = 0
    for number, rows in enumerate(stretch.read(plan.rows_at_a_time)):
        for side in ("card", "terminal"):
            for shard, some in split(rows, f"{side}_id", plan.shards).items():
                put(plan.work, f"{side}-labels", shard, f"{stretch.number:06}-{number:06}", some)
        height += rows.height
    return Done(height, peak_mb())


def card_shard(plan: Plan, shard: int) -> Done:
    """Compute the card's features, and hand the payments, marked, to their terminals' shards."""
    restart_peak()
    found = take(plan.work, "card-rows", shard)
    if not found:
        return Done(0, peak_mb())
    rows = mark(pl.concat(found), plan.features)
    found.clear()
    for terminal_shard, some in split(rows, "terminal_id", plan.shards).items():
        put(plan.work, "terminal-rows", terminal_shard, f"{shard:06}", some)
    _compute(plan, "card", shard, rows, card_side(plan.features))
    return Done(rows.height, peak_mb())


def terminal_shard(plan: Plan, shard: int) -> Done:
    """Compute the terminal's features from payments that their cards have marked."""
    restart_peak()
    found = take(plan.work, "terminal-rows", shard)
    if not found:
        return Done(0, peak_mb())
    rows = pl.concat(found)
    found.clear()
    _compute(plan, "terminal", shard, rows, terminal_side(plan.features))
    return Done(rows.height, peak_mb())


def _compute(
    plan: Plan, side: str, shard: int, rows: pl.DataFrame, features: tuple[Feature, ...]
) -> None:
    """One shard's features, cut into the parts of the output."""
    labels = pl.concat([LABELS.empty(), *take(plan.work, f"{side}-labels", shard)])
    table = batch.compute(rows, labels, since=plan.since, features=features)
    places = table["seq"].search_sorted(pl.Series(plan.cuts, dtype=pl.Int64)).to_list()
    for part, (first, last) in enumerate(pairwise(places)):
        put(plan.work, f"{side}-parts", part, f"{shard:06}", table[first:last])


def part(plan: Plan, number: int) -> Done:
    """Put both sides of one stretch of the log together and write it to the output."""
    restart_peak()
    sides = [take(plan.work, f"{side}-parts", number) for side in ("card", "terminal")]
    if not any(sides):
        no_rows = batch.compute(TRANSACTIONS.empty(), LABELS.empty(), features=plan.features)
        sides = [[no_rows], [no_rows]]
    rows = join(sides[0], sides[1], plan.features)
    path = plan.work / "out" / f"part-{number:05}.parquet"
    path.parent.mkdir(exist_ok=True)
    rows.write_parquet(path, compression="zstd", compression_level=1)
    return Done(rows.height, peak_mb())


def cuts_between(seqs: list[int]) -> tuple[int, ...]:
    """Where to cut the log into parts, from evenly drawn seqs of the payments wanted."""
    return (EVERY_SEQ[0], *sorted(seqs)[_SAMPLES::_SAMPLES], EVERY_SEQ[1])
