"""One run before anybody answers to it: what is sent, what is true, and what will be told when.

What belongs here: the run as values that all policies share, and how a draft becomes one. What a
fault writes into the draft is `injection`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.events import microseconds
from fraud_platform.heal.actions import Action
from fraud_platform.heal_bench.world import (
    CHECK_HOURS,
    Arm,
    Bools,
    Floats,
    Ground,
    Ints,
    feature_table,
    float_matrix,
)

NEVER_US = np.iinfo(np.int64).max
HOUR_US = 3_600_000_000
_RAMP_CHECKS = 4
_WIRE = timedelta(seconds=2)
"""From a payment to its arrival, while all is well."""
_AUDIT_HOURS = (1.0, 6.0)
"""A person has judged an audit after so long."""
_USUAL_LATENCY_US = 4_000.0


@dataclass(frozen=True)
class Takeover:
    """From the onset on another arm decides than the champion.

    Attributes:
        arm: it.
        signal: how it shows: `artifact`, `configuration` or `release`.
        mended_by: actions that put the champion back.
        is_innocent: a sound release.
    """

    arm: Arm
    signal: str
    mended_by: frozenset[Action]
    is_innocent: bool = False


Alter = Callable[["Draft", pl.DataFrame, NDArray[np.float32]], NDArray[np.float32]]
"""From the draft, the sent payments of the run and their features (n, k) to what is served."""


@dataclass(frozen=True)
class Draft:
    """A run in the making.

    Attributes:
        ground: of the seed.
        severity: in (0, 1].
        is_ramp: whether the fault grows over a day instead of striking at once.
        seed: of the scenario's own chance.
        world: what customers and criminals do, history included, by time.
        broken: changes of what is sent of it, in order.
        alters: changes of what is served as features.
        takeover: who decides instead of the champion.
        feed: what becomes of verdicts: `outage`, `delay`, `flips` -> how strong.
        latency: factor on answers' times.
        stale_hours: how far features are behind.
        failing: share of requests that get no decision.
        is_silent: whether the telemetry is lost.
        crashes: whether the controller dies between an act and its record.
        until: end of the fault; None: it stays.
    """

    ground: Ground
    severity: float
    is_ramp: bool
    seed: int
    world: pl.DataFrame
    broken: tuple[Callable[["Draft", pl.DataFrame], pl.DataFrame], ...] = ()
    alters: tuple[Alter, ...] = ()
    takeover: Takeover | None = None
    feed: dict[str, float] = field(default_factory=dict)
    latency: float = 1.0
    stale_hours: float = 0.0
    failing: float = 0.0
    is_silent: bool = False
    crashes: bool = False
    until: datetime | None = None

    @property
    def onset(self) -> datetime:
        """The first moment that differs."""
        return self.ground.onset

    def rng(self, part: int) -> np.random.Generator:
        """Chance of one part of the scenario."""
        return np.random.default_rng([self.ground.seed, self.seed, part])

    def strength(self, times: pl.Series) -> Floats:
        """How much of the fault there is at these times, in [0, 1], shape (n,)."""
        us = times.cast(pl.Int64).to_numpy()
        since = us - microseconds(self.onset)
        grown = np.ones(us.size)
        if self.is_ramp:
            grown = np.clip(since / (_RAMP_CHECKS * CHECK_HOURS * HOUR_US), 1e-9, 1.0)
        over = us >= microseconds(self.until) if self.until else np.zeros(us.size, dtype=bool)
        return np.where((since >= 0) & ~over, grown, 0.0)

    def hit(self, times: pl.Series, part: int) -> Bools:
        """Which payments the fault hits, by its strength at their time."""
        found: Bools = self.rng(part).random(len(times)) < self.strength(times)
        return found

    def blended(self, after: pl.DataFrame, part: int) -> pl.DataFrame:
        """The world as `after` says where the fault hits: the same payments in order, and more."""
        is_later = pl.col("event_timestamp") >= self.onset
        past, before = self.world.filter(~is_later), self.world.filter(is_later)
        later = after.filter(is_later)
        added = later.clear()
        if later.height > before.height:
            known = before["transaction_id"].implode()
            is_known = later["transaction_id"].is_in(known)
            added, later = later.filter(~is_known), later.filter(is_known)
        kept = added.filter(pl.Series(self.hit(added["event_timestamp"], part)))
        hit = pl.Series(self.hit(before["event_timestamp"], part + 1))
        changed = before.select(
            pl.when(hit).then(later[column]).otherwise(column).alias(column)
            for column in before.columns
        )
        told = pl.concat([changed, kept.select(before.columns)])
        return pl.concat([past, told.sort("event_timestamp", maintain_order=True)])


@dataclass(frozen=True)
class Verdicts:
    """What the feed will tell of each payment, shape (n,) each.

    Attributes:
        report_us: when it is reported as fraud if it is let through; `NEVER_US`: never.
        judged_us: when an audit of it is judged.
        says_fraud: what that audit says.
    """

    report_us: Ints
    judged_us: Ints
    says_fraud: Bools


@dataclass(frozen=True)
class Answers:
    """How each payment is answered, shape (n,) each.

    Attributes:
        latency_us: how long the answer takes.
        fails: whether the request ends without a decision.
        age_us: how far its features are behind.
    """

    latency_us: Ints
    fails: Bools
    age_us: Ints


@dataclass(frozen=True)
class Stage:
    """One run, the same for every policy. All arrays have one entry per payment that is sent.

    Attributes:
        draft: what it was made of.
        sent: PAYLOAD_COLUMNS and received_timestamp, in order of arrival.
        served: features as the model sees them, shape (n, k).
        right: features as they should be, shape (n, k).
        recomputed: features of what was sent, computed from the log, shape (n, k).
        is_fraud: the truth.
        true_minor: what the payment is worth, minor units.
        counts: whether it is a payment at all, and not a repetition.
        arrived_us: when it arrived, microseconds UTC.
        verdicts: what will be told of it, and when.
        answers: how it is answered.
        onset: row of the first payment at or after the onset.
        fixed: row from which on the sender has mended it; n: never.
    """

    draft: Draft
    sent: pl.DataFrame
    served: NDArray[np.float32]
    right: NDArray[np.float32]
    recomputed: NDArray[np.float32]
    is_fraud: Bools
    true_minor: Ints
    counts: Bools
    arrived_us: Ints
    verdicts: Verdicts
    answers: Answers
    onset: int
    fixed: int

    @property
    def rows(self) -> int:
        """Payments sent."""
        return self.sent.height


def staged(draft: Draft) -> Stage:
    """Let the draft happen: break what is sent, compute features, and say when labels come."""
    ground, size = draft.ground, draft.ground.size
    world = draft.world.with_columns(
        true_minor="amount_minor",
        received_timestamp=pl.col("event_timestamp") + _WIRE,
        counts=pl.lit(value=True),
    )
    sent = world
    for breaking in draft.broken:
        sent = breaking(draft, sent)
    first = ground.frame["event_timestamp"][ground.start] + _WIRE
    run = sent.filter(pl.col("received_timestamp") >= first).head(size.run)
    start = sent.height - sent.filter(pl.col("received_timestamp") >= first).height
    is_same_world = draft.world is ground.frame
    recomputed = ground.quiet if is_same_world and not draft.broken else _features(sent, start, run)
    right = recomputed
    if draft.broken:
        right = _right(draft, world, run, recomputed)
        recomputed = _repaired(draft, run, recomputed, right)
    served = recomputed
    for alter in draft.alters:
        served = alter(draft, run, served)
    arrived = run["received_timestamp"].cast(pl.Int64).to_numpy()
    until = microseconds(draft.until + _WIRE) if draft.until else NEVER_US
    return Stage(
        draft=draft,
        sent=run.drop("true_minor", "counts", "is_fraud", "label_timestamp", "fraud_type"),
        served=served,
        right=right,
        recomputed=recomputed,
        is_fraud=run["is_fraud"].to_numpy(),
        true_minor=run["true_minor"].to_numpy(),
        counts=run["counts"].to_numpy(),
        arrived_us=arrived,
        onset=int(np.searchsorted(arrived, microseconds(draft.onset + _WIRE))),
        fixed=int(np.searchsorted(arrived, until)),
        verdicts=_verdicts(draft, run, arrived),
        answers=_answers(draft, run),
    )


def _features(sent: pl.DataFrame, start: int, run: pl.DataFrame) -> NDArray[np.float32]:
    """The features of the run's rows; the log's order is that of arrival."""
    payload = sent.drop("received_timestamp", "true_minor", "counts")
    table = feature_table(payload, since=run["event_timestamp"].min())  # type: ignore[arg-type]
    rows = table.filter(pl.col("seq").is_between(start, start + run.height - 1))
    return float_matrix(rows)


def _right(
    draft: Draft, world: pl.DataFrame, run: pl.DataFrame, recomputed: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The features of the same payments had nothing been broken; of repetitions, their own."""
    if draft.world is draft.ground.frame:
        ids, table = draft.ground.run["transaction_id"], draft.ground.quiet
    else:
        start = draft.ground.start
        told = world[start : start + draft.ground.size.run]
        ids, table = told["transaction_id"], _features(world, start, told)
    place = pl.DataFrame({"transaction_id": ids, "place": np.arange(len(ids))})
    at = run.select("transaction_id").join(
        place, on="transaction_id", how="left", maintain_order="left"
    )["place"]
    known = at.is_not_null().to_numpy()
    right = recomputed.copy()
    right[known] = table[at.drop_nulls().to_numpy()]
    return right


def _repaired(
    draft: Draft, run: pl.DataFrame, broken: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Who mends the feed sends its broken days again, and the memory is folded from them."""
    if draft.until is None:
        return broken
    is_mended = (run["received_timestamp"] >= draft.until + _WIRE).to_numpy()
    return np.where(is_mended[:, None], right, broken)


def _verdicts(draft: Draft, run: pl.DataFrame, arrived: Ints) -> Verdicts:
    """When the feed tells what, with what is wrong with the feed."""
    rng, n = draft.rng(91), run.height
    is_fraud = run["is_fraud"].to_numpy()
    reported = run["label_timestamp"].cast(pl.Int64).fill_null(NEVER_US).to_numpy().copy()
    judged = arrived + (rng.uniform(*_AUDIT_HOURS, n) * HOUR_US).astype(np.int64)
    says = is_fraud.copy()
    hit = draft.strength(run["event_timestamp"]) > 0.0
    if factor := draft.feed.get("delay"):
        late = hit & (reported < NEVER_US)
        reported[late] = arrived[late] + ((reported - arrived)[late] * factor).astype(np.int64)
    if share := draft.feed.get("flips"):
        wrong = hit & (rng.random(n) < share)
        says = np.where(wrong, ~is_fraud, is_fraud)
        slandered = hit & ~is_fraud & (rng.random(n) < share * is_fraud.mean())
        reported[wrong & is_fraud] = NEVER_US
        reported[slandered] = judged[slandered]
    if draft.feed.get("outage"):
        begin, end = (
            microseconds(draft.onset),
            microseconds(draft.until) if draft.until else NEVER_US,
        )
        for told in (reported, judged):
            told[(told >= begin) & (told < end)] = end
    return Verdicts(reported, judged, says)


def _answers(draft: Draft, run: pl.DataFrame) -> Answers:
    rng, n = draft.rng(92), run.height
    strength = draft.strength(run["event_timestamp"])
    usual = _USUAL_LATENCY_US * np.exp(rng.normal(0.0, 0.5, n))
    slow = usual * (1.0 + (draft.latency - 1.0) * strength)
    fails = rng.random(n) < draft.failing * strength
    age = np.where(strength > 0.0, draft.stale_hours * HOUR_US, 0.0)
    return Answers(slow.astype(np.int64), fails, age.astype(np.int64))
