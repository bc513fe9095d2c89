"""Leaks planted into training sets, to see that each is found and that clean sets are left alone.

`python -m benchmarks.leaks` prints what every alarm measures on clean sets, on clean sets whose
fraud changes, and on each planted leak.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from benchmarks.data import handbook_path, load
from fraud_platform.features.engines import Engine, compute_by
from fraud_platform.features.journal import Journal, journal
from fraud_platform.leaks import LeakPolicy, LeakReport, look_for_leaks
from fraud_platform.simulation.scenarios import Scenario, inject
from fraud_platform.simulation.world import World, simulate
from fraud_platform.training_set import TrainingPolicy, build

_WORLD = World(days=50, customers=800, terminals=400)
_SMALL = World(days=30, customers=300, terminals=150, fraud_rate=0.04)

_MATURITY_DAYS = 7
_POLICY = TrainingPolicy()
_SPAN = timedelta(days=_POLICY.train_days + _POLICY.delay_days + _POLICY.test_days)


@dataclass(frozen=True)
class Clean:
    """An honest training set, and the log that it was made from.

    Attributes:
        rows: as `training_set.build` returns them.
        log: the payments and verdicts.
    """

    rows: pl.DataFrame
    log: Journal


def simulated(seed: int, *, drifts: bool = False, is_small: bool = False) -> Clean:
    """A training set of the platform's own world.

    Args:
        seed: of the world.
        drifts: whether a new kind of fraud begins within the test slice.
        is_small: 600 payments a day, of 30 days, in place of 1,600 and 50.
    """
    world = replace(_SMALL if is_small else _WORLD, seed=seed)
    frame = simulate(world)
    if drifts:
        since = world.start + timedelta(days=world.days - 4)
        frame = inject(frame, Scenario.NEW_FRAUD_PATTERN, since=since, seed=seed)
    verdicts = frame.filter("is_fraud").select(
        "transaction_id", "label_timestamp", verdict=pl.lit("fraud")
    )
    return clean(journal(frame, verdicts))


def clean(log: Journal) -> Clean:
    """The training set of a log's last days, all of whose labels are mature."""
    last = log.transactions["event_timestamp"].dt.date().max()
    start = datetime(last.year, last.month, last.day, tzinfo=UTC) - _SPAN  # type: ignore[union-attr]  # a log has days
    features = compute_by(Engine.KERNEL)(log.transactions, log.labels, since=start)
    verdicts = (
        log.labels.filter(pl.col("verdict") == "fraud")
        .sort("label_timestamp", "seq")
        .unique("transaction_id", keep="first")
        .select("transaction_id", "label_timestamp")
    )
    matured = pl.col("event_timestamp").dt.truncate("1d") + timedelta(days=_MATURITY_DAYS + 1)
    labels = features.select("transaction_id", "event_timestamp", "card_id").join(
        verdicts, on="transaction_id", how="left"
    )
    labels = labels.with_columns(
        as_of_timestamp=matured,
        is_fraud=(pl.col("label_timestamp") < matured).fill_null(value=False),
        propensity=pl.lit(1.0),
    )
    as_of = datetime(2100, 1, 1, tzinfo=UTC)
    return Clean(build(features, labels, log.transactions, as_of=as_of, policy=_POLICY), log)


def _like_the_label(of: Clean) -> pl.DataFrame:
    """A feature that is the label, but for one row in five hundred."""
    flipped = pl.Series(np.random.default_rng(1).random(of.rows.height) < 0.002)
    return of.rows.with_columns(planted=(pl.col("is_fraud") ^ flipped).cast(pl.Float64))


def _reason_code(of: Clean) -> pl.DataFrame:
    """The reason that some chargebacks came with: unknown for everything else."""
    random = np.random.default_rng(2)
    told = pl.Series(random.random(of.rows.height) < 0.3)
    code = pl.Series(random.integers(1, 5, of.rows.height).astype(np.float64))
    return of.rows.with_columns(planted=pl.when(pl.col("is_fraud") & told).then(code))


def _days_to_the_verdict(of: Clean) -> pl.DataFrame:
    """How long the verdict took; for genuine payments a number that looks the same."""
    days = np.random.default_rng(3).lognormal(np.log(2.5), 0.6, of.rows.height)
    known = of.log.labels.select("transaction_id", "label_timestamp")
    rows = of.rows.join(known, on="transaction_id", how="left", maintain_order="left")
    took = (pl.col("label_timestamp") - pl.col("event_timestamp")).dt.total_seconds() / 86_400
    planted = pl.when("is_fraud").then(took).otherwise(pl.Series(days))
    return rows.with_columns(planted=planted).drop("label_timestamp")


def _share_of_the_card(of: Clean) -> pl.DataFrame:
    """Fraud share of the card over the whole train slice, the row's own label included."""
    share = pl.col("is_fraud").filter(pl.col("slice") == "train").mean().over("card_id")
    return of.rows.with_columns(planted=share)


def _around_the_payment(of: Clean) -> pl.DataFrame:
    """A count of a declared feature that also looks a day ahead."""
    ahead = pl.col("event_timestamp").shift(-1) - pl.col("event_timestamp")
    soon = (ahead < timedelta(days=1)).fill_null(value=False).cast(pl.Float64).over("card_id")
    counts = of.log.transactions.sort("event_timestamp").select("transaction_id", soon=soon)
    rows = of.rows.join(counts, on="transaction_id", how="left", maintain_order="left")
    return rows.with_columns(pl.col("card_payment_count_1d") + pl.col("soon")).drop("soon")


def _frauds_at_midnight(of: Clean) -> pl.DataFrame:
    """Frauds were recorded by date only."""
    time = pl.col("event_timestamp")
    return of.rows.with_columns(pl.when("is_fraud").then(time.dt.truncate("1d")).otherwise(time))


def _frauds_of_few_days(of: Clean) -> pl.DataFrame:
    """Verdicts arrived for three days of the train slice only."""
    day = pl.col("event_timestamp").dt.date()
    newest = of.rows.filter(slice="train").select(day.max()).item()
    is_kept = (pl.col("slice") != "train") | (day > newest - timedelta(days=3))
    return of.rows.with_columns(is_fraud=pl.col("is_fraud") & is_kept)


PLANTS: dict[str, tuple[str, Callable[[Clean], pl.DataFrame]]] = {
    "the label itself, almost": ("single feature", _like_the_label),
    "reason code of 30 % of the frauds": ("label-derived values", _reason_code),
    "days to the verdict": ("label-derived times", _days_to_the_verdict),
    "fraud share of the card, own row included": (
        "random against time split",
        _share_of_the_card,
    ),
    "a window that looks a day ahead": ("features from the future", _around_the_payment),
    "frauds recorded at midnight": ("time alone", _frauds_at_midnight),
    "verdicts of three days only": ("time alone", _frauds_of_few_days),
}
"""Each leak, the alarm that must fire, and how it is planted."""

_EQUALLY_LONG = {"days to the verdict": "label-derived values"}
"""The alarm that does as well where every verdict takes equally long, as in the public benchmark:
no time is left to correlate with, but the constant is its class."""


def looked_at(of: Clean, rows: pl.DataFrame | None = None) -> LeakReport:
    """All alarms on a clean set, or on the same set with a leak."""
    return look_for_leaks(
        of.rows if rows is None else rows,
        of.log.transactions,
        of.log.labels,
        compute=compute_by(Engine.KERNEL),
        policy=LeakPolicy(),
    )


def main(arguments: list[str]) -> int:
    """Print the table: what each alarm measures, clean and planted; 1 if any verdict is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="worlds of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    lines: list[dict[str, object]] = []
    for name, of in _sets(asked.seeds):
        found = looked_at(of)
        lines.append(_line(name, "clean", found, right=not found.alarms))
        for plant, (alarm, planted) in PLANTS.items():
            found = looked_at(of, planted(of))
            fired = {each.name for each in found.alarms}
            lines.append(
                _line(name, plant, found, right=bool(fired & {alarm, _EQUALLY_LONG.get(plant)}))
            )
    if asked.json:
        print(json.dumps({"rows": lines}, indent=1))  # noqa: T201 -- a program's output
    else:
        print("\n".join(map(_text, lines)))  # noqa: T201 -- a program's output
    return int(not all(line["right"] for line in lines))


def _sets(seeds: int) -> Iterator[tuple[str, Clean]]:
    for seed in range(1, seeds + 1):
        yield f"simulation, seed {seed}", simulated(seed)
        yield f"simulation, seed {seed}, new fraud in the test slice", simulated(seed, drifts=True)
        yield f"small simulation, seed {seed}", simulated(seed, is_small=True)
    if handbook_path().exists():
        yield "handbook, 45 days", clean(load(450_000).log)


def _line(of: str, plant: str, found: LeakReport, *, right: bool) -> dict[str, object]:
    fired = sorted({alarm.name for alarm in found.alarms})
    return {"set": of, "plant": plant, "right": right, "fired": fired, "largest": found.largest}


def _text(line: dict[str, Any]) -> str:
    largest = " ".join(f"{value:.3f}" for value in line["largest"].values())
    fired = ", ".join(line["fired"]) or "none"
    mark = "right" if line["right"] else "WRONG"
    return f"{line['set']:<52} {line['plant']:<42} {mark}  {largest}  fired: {fired}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
