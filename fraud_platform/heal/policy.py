"""What is done about each cause, how boldly and how often: a document, checked before it counts.

What belongs here: the document's shape and rules. Reading the file is `adapters.heal_policy_file`,
obeying is `controller`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

import msgspec
import yaml

from fraud_platform.errors import DataContractError
from fraud_platform.heal.actions import VERBS, Action, Level
from fraud_platform.heal.causes import EXACT, HEALTHY, NAMES, STORM_SHARE
from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.policy_parts import (
    Bounds,
    Budgets,
    Check,
    Demotion,
    FirstAid,
    Learning,
    Part,
    Raise,
    Rung,
    Treatment,
    Verify,
)

_HINT = "the shipped policy, fraud_platform/heal/policy.yaml, shows every field"
_MINUTE_US = 60_000_000


class HealPolicy(Part, frozen=True, kw_only=True, dict=True, rename={"raised": "raise"}):
    """The document. Every cause of the table has a treatment.

    Attributes:
        policy: names the format.
        maturity: highest level of acts that are not safe by themselves.
        raised: how often a cause must hold before it is believed. Written `raise`.
        clear: checks in a row without it before it is over.
        check: when evidence counts as new.
        cooldown_minutes: between two acts of the same kind, payments' time.
        approval_minutes: a proposal waits so long, by the wall.
        settle_minutes: how long after its end an exact cause still explains others.
        unseen_minutes: after so long a cause that nobody can measure any more is told to a person.
        storm_share: see `conditions.Storm`.
        cost_tolerance: by how much a day may cost more after a remedy that worked.
        budgets: of 24 hours.
        bounds: of amounts.
        demotion: when level 4 becomes 3.
        learning: when a model is made.
        causes: cause -> treatment.
    """

    policy: Literal["fraud-heal/v1"]
    maturity: Level
    causes: Mapping[str, Treatment]
    raised: Raise = Raise()
    clear: int = 4
    check: Check = Check()
    cooldown_minutes: int = 30
    approval_minutes: int = 30
    settle_minutes: int = 360
    unseen_minutes: int = 120
    storm_share: float = STORM_SHARE
    cost_tolerance: float = 0.1
    budgets: Budgets = Budgets()
    bounds: Bounds = Bounds()
    demotion: Demotion = Demotion()
    learning: Learning = Learning()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical form: the same rules have the same name, however written."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def sights(self, cause: str) -> Raise:
        """How often a cause must hold."""
        return self.causes[cause].raised or self.raised

    def clean_checks(self, cause: str) -> int:
        """After how many clean checks in a row a cause is over."""
        return self.causes[cause].clear or self.clear

    def settling(self, cause: str) -> int:
        """So many minutes after its end a cause still explains others."""
        own = self.causes[cause].settle_minutes if cause in self.causes else None
        return own if own is not None else self.settle_minutes if cause in EXACT else 0

    def verification(self, cause: str, action: Action) -> Verify:
        """How a remedy is verified; one that this policy no longer knows, as its cause says."""
        treatment = self.causes[cause]
        own = (rung.verify for rung in treatment.ladder if rung.do is action)
        return next(own, None) or treatment.verify or Verify(fine=(Signal.HEARTBEAT,))

    def timeout_minutes(self, cause: str, action: Action) -> int:
        """After how long without an answer a slow act has failed."""
        ladder = self.causes[cause].ladder
        return next((rung.timeout_minutes for rung in ladder if rung.do is action), 1)

    def level_of(self, action: Action, level: Level) -> Level:
        """The level of an act under the maturity of the installation."""
        may_act = VERBS[action].is_safe and self.maturity >= Level.ALERT
        return level if may_act else min(level, self.maturity)


def policy_from(text: str) -> HealPolicy:
    """The policy that a YAML text spells out.

    Raises:
        DataContractError: it is no YAML, has a field, cause, signal or action that does not exist,
            or breaks a rule; the message names every rule broken.

    Examples:
        >>> policy_from("policy: fraud-heal/v0")
        Traceback (most recent call last):
            ...
        fraud_platform.errors.DataContractError: ...
    """
    try:
        found = msgspec.convert(yaml.safe_load(text), HealPolicy)
    except (yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise DataContractError(f"found no heal policy: {error}", hint=_HINT) from error
    if faults := list(_faults(found)):
        raise DataContractError(
            f"found a heal policy that breaks its rules: {'; '.join(faults)}", hint=_HINT
        )
    return found


def minutes(number: float) -> int:
    """Microseconds."""
    return round(number * _MINUTE_US)


def _faults(policy: HealPolicy) -> Iterator[str]:
    """Every rule that the document breaks, as found and expected."""
    expected = {name for name in NAMES if name != HEALTHY}
    if unknown := sorted(set(policy.causes) - expected):
        yield f"found causes {unknown}, expected some of {sorted(expected)}"
    if missing := sorted(expected - set(policy.causes)):
        yield f"found no treatment of {missing}, expected one of every cause"
    if not 0.0 < policy.storm_share <= 1.0:
        yield f"found storm_share={policy.storm_share}, expected one in (0, 1]"
    least = {"clear": 1, "cooldown_minutes": 0, "approval_minutes": 1, "settle_minutes": 0}
    for name, bound in {**least, "cost_tolerance": 0}.items():
        if not getattr(policy, name) >= bound:
            yield f"found {name}={getattr(policy, name)}, expected at least {bound}"
    for name, treatment in policy.causes.items():
        for fault in _faults_of(treatment, policy.bounds):
            yield f"{name}: {fault}"


def _faults_of(treatment: Treatment, bounds: Bounds) -> Iterator[str]:
    steps: list[FirstAid | Rung] = [*treatment.first_aid, *treatment.ladder]
    actions = [step.do for step in steps]
    if repeated := sorted({action for action in actions if actions.count(action) > 1}):
        yield f"found {repeated} more than once, expected each action once"
    if both := sorted(set(actions) & set(treatment.forbids)):
        yield f"found {both} both done and forbidden, expected one of them"
    for aid in treatment.first_aid:
        if not VERBS[aid.do].is_safe or VERBS[aid.do].is_slow:
            yield f"found {aid.do} as first aid, expected an action that is safe and fast"
    for rung in treatment.ladder:
        yield from _rung_faults(rung, treatment)
    for step in steps:
        yield from _amount_faults(step, bounds)


def _rung_faults(rung: Rung, treatment: Treatment) -> Iterator[str]:
    if rung.verify is None and treatment.verify is None:
        yield f"found no verification of {rung.do}, expected verify for it or for its cause"
    if rung.do in _NO_REMEDIES:
        yield f"found {rung.do} as a remedy, expected an action that changes something"


_NO_REMEDIES = {Action.OBSERVE, Action.PAGE, Action.FREEZE_LEARNING} | {
    verb.inverse for verb in VERBS.values() if verb.inverse is not None
}


def _amount_faults(step: FirstAid | Rung, bounds: Bounds) -> Iterator[str]:
    allowed = {
        Action.TIGHTEN_BUDGET: ("share", *bounds.disturbed),
        Action.RAISE_BUDGET: ("share", *bounds.disturbed),
        Action.STEP_UP_REVIEW: ("times", 1.0, bounds.audit_factor),
    }
    if step.do not in allowed:
        if step.amounts:
            yield f"found amounts {dict(step.amounts)} of {step.do}, expected none"
        return
    name, low, high = allowed[step.do]
    if set(step.amounts) != {name} or not low <= step.amounts[name] <= high:
        yield (
            f"found amounts {dict(step.amounts)} of {step.do}, expected {name} from {low} to {high}"
        )
