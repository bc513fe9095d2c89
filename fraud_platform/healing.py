"""From a day's evidence to a diagnosis, and from a diagnosis to at most one remedy.

Pure decisions only: measuring is `drift` and `performance`, starting runs is `sensors.healing`.
The table of causes is data, read top to bottom; the first match acts, all matches are recorded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum

from fraud_platform.proportions import wilson


class Remedy(StrEnum):
    """What to do next."""

    NONE = "none"
    RETRAIN = "retrain"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, kw_only=True)
class HealingPolicy:
    """When evidence is harm, and how often a remedy may act."""

    max_alert_rate_ratio: float = 1.5
    """Tolerated ratio of the day's alert rate to the champion's expected one."""
    max_missed_fraud_ratio: float = 1.25
    """Tolerated ratio of missed fraud (1 - recall) to the champion's expected one."""
    confidence: float = 0.999
    """Two-sided confidence a harm must reach before it is called one."""
    window_days: int = 4
    """Days of evidence pooled before harm is judged."""
    min_rows: int = 200
    """Fewest transactions in the window; below, the day is `blind`."""
    min_frauds: int = 20
    """Fewest mature frauds before missed fraud is judged."""
    release_watch_days: int = 3
    """For this long after a promotion, harm is first blamed on the release."""
    learn_after_days: int = 17
    """Days of data from the first sign of a harm until a training set can hold it: younger days are
    still immature, test or delay, and a model trained earlier would learn only the old world."""
    cooldown_days: int = 3
    """Days of data between two runs of the same remedy."""
    max_remedies_per_week: int = 3
    """Most remedies, of any kind, in seven days of data."""
    retrain_new_frauds: int = 1_000
    """New mature frauds since the last training set that call for a retraining on their own."""
    first_training_frauds: int = 70
    """Mature frauds after which the first model is trained."""

    def __post_init__(self) -> None:
        least = {"max_alert_rate_ratio": 1, "max_missed_fraud_ratio": 1, "window_days": 1}
        least |= {"min_rows": 1, "min_frauds": 1, "release_watch_days": 0, "learn_after_days": 0}
        least |= {"cooldown_days": 0, "max_remedies_per_week": 0}
        least |= {"retrain_new_frauds": 1, "first_training_frauds": 1}
        for name, bound in least.items():
            # A NaN fails every comparison, so this also refuses what is not a number.
            if not getattr(self, name) >= bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"found confidence={self.confidence}, expected between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was observed for one day; None means not measurable, never zero.

    Attributes:
        champion_version: the registry version that is judged, or None.
        rows: transactions in the window.
        alerts: of them, how many the champion would review or decline.
        expected_alert_rate: the champion's alert rate on its own test rows, in [0, 1].
        mature_frauds: frauds whose labels became mature in the window, without declined ones.
        missed_frauds: of them, how many the champion would approve.
        expected_recall: the same share on the champion's own test rows, those it declines left out.
        max_psi: largest PSI of any feature, and `drifted_feature` its name.
        null_features: features whose null share rose beyond the policy.
        unit_features: features that seem to be expressed in another unit.
        champion_age_days: days since the champion was promoted, in data time.
        major_psi: the drift policy's bound for a major shift.
        previous_alerts: what `alerts` would be under the previous champion, on the same rows.
        previous_missed_frauds: what `missed_frauds` would be under it; None without one.
    """

    champion_version: str | None
    rows: int
    alerts: int
    expected_alert_rate: float | None
    mature_frauds: int
    missed_frauds: int
    expected_recall: float | None
    max_psi: float | None
    drifted_feature: str | None
    null_features: tuple[str, ...] = ()
    unit_features: tuple[str, ...] = ()
    champion_age_days: int | None = None
    major_psi: float = 0.25
    previous_alerts: int | None = None
    previous_missed_frauds: int | None = None


@dataclass(frozen=True)
class Cause:
    """One row of the diagnosis table."""

    name: str
    remedy: Remedy
    advice: str
    holds: Callable[[Evidence, HealingPolicy], bool]


@dataclass(frozen=True)
class Diagnosis:
    """The first cause that matched, every other that did, and what it asks for."""

    cause: str
    remedy: Remedy
    advice: str
    matched: tuple[str, ...]


def too_many_alerts(evidence: Evidence, policy: HealingPolicy) -> bool:
    """Whether the alert rate is surely above the tolerated multiple of the expected one."""
    if not evidence.expected_alert_rate or not evidence.rows:
        return False
    low, _ = wilson(evidence.alerts, evidence.rows, policy.confidence)
    return low > policy.max_alert_rate_ratio * evidence.expected_alert_rate


def too_much_missed_fraud(evidence: Evidence, policy: HealingPolicy) -> bool:
    """Whether missed fraud is surely above the tolerated multiple of the expected one."""
    if evidence.expected_recall is None or evidence.mature_frauds < policy.min_frauds:
        return False
    low, _ = wilson(evidence.missed_frauds, evidence.mature_frauds, policy.confidence)
    return low > min(0.95, policy.max_missed_fraud_ratio * (1 - evidence.expected_recall))


def _harm(evidence: Evidence, policy: HealingPolicy) -> bool:
    return too_many_alerts(evidence, policy) or too_much_missed_fraud(evidence, policy)


def _shifted(evidence: Evidence) -> bool:
    return evidence.max_psi is not None and evidence.max_psi > evidence.major_psi


def _release_is_to_blame(evidence: Evidence, policy: HealingPolicy) -> bool:
    """Whether a young champion does a harm that its predecessor would not do on these rows."""
    age = evidence.champion_age_days
    if age is None or evidence.previous_alerts is None:
        return False
    if not 0 <= age <= policy.release_watch_days:
        return False
    before = replace(
        evidence,
        alerts=evidence.previous_alerts,
        missed_frauds=evidence.previous_missed_frauds or 0,
    )
    return _harm(evidence, policy) and not _harm(before, policy)


CAUSES: tuple[Cause, ...] = (
    Cause(
        "no_champion",
        Remedy.NONE,
        "No model has passed the gate yet; the label sensor trains the first one.",
        lambda e, p: e.champion_version is None,
    ),
    Cause(
        "blind",
        Remedy.NONE,
        "Too few transactions to judge; check that data still arrive.",
        lambda e, p: e.rows < p.min_rows,
    ),
    Cause(
        "upstream_data_breakage",
        Remedy.NONE,
        "A unit or a null share changed upstream: call the producer. Do not retrain on these days.",
        lambda e, p: bool(e.unit_features or e.null_features),
    ),
    Cause(
        "bad_release",
        Remedy.ROLL_BACK,
        "Harm right after a promotion: go back to the previous champion, then look.",
        _release_is_to_blame,
    ),
    Cause(
        "concept_drift",
        Remedy.RETRAIN,
        "Mature labels show fraud that the champion approves: learn it.",
        too_much_missed_fraud,
    ),
    Cause(
        "harmful_shift",
        Remedy.RETRAIN,
        "Inputs moved and alerts rose with them: learn the new traffic.",
        lambda e, p: too_many_alerts(e, p) and _shifted(e),
    ),
    Cause(
        "unknown",
        Remedy.NONE,
        "Harm without a known cause: a person must look.",
        _harm,
    ),
    Cause(
        "benign_shift",
        Remedy.NONE,
        "Inputs moved without harm: nothing to heal.",
        lambda e, p: _shifted(e),
    ),
    Cause("healthy", Remedy.NONE, "Nothing to do.", lambda e, p: True),
)
"""The diagnosis table, in order."""


def diagnose(evidence: Evidence, policy: HealingPolicy) -> Diagnosis:
    """Name the cause of one day's observations.

    Examples:
        >>> day = Evidence(champion_version="1", rows=2000, alerts=40, expected_alert_rate=0.02,
        ...                mature_frauds=60, missed_frauds=55, expected_recall=0.7, max_psi=0.1,
        ...                drifted_feature=None, champion_age_days=20)
        >>> diagnose(day, HealingPolicy()).cause
        'concept_drift'
    """
    matched = [cause for cause in CAUSES if cause.holds(evidence, policy)]
    first = matched[0]
    return Diagnosis(first.name, first.remedy, first.advice, tuple(c.name for c in matched))


@dataclass(frozen=True)
class Act:
    """A remedy that ran, and the day of data that called for it."""

    remedy: Remedy
    day: date


def refusal(
    remedy: Remedy,
    day: date,
    past: Sequence[Act],
    policy: HealingPolicy,
    first_sign: date | None = None,
) -> str | None:
    """Why this remedy may not run now, or None when it may.

    Args:
        remedy: what the diagnosis asks for.
        day: the day of data it was asked for.
        past: remedies that ran before, in any order.
        policy: patience, cooldown and weekly budget, all in days of data.
        first_sign: the first day whose report named this remedy, when a report did.

    Examples:
        >>> refusal(Remedy.RETRAIN, date(2026, 3, 2), [Act(Remedy.RETRAIN, date(2026, 3, 1))],
        ...         HealingPolicy())
        'retrain ran for 2026-03-01, cooldown is 3 days'
    """
    if remedy is Remedy.RETRAIN and first_sign is not None:
        ready = first_sign + timedelta(days=policy.learn_after_days)
        if day < ready:
            return f"the harm first showed on {first_sign}, training can learn it from {ready} on"
    same = [act.day for act in past if act.remedy is remedy]
    if same and day - max(same) < timedelta(days=policy.cooldown_days):
        return f"{remedy} ran for {max(same)}, cooldown is {policy.cooldown_days} days"
    week = [act for act in past if timedelta(0) <= day - act.day < timedelta(days=7)]
    if len(week) >= policy.max_remedies_per_week:
        return f"{len(week)} remedies ran in the seven days before {day}, the budget is used up"
    return None


@dataclass(frozen=True)
class Volume:
    """An amount of mature labels: days, and frauds on them."""

    days: int
    frauds: int


def too_few(labels: Volume, needed: Volume) -> str | None:
    """Why these labels are too few to train on, or None when they are not.

    Examples:
        >>> too_few(Volume(days=30, frauds=5), Volume(days=21, frauds=70))
        '5 mature frauds since the last training, 70 needed'
        >>> too_few(Volume(days=30, frauds=70), Volume(days=21, frauds=70)) is None
        True
    """
    if labels.days < needed.days:
        return f"{labels.days} days of mature labels, {needed.days} needed"
    if labels.frauds < needed.frauds:
        return f"{labels.frauds} mature frauds since the last training, {needed.frauds} needed"
    return None
