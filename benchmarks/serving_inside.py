"""The decision path without HTTP: features, score, whole path, and pauses for garbage.

Clean figures: CPU of the cheapest block, because other programs only add to it.
"""

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.measure import Row, found, without
from benchmarks.online import since_lookback
from benchmarks.serving_home import Prepared
from fraud_platform.adapters.recent_decisions import RecentDecisions
from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import FEATURES
from fraud_platform.load.payments import Payments
from fraud_platform.settings import Settings
from fraud_platform.validation import check_transaction
from serving.app import assemble, build_scorer, wall_clock
from serving.context import Scorer
from serving.governing import Governing
from serving.ruling import REASON_TEXTS
from serving.schemas import TRANSACTION_DECODER, decision_out, transaction_from

_BLOCK = 320
_BLOCKS = 20
_AT_ONCE = 16
"""Requests of one turn of the loop, about as many as 64 connections bring."""


def inside(prepared: Prepared, home: Path) -> Iterator[Row]:
    """All rows about parts of the path.

    Args:
        prepared: what to measure on.
        home: a copy of its home that nothing else uses.
    """
    yield _features(prepared)
    yield from _one_row(prepared)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_whole_path(prepared, home))


def _features(prepared: Prepared) -> Row:
    rings = FeatureRings()
    for event in since_lookback(prepared.history).told():
        rings.apply(event)
    numbers = itertools.count(rings.last_seq + 1)
    source = prepared.payments()
    costs = []
    for _ in range(_BLOCKS):
        payments = [_payment(source.next()[0]) for _ in range(_BLOCK)]
        events = [TransactionEvent(next(numbers), payment) for payment in payments]
        costs.append(_cpu(partial(_read_and_apply, rings, events)) / _BLOCK * 1e6)
    return Row(
        measure="inside: features read + update",
        value=min(costs),
        unit="us",
        at_most=20,
        note=f"median block {statistics.median(costs):.1f} us; {len(FEATURES)} features",
    )


def _read_and_apply(rings: FeatureRings, events: list[TransactionEvent]) -> None:
    for event in events:
        rings.read(event.transaction)
        rings.apply(event)


def _payment(body: bytes) -> Transaction:
    return transaction_from(TRANSACTION_DECODER.decode(body))


def _one_row(prepared: Prepared) -> Iterator[Row]:
    faster = Row(measure="inside: inplace_predict / score of one row", at_least=4)
    same = Row(measure="inside: scores unlike the library's", unit="of all", at_most=0)
    module, why = found("fraud_platform.native_score")
    if module is None:
        yield from without(why, faster, same)
        return
    vectors, model = prepared.vectors, prepared.model
    scorer = module.NativeScorer(model, vectors[:64])
    booster = _booster(model.payload)
    narrow = np.ascontiguousarray(vectors, dtype=np.float32)
    rows = range(len(vectors))

    def theirs() -> None:
        for row in rows:
            booster.inplace_predict(narrow[row : row + 1], validate_features=False)

    def ours() -> None:
        for row in rows:
            scorer.score(vectors[row : row + 1])

    theirs_us, ours_us = (
        min(_cpu(work) for _ in range(_BLOCKS)) / len(rows) * 1e6 for work in (theirs, ours)
    )
    told = f"{theirs_us:.0f} us / {ours_us:.0f} us; {scorer.fallback or 'C functions'}"
    yield Row(**{**vars(faster), "value": theirs_us / ours_us, "note": told})
    expected = model.score(vectors)
    single = np.array([scorer.score(vectors[row : row + 1])[0] for row in rows])
    many = np.concatenate([scorer.score(part) for part in np.array_split(vectors, 8)])
    wrong = int((single != expected).sum() + (many != expected).sum())
    yield Row(
        **{**vars(same), "value": wrong, "note": f"{2 * len(rows)} scores, alone and in batches"}
    )


def _booster(payload: bytes) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(payload))
    booster.set_param({"nthread": 1})
    return booster


async def _whole_path(prepared: Prepared, home: Path) -> list[Row]:
    settings = Settings(home=home, state_check_seconds=0)
    scorer = build_scorer(settings, wall_clock)
    source = prepared.payments()
    try:
        async with assemble(scorer).lifespan():
            await _decided(scorer, _bodies(source))  # what is made at first use is not measured
            gc.collect()
            gc.freeze()
            costs, disturbed = [], 0
            for _ in range(_BLOCKS):
                bodies = _bodies(source)
                before = time.process_time()
                disturbed += await _decided(scorer, bodies)
                costs.append((time.process_time() - before) / _BLOCK * 1e6)
            pause = _cpu(gc.collect)
            governed = await _governed(scorer, _bodies(source), prepared.vectors)
    finally:
        gc.unfreeze()
    told = (
        f"median block {statistics.median(costs):.0f} us; all threads, {_AT_ONCE} at once,"
        f" {disturbed / (_BLOCKS * _BLOCK):.1%} not approved"
    )
    path = "inside: from the request's bytes to the answer's, no HTTP"
    return [
        Row(measure=path, value=min(costs), unit="us", at_most=100, note=told),
        Row(
            measure="inside: full garbage collection after freezing",
            value=pause * 1e3,
            unit="ms",
            at_most=5,
            note=f"after {_BLOCKS * _BLOCK:,} decisions",
        ),
        *governed,
    ]


async def _governed(scorer: Scorer, bodies: list[bytes], vectors: NDArray[np.float64]) -> list[Row]:
    """What the cap adds to one decision, and what another model costs it."""
    policy, ruling = scorer.settings.governor, scorer.orders.ruling
    rows = vectors[np.arange(policy.window) % len(vectors)]
    counts = np.arange(policy.window)
    recent = RecentDecisions(rows, counts, counts, {}, tuple(map(str, counts)), ())
    governing = Governing(policy, lambda _: recent, lambda _: {})
    anew = _cpu(lambda: governing.begin(ruling))
    payments = [_payment(body) for body in bodies]
    told = [await scorer.engine.decide(one, received_us=scorer.clock()) for one in payments]
    decisions = [one.decision for one in told]

    def cap() -> None:
        for number, decision in enumerate(decisions):
            governing.capped(decision, payments[number], rows[number])

    costs = [_cpu(cap) / len(decisions) * 1e6 for _ in range(_BLOCKS)]
    return [
        Row(
            measure="inside: the cap on one decision",
            value=statistics.mean(costs),
            unit="us",
            at_most=50,
            note=f"cheapest block {min(costs):.1f} us; a step every {policy.every} is in the mean",
        ),
        Row(
            measure="inside: the cap of another model",
            value=anew * 1e3,
            unit="ms",
            note=f"{policy.window:,} payments scored again, once per swap",
        ),
    ]


def _bodies(source: Payments) -> list[bytes]:
    return [source.next()[0] for _ in range(_BLOCK)]


async def _decided(scorer: Scorer, bodies: list[bytes]) -> int:
    """Decide all; returns how many were not approved."""
    disturbed = 0
    for first in range(0, len(bodies), _AT_ONCE):
        some = bodies[first : first + _AT_ONCE]
        answers = await asyncio.gather(*(_answer(scorer, body) for body in some))
        disturbed += sum(b'"decision":"approve"' not in answer for answer in answers)
    return disturbed


async def _answer(scorer: Scorer, body: bytes) -> bytes:
    """What the route does between HTTP and HTTP."""
    transaction, received_us = _payment(body), scorer.clock()
    check_transaction(transaction, received_us, scorer.settings.validation)
    result = await scorer.engine.decide(transaction, received_us=received_us)
    return msgspec.json.encode(
        decision_out(result.decision, REASON_TEXTS, replayed=result.replayed)
    )


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    before = time.thread_time()
    work()
    return time.thread_time() - before
