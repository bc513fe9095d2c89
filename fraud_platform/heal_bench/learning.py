"""Learning in simulated time, from nothing but what the feed has told by then.

What belongs here: the rows that a retraining or a recalibration may use, and the gates before a
challenger decides. Rows that only a draw made known stand for those that it did not
(`selective_labels.training_weights`), and old rows are kept.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.heal.doubt import Spans, outside
from fraud_platform.heal_bench.dealt import Dealt, Known, known
from fraud_platform.heal_bench.stage import Stage
from fraud_platform.heal_bench.world import Arm, Floats, Ints, Rows, cut, fit
from fraud_platform.metrics import recall_at_fpr
from fraud_platform.promotion_gates import Alerts, GateOutcome, replay_gate
from fraud_platform.promotion_policy import PromotionPolicy

_FPR = 0.05
_DAYS_CHECKS = 8
_FEWEST_FRAUDS = 50
_GENUINE_KEPT = 0.3
_FOURTH = 4
_WORSE = 0.02


@dataclass(frozen=True)
class Lately:
    """What there is to learn from at one moment.

    Attributes:
        stage: the run.
        dealt: its decisions so far.
        now: row that arrives next.
        doubtful: when inputs were broken: of these payments nothing is learnt.
    """

    stage: Stage
    dealt: Dealt
    now: int
    doubtful: Spans = ()

    def sound(self, rows: Ints) -> Ints:
        """Those of these rows that came while no input was broken."""
        sent = self.stage.sent[rows].select("event_timestamp", row=pl.Series(rows))
        return outside(sent, self.doubtful)["row"].to_numpy()

    def known(self) -> Known:
        """What is known of the last two days.

        Raises:
            RefusedError: too few frauds are.
        """
        first = max(0, self.now - _DAYS_CHECKS * self.stage.draft.ground.size.check)
        told = known(self.stage, self.dealt, first, self.now)
        told = told.some(np.isin(told.rows, self.sound(told.rows)))
        if (found := int(told.is_fraud.sum())) < _FEWEST_FRAUDS:
            raise RefusedError(f"found {found} frauds that are known, expected {_FEWEST_FRAUDS}")
        return told


class RefusedError(Exception):
    """A challenger that may not decide; the message names the gate."""


def retrained(lately: Lately, champion: Arm) -> Arm:
    """A challenger from old rows and what is known of the last days, through the gates.

    Three in four cards are fitted on, the others judge and set the cut.

    Raises:
        RefusedError: a gate says no, or too little is known.
    """
    told, stage, now = lately.known(), lately.stage, lately.now
    ground = stage.draft.ground
    judges = _cards(stage, told.rows) % _FOURTH == 0
    rng = np.random.default_rng([stage.draft.seed, now])
    kept = ~judges & (told.is_fraud | (rng.random(told.rows.size) < _GENUINE_KEPT))
    weight = np.where(told.is_fraud, 1.0, 1.0 / _GENUINE_KEPT)
    new, judged = told.learnt(stage), told.learnt(stage).some(judges)
    thinned = new.weight * weight
    learned = Rows(
        np.concatenate([ground.learned.features, new.features[kept]]),
        np.concatenate([ground.learned.is_fraud, new.is_fraud[kept]]),
        np.concatenate([ground.learned.weight, thinned[kept] / thinned[kept].mean()]),
    )
    challenger = cut("challenger", fit(learned, seed=ground.seed + now), judged)
    _pass_gates(lately, judged, challenger, champion)
    return challenger


def recalibrated(lately: Lately, champion: Arm) -> Arm:
    """The champion with probabilities and cut from what is known of the last days.

    Raises:
        RefusedError: the replay does not show what the judged rows promise, or too little is known.
    """
    judged = lately.known().learnt(lately.stage)
    found = cut("recalibrated", champion.model, judged)
    _pass_gates(lately, judged, found, champion)
    return found


def _cards(stage: Stage, rows: Ints) -> NDArray[np.uint64]:
    return np.asarray(stage.sent["card_id"].gather(rows).hash(seed=3).to_numpy())


def _pass_gates(lately: Lately, judged: Rows, new: Arm, old: Arm) -> None:
    """It must catch as much at the same share of disturbed, and disturb as the judged rows say."""
    scores = [arm.score(judged.features) for arm in (new, old)]
    recalls = [recall_at_fpr(judged.is_fraud, s, _FPR, judged.weight) for s in scores]
    if recalls[0] < recalls[1] - _WORSE:
        raise RefusedError(f"catches {recalls[0]:.2f} of the frauds, the champion {recalls[1]:.2f}")
    policy = PromotionPolicy()
    rows = lately.sound(np.arange(lately.now))[-policy.replay_rows :]
    replayed = lately.stage.served[rows]
    alerts = Alerts(
        new=new.score(replayed) >= new.thresholds.review,
        old=old.score(replayed) >= old.thresholds.review,
    )
    at = _drawn(judged.weight)
    mature = Alerts(
        new=scores[0][at] >= new.thresholds.review, old=scores[1][at] >= old.thresholds.review
    )
    gate = replay_gate(alerts, mature, policy)
    if gate.outcome is not GateOutcome.PASSED:
        raise RefusedError(gate.reason)


def _drawn(weight: Floats) -> Ints:
    rng = np.random.default_rng(weight.size)
    return rng.choice(weight.size, weight.size, p=weight / weight.sum())
