"""Tests of the tests: bugs planted into the engines' own source must all be caught.

Each mutant replaces one exact place of one module; the module and those that import it are loaded
afresh, and the engine answers dense logs: full hours of few days and their neighbours, so many
exact edges and ties; late rows, lagging readers, verdicts that come early, late, twice and back,
events delivered twice, restarts from snapshots. A mutant is caught when a comparison with the
oracle finds a difference.
`pytest -s` prints the list.
"""

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from polars.exceptions import PolarsError

from fraud_platform.events import TransactionEvent
from fraud_platform.features.declaration import Function
from fraud_platform.features.journal import Journal, Repeats
from fraud_platform.features.parity import differing_bits
from fraud_platform.features.replay import Restarting, State, replay
from fraud_platform.features.spec import FEATURES
from fraud_platform.schemas import LABELS, TRANSACTIONS
from tests.unit import feature_oracle
from tests.unit.test_features import MORE

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_522_540_800_000_000  # 2018-04-01, a Sunday
PACKAGE = "fraud_platform.features"
SIEVED = {Function.COUNT, Function.IS_FIRST, Function.RATE}
"""Functions that are also asked of some payments alone."""
ENGINES = ("sight", "verdicts", "batch", "past", "reading", "rings")
"""Modules that are loaded afresh, each with the mutant of one of them below it."""


@dataclass(frozen=True)
class Mutant:
    """One planted bug: what it means, the module, the place and what stands there instead."""

    bug: str
    module: str
    place: str
    instead: str


BATCH = (
    Mutant(
        "a lagging terminal is taken for its card",
        "batch",
        'told[f"{entity}_seen"]',
        'told["card_seen"]',
    ),
    Mutant(
        "the newest payment a lagging reader saw is not seen",
        "batch",
        'search_sorted(newest, side="right")',
        'search_sorted(newest, side="left")',
    ),
    Mutant(
        "a reader sees what comes after its decision",
        "batch",
        "pl.min_horizontal(told[",
        "pl.max_horizontal(told[",
    ),
    Mutant(
        "a lagging reader sees one payment more",
        "sight",
        "(seen[decisions] <= ranks[events])",
        "(seen[decisions] < ranks[events])",
    ),
    Mutant(
        "a lagging reader sees all verdicts",
        "batch",
        "history.with_columns(newest, ranks)",
        'history.with_columns(before.alias("seen"), ranks)',
    ),
    Mutant(
        "Polars divides by one number",
        "batch",
        "return _over(elapsed, pl.repeat(1e6, pl.len()))",
        "return elapsed / 1e6",
    ),
    Mutant(
        "what counts is ignored",
        "batch",
        "pl.when(pl.col(where.fact) == where.equals).then(source)",
        "pl.col(source)",
    ),
    Mutant(
        "a value is looked for among payments that do not count",
        "batch",
        '{"alike": pl.col(amount).count()}',
        '{"alike": pl.len()}',
    ),
    Mutant(
        "what counts is ignored for frauds",
        "verdicts",
        "counts = pl.lit(value=True) if where is None else pl.col(where.fact) == where.equals",
        "counts = pl.lit(value=True)",
    ),
    Mutant("ties and the payment itself are seen", "batch", 'closed="left"', 'closed="both"'),
    Mutant("the old edge is left out", "batch", 'closed="left"', 'closed="right"'),
    Mutant("both edges are left out", "batch", 'closed="left"', 'closed="none"'),
    Mutant(
        "the window ends a microsecond late",
        "batch",
        'period=f"{reach_us - delay_us}i"',
        'period=f"{reach_us - delay_us + 1}i"',
    ),
    Mutant(
        "the window begins a microsecond late",
        "batch",
        'offset=f"-{reach_us}i"',
        'offset=f"-{reach_us - 1}i"',
    ),
    Mutant(
        "the delay is ignored",
        "batch",
        'window = (self.feature.delay_us, self.feature.reach_us)\n        name = f"{aggregate}',
        'window = (0, self.feature.reach_us)\n        name = f"{aggregate}',
    ),
    Mutant(
        "the median is the lower middle",
        "batch",
        "column.median()",
        'column.quantile(0.5, "lower")',
    ),
    Mutant(
        "squares are summed as floats",
        "batch",
        '(pl.col("amount_minor").cast(pl.Int128) ** 2)',
        '(pl.col("amount_minor").cast(pl.Float64) ** 2)',
    ),
    Mutant(
        "unknown values count as one",
        "batch",
        "column.n_unique() - (column.null_count() > 0)",
        "column.n_unique()",
    ),
    Mutant(
        "an amount of just three medians is an outlier",
        "batch",
        'OUTLIER_FACTOR * pl.col("median") < _AMOUNT',
        'OUTLIER_FACTOR * pl.col("median") <= _AMOUNT',
    ),
    Mutant(
        "a payment without a past is an outlier",
        "batch",
        ".fill_null(value=False)\n    marks",
        ".fill_null(value=True)\n    marks",
    ),
    Mutant(
        "a day of payments judges outliers",
        "batch",
        "_cut(line, 0, _REFERENCE_US,",
        "_cut(line, 0, _DAY_US,",
    ),
    Mutant(
        "withdrawn means fraud",
        "batch",
        'pl.col("verdict") == "fraud"',
        '~pl.col("verdict").is_in(["genuine"])',
    ),
    Mutant(
        "a decision misses the verdict right before it",
        "batch",
        "before = seqs - 1",
        "before = seqs - 2",
    ),
    Mutant(
        "a quotient by zero is a number", "batch", "out=found, where=denominator != 0", "out=found"
    ),
    Mutant(
        "the first with a value is new and the second too",
        "batch",
        "of.alike() == 0",
        "of.alike() <= 1",
    ),
    Mutant("weekends begin on Friday", "batch", "+ 3) % 7 >= 5", "+ 4) % 7 >= 5"),
    Mutant("nights end at six", "batch", "% 24 <= 6", "% 24 <= 5"),
    Mutant("late rows are seen early", "sight", "if not decisions.size:", "if True:"),
    Mutant(
        "late rows are never seen",
        "sight",
        "(seen[decisions] <= ranks[events])",
        "(seen[decisions] >= 0)",
    ),
    Mutant(
        "late rows at the old edge are seen early",
        "sight",
        "- lined.times[events] <= reach_us)",
        "- lined.times[events] < reach_us)",
    ),
    Mutant(
        "a copy lacks the rows at the old edge",
        "sight",
        "lined.times[places] - reach_us)",
        "lined.times[places] - reach_us + 1)",
    ),
    Mutant(
        "ties stand in the wrong order",
        "sight",
        'history.sort(entity, "time_us", "rank")',
        'history.sort(entity, "time_us", "rank", descending=[False, False, True])',
    ),
    Mutant(
        "verdicts count before they are known",
        "verdicts",
        'pl.col("known_us") <= pl.col("decided_us")',
        "pl.lit(value=True)",
    ),
    Mutant(
        "a verdict known just now does not count",
        "verdicts",
        'pl.col("known_us") <= pl.col("decided_us")',
        'pl.col("known_us") < pl.col("decided_us")',
    ),
    Mutant(
        "verdicts count before they arrive",
        "verdicts",
        'pl.col("label_seq") <= pl.col("seen")',
        "pl.lit(value=True)",
    ),
    Mutant(
        "the verdict that arrived last holds",
        "verdicts",
        '.sort("known_us", "label_seq")',
        '.sort("label_seq")',
    ),
    Mutant("the first verdict holds", "verdicts", 'keep="last"', 'keep="first"'),
    Mutant(
        "of verdicts known at once the first holds",
        "verdicts",
        '.sort("known_us", "label_seq")',
        '.sort("known_us", "label_seq", descending=[False, True])',
    ),
    Mutant(
        "a withdrawal is ignored",
        "verdicts",
        '.filter("is_fraud")\n        .with_columns(age_us',
        ".with_columns(age_us",
    ),
    Mutant(
        "frauds at the new edge count",
        "verdicts",
        "age > feature.delay_us",
        "age >= feature.delay_us",
    ),
    Mutant(
        "frauds at the old edge do not count",
        "verdicts",
        "age <= feature.reach_us",
        "age < feature.reach_us",
    ),
    Mutant(
        "a streak has gaps",
        "verdicts",
        "in_streak = frauds == newest_of[decisions] - rank",
        "in_streak = frauds <= newest_of[decisions] - rank",
    ),
    Mutant(
        "a streak starts one too early",
        "verdicts",
        "newest - streak + 1, streak > 0)",
        "np.maximum(newest - streak, 0), streak > 0)",
    ),
    Mutant(
        "the oldest payment is never the newest good one",
        "verdicts",
        "newest - streak >= oldest",
        "newest - streak > oldest",
    ),
)

RINGS = (
    Mutant(
        "what counts is ignored",
        "past",
        "if entry.marks >> place & 1:",
        "if True:",
    ),
    Mutant(
        "a restored past ignores what counts",
        "past",
        "is_marked = [marks >> bit & 1 for marks in ring.marks]",
        "is_marked = [1 for marks in ring.marks]",
    ),
    Mutant(
        "a late row reaches only the ring of all payments",
        "past",
        "self.rings[1:]):\n            if entry.marks >> place & 1:",
        "self.rings[1:]):\n"
        "            if entry.marks >> place & 1 and entry[0] >= self.rings[0].times[-1]:",
    ),
    Mutant(
        "a score is rounded twice",
        "reading",
        "_over(float(look.payment.amount_minor * look.count - look.total), look.root)",
        "_over(\n"
        "        float(look.payment.amount_minor) - look.total / max(look.count, 1),\n"
        "        look.root / max(look.count, 1),\n"
        "    )",
    ),
    Mutant(
        "a median is kept for another window",
        "past",
        "self._median[:2] != (first, last)",
        "self._median[:1] != (first,)",
    ),
    Mutant(
        "ties see each other",
        "reading",
        "bisect_left(pasts[side].rings[bit + 1].times, now - delay_us)",
        "bisect_left(pasts[side].rings[bit + 1].times, now - delay_us + 1)",
    ),
    Mutant(
        "the delay is ignored",
        "reading",
        "bisect_left(pasts[side].rings[bit + 1].times, now - delay_us)",
        "bisect_left(pasts[side].rings[bit + 1].times, now)",
    ),
    Mutant(
        "the old edge is left out",
        "reading",
        "bisect_left(ring.times, start_us, 0, last)",
        "bisect_left(ring.times, start_us + 1, 0, last)",
    ),
    Mutant(
        "the delay is ignored for frauds",
        "reading",
        "now - reach_us, now - delay_us, lasts[end])",
        "now - reach_us, now, lasts[end])",
    ),
    Mutant(
        "prefix sums are off by one",
        "reading",
        "sums[self.last] - sums[self.first]",
        "sums[self.last] - sums[max(self.first - 1, 0)]",
    ),
    Mutant(
        "the root is taken of a rounded product",
        "reading",
        "float(self.count * squares - self.total**2)",
        "float(self.count * squares) - float(self.total**2)",
    ),
    Mutant("seconds are multiplied", "reading", "- then_us) / 1e6", "- then_us) * 1e-6"),
    Mutant("unknown values count as one", "reading", "seen.discard(UNKNOWN)", "pass"),
    Mutant(
        "an unknown value is new",
        "reading",
        "if own == UNKNOWN:\n            return None",
        "if own == UNKNOWN:\n            return 1.0",
    ),
    Mutant(
        "a streak is one too long",
        "reading",
        "self._streak = self.last - place",
        "self._streak = min(self.last - place + 1, self.count)",
    ),
    Mutant(
        "the newest good payment is a fraud",
        "reading",
        "look.ring.times[look.last - look.streak - 1]",
        "look.ring.times[look.last - 1]",
    ),
    Mutant(
        "an amount of just three medians is an outlier",
        "reading",
        "2 * payment.amount_minor > OUTLIER_FACTOR",
        "2 * payment.amount_minor >= OUTLIER_FACTOR",
    ),
    Mutant(
        "payments of the same instant judge outliers",
        "reading",
        "last = bisect_left(ring.times, payment.event_us)",
        "last = bisect_left(ring.times, payment.event_us + 1)",
    ),
    Mutant(
        "a day of payments judges outliers",
        "reading",
        "payment.event_us - _REFERENCE_US",
        "payment.event_us - _DAY_US",
    ),
    Mutant(
        "frauds are counted among payments that do not count",
        "reading",
        "if self.bit < 0 or f.marks >> self.bit & 1",
        "if self.bit < 99",
    ),
    Mutant(
        "eviction comes too early",
        "reading",
        "(lookback + LATENESS) // MICROSECOND",
        "lookback // MICROSECOND",
    ),
    Mutant(
        "withdrawn means fraud", "reading", 'label.verdict == "fraud"', 'label.verdict != "genuine"'
    ),
    Mutant(
        "a late row is appended at the end",
        "past",
        "event_us >= self.times[-1]:",
        "True:",
    ),
    Mutant(
        "a late tie stands in the wrong order",
        "past",
        "place = bisect_right(self.times, event_us)",
        "place = bisect_left(self.times, event_us)",
    ),
    Mutant(
        "later sums lack a late amount",
        "past",
        "(total + step for total in running[place:])",
        "(running[place] + step, *running[place + 1 :])",
    ),
    Mutant("squares lose a bit", "past", "square & _LOW)", "square & _LOW >> 1)"),
    Mutant(
        "the median is the lower middle",
        "past",
        "ordered[middle] + ordered[~middle]",
        "2 * ordered[~middle]",
    ),
    Mutant(
        "the median is the upper middle",
        "past",
        "ordered[middle] + ordered[~middle]",
        "2 * ordered[middle]",
    ),
    Mutant("a verdict takes the marks of a tie", "past", "if ring.seqs[place] == seq:", "if True:"),
    Mutant(
        "verdicts count before they are known",
        "past",
        "if s.known_us <= at_us < s.until_us",
        "if at_us < s.until_us",
    ),
    Mutant(
        "a verdict known just now does not count",
        "past",
        "s.known_us <= at_us <",
        "s.known_us < at_us <",
    ),
    Mutant(
        "a verdict holds a microsecond too long",
        "past",
        "at_us < s.until_us]",
        "at_us <= s.until_us]",
    ),
    Mutant("a withdrawal is ignored", "past", "if told.is_fraud and told", "if told"),
    Mutant(
        "the verdict that arrived last holds",
        "past",
        "insort(self.verdicts, verdict)",
        "insort(self.verdicts, verdict, key=lambda v: (v.event_us, v.payment_seq, v.seq))",
    ),
    Mutant(
        "a verdict holds for ever",
        "past",
        "(later.known_us for later in history[1:])",
        '(float("inf") for later in history[1:])',
    ),
    Mutant(
        "frauds at the new edge count",
        "past",
        "bisect_left(self.spans, end_us, first",
        "bisect_left(self.spans, end_us + 1, first",
    ),
    Mutant(
        "frauds at the old edge do not count",
        "past",
        "bisect_left(self.spans, start_us, key",
        "bisect_left(self.spans, start_us + 1, key",
    ),
    Mutant(
        "dropping takes one payment too many",
        "past",
        "place = bisect_left(self.times, horizon_us)",
        "place = bisect_left(self.times, horizon_us) + 1",
    ),
    Mutant(
        "a snapshot loses the newest payment",
        "past",
        "column.frombytes(packed[start * size : (start + 1) * size])",
        "column.frombytes(packed[start * size : (start + 1) * size - 8])",
    ),
    Mutant(
        "a restored verdict is a fraud",
        "past",
        "Verdict(*told)",
        "Verdict(*told)._replace(is_fraud=True)",
    ),
    Mutant(
        "restored sums are off by one",
        "past",
        "accumulate(amounts))",
        "accumulate([*amounts[1:], 0]))",
    ),
    Mutant(
        "an event that comes twice at once is folded twice",
        "rings",
        "if event.seq <= self.last_seq:",
        "if event.seq < self.last_seq:",
    ),
    Mutant(
        "an event that comes again later is folded twice",
        "rings",
        "if event.seq <= self.last_seq:",
        "if event.seq == self.last_seq:",
    ),
    Mutant(
        "a snapshot forgets where it was",
        "rings",
        "last_seq=self.last_seq",
        "last_seq=self.last_seq - 1",
    ),
    Mutant(
        "a restored state lacks a past",
        "rings",
        "for key, past in pasts}",
        "for key, past in pasts[1:]}",
    ),
    Mutant(
        "a verdict reaches only the card",
        "rings",
        '(("card", about.card_id), ("terminal", about.terminal_id))',
        '(("card", about.card_id),)',
    ),
)


# --- the logs --------------------------------------------------------------------------------


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


# --- planting --------------------------------------------------------------------------------


@contextmanager
def planted(mutant: Mutant | None) -> Iterator[Callable[[str], ModuleType]]:
    """The engines' modules loaded afresh, one of them with a planted bug."""
    names = [f"{PACKAGE}.{module}" for module in ENGINES]
    package = sys.modules[PACKAGE]
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    try:
        if mutant is not None:
            _load(mutant)
        yield lambda module: importlib.import_module(f"{PACKAGE}.{module}")
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
        for name, module in kept.items():
            setattr(package, name.rpartition(".")[2], module)


def _load(mutant: Mutant) -> None:
    name = f"{PACKAGE}.{mutant.module}"
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    found = source.count(mutant.place)
    assert found == 1, (
        f"{mutant.module}: {mutant.place!r} is there {found} times, not once; if the code was"
        " rewritten on purpose, plant the same bug where that line's work is done now"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    code = compile(source.replace(mutant.place, mutant.instead), f"<{mutant.bug}>", "exec")
    exec(code, module.__dict__)  # noqa: S102 -- our own source, with a bug in it


# --- catching --------------------------------------------------------------------------------


def caught_by_batch(load: Callable[[str], ModuleType]) -> str:
    """Which log and which feature show that the batch engine differs from the oracle."""
    compute = load("batch").compute
    for number, (log, truth) in enumerate(logs(), start=1):
        found = compute(log.transactions, log.labels, features=ASKED)
        if caught := first_difference(found, truth):
            return f"batch = oracle, log {number}: {caught}"
    log, seen, truth = lag()
    found = compute(log.transactions, log.labels, features=ASKED, seen=seen)
    caught = first_difference(found, truth)
    return f"batch = oracle, lagging readers: {caught}" if caught else ""


def first_difference(found: pl.DataFrame, truth: pl.DataFrame) -> str:
    """The first feature that differs, and how often."""
    for feature in ASKED:
        wrong = int(differing_bits(found[feature.name], truth[feature.name]).sum())
        if wrong:
            return f"{feature.name} ({wrong} values)"
    return ""


def caught_by_rings(load: Callable[[str], ModuleType]) -> str:
    """Which way of telling the log shows that the online engine differs from the oracle."""
    rings = load("rings").FeatureRings

    def restarted(state: Any) -> State:
        restored: State = rings.restore(state.snapshot(), ASKED)
        return restored

    for number, (log, truth) in enumerate(logs(), start=1):
        ways: dict[str, tuple[State, Repeats]] = {
            "told once": (rings(ASKED), Repeats()),
            "with duplicates": (rings(ASKED), Repeats(0.2, number)),
            "with restarts": (Restarting(rings(ASKED), 17, restarted), Repeats()),
            "with duplicates and restarts": (
                Restarting(rings(ASKED), 3, restarted),
                Repeats(0.2, number),
            ),
        }
        for way, (state, repeats) in ways.items():
            found = replay(log, truth, state, features=ASKED, repeats=repeats)
            assert found.missing == 0
            if found.mismatches:
                first = found.first_mismatches[0].feature
                return f"rings = oracle, {way}, log {number}: {first} ({found.mismatches} values)"
    return ""


@pytest.mark.parametrize("caught_by", [caught_by_batch, caught_by_rings])
def test_without_a_planted_bug_nothing_is_caught(caught_by):
    with planted(None) as load:
        assert caught_by(load) == ""


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")
@pytest.mark.parametrize(
    ("engine", "mutant"),
    [*(("batch", mutant) for mutant in BATCH), *(("rings", mutant) for mutant in RINGS)],
    ids=lambda value: value.bug if isinstance(value, Mutant) else value,
)
def test_a_planted_bug_is_caught(engine: str, mutant: Mutant) -> None:
    with planted(mutant) as load:
        try:
            caught = {"batch": caught_by_batch, "rings": caught_by_rings}[engine](load)
        except (ArithmeticError, LookupError, ValueError, PolarsError) as error:
            caught = f"the engine fails: {error!r}"
    print(f"{engine}: {mutant.bug} -> {caught}")
    assert caught, f"no comparison saw it: {mutant}"


def test_at_least_25_bugs_are_planted_and_each_is_another() -> None:
    places = {(mutant.module, mutant.place, mutant.instead) for mutant in (*BATCH, *RINGS)}
    assert len(places) == len(BATCH) + len(RINGS) >= 25
