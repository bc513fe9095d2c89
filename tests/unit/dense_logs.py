"""Small logs that hold every trap, with the oracle's answers: what planted bugs are caught by.

Payments fall on full hours of few days and on their neighbours, so exact window edges and ties are
common; rows arrive late, readers lag, verdicts come early, late, twice and back.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl
import pytest

from fraud_platform.events import TransactionEvent
from fraud_platform.features.declaration import Function
from fraud_platform.features.journal import Journal, Repeats
from fraud_platform.features.parity import differing_bits
from fraud_platform.features.replay import Report, Restarting, replay
from fraud_platform.features.spec import FEATURES, LATENESS
from fraud_platform.features.state import FeatureState
from fraud_platform.schemas import LABELS, TRANSACTIONS
from tests.unit import feature_oracle
from tests.unit.test_features import MORE

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_522_540_800_000_000  # 2018-04-01, a Sunday
SIEVED = {Function.COUNT, Function.IS_FIRST, Function.RATE}
"""Functions that are also asked of some payments alone."""


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """When things happen in a log: on few days, edges and ties are common.

    Attributes:
        days: on which payments happen.
        lags: days by which one payment in six is late.
        delays: days from a payment, or its last verdict, until a verdict is known.
    """

    days: tuple[int, ...]
    lags: tuple[int, ...]
    delays: tuple[int, ...]


RHYTHMS = (
    Rhythm(days=tuple(range(112)), lags=tuple(range(7)), delays=(0, 0, 1, 3, 7, 8, 10)),
    Rhythm(days=tuple(range(0, 112, 7)), lags=(1, 3, 5, 7), delays=(0, 7, 14)),
    # Also payments that are beyond the lateness bound: they are left out, and seen by others.
    Rhythm(
        days=(0, 1, 2, 7, 9, 30, 37, 38, 60, 90, 91, 97, 98, 99),
        lags=(1, 7, 30, 37, 90, 98),
        delays=(0, 1, 7, 29, 30),
    ),
)


def dense_log(seed: int, rhythm: Rhythm, payments: int = 120) -> Journal:
    """Two cards at three terminals."""
    chance = random.Random(seed)
    moments: list[tuple[int, int, str, dict[str, object]]] = []
    for number in range(payments):
        payment = _payment(chance, number, chance.choice(rhythm.days))
        event_us = int(str(payment["event_timestamp"]))
        arrived = event_us + (chance.choice(rhythm.lags) * DAY if chance.random() < 1 / 6 else 0)
        moments.append((arrived, 0, "payment", payment))
        known = event_us
        for verdict in chance.choices(VERDICTS, k=chance.randrange(5)):
            known += chance.choice(rhythm.delays) * DAY
            reported = max(arrived, known + chance.choice([0, 0, chance.randrange(9)]) * DAY)
            told = {**payment, "verdict": verdict, "label_source": "x", "label_timestamp": known}
            moments.append((reported, 1, "label", told))
    rows: dict[str, list[dict[str, object]]] = {"payment": [], "label": []}
    for seq, (_, _, kind, row) in enumerate(sorted(moments, key=lambda m: m[:2]), start=1):
        rows[kind].append({**row, "seq": seq})
    return Journal(
        _frame(rows["payment"], TRANSACTIONS.columns), _frame(rows["label"], LABELS.columns)
    )


VERDICTS = ("fraud", "fraud", "withdrawn", "genuine")


def _payment(chance: random.Random, number: int, day: int) -> dict[str, object]:
    moment = START + day * DAY + chance.choice([0, 0, 1, 6, 7]) * HOUR
    moment += chance.choice([0, 0, 0, 0, -1, 1])
    amounts = [0, 1, 100, 200, 300, chance.randrange(1, 500), chance.randrange(2**40)]
    return {
        "transaction_id": f"t{number}",
        "event_timestamp": moment,
        "card_id": f"c{chance.randrange(2)}",
        "terminal_id": f"m{chance.randrange(3)}",
        "amount_minor": chance.choices(amounts, [1, 1, 3, 3, 2, 3, 2])[0],
        "currency": "EUR",
        "country": chance.choice(["BE", "FR", None]),
        "entry_mode": chance.choice(["chip", None]),
        "received_timestamp": moment,
        "source": "test",
    }


def _frame(rows: list[dict[str, object]], columns: dict[str, pl.DataType]) -> pl.DataFrame:
    numbers = {n: pl.Int64() if n.endswith("_timestamp") else t for n, t in columns.items()}
    told = [{name: row.get(name) for name in columns} for row in rows]
    return pl.DataFrame(told, schema=numbers).with_columns(
        pl.col(name).cast(columns[name]) for name in columns if name.endswith("_timestamp")
    )


ASKED = FEATURES + tuple(
    feature for feature in MORE if feature.where is None or feature.function in SIEVED
)
"""The standard features, and every function over each stream and entity in odd windows."""


@cache
def logs() -> tuple[tuple[Journal, pl.DataFrame], ...]:
    """Each log with the oracle's answers, worked out once."""
    found = [dense_log(seed, rhythm) for seed, rhythm in enumerate(RHYTHMS)]
    return tuple((log, by_oracle(log)) for log in found)


@cache
def lag() -> tuple[Journal, pl.DataFrame, pl.DataFrame]:
    """A log, what its readers had seen of card and terminal, and the oracle's answers."""
    log, chance = dense_log(9, RHYTHMS[1]), random.Random(9)
    seen = log.transactions.select(
        "seq",
        *(
            pl.Series(f"{entity}_seen", [_lagging(chance, seq) for seq in log.transactions["seq"]])
            for entity in ("card", "terminal")
        ),
    )
    return log, seen, by_oracle(log, seen)


def _lagging(chance: random.Random, seq: int) -> int | None:
    """How far a reader of a decision was: mostly a little behind, sometimes ahead or not told."""
    return chance.choice([seq - 1, seq - 2, seq - 5, max(seq - 60, 0), seq + 3, None])


def by_oracle(log: Journal, seen: pl.DataFrame | None = None) -> pl.DataFrame:
    """The oracle's answer to every decision, as a table."""
    told = {row["seq"]: row for row in seen.iter_rows(named=True)} if seen is not None else {}
    events = list(log.told())
    decisions = [event for event in events if isinstance(event, TransactionEvent)]
    marks = {event.seq: feature_oracle.is_outlier(events, event) for event in decisions}
    with pytest.MonkeyPatch.context() as patch:
        # Asked for each event of each decision; the answer depends on the event alone.
        patch.setattr(feature_oracle, "is_outlier", lambda _, event: marks[event.seq])
        rows = [
            (
                decision.seq,
                *(
                    feature_oracle.answer(
                        events,
                        decision,
                        f,
                        seen_seq=told.get(decision.seq, {}).get(f"{f.entity}_seen"),
                    )
                    for f in ASKED
                ),
            )
            for decision in decisions
        ]
    schema = {"seq": pl.Int64} | {feature.name: pl.Float64 for feature in ASKED}
    return pl.DataFrame(rows, schema=schema, orient="row")


def first_difference(found: pl.DataFrame, truth: pl.DataFrame) -> str:
    """The first feature that differs, and how often."""
    for feature in ASKED:
        wrong = int(differing_bits(found[feature.name], truth[feature.name]).sum())
        if wrong:
            return f"{feature.name} ({wrong} values)"
    return ""


def batch_difference(compute: Callable[..., pl.DataFrame], engine: str) -> str:
    """Which log and which feature show that a batch engine differs from the oracle."""
    for number, (log, truth) in enumerate(logs(), start=1):
        found = compute(log.transactions, log.labels, features=ASKED)
        if caught := first_difference(found, truth):
            return f"{engine} = oracle, log {number}: {caught}"
    log, seen, truth = lag()
    found = compute(log.transactions, log.labels, features=ASKED, seen=seen)
    caught = first_difference(found, truth)
    return f"{engine} = oracle, lagging readers: {caught}" if caught else ""


def online_difference(
    fresh: Callable[[], FeatureState],
    restarted: Callable[[Any], FeatureState],
    engine: str,
    restart_every: int = 3,
) -> str:
    """Which way of telling the log shows that an online engine differs from the oracle.

    Args:
        fresh: makes an empty state of the features `ASKED`.
        restarted: makes a new state of what an old one kept.
        engine: its name.
        restart_every: so many deliveries.
    """
    for number, (log, truth) in enumerate(logs(), start=1):
        again = Repeats(0.2, number)
        ways: dict[str, tuple[Callable[[], FeatureState], Repeats]] = {
            "told once": (fresh, Repeats()),
            "with duplicates": (fresh, again),
            "with duplicates and restarts": (
                lambda: Restarting(fresh(), restart_every, restarted),
                again,
            ),
        }
        for way, (begin, repeats) in ways.items():
            found = replay(log, truth, begin(), features=ASKED, repeats=repeats)
            assert found.missing == 0
            if caught := _shown(found, log):
                return f"{engine} = oracle, {way}, log {number}: {caught}"
    return ""


def _shown(found: Report, log: Journal) -> str:
    """The first difference, if there is any."""
    if found.mismatches:
        return f"{found.first_mismatches[0].feature} ({found.mismatches} values)"
    times = log.transactions["event_timestamp"]
    late = int((times < times.cum_max().shift() - LATENESS).sum())
    if found.late_decisions != late:
        return f"{found.late_decisions} decisions called late, not {late}"
    return ""
