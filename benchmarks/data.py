"""The log that the benchmarks run on: the public benchmark's, or a simulation of the same size."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from fraud_platform.adapters.ingest import read_mapping
from fraud_platform.adapters.replay_source import read_file
from fraud_platform.features.journal import Journal, journal
from fraud_platform.features.shards import shard_of
from fraud_platform.simulation.world import World, simulate
from fraud_platform.validation import ValidationPolicy

_ROOT = Path(__file__).parents[1]
_MAPPING = _ROOT / "tests" / "fixtures" / "handbook.yaml"
_FULL_SIZE = 1_500_000
_DAYS = 150
_KNOWN_AFTER = timedelta(days=7)
_AFTER_ALL = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Data:
    """A log, and where it comes from."""

    log: Journal
    origin: str


def handbook_path() -> Path:
    """Where the public benchmark's payments are, if this machine has them."""
    folder = Path(os.environ.get("FRAUD_BENCHMARK_DATA") or _ROOT.parent / "shared" / "data")  # noqa: TID251 -- where it lies differs from machine to machine
    return folder / "handbook" / "transactions.parquet"


def load(rows: int | None) -> Data:
    """The log to measure on.

    Args:
        rows: about so many payments: the first of the benchmark data, or a simulation that is as
            large; None: all of the benchmark data, or a simulation of its size.
    """
    path = handbook_path()
    if path.exists() and (rows is None or rows >= 100_000):
        return _first(_handbook(path), rows, f"handbook's simulation, {path.name}")
    size = rows or _FULL_SIZE
    world = World(
        # two payments per card and day, and some more, because chance may want fewer
        days=_DAYS,
        customers=max(size // (2 * _DAYS) * 5 // 4, 15),
        terminals=max(size // _DAYS, 10),
    )
    frame = simulate(world)
    labels = frame.filter("is_fraud").select(
        "transaction_id", "label_timestamp", verdict=pl.lit("fraud")
    )
    why = "too few rows asked for" if path.exists() else "no benchmark data"
    return _first(journal(frame, labels), size, f"the platform's own simulation ({why})")


def _handbook(path: Path) -> Journal:
    source = read_file(
        path,
        read_mapping(_MAPPING),
        policy=ValidationPolicy(),
        received=_AFTER_ALL,
        token_key=None,
    )
    return source.log


def _first(log: Journal, rows: int | None, origin: str) -> Data:
    """The payments of the first days only: their past is whole, their future is not needed."""
    payments = log.transactions.head(rows or log.transactions.height)
    labels = log.labels.join(payments, on="transaction_id", how="semi", maintain_order="left")
    days = (payments["event_timestamp"].max() - payments["event_timestamp"].min()).days  # type: ignore[operator,union-attr]  # both are times
    told = f"{origin}: {payments.height:,} payments of {days} days, {labels.height:,} verdicts"
    return Data(Journal(payments, labels), told)


def thinned(log: Journal, parts: int) -> Journal:
    """One of so many cards, at as many times fewer terminals: as dense, as long, but smaller.

    Frauds are known exactly 7 days after the payment, as the handbook's way takes for granted.
    """
    cards = sorted(log.transactions["card_id"].unique(), key=lambda card: shard_of(card, 2**60))
    kept = cards[: max(len(cards) // parts, 1)]
    terminals = log.transactions["terminal_id"].unique().sort()
    folded = [f"m{number // parts}" for number in range(len(terminals))]
    payments = log.transactions.filter(pl.col("card_id").is_in(kept)).with_columns(
        pl.col("terminal_id").replace_strict(terminals, folded, return_dtype=pl.String)
    )
    labels = payments.join(
        log.labels.filter(pl.col("verdict") == "fraud"), on="transaction_id", how="semi"
    ).select(
        "transaction_id",
        label_timestamp=pl.col("event_timestamp") + _KNOWN_AFTER,
        verdict=pl.lit("fraud"),
    )
    return journal(payments, labels)


def repeated(log: Journal, times: int) -> Journal:
    """The same history so many times, one after the other: the past grows, the windows do not."""
    moments = log.transactions["event_timestamp"]
    days = (moments.max() - moments.min()).days + 8  # type: ignore[operator,union-attr]  # both are times; the last verdicts stay within
    labels = log.labels.select("transaction_id", "label_timestamp", "verdict")
    copies = [timedelta(days=days * copy) for copy in range(times)]
    return journal(
        pl.concat(_shifted(log.transactions, shift, "event_timestamp") for shift in copies),
        pl.concat(_shifted(labels, shift, "label_timestamp") for shift in copies),
    )


def backfilled(log: Journal) -> Journal:
    """The same facts, the older half of which was ingested after the newer half."""
    middle = log.transactions["event_timestamp"].median()
    is_newer = pl.col("event_timestamp") >= middle
    parts = [
        journal(
            log.transactions.filter(of_part),
            log.labels.select("transaction_id", "label_timestamp", "verdict"),
        )
        for of_part in (is_newer, ~is_newer)
    ]
    after = parts[0].events
    return Journal(
        *(
            pl.concat([first, second.with_columns(pl.col("seq") + after)])
            for first, second in (
                (parts[0].transactions, parts[1].transactions),
                (parts[0].labels, parts[1].labels),
            )
        )
    )


def _shifted(rows: pl.DataFrame, shift: timedelta, column: str) -> pl.DataFrame:
    return rows.with_columns(
        pl.format("{}-{}", pl.lit(shift.days), "transaction_id").alias("transaction_id"),
        pl.col(column) + shift,
    )
