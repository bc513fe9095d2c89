"""The platform in simulated time: what decides now, and acts that really change it.

What belongs here: the actuator of the benchmark. Every act does to the simulated platform what the
real one does to a home; one that cannot be done here says so, and nobody approves proposals.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.fallbacks import FALLBACKS, smallest
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.heal.actions import Act, Action
from fraud_platform.heal.controller import Outcome
from fraud_platform.heal.doubt import Spans
from fraud_platform.heal_bench import learning
from fraud_platform.heal_bench.dealt import Dealt
from fraud_platform.heal_bench.stage import Stage, Takeover
from fraud_platform.heal_bench.world import Arm, Floats
from fraud_platform.orders import Orders


class Plant:
    """One platform under one run.

    Args:
        stage: what happens to it.
        dealt: its decisions so far, which it learns from.
    """

    def __init__(self, stage: Stage, dealt: Dealt) -> None:
        self.stage, self.dealt = stage, dealt
        self.row = 0
        self.champion = stage.draft.ground.champion
        self.previous = stage.draft.ground.previous
        self.fault: Takeover | None = None
        self.orders = Orders()
        self.doubtful: Spans = ()
        self.changed: dict[str, int] = {}
        self.retrains: list[int] = []
        self.pages = 0
        self._answers: dict[str, Outcome] = {}
        self._block: tuple[tuple[str, str], int, Floats] | None = None

    @property
    def decider(self) -> Arm:
        """What decides now: a fallback, what a fault has put there, or the champion."""
        if self.orders.set_aside:
            name = smallest(FALLBACKS, self.orders.set_aside)
            return self.stage.draft.ground.fallbacks[name or "all"]
        return self.champion if self.fault is None else self.fault.arm

    @property
    def now_us(self) -> int:
        """The clock: the arrival of the newest payment."""
        return int(self.stage.arrived_us[max(self.row - 1, 0)])

    def strike(self) -> None:
        """The onset: a release takes over with everybody's knowledge, other faults without."""
        takeover = self.stage.draft.takeover
        if takeover is None:
            return
        if takeover.signal == "release":
            self.previous, self.champion = self.champion, takeover.arm
            self.changed["champion"] = self.now_us
        else:
            self.fault = takeover

    def scores(self, begin: int, end: int) -> Floats:
        """What the decider says about payments, shape (end - begin,)."""
        state = (self.decider.name, self.orders.digest)
        held = self._block
        if (
            held is None
            or held[0] != state
            or not held[1] <= begin <= end <= held[1] + held[2].size
        ):
            last = min(begin + self.stage.draft.ground.size.check, self.stage.rows)
            held = (state, begin, self._scored(self.decider, begin, max(last, end)))
            self._block = held
        return held[2][begin - held[1] : end - held[1]]

    def replayed(self, arm: Arm, begin: int, end: int) -> Floats:
        """What another arm would have said, with today's orders."""
        return self._scored(arm, begin, end)

    def carry_out(self, act: Act) -> Outcome:
        """Do it, or say why it cannot be done; the same act twice is done once."""
        if act.act_id not in self._answers:
            how = _HOW.get(act.action)
            self._answers[act.act_id] = (
                Outcome(is_done=False, why=f"{act.action} is not simulated")
                if how is None
                else how(self, act)
            )
        return self._answers[act.act_id]

    def promote(self, arm: Arm) -> None:
        """Another champion."""
        self.previous, self.champion, self.fault = self.champion, arm, None
        self.changed["champion"] = self.now_us

    def refolded(self, stage: Stage) -> None:
        """From now on the features are those of this stage."""
        self.stage, self._block = stage, None

    def order(self, **told: Any) -> Outcome:
        """Change the orders."""
        self.orders = msgspec.structs.replace(
            self.orders, sequence=self.orders.sequence + 1, **told
        )
        return Outcome(is_done=True, after=", ".join(told))

    def mended(self, action: Action) -> Outcome:
        """Take away a fault that this action takes away."""
        if self.fault is not None and action in self.fault.mended_by:
            self.fault = None
            return Outcome(is_done=True, after=self.champion.name)
        return Outcome(is_done=False, why="it was so already")

    def _scored(self, arm: Arm, begin: int, end: int) -> Floats:
        features = self.stage.served[begin:end]
        if self.orders.unit_factors:
            features = features.copy()
            for name, factor in self.orders.unit_factors.items():
                features[:, FEATURE_NAMES.index(name)] /= np.float32(factor)
        return arm.score(features)


def _roll_back(plant: Plant, act: Act) -> Outcome:
    before = plant.champion.name
    plant.champion, plant.previous = plant.previous, plant.champion
    plant.fault = None
    plant.changed["champion"] = plant.now_us
    return Outcome(is_done=True, before=before, after=plant.champion.name)


def _page(plant: Plant, act: Act) -> Outcome:
    plant.pages += 1
    return Outcome(is_done=True)


def _refold(plant: Plant, act: Act) -> Outcome:
    """A memory that is behind is computed again; a formula that is wrong stays wrong."""
    stage = plant.stage
    if not stage.answers.age_us[plant.row :].any():
        return Outcome(is_done=True, after="folded; nothing was behind")
    served, age_us = stage.served.copy(), stage.answers.age_us.copy()
    served[plant.row :] = stage.recomputed[plant.row :]
    age_us[plant.row :] = 0
    plant.refolded(replace(stage, served=served, answers=replace(stage.answers, age_us=age_us)))
    return Outcome(is_done=True, after="folded")


def _learn(make: Callable[[learning.Lately, Arm], Arm]) -> Callable[[Plant, Act], Outcome]:
    def do(plant: Plant, act: Act) -> Outcome:
        if act.action is Action.RETRAIN:
            plant.retrains.append(plant.row)
        try:
            lately = learning.Lately(plant.stage, plant.dealt, plant.row, plant.doubtful)
            arm = make(lately, plant.champion)
        except (LabelsNotMatureError, learning.RefusedError) as error:
            return Outcome(is_done=False, why=str(error))
        before = plant.champion.name
        plant.promote(replace(arm, name=f"{act.action}-{plant.row}"))
        return Outcome(is_done=True, before=before, after=plant.champion.name)

    return do


def _quarantine(plant: Plant, act: Act) -> Outcome:
    return plant.order(quarantined=act.subjects)


def _invert(plant: Plant, act: Act) -> Outcome:
    return plant.order(unit_factors=dict.fromkeys(act.subjects, act.amounts["factor"]))


_HOW: Mapping[Action, Callable[[Plant, Act], Outcome]] = {
    Action.OBSERVE: lambda plant, act: Outcome(is_done=True),
    Action.PAGE: _page,
    Action.FREEZE_LEARNING: lambda plant, act: plant.order(learning_frozen=True),
    Action.THAW_LEARNING: lambda plant, act: plant.order(learning_frozen=False),
    Action.QUARANTINE: _quarantine,
    Action.RELEASE: lambda plant, act: plant.order(quarantined=()),
    Action.INVERT_UNIT: _invert,
    Action.KEEP_UNIT: lambda plant, act: plant.order(unit_factors={}),
    Action.TIGHTEN_BUDGET: lambda plant, act: plant.order(max_disturbed=act.amounts["share"]),
    Action.RAISE_BUDGET: lambda plant, act: plant.order(max_disturbed=act.amounts["share"]),
    Action.RESTORE_BUDGET: lambda plant, act: plant.order(max_disturbed=None),
    Action.STEP_UP_REVIEW: lambda plant, act: plant.order(audit_factor=act.amounts["times"]),
    Action.STEP_DOWN_REVIEW: lambda plant, act: plant.order(audit_factor=1.0),
    Action.SHED: lambda plant, act: plant.order(is_shedding=True),
    Action.UNSHED: lambda plant, act: plant.order(is_shedding=False),
    Action.ROLL_BACK: _roll_back,
    Action.RELOAD_MODEL: lambda plant, act: plant.mended(Action.RELOAD_MODEL),
    Action.RESTORE_CONFIGURATION: lambda plant, act: plant.mended(Action.RESTORE_CONFIGURATION),
    Action.REFOLD: _refold,
    Action.RECALIBRATE: _learn(learning.recalibrated),
    Action.RETRAIN: _learn(learning.retrained),
}
