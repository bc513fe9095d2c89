"""The platform's windows against pandas' and DuckDB's, at equal features and equal values.

The features are the handbook's twelve windowed ones: count and mean amount of a card, count and
share of frauds of a terminal behind a delay of 7 days, each over 1, 7 and 30 days. All engines get
the same payments and the same frauds, known 7 days after the payment; a peer whose values differ
is not compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from benchmarks import pandas_windows
from benchmarks.batch import Compute, warm_up
from benchmarks.data import thinned
from benchmarks.measure import Cost, Row, found, measured, without
from fraud_platform.features import batch
from fraud_platform.features.declaration import Feature, Function, Stream
from fraud_platform.features.journal import Journal

_RUNS = 3
"""Of every engine; the cheapest counts."""
PARTS = 10
"""One of so many cards is enough for engines that take minutes for all."""
_DAYS = (1, 7, 30)
_DELAY = timedelta(days=7)
_DAY_US = 86_400_000_000


def _feature(name: str, function: Function, days: int, stream: Stream = Stream.PAYMENTS) -> Feature:
    entity = name.split("_")[0]
    return Feature(
        name=f"{name}_{days}",
        entity=entity,
        function=function,
        reason_code="",
        reason_text="",
        stream=stream,
        window=timedelta(days=days),
        delay=_DELAY if entity == "terminal" else timedelta(0),
    )


TWELVE = tuple(
    feature
    for days in _DAYS
    for feature in (
        _feature("card_count", Function.COUNT, days),
        _feature("card_mean", Function.MEAN, days),
        _feature("terminal_count", Function.COUNT, days),
        _feature("terminal_risk", Function.RATE, days, Stream.FRAUDS),
    )
)


@dataclass(frozen=True)
class _Peer:
    """Another way to compute the twelve.

    Attributes:
        name: in the table.
        library: what must be installed.
        prepare: brings the payments into the form it likes best; not measured.
        work: computes seq and the twelve columns; measured.
        goals: for Polars and for the kernel, at least.
    """

    name: str
    library: str
    prepare: Callable[[pl.DataFrame], Any]
    work: Callable[[Any], pl.DataFrame]
    goals: dict[str, float]


def against_peers(log: Journal) -> Iterator[Row]:
    """CPU of pandas' rolling windows and of DuckDB's RANGE windows over ours."""
    small = thinned(log, PARTS)
    ours, cost = measured(
        lambda: batch.compute(small.transactions, small.labels, features=TWELVE), _RUNS
    )
    engines: dict[str, Cost | str] = {"Polars": cost, "kernel": _kernel_cost(small, ours)}
    frauds = small.labels["transaction_id"].implode()
    payments = small.transactions.select(
        *("seq", "card_id", "terminal_id", "event_timestamp"),
        amount="amount_minor",
        is_fraud=pl.col("transaction_id").is_in(frauds),
    )
    for peer in PEERS:
        yield from _of_peer(peer, payments, ours, engines)


def _of_peer(
    peer: _Peer, payments: pl.DataFrame, ours: pl.DataFrame, engines: dict[str, Cost | str]
) -> Iterator[Row]:
    rows = {
        name: Row(measure=f"{peer.name} / {name}", at_least=peer.goals.get(name))
        for name in engines
    }
    imported, why = found(peer.library)
    if imported is None:
        yield from without(why, *rows.values())
        return
    prepared = peer.prepare(payments)
    theirs, their_cost = measured(lambda: peer.work(prepared), _RUNS)
    if differing := _differing(ours, theirs.sort("seq")):
        why = f"{differing:,} of {ours.height * len(TWELVE):,} values differ"
        yield from without(why, *rows.values())
        return
    for name, cost in engines.items():
        yield (
            rows[name].of(their_cost, cost)
            if isinstance(cost, Cost)
            else without(cost, rows[name])[0]
        )


def _kernel_cost(log: Journal, ours: pl.DataFrame) -> Cost | str:
    kernel, why = found("fraud_platform.features.kernel")
    if kernel is None:
        return why

    compute: Compute = partial(kernel.compute, features=TWELVE)
    warm_up(compute, log)
    table, cost = measured(lambda: compute(log.transactions, log.labels), _RUNS)
    return cost if table.equals(ours) else "its values differ from those of Polars"


def _differing(ours: pl.DataFrame, theirs: pl.DataFrame) -> int:
    """Values that differ by more than the last digits of a quotient."""
    wrong = 0
    for feature in TWELVE:
        one, other = (frame[feature.name].fill_null(np.nan).to_numpy() for frame in (ours, theirs))
        wrong += int((~np.isclose(one, other, rtol=1e-9, atol=0, equal_nan=True)).sum())
    return wrong


def _by_duckdb(payments: Any) -> pl.DataFrame:
    """RANGE windows over whole microseconds: strictly before means up to 1 before."""
    import duckdb

    ends = {"card": 1, "terminal": _DELAY.days * _DAY_US + 1}
    windows = ", ".join(
        f"{entity}_{days} AS (PARTITION BY {entity}_id ORDER BY us RANGE BETWEEN"
        f" {days * _DAY_US + end - 1} PRECEDING AND {end} PRECEDING)"
        for entity, end in ends.items()
        for days in _DAYS
    )
    columns = ", ".join(
        f"count(*) OVER card_{days} AS card_count_{days},"
        f" avg(amount) OVER card_{days} AS card_mean_{days},"
        f" count(*) OVER terminal_{days} AS terminal_count_{days},"
        f" avg(is_fraud::INT) OVER terminal_{days} AS terminal_risk_{days}"
        for days in _DAYS
    )
    query = f"SELECT seq, {columns} FROM payments WINDOW {windows}"  # noqa: S608 -- our own numbers
    with duckdb.connect() as connection:
        connection.register("payments", payments)
        table: pl.DataFrame = connection.sql(query).pl()
        return table


PEERS = (
    _Peer(
        "pandas, entity by entity (the handbook's way)",
        "pandas",
        pandas_windows.prepared,
        pandas_windows.entity_by_entity,
        {"kernel": 50},
    ),
    _Peer(
        "pandas, window by window",
        "pandas",
        pandas_windows.prepared,
        pandas_windows.window_by_window,
        {},
    ),
    _Peer(
        "DuckDB RANGE windows",
        "duckdb",
        lambda payments: payments.with_columns(
            us=pl.col("event_timestamp").dt.epoch("us")
        ).to_arrow(),
        _by_duckdb,
        {},
    ),
)
