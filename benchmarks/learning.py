"""Retraining although declined payments show no truth, against a truth that only the world knows.

`python -m benchmarks.learning`: an old model declines for weeks while a new kind of fraud begins.
Retraining sees verdicts, with their delays, for what was approved, let through or audited. The
candidates are then judged on later payments by the whole truth; and estimates that were made from
the labelled payments alone are held against it, many draws of the exploration for each world.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.declaration import Stream
from fraud_platform.features.engines import Engine, compute_by
from fraud_platform.features.journal import journal
from fraud_platform.features.spec import FEATURES
from fraud_platform.metrics import recall_at_fpr, threshold_at_fpr
from fraud_platform.model import Model, ModelPolicy, fit
from fraud_platform.money import MoneyPolicy
from fraud_platform.selective_labels import (
    Action,
    ExplorationPolicy,
    explore,
    training_weights,
)
from fraud_platform.simulation.scenarios import Scenario, inject
from fraud_platform.simulation.world import World, simulate
from fraud_platform.survey import Costs, Estimate, estimated_cost, estimated_share

_OLD, _LIVE, _DRIFT, _LEARNT, _JUDGED, _END = 10, 31, 38, 55, 69, 83
_MATURITY = timedelta(days=14)
_FINAL = timedelta(days=60)  # no chargeback of the simulation comes later
_AUDIT_TAKES = timedelta(days=2)
_EXPLORATION = ExplorationPolicy(pass_rate=0.02, pass_floor=0.005, audit_rate=0.065)
_MONEY = MoneyPolicy()
_DECLINE_FPR, _FPR, _CONFIDENCE = 0.02, 0.05, 0.9
_MAX_WEIGHT = 50.0
_MODEL = ModelPolicy(trials=1)
_OURS = "ours + old data"
_PAYMENTS_ONLY = tuple(feature for feature in FEATURES if feature.stream is Stream.PAYMENTS)
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


def main(arguments: list[str]) -> int:
    """Simulate, retrain, judge and print; 0 unless something breaks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="worlds")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--customers", type=int, default=800, help="two payments a day each")
    parser.add_argument("--draws", type=int, default=100, help="draws of the exploration per world")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    jobs = [
        (asked.first_seed + number, asked.customers, asked.draws) for number in range(asked.seeds)
    ]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_of_world, jobs))
    document = {
        "arms": [line for arms, _ in found for line in arms],
        "coverage": [line for _, coverage in found for line in coverage],
    }
    text = json.dumps(document, indent=1) if asked.json else "\n".join(_told(document))
    print(text)  # noqa: T201 -- a program's output
    return 0


def _of_world(job: tuple[int, int, int]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    seed, customers, draws = job
    life = _live(seed, customers)
    candidates = dict(_candidates(life))
    arms = [
        {"seed": seed, "arm": name, **_judged(life, name, scores)}
        for name, (_, scores) in candidates.items()
    ]
    ours, scores = candidates[_OURS]
    return arms, list(_coverage(life, ours, scores, draws, seed))


@dataclass(frozen=True)
class Life:
    """What happened, what the old model did about it, and who learnt what.

    Attributes:
        start: midnight of day 0.
        truth: one row per payment, in seq order: day, is_fraud, label_timestamp (of a chargeback),
            declined, and of the exploration: passed, audited, propensity.
        explored: features as they were with the verdicts of passed and audited payments.
        approved: the same without these verdicts.
        old: the old model, and its features.
    """

    start: datetime
    truth: pl.DataFrame
    explored: pl.DataFrame
    approved: pl.DataFrame
    old: Model


def _live(seed: int, customers: int) -> Life:
    world = World(seed=seed, days=_END, customers=customers, terminals=customers // 2)
    since = world.start + timedelta(days=_DRIFT)
    frame = inject(simulate(world), Scenario.NEW_FRAUD_PATTERN, since=since, seed=seed)
    frame = frame.sort("event_timestamp")
    verdicts = frame.filter("is_fraud").select(
        "transaction_id", "label_timestamp", verdict=pl.lit("fraud")
    )
    payments = journal(frame, verdicts).transactions
    compute = compute_by(Engine.KERNEL)
    first = world.start + timedelta(days=_OLD)
    # The old model sees no verdicts, so that what it declines does not depend on who explores.
    seen = compute(payments, journal(frame, verdicts).labels, since=first, features=_PAYMENTS_ONLY)
    truth = seen.select("transaction_id", "event_timestamp", "card_id").join(
        frame.select("transaction_id", "amount_minor", "is_fraud", "label_timestamp"),
        on="transaction_id",
        maintain_order="left",
    )
    truth = truth.with_columns(
        day=(pl.col("event_timestamp") - world.start).dt.total_days(), weight=pl.lit(1.0)
    )
    old, declined = _old_model(truth, seen)
    truth = _explored(truth.with_columns(declined=declined), salt=b"first draw")

    def known(visible: pl.Expr) -> pl.DataFrame:
        told = truth.filter("is_fraud").filter(visible)
        when = pl.when("audited").then(pl.col("event_timestamp") + _AUDIT_TAKES)
        told = told.select(
            "transaction_id",
            label_timestamp=when.otherwise("label_timestamp"),
            verdict=pl.lit("fraud"),
        )
        early = verdicts.join(truth, on="transaction_id", how="anti")
        log = journal(frame, pl.concat([early, told]))
        return compute(log.transactions, log.labels, since=first)

    approved = known(~pl.col("declined"))
    explored = known(~pl.col("declined") | pl.col("passed") | pl.col("audited"))
    return Life(world.start, truth, explored, approved, old)


def _old_model(truth: pl.DataFrame, seen: pl.DataFrame) -> tuple[Model, pl.Series]:
    """A model of the first weeks, and what it declines once it is live."""
    names = [feature.name for feature in _PAYMENTS_ONLY]
    table = truth.hstack(seen.select(names)).with_columns(slice=pl.lit("train"))
    columns = ["event_timestamp", "is_fraud", "slice", "transaction_id", "card_id"]
    old = fit("xgboost", table.filter(pl.col("day") < _LIVE - 3).select(*columns, *names), _MODEL)
    table = old.scored(table)
    rest = table.filter(pl.col("day").is_between(_LIVE - 3, _LIVE - 1))
    limit = threshold_at_fpr(rest["is_fraud"].to_numpy(), rest["score"].to_numpy(), _DECLINE_FPR)
    return old, (table["score"] >= limit) & (table["day"] >= _LIVE)


def _explored(truth: pl.DataFrame, *, salt: bytes) -> pl.DataFrame:
    """What a policy lets through and audits among the declined, in order of time."""
    passed, audited = np.zeros(truth.height, bool), np.zeros(truth.height, bool)
    propensity = np.ones(truth.height)
    today, exposure, audits = -1, 0, 0
    declined = truth.with_row_index().filter("declined")
    rows = declined.select("index", "transaction_id", "amount_minor", "day").iter_rows()
    for place, name, amount, day in rows:
        if day != today:
            today, exposure, audits = day, 0, 0
        drawn = explore(
            _EXPLORATION,
            name,
            amount,
            exposure_minor_today=exposure,
            audits_today=audits,
            salt=salt,
        )
        propensity[place] = drawn.propensity
        passed[place], audited[place] = drawn.action is Action.PASS, drawn.action is Action.AUDIT
        exposure += amount if passed[place] else 0
        audits += int(audited[place])
    return truth.with_columns(
        passed=pl.Series(passed), audited=pl.Series(audited), propensity=pl.Series(propensity)
    )


def _labelled(truth: pl.DataFrame, age: timedelta = _MATURITY) -> pl.DataFrame:
    """`is_known`: whether a label exists at this age, and `label`: what it says."""
    in_time = pl.col("label_timestamp") < pl.col("event_timestamp") + age
    return truth.with_columns(
        is_known=~pl.col("declined") | pl.col("passed") | pl.col("audited"),
        label=pl.col("is_fraud") & (in_time | pl.col("audited")),
    )


def _candidates(life: Life) -> Iterator[tuple[str, tuple[Model, Floats]]]:
    """Every way to retrain, with its scores of the judged payments."""
    names = [feature.name for feature in FEATURES]
    truth = _labelled(life.truth)
    recent = pl.col("day").is_between(_LIVE, _LEARNT - 1)
    past = pl.col("day") < _LIVE
    approved = ~pl.col("declined")
    known = pl.col("is_known")
    yes, label = pl.lit(value=True), pl.col("label")
    naive = label & approved
    ways = {
        "naive: unlabelled = genuine": (life.approved, recent, yes, naive),
        "passed only": (life.approved, recent, approved, label),
        "ours: passed only + explored, weighed": (life.explored, recent, known, label),
        "naive + old data": (life.approved, recent | past, yes, naive),
        "passed only + old data": (life.approved, recent | past, approved, label),
        _OURS: (life.explored, recent | past, known, label),
        "true labels + old data (nobody has them)": (
            life.explored,
            recent | past,
            yes,
            pl.col("is_fraud"),
        ),
    }
    held = life.old.scored(life.approved)["score"].to_numpy()
    judged = (truth["day"] >= _JUDGED).to_numpy()
    yield "old model, kept", (life.old, held[judged])
    for name, (features, window, kept, told) in ways.items():
        rows = truth.with_columns(is_fraud=told, slice=pl.lit("train")).hstack(
            features.select(names)
        )
        rows = rows.filter(window & kept)
        if features is life.explored and kept is known:
            weights = training_weights(rows["propensity"].to_numpy(), max_weight=_MAX_WEIGHT)
            rows = rows.with_columns(weight=pl.Series(weights))
        columns = ["event_timestamp", "is_fraud", "slice", "transaction_id", "card_id", "weight"]
        model = fit("xgboost", rows.select(*columns, *names), _MODEL)
        yield name, (model, model.scored(features)["score"].to_numpy()[judged])


def _judged(life: Life, name: str, scores: Floats) -> dict[str, float]:
    """Recall at 5 % FPR and cost per 1,000 payments, by the truth."""
    test = life.truth.filter(pl.col("day") >= _JUDGED)
    is_fraud = test["is_fraud"].to_numpy()
    declined = scores >= threshold_at_fpr(is_fraud, scores, _FPR)
    cost = 1000 * _cost(test, declined, is_fraud)
    explores = name.startswith("ours")
    return {
        "recall": recall_at_fpr(is_fraud, scores, _FPR),
        "cost": cost + (_exploration_cost(life.truth) if explores else 0.0),
        "of_it_exploration": _exploration_cost(life.truth) if explores else 0.0,
    }


def _costs(rows: pl.DataFrame, declined: Flags) -> Costs:
    """Cost of each payment, minor units: a missed fraud's amount, or a false decline."""
    lost = rows["amount_minor"].to_numpy() * _MONEY.fraud_loss_share
    disturbed = float(_MONEY.false_decline_minor)
    return Costs(np.where(declined, 0.0, lost), np.where(declined, disturbed, 0.0))


def _cost(rows: pl.DataFrame, declined: Flags, is_fraud: Flags) -> float:
    costs = _costs(rows, declined)
    return float(np.where(is_fraud, costs.if_fraud, costs.if_genuine).mean())


def _exploration_cost(truth: pl.DataFrame) -> float:
    """Per 1,000 payments while exploring: lost amounts and audits, less false declines saved."""
    live = truth.filter(pl.col("day").is_between(_LIVE, _LEARNT - 1))
    passed = live.filter("passed")
    lost = passed.filter("is_fraud")["amount_minor"].sum()
    saved = passed.filter(~pl.col("is_fraud")).height * _MONEY.false_decline_minor
    audits = int(live["audited"].sum()) * _MONEY.review_cost_minor
    return 1000 * float(lost - saved + audits) / live.height


def _coverage(
    life: Life, model: Model, scores: Floats, draws: int, seed: int
) -> Iterator[dict[str, object]]:
    """Estimates from the labelled payments of the judged weeks, against the truth about all."""
    test = life.truth.filter(pl.col("day") >= _JUDGED)
    learnt = life.truth.with_columns(score=model.scored(life.explored)["score"]).filter(
        pl.col("day") < _LIVE
    )
    limit = threshold_at_fpr(learnt["is_fraud"].to_numpy(), learnt["score"].to_numpy(), _FPR)
    alerted = scores >= limit
    truth = _estimands(test, alerted, test["is_fraud"].to_numpy())
    naive = test.with_columns(is_fraud=pl.col("is_fraud") & ~pl.col("declined"))
    unlabelled_is_genuine = _estimands(naive, alerted, naive["is_fraud"].to_numpy())
    drawn = [_explored(test, salt=f"draw {draw}".encode()) for draw in range(draws)]
    for labels, age in (("mature", _MATURITY), ("final", _FINAL)):
        found = [_estimates(_labelled(told, age), alerted) for told in drawn]
        for name, value in truth.items():
            each = [estimates[name] for estimates in found]
            yield {
                "seed": seed,
                "labels": labels,
                "estimand": name,
                "truth": value,
                "naive": unlabelled_is_genuine[name],
                "estimate": float(np.mean([one.value for one in each])),
                "covered": sum(bool(one.low <= value <= one.high) for one in each),
                "draws": draws,
                "width": float(np.mean([one.high - one.low for one in each])),
            }


def _estimands(rows: pl.DataFrame, alerted: Flags, is_fraud: Flags) -> dict[str, float]:
    declined = rows["declined"].to_numpy()
    return {
        "fraud rate among declined": float(is_fraud[declined].mean()),
        "recall": float(alerted[is_fraud].mean()),
        "precision": float(is_fraud[alerted].mean()),
        "cost per payment": _cost(rows, alerted, is_fraud),
    }


def _estimates(told: pl.DataFrame, alerted: Flags) -> dict[str, Estimate]:
    had_a_chance = told["propensity"] > 0
    rows, alerted = told.filter(had_a_chance), alerted[had_a_chance.to_numpy()]
    is_fraud, chance = rows["label"].to_numpy(), rows["propensity"].to_numpy()
    declined, known = rows["declined"].to_numpy(), rows["is_known"].to_numpy()
    shares = {
        "fraud rate among declined": (is_fraud, declined),
        "recall": (alerted, is_fraud),
        "precision": (is_fraud, alerted),
    }
    found = {
        name: estimated_share(part[known], whole[known], chance[known], confidence=_CONFIDENCE)
        for name, (part, whole) in shares.items()
    }
    cost = estimated_cost(_costs(rows, alerted), is_fraud, known, chance, confidence=_CONFIDENCE)
    return found | {"cost per payment": cost}


def _told(document: dict[str, list[dict[str, object]]]) -> Iterator[str]:
    """Tables for people: every way per seed and as a mean, then how often intervals cover."""
    arms, coverage = pl.DataFrame(document["arms"]), pl.DataFrame(document["coverage"])
    seeds = sorted(arms["seed"].unique())
    for measure, shown in (("recall", "{:.3f}"), ("cost", "{:,.0f}")):
        yield (
            f"\n{measure}"
            + {
                "recall": " at 5 % FPR, by the truth",
                "cost": " per 1,000 payments, minor units, exploration included",
            }[measure]
        )
        yield f"{'':<50}" + "".join(f"{seed:>9}" for seed in seeds) + f"{'mean':>9}"
        for name in arms["arm"].unique(maintain_order=True):
            values = arms.filter(arm=name)[measure].to_list()
            cells = [shown.format(value) for value in (*values, sum(values) / len(values))]
            yield f"{name:<50}" + "".join(f"{cell:>9}" for cell in cells)
    yield f"\nestimates from labelled payments, nominal {_CONFIDENCE:.0%}: covered / draws"
    yield f"{'':<44}{'covered':>10}{'truth':>10}{'estimate':>10}{'width':>10}{'naive':>10}"
    for (labels, name), part in coverage.group_by("labels", "estimand", maintain_order=True):
        sums = part.select("covered", "draws").sum().row(0)
        means = part.select("truth", "estimate", "width", "naive").mean().row(0)
        figures = "".join(f"{value:>10.3f}" for value in means)
        yield f"{f'{name}, {labels} labels':<44}{sums[0] / sums[1]:>10.1%}{figures}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
