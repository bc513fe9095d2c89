"""The world of one seed: simulated payments, real features and models, before anything goes wrong.

What belongs here: what all scenarios of a seed share. Faults are `faults` and `injection`, the
closed loop is `loop`.

The run of 26 checks is shorter than the seven days by which features of verdicts are delayed
(`features.spec`). So no decision of the run changes a feature of the run, and one table of features
serves every policy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.calibration import Calibration, CalibrationPolicy, calibrate
from fraud_platform.decision import Thresholds
from fraud_platform.errors import PermanentError
from fraud_platform.fallbacks import FALLBACKS, without
from fraud_platform.features.declaration import KEYS
from fraud_platform.features.engines import Compute, Engine, compute_by
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.hourly import shares_by_hour
from fraud_platform.metrics import threshold_at_fpr
from fraud_platform.model import Model, ModelPolicy, matrix, refit
from fraud_platform.simulation.fraud import ChargebackDelay
from fraud_platform.simulation.world import World, simulate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CHECK_HOURS = 6.0
CHECKS = 26
ONSET_CHECK = 4
"""Checks before the fault: a day in which nothing is wrong."""
FIX_CHECK = 18
"""Who sends broken data mends it then."""
STATIC_FPR = 0.048
"""What the thresholds of the first day disturb of the genuine payments: the incident's aim."""
CHARGEBACK = ChargebackDelay(median_days=1.0, sigma=0.6, max_days=5.0)
"""Weeks in life; pressed together as the incident's months are, so that it can be learned from."""

_TRAIN_FROM, _TRAIN_TO, _CUT_FROM, _CUT_TO, _RUN_FROM = 13, 23, 25, 29, 30
"""Days since the world's start. The last before the run is too young to be cut on."""
_GENUINE_KEPT = 0.15  # of the genuine rows, in fitting only, each standing for several
_PARAMETERS: Mapping[str, float | int | str] = {
    "learning_rate": 0.15,
    "max_depth": 4,
    "min_child_weight": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "reg_lambda": 1.0,
}
_ROUNDS = 120


@dataclass(frozen=True)
class Size:
    """How many payments there are.

    Attributes:
        customers: of the simulated world; each pays about twice a day.
    """

    customers: int

    @property
    def check(self) -> int:
        """Payments of one check, 6 hours of a mean day."""
        return self.customers // 2

    @property
    def run(self) -> int:
        """Payments of a run."""
        return CHECKS * self.check

    @property
    def onset(self) -> int:
        """Row of the run at which the fault begins."""
        return ONSET_CHECK * self.check


SIZE = Size(6_250)
"""12,500 payments a day, a quarter of the incident's, so that five seeds take half an hour on two
processors. A check has 3,125, so what happens before a window is full weighs four times as much."""
INCIDENT_SIZE = Size(25_000)
"""The incident's own 50,000 payments a day."""

Distortion = Callable[[Floats, NDArray[np.float32]], Floats]
"""What a fault does to the scores (n,) of features (n, k)."""


@dataclass(frozen=True)
class Arm:
    """A model with all that it takes to decide by it.

    Attributes:
        name: its version.
        model: as trained.
        calibration: its probabilities.
        thresholds: its own cuts; what reaches them is blocked.
        rate: share of payments that they disturbed where they were cut.
        rate_by_hour: the same by hour of the day, UTC.
        distortion: what is wrong with it, or None.
    """

    name: str
    model: Model
    calibration: Calibration
    thresholds: Thresholds
    rate: float
    rate_by_hour: tuple[float, ...]
    distortion: Distortion | None = field(default=None, compare=False)

    def score(self, features: NDArray[np.float32]) -> Floats:
        """The scores of rows, faults of the arm included; shape (n,)."""
        scores = self.model.score(features.astype(np.float64))
        if self.distortion is not None:
            scores = np.clip(self.distortion(scores, features), 0.0, 1.0)
        return scores

    def probabilities(self, scores: Floats) -> Floats:
        """Chances of fraud; NaN where the arm states none; shape (n,)."""
        found = self.calibration.probabilities(scores)
        return np.full(scores.shape, np.nan) if found is None else found


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to judge on: features (n, k), labels (n,), what each counts (n,)."""

    features: NDArray[np.float32]
    is_fraud: Bools
    weight: Floats

    @property
    def hours(self) -> Ints:
        """Hour of the day, UTC, of each row: a feature; shape (n,)."""
        return self.features[:, FEATURE_NAMES.index("transaction_hour_of_day")].astype(np.int64)

    def some(self, rows: Bools | Ints | slice) -> "Rows":
        """These rows."""
        return Rows(self.features[rows], self.is_fraud[rows], self.weight[rows])


@dataclass(frozen=True)
class Ground:
    """Everything of a seed that no scenario changes.

    Attributes:
        seed: of the world.
        size: how many payments.
        frame: all payments with their truth (`simulation.payments.LABELLED_PAYLOAD`), by time.
        start: row of `frame` at which the run begins.
        learned: rows that the champion was trained on.
        judged: rows that thresholds were cut on and probabilities fitted on.
        lately: the newest days before the run, as the platform knew them: payments and features.
        reports: frauds of the newest days before the run that the champion would have let through,
            with the times at which they were reported.
        quiet: features of the run if nothing goes wrong, shape (run, k).
        champion: decides at first.
        previous: decided before it.
        fallbacks: name in `fallbacks.FALLBACKS` -> the arm that was trained without its groups.
    """

    seed: int
    size: Size
    frame: pl.DataFrame
    start: int
    learned: Rows
    judged: Rows
    lately: pl.DataFrame
    reports: pl.DataFrame
    quiet: NDArray[np.float32]
    champion: Arm
    previous: Arm
    fallbacks: Mapping[str, Arm]

    @property
    def run(self) -> pl.DataFrame:
        """The payments of the run if nothing goes wrong, by time."""
        return self.frame[self.start : self.start + self.size.run]

    @cached_property
    def onset(self) -> datetime:
        """The time of the first payment that a fault can change."""
        found: datetime = self.frame["event_timestamp"][self.start + self.size.onset]
        return found

    @cached_property
    def release(self) -> Arm:
        """A sound release: the champion's rows, another seed."""
        return cut("release", fit(self.learned, seed=self.seed + 7), self.judged)


@lru_cache(maxsize=2)  # units of one seed stand together, of either size
def ground(seed: int, size: Size) -> Ground:
    """Simulate and train; the same seed and size give the same ground, byte for byte.

    Costs some 15 seconds at `SIZE`, once per process while the seed stays.
    """
    frame = simulate(_world(seed, size))
    day = [_moment(frame, days) for days in range(_RUN_FROM + 1)]
    start = int((frame["event_timestamp"] < day[_RUN_FROM]).sum())
    table = feature_table(frame, since=day[_TRAIN_FROM])
    when = pl.col("event_timestamp")
    learned = _thinned(table.filter(when < day[_TRAIN_TO]), seed)
    judged = rows_of(table.filter(when.is_between(day[_CUT_FROM], day[_CUT_TO], closed="left")))
    older = learned.some(slice(learned.is_fraud.size * 2 // 3))
    champion = cut("champion", fit(learned, seed=seed), judged)
    fallbacks = {
        name: cut(f"without-{name}", fit(learned, seed=seed, groups=groups), judged)
        for name, groups in FALLBACKS.items()
    }
    return Ground(
        seed=seed,
        size=size,
        frame=frame,
        start=start,
        learned=learned,
        judged=judged,
        lately=table.filter(when.is_between(day[_CUT_FROM], day[_RUN_FROM], closed="left")),
        # On days that it was trained on it lets through less than it does later.
        reports=_let_through(
            table.filter(when.is_between(day[_CUT_FROM], day[_RUN_FROM], closed="left")), champion
        ),
        quiet=float_matrix(table.filter(when >= day[_RUN_FROM]).head(size.run)),
        champion=champion,
        previous=cut("previous", fit(older, seed=seed + 1), judged),
        fallbacks=fallbacks,
    )


def fit(learned: Rows, *, seed: int, groups: Sequence[str] = ()) -> Model:
    """Train a model with fixed parameters on one thread.

    Args:
        learned: rows to fit on.
        seed: of the fit.
        groups: groups of features (`fallbacks.GROUPS`) that it must do without.
    """
    table = pl.DataFrame(learned.features, schema=list(FEATURE_NAMES)).with_columns(
        is_fraud=pl.Series(learned.is_fraud), weight=pl.Series(learned.weight)
    )
    rows = without(table.fill_nan(None), groups)
    return refit("xgboost", rows, _PARAMETERS, _ROUNDS, ModelPolicy(seed=seed))


def cut(name: str, model: Model, judged: Rows) -> Arm:
    """The arm of a model that disturbs `STATIC_FPR` of these genuine rows.

    Probabilities know no weights, so rows are drawn by them: the draw is the same every time.
    """
    scores = model.score(judged.features.astype(np.float64))
    threshold = min(1.0, threshold_at_fpr(judged.is_fraud, scores, STATIC_FPR, judged.weight))
    share = judged.weight / judged.weight.sum()
    drawn = np.random.default_rng(scores.size).choice(scores.size, scores.size, p=share)
    seen = slice(None) if np.ptp(judged.weight) == 0.0 else drawn
    calibration = calibrate(judged.is_fraud[seen], scores[seen], CalibrationPolicy())
    rate = float(np.average(scores >= threshold, weights=judged.weight))
    by_hour = shares_by_hour(scores >= threshold, judged.hours, judged.weight)
    return Arm(name, model, calibration, Thresholds(threshold, threshold), rate, by_hour)


def feature_table(frame: pl.DataFrame, *, since: datetime) -> pl.DataFrame:
    """The features of all payments from a time on, with the payments' own columns, in row order.

    Frauds are known to the features when their chargeback comes, blocked or not: what is blocked is
    looked into within the seven days by which these features are delayed.
    """
    payments = frame.with_row_index("seq").with_columns(pl.col("seq").cast(pl.Int64))
    frauds = payments.filter("is_fraud").select(
        "transaction_id",
        "event_timestamp",
        "card_id",
        "terminal_id",
        seq=pl.int_range(pl.len(), dtype=pl.Int64) + frame.height,
        verdict=pl.lit("fraud"),
        label_source=pl.lit("chargeback"),
        label_timestamp="label_timestamp",
        received_timestamp="label_timestamp",
    )
    table = _compute()(payments, frauds, since=since)
    own = payments.select("seq", *(c for c in frame.columns if c not in KEYS))
    return table.join(own, on="seq", how="left", maintain_order="left")


def float_matrix(table: pl.DataFrame) -> NDArray[np.float32]:
    """The features as models see them, shape (n, k)."""
    return matrix(table, FEATURE_NAMES).astype(np.float32)


def rows_of(table: pl.DataFrame) -> Rows:
    """A table of features as rows to learn from, all alike."""
    return Rows(float_matrix(table), table["is_fraud"].to_numpy(), np.ones(table.height))


def _compute() -> Compute:
    try:
        return compute_by(Engine.KERNEL)
    except PermanentError:  # without the extra: the same bits, several times slower
        return compute_by(Engine.POLARS)


def _world(seed: int, size: Size) -> World:
    return World(
        seed=seed,
        customers=size.customers,
        terminals=size.customers * 3 // 5,
        days=_RUN_FROM + int(CHECKS * CHECK_HOURS / 24) + 1,
        chargeback=CHARGEBACK,
    )


def _moment(frame: pl.DataFrame, days: int) -> datetime:
    first: datetime = frame["event_timestamp"][0]
    return first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)


def _let_through(table: pl.DataFrame, champion: Arm) -> pl.DataFrame:
    frauds = table.filter("is_fraud")
    passed = champion.score(float_matrix(frauds)) < champion.thresholds.review
    told = ("transaction_id", "card_id", "event_timestamp", "label_timestamp")
    return frauds.filter(pl.Series(passed)).select(told)


def _thinned(table: pl.DataFrame, seed: int) -> Rows:
    """All frauds and some of the genuine rows, each of which stands for several."""
    chance = np.random.default_rng([seed, 11]).random(table.height)
    is_fraud = table["is_fraud"].to_numpy()
    kept = is_fraud | (chance < _GENUINE_KEPT)
    weight = np.where(is_fraud, 1.0, 1.0 / _GENUINE_KEPT)[kept]
    return Rows(float_matrix(table.filter(pl.Series(kept))), is_fraud[kept], weight / weight.mean())
