"""The scenarios: what goes wrong, what it is, and what may and what must not be done about it.

What belongs here: the list as data. How a fault happens is `injection`. Truths come from the
literature's and the incident's post mortems, not from what the diagnosis can tell: a scenario that
it gets wrong stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from fraud_platform.heal.actions import Action
from fraud_platform.heal_bench import injection
from fraud_platform.heal_bench.injection import Fault, disturbed
from fraud_platform.heal_bench.stage import Draft
from fraud_platform.heal_bench.world import CHECK_HOURS, FIX_CHECK, ONSET_CHECK, Ground
from fraud_platform.simulation.scenarios import Scenario as Change

A = Action
_ALWAYS = frozenset({A.OBSERVE, A.PAGE, A.FREEZE_LEARNING, A.THAW_LEARNING})
"""Right or harmless whatever has happened."""
_WATCHING = frozenset({A.STEP_UP_REVIEW, A.STEP_DOWN_REVIEW})
_HOLDING = frozenset({A.TIGHTEN_BUDGET, A.RESTORE_BUDGET})
_LEARNING = frozenset({A.RETRAIN, A.RECALIBRATE})
_WITHOUT = frozenset({A.QUARANTINE, A.RELEASE, A.REFOLD})
_BACK = frozenset({A.ROLL_BACK, A.STOP_CANARY})
_DRIFT = _LEARNING | _HOLDING | _WATCHING
_FEED = _WITHOUT | _HOLDING | _WATCHING
_NO_RELEASE = frozenset({A.ROLL_BACK, A.RELOAD_MODEL, A.QUARANTINE, A.INVERT_UNIT, A.RULES_ONLY})


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing, or two, that go wrong.

    Attributes:
        name: for people and programs.
        cause: the name in `heal.causes` that is right.
        faults: what happens, in order.
        allowed: acts that are right, beside those that always are.
        forbidden: acts that do harm.
        harmful: whether doing nothing costs money by design.
        severity: lowest and highest; drawn evenly.
        ramps: chance that it comes over a day instead of at once.
        lasts: checks after the onset at which it ends by itself; None: never.
        is_full_size: whether the full form sends as many payments as the incident had.
    """

    name: str
    cause: str
    faults: tuple[Fault, ...] = ()
    allowed: frozenset[Action] = frozenset()
    forbidden: frozenset[Action] = frozenset()
    harmful: bool = True
    severity: tuple[float, float] = (0.1, 1.0)
    ramps: float = 0.0
    lasts: int | None = None
    is_full_size: bool = False

    @property
    def is_control(self) -> bool:
        """Whether nothing is wrong in it."""
        return self.cause in ("healthy", "benign_shift")

    def allows(self, action: Action) -> bool:
        """Whether an act is right, or harmless."""
        return action in self.allowed or action in _ALWAYS

    def drafted(self, ground: Ground) -> Draft:
        """The run of one seed: severity and onset are drawn by the seed and the name."""
        number = 1_000 + list(SCENARIOS).index(self.name)
        rng = np.random.default_rng([ground.seed, number])
        severity = float(rng.uniform(*self.severity))
        is_ramp = bool(rng.random() < self.ramps)
        until = None
        if self.lasts is not None:
            until = ground.onset + timedelta(hours=self.lasts * CHECK_HOURS)
        draft = Draft(ground, severity, is_ramp, number, ground.frame, until=until)
        for fault in self.faults:
            draft = fault(draft)
        return draft


_UPSTREAM = FIX_CHECK - ONSET_CHECK
_BREAKAGE = Scenario(
    name="", cause="", allowed=_FEED, forbidden=_LEARNING | {A.RAISE_BUDGET}, lasts=_UPSTREAM
)
_UNIT = replace(_BREAKAGE, cause="unit_change", severity=(1.0, 1.0))
_RELEASE = Scenario(name="", cause="bad_release", allowed=_BACK | _HOLDING, forbidden=_LEARNING)
_CONTROL = Scenario(name="", cause="healthy", forbidden=_NO_RELEASE | _LEARNING, harmful=False)
_DRIFTS = Scenario(
    name="", cause="covariate_shift", allowed=_DRIFT, forbidden=_NO_RELEASE, ramps=0.5
)
_LABELS = Scenario(
    name="",
    cause="label_pipeline",
    forbidden=_LEARNING | {A.RAISE_BUDGET},
    harmful=False,
)
_MODEL = Scenario(
    name="",
    cause="model_artifact",
    allowed=frozenset({A.RELOAD_MODEL, A.ROLL_BACK, A.RULES_ONLY, A.LEAVE_RULES}) | _HOLDING,
    forbidden=_LEARNING,
)
_ATTACK = Scenario(
    name="",
    cause="attack",
    allowed=_WATCHING | {A.RAISE_BUDGET, A.RESTORE_BUDGET},
    forbidden=_LEARNING | _NO_RELEASE,
    lasts=4,
)
_INCIDENT = (
    disturbed(Change.AMOUNT_INFLATION, 0.26, 1),
    disturbed(Change.PAYMENT_MIX_SHIFT, 0.38, 3),
    disturbed(Change.GEOGRAPHY_SHIFT, 0.22, 5),
)
"""Strengths at which the static thresholds' FPR goes from 4.8 % to about 18 %."""
_THE_INCIDENT = replace(
    _DRIFTS, faults=_INCIDENT, severity=(1.0, 1.0), ramps=0.0, is_full_size=True
)
_ALL: tuple[Scenario, ...] = (
    replace(_CONTROL, name="quiet"),
    replace(_CONTROL, name="season", cause="benign_shift", faults=(injection.season,)),
    replace(_CONTROL, name="jitter", faults=(injection.jitter,)),
    replace(_CONTROL, name="good_release", faults=(injection.good_release,)),
    replace(
        _CONTROL,
        name="small_drift",
        cause="benign_shift",
        faults=(
            disturbed(Change.AMOUNT_INFLATION, 0.05, 7),
            disturbed(Change.PAYMENT_MIX_SHIFT, 0.02, 9),
        ),
        ramps=0.5,
    ),
    replace(_THE_INCIDENT, name="incident"),
    replace(_THE_INCIDENT, name="incident_ramp", ramps=1.0),
    replace(_DRIFTS, name="inflation", faults=(disturbed(Change.AMOUNT_INFLATION, 1.0, 1),)),
    replace(_DRIFTS, name="wallet_mix", faults=(disturbed(Change.PAYMENT_MIX_SHIFT, 1.0, 1),)),
    replace(_DRIFTS, name="geography", faults=(disturbed(Change.GEOGRAPHY_SHIFT, 1.0, 1),)),
    replace(
        _DRIFTS,
        name="new_fraud",
        cause="concept_drift",
        faults=(disturbed(Change.NEW_FRAUD_PATTERN, 1.0, 1),),
        allowed=_DRIFT | {A.RAISE_BUDGET},
    ),
    replace(
        _UNIT,
        name="cents",
        faults=(injection.cents(1.0),),
        allowed=_FEED | {A.INVERT_UNIT, A.KEEP_UNIT},
    ),
    replace(
        _UNIT,
        name="cents_half",
        faults=(injection.cents(0.5),),
        forbidden=_LEARNING | {A.RAISE_BUDGET, A.INVERT_UNIT},
    ),
    replace(_BREAKAGE, name="nulls", cause="null_flood", faults=(injection.null_flood,)),
    replace(_BREAKAGE, name="recode", cause="schema_change", faults=(injection.recode,)),
    replace(_BREAKAGE, name="time_zone", cause="clock_skew", faults=(injection.time_zone,)),
    replace(_BREAKAGE, name="duplicates", cause="duplicate_feed", faults=(injection.twice,)),
    replace(_BREAKAGE, name="stale", cause="stale_features", faults=(injection.stale_features,)),
    replace(
        _BREAKAGE,
        name="skew",
        cause="serving_skew",
        faults=(injection.skew,),
        allowed=_FEED | {A.ROLL_BACK},
    ),
    replace(_LABELS, name="label_outage", faults=(injection.label_outage,), lasts=_UPSTREAM),
    replace(_LABELS, name="label_delay", faults=(injection.label_delay,)),
    replace(_LABELS, name="label_flips", faults=(injection.label_flips,)),
    replace(_MODEL, name="corrupt_model", faults=(injection.corrupt_model,)),
    replace(_MODEL, name="wrong_version", faults=(injection.wrong_version,)),
    Scenario(
        name="loose_thresholds",
        cause="configuration_error",
        faults=(injection.loose_thresholds,),
        allowed=frozenset({A.RESTORE_CONFIGURATION, A.ROLL_BACK}) | _HOLDING,
        forbidden=_LEARNING | {A.QUARANTINE, A.INVERT_UNIT},
    ),
    replace(_RELEASE, name="bad_release", faults=(injection.bad_release,)),
    replace(_RELEASE, name="bad_release_segment", faults=(injection.bad_release_segment,)),
    Scenario(
        name="latency",
        cause="latency",
        faults=(injection.slow,),
        allowed=frozenset({A.SHED, A.UNSHED, A.RULES_ONLY, A.LEAVE_RULES}) | _HOLDING,
        forbidden=_LEARNING | {A.ROLL_BACK, A.QUARANTINE},
        lasts=_UPSTREAM,
    ),
    Scenario(
        name="flash_sale",
        cause="demand_surge",
        faults=(injection.sale,),
        allowed=_HOLDING | _WATCHING | {A.SHED, A.UNSHED},
        forbidden=_LEARNING | _NO_RELEASE | {A.RAISE_BUDGET},
        lasts=1,
    ),
    replace(_ATTACK, name="card_testing", faults=(injection.card_testing,)),
    replace(_ATTACK, name="credential_stuffing", faults=(injection.credential_stuffing,)),
    replace(
        _ATTACK,
        name="scalping",
        cause="bots",
        faults=(injection.scalping,),
        allowed=_WATCHING | _HOLDING,
        forbidden=_LEARNING | _NO_RELEASE | {A.RAISE_BUDGET},
    ),
    Scenario(
        name="telemetry_loss",
        cause="blind",
        faults=(injection.silence,),
        forbidden=_LEARNING | _NO_RELEASE | {A.RAISE_BUDGET},
        harmful=False,
        lasts=_UPSTREAM,
    ),
    replace(
        _UNIT,
        name="controller_crash",
        faults=(injection.cents(1.0), injection.crash),
        allowed=_FEED | {A.INVERT_UNIT, A.KEEP_UNIT},
    ),
    replace(
        _UNIT,
        name="drift_and_cents",
        faults=(*_INCIDENT, injection.cents(1.0)),
        severity=(0.5, 1.0),
        # Learning is right once the unit is, so here it is held against nobody.
        allowed=_FEED | _DRIFT | {A.INVERT_UNIT, A.KEEP_UNIT},
        forbidden=frozenset({A.RAISE_BUDGET}),
    ),
    replace(
        _DRIFTS,
        name="drift_and_good_release",
        faults=(*_INCIDENT, injection.good_release),
        severity=(0.5, 1.0),
        ramps=0.0,
    ),
    Scenario(
        name="drift_and_bad_release",
        cause="bad_release",
        faults=(*_INCIDENT, injection.bad_release),
        severity=(0.5, 1.0),
        allowed=_BACK | _DRIFT,
        forbidden=frozenset({A.QUARANTINE, A.INVERT_UNIT}),
    ),
    replace(_THE_INCIDENT, name="quarter_incident", is_full_size=False),
    replace(
        _ATTACK,
        name="credential_stuffing_full",
        faults=(injection.credential_stuffing,),
        is_full_size=True,
    ),
)

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
"""Name -> scenario: no-fault controls first, then single faults, two at a time, and
what is run at both sizes."""

FAST = (
    "quiet",
    "season",
    "incident",
    "new_fraud",
    "cents",
    "corrupt_model",
    "bad_release",
    "card_testing",
    "flash_sale",
)
"""Scenarios of the fast form: one of each kind."""
