"""What healing can do: every action with its inverse, its reach, and whether it is a safe step.

What belongs here: the catalogue. When an action is taken is `policy` and `controller`; doing it is
an actuator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Action(StrEnum):
    """The verbs of healing."""

    OBSERVE = "observe"  # write it down
    PAGE = "page"  # call a person
    FREEZE_LEARNING = "freeze_learning"  # no training, no promotion
    THAW_LEARNING = "thaw_learning"
    QUARANTINE = "quarantine"  # decide by the fallback model that was trained without the features
    RELEASE = "release"  # decide by the champion again
    INVERT_UNIT = "invert_unit"  # divide features by the factor they were multiplied with
    KEEP_UNIT = "keep_unit"
    TIGHTEN_BUDGET = "tighten_budget"  # disturb fewer payments than the policy would allow
    RAISE_BUDGET = "raise_budget"  # disturb more, on the credit of audits
    RESTORE_BUDGET = "restore_budget"
    STEP_UP_REVIEW = "step_up_review"  # audit several times as many
    STEP_DOWN_REVIEW = "step_down_review"
    SHED = "shed"  # no shadow scores, no reasons that cost time
    UNSHED = "unshed"
    RULES_ONLY = "rules_only"  # no model decides
    LEAVE_RULES = "leave_rules"
    ROLL_BACK = "roll_back"  # the champion before decides
    RELOAD_MODEL = "reload_model"  # the model's files are written again from the registry
    RESTORE_CONFIGURATION = "restore_configuration"  # the last approved configuration
    REFOLD = "refold"  # the scorer's memory, or a table of features, is computed again from the log
    RECALIBRATE = "recalibrate"  # the champion's probabilities and cuts, from what is known now
    RETRAIN = "retrain"  # a challenger, through all gates
    STOP_CANARY = "stop_canary"


class Level(IntEnum):
    """How much an action may do by itself."""

    OBSERVE = 1  # written down, a person is called
    ALERT = 2  # a person gets the command to run
    PROPOSE = 3  # done once a person approves, within a time
    ACT = 4  # done at once, inside all bounds


@dataclass(frozen=True)
class Verb:
    """What is known of an action.

    Attributes:
        inverse: what undoes it; None: it cannot be undone, or needs none.
        is_safe: a step that can do no harm by itself, so it may be automatic from the first day.
        is_slow: takes minutes and a run of its own; else it is done within the tick.
        learns: makes or moves a model from data; forbidden while data or labels are in doubt.
        reach: blast radius, 0 (nobody notices) to 4 (every decision changes); remedies of one
            tick go one after another, the smallest first.
    """

    inverse: Action | None = None
    is_safe: bool = False
    is_slow: bool = False
    learns: bool = False
    reach: int = 1


VERBS: Mapping[Action, Verb] = {
    Action.OBSERVE: Verb(is_safe=True, reach=0),
    Action.PAGE: Verb(is_safe=True, reach=0),
    Action.FREEZE_LEARNING: Verb(Action.THAW_LEARNING, is_safe=True, reach=0),
    Action.THAW_LEARNING: Verb(reach=0),
    Action.QUARANTINE: Verb(Action.RELEASE, reach=3),
    Action.RELEASE: Verb(reach=3),
    Action.INVERT_UNIT: Verb(Action.KEEP_UNIT, reach=3),
    Action.KEEP_UNIT: Verb(is_safe=True, reach=3),
    Action.TIGHTEN_BUDGET: Verb(Action.RESTORE_BUDGET, reach=2),
    Action.RAISE_BUDGET: Verb(Action.RESTORE_BUDGET, reach=2),
    Action.RESTORE_BUDGET: Verb(is_safe=True, reach=2),
    Action.STEP_UP_REVIEW: Verb(Action.STEP_DOWN_REVIEW, is_safe=True, reach=1),
    Action.STEP_DOWN_REVIEW: Verb(is_safe=True, reach=1),
    Action.SHED: Verb(Action.UNSHED, is_safe=True, reach=1),
    Action.UNSHED: Verb(is_safe=True, reach=1),
    Action.RULES_ONLY: Verb(Action.LEAVE_RULES, reach=4),
    Action.LEAVE_RULES: Verb(reach=4),
    Action.ROLL_BACK: Verb(is_safe=True, reach=4),
    Action.RELOAD_MODEL: Verb(is_safe=True, reach=2),
    Action.RESTORE_CONFIGURATION: Verb(is_safe=True, reach=3),
    Action.REFOLD: Verb(is_safe=True, is_slow=True, reach=1),
    Action.RECALIBRATE: Verb(is_slow=True, learns=True, reach=3),
    Action.RETRAIN: Verb(is_slow=True, learns=True, reach=2),
    Action.STOP_CANARY: Verb(is_safe=True, reach=2),
}
"""Action -> what is known of it."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """One action that is to be done, or was.

    Attributes:
        act_id: names it for ever; the same act done twice has the effect of once.
        action: the verb.
        subjects: what it is done to: features, a group of features, a version.
        amounts: its numbers by name, e.g. `factor`, `share`, `times`.
        until_us: it ends by itself then, microseconds UTC of the wall; None: when it is undone.
        replacing: of ROLL_BACK, the champion that is to go; empty: whichever.
    """

    act_id: str
    action: Action
    subjects: tuple[str, ...] = ()
    amounts: Mapping[str, float] = field(default_factory=dict)
    until_us: int | None = None
    replacing: str = ""
