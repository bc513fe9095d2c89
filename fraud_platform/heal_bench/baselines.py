"""Three who answer otherwise: nobody, the public recipe, and somebody who knows everything.

The public recipe ("drift, so retrain") is what repositories with self-healing in their names do,
given every benefit of the doubt:

* It looks once per check at the newest payments, as a scheduled drift report does.
* It alarms by Evidently's default (`DataDriftPreset` 0.7: Wasserstein distance over 0.1 standard
  deviations calls a column drifted, half of the columns call the data drifted), or when any of the
  ten features that the model uses most has a population stability index over 0.2. Features of the
  calendar are left out: with them it would alarm every night.
* It trains on the last day of payments as production has them: reported is fraud, unreported is
  genuine, blocked is absent, whatever state the inputs are in. It deploys at once, cut where it
  disturbs as many of a held-out part as the champion was to disturb; no gate, no governor.
* The window that it was trained on is its new reference. It trains at most once a day.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.spec import CALENDAR_NAMES, FEATURE_NAMES
from fraud_platform.heal_bench.dealt import Dealt, costs
from fraud_platform.heal_bench.stage import Stage
from fraud_platform.heal_bench.world import (
    STATIC_FPR,
    Arm,
    Bools,
    Floats,
    Rows,
    cut,
    fit,
    float_matrix,
)
from fraud_platform.stats.drift_measures import psi

_LOOKED_AT = 5_000
_FAR, _SHARE, _PSI = 0.1, 0.5, 0.2
_TOP = 10
_DAY_CHECKS = 4
_KEPT = 0.15
_FEWEST_FRAUDS = 10

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What a baseline did.

    Attributes:
        dealt: its decisions.
        alarms: rows at which it called something wrong.
        retrains: rows at which it trained.
    """

    dealt: Dealt
    alarms: tuple[int, ...] = ()
    retrains: tuple[int, ...] = ()


def nothing(stage: Stage) -> Answer:
    """The thresholds of the first day decide to the end, whoever holds them."""
    blocked = _blocked(stage, _decider(stage, 0), 0, stage.onset)
    after = _blocked(stage, _decider(stage, stage.onset), stage.onset, stage.rows)
    return Answer(Dealt.plain(_answered(stage, np.concatenate([blocked, after]))))


def retrain_on_drift(stage: Stage) -> Answer:
    """The public recipe; see above."""
    size = stage.draft.ground.size
    loop = _Recipe(stage, _decider(stage, 0), _sample(float_matrix(stage.draft.ground.lately)))
    blocked = np.zeros(stage.rows, dtype=bool)
    for begin in range(0, stage.rows, size.check):
        end = min(begin + size.check, stage.rows)
        if begin >= size.check:
            loop.look(begin, blocked)
        middle = int(np.clip(stage.onset, begin, end)) if not loop.retrains else begin
        blocked[begin:middle] = _blocked(stage, loop.arm, begin, middle)
        if stage.draft.takeover is not None and not loop.retrains and middle < end:
            loop.arm = stage.draft.takeover.arm
        blocked[middle:end] = _blocked(stage, loop.arm, middle, end)
    return Answer(Dealt.plain(_answered(stage, blocked)), tuple(loop.alarms), tuple(loop.retrains))


def oracle(stage: Stage) -> Answer:
    """Right inputs, every label, and the exact cut of each check: the policy's aim, reached.

    It decides by the champion, or, where the world has changed, by models that were trained on old
    rows and on the true labels of the cards that they do not decide on, whichever is cheaper.
    """
    found = [_cut_exactly(stage, stage.draft.ground.champion.score(stage.right))]
    if stage.draft.world is not stage.draft.ground.frame:
        found.append(_cut_exactly(stage, _cross_fitted(stage)))
    best = min(found, key=lambda blocked: _cost_after(stage, blocked))
    return Answer(Dealt.plain(best & stage.counts))


@dataclass
class _Recipe:
    """The state of the public recipe."""

    stage: Stage
    arm: Arm
    reference: Features
    alarms: list[int] = field(default_factory=list)
    retrains: list[int] = field(default_factory=list)

    def look(self, now: int, blocked: Bools) -> None:
        """The scheduled report; a retraining where it alarms."""
        size = self.stage.draft.ground.size
        window = _sample(self.stage.served[now - size.check : now])
        if not drifted(self.reference, window, self.arm):
            return
        self.alarms.append(now)
        if self.retrains and now - self.retrains[-1] < _DAY_CHECKS * size.check:
            return
        rows = np.arange(max(0, now - _DAY_CHECKS * size.check), now)
        rows = rows[~blocked[rows]]
        told = self.stage.verdicts.report_us[rows] <= self.stage.arrived_us[now]
        if told.sum() < _FEWEST_FRAUDS:
            return
        self.retrains.append(now)
        self.arm = _trained(self.stage, rows, told, now)
        self.reference = window


def drifted(reference: Features, window: Features, arm: Arm) -> bool:
    """Whether a drift report alarms; see above.

    Args:
        reference: shape (n, k), `FEATURE_NAMES` in order.
        window: shape (m, k).
        arm: whose features count most.
    """
    from scipy.stats import wasserstein_distance

    plain = [n for n, name in enumerate(FEATURE_NAMES) if name not in CALENDAR_NAMES]
    far = 0
    for column in plain:
        before, now = (s[:, column][~np.isnan(s[:, column])] for s in (reference, window))
        if not before.size:  # the reference says nothing to compare with
            continue
        spread = max(float(before.std()), 1e-3)
        far += not now.size or wasserstein_distance(before, now) / spread >= _FAR
    if far >= _SHARE * len(plain):
        return True
    used = sorted(plain, key=lambda column: -_gain(arm).get(FEATURE_NAMES[column], 0.0))
    return any(
        psi(reference[:, c].astype(np.float64), window[:, c].astype(np.float64)) > _PSI
        for c in used[:_TOP]
    )


def _gain(arm: Arm) -> dict[str, float]:
    told: dict[str, float] = arm.model.booster.get_score(importance_type="total_gain")
    return told


def _trained(stage: Stage, rows: NDArray[np.int64], told: Bools, now: int) -> Arm:
    rng = np.random.default_rng([stage.draft.seed, now])
    held_out = rng.random(rows.size) < 0.2
    learns = ~held_out & (told | (rng.random(rows.size) < _KEPT))
    weight = np.where(told, 1.0, 1.0 / _KEPT)
    learned = Rows(stage.served[rows[learns]], told[learns], weight[learns])
    judged = Rows(stage.served[rows[held_out]], told[held_out], np.ones(int(held_out.sum())))
    return cut(f"retrained-{now}", fit(learned, seed=stage.draft.ground.seed), judged)


def _sample(features: Features) -> Features:
    step = max(1, features.shape[0] // _LOOKED_AT)
    return features[::step]


def _decider(stage: Stage, row: int) -> Arm:
    takeover = stage.draft.takeover
    if takeover is not None and row >= stage.onset:
        return takeover.arm
    return stage.draft.ground.champion


def _blocked(stage: Stage, arm: Arm, begin: int, end: int) -> Bools:
    if begin >= end:
        return np.zeros(0, dtype=bool)
    return np.asarray(arm.score(stage.served[begin:end]) >= arm.thresholds.review)


def _answered(stage: Stage, blocked: Bools) -> Bools:
    """A request without a decision is let through by whoever asked."""
    return blocked & ~stage.answers.fails


def _cut_exactly(stage: Stage, scores: Floats) -> Bools:
    """Block exactly `STATIC_FPR` of the genuine payments of each check, the most suspicious."""
    blocked = np.zeros(stage.rows, dtype=bool)
    check = stage.draft.ground.size.check
    for begin in range(0, stage.rows, check):
        rows = slice(begin, min(begin + check, stage.rows))
        genuine = ~stage.is_fraud[rows] & stage.counts[rows]
        threshold = np.quantile(scores[rows][genuine], 1.0 - STATIC_FPR, method="higher")
        blocked[rows] = scores[rows] >= threshold
    return blocked


def _cross_fitted(stage: Stage) -> Floats:
    ground, rng = stage.draft.ground, np.random.default_rng([stage.draft.seed, 17])
    half = stage.sent["card_id"].hash(seed=1).to_numpy() % 2 == 0
    after = np.arange(stage.rows) >= stage.onset
    kept = after & (stage.is_fraud | (rng.random(stage.rows) < 0.15)) & stage.counts
    scores = ground.champion.score(stage.right)
    for side in (half, ~half):
        rows = np.flatnonzero(kept & ~side)
        is_fraud = stage.is_fraud[rows]
        weight = np.where(is_fraud, 1.0, 1.0 / 0.15)
        old = ground.learned
        learned = Rows(
            np.concatenate([old.features, stage.right[rows]]),
            np.concatenate([old.is_fraud, is_fraud]),
            np.concatenate([old.weight, weight / weight.mean()]),
        )
        mine = np.flatnonzero(side & after)
        model = fit(learned, seed=ground.seed)
        scores[mine] = model.score(stage.right[mine].astype(np.float64))
    return scores


def _cost_after(stage: Stage, blocked: Bools) -> float:
    return float(costs(stage, Dealt.plain(blocked))[stage.onset :].sum())
