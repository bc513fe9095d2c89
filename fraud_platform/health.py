"""How one day went: what the reports measured, as readings, and what they mean together.

Measuring is `drift` and `performance`, the table of causes is `heal.causes`; this pools and selects
what a day tells, from labels that came of age. What happens within minutes is `heal.monitors`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, timedelta

import polars as pl

from fraud_platform.drift import DriftPolicy
from fraud_platform.features.spec import MONEY_NAMES
from fraud_platform.heal.causes import Diagnosis, advice, diagnose
from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing
from fraud_platform.proportions import wilson

NO_CHAMPION = "no_champion"
"""No model has passed the gate yet: nothing can be judged."""


@dataclass(frozen=True, kw_only=True)
class HealthPolicy:
    """When what a day shows is harm."""

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

    def __post_init__(self) -> None:
        least = {"max_alert_rate_ratio": 1, "max_missed_fraud_ratio": 1, "window_days": 1}
        least |= {"min_rows": 1, "min_frauds": 1, "release_watch_days": 0}
        for name, bound in least.items():
            # A NaN fails every comparison, so this also refuses what is not a number.
            if not getattr(self, name) >= bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"found confidence={self.confidence}, expected between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class DayFacts:
    """What was counted for one day; None means not measurable, never zero.

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


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What is expected of the champion, from its own test rows.

    Attributes:
        version: its registry version.
        alert_rate: share of transactions at or above its review threshold, in [0, 1].
        recall: share of the frauds that it does not decline which it reviews, in [0, 1]; or None.
        trained_on: the day it was trained as of.
        previous_version: the champion before it, or None.
    """

    version: str
    alert_rate: float
    recall: float | None
    trained_on: date
    previous_version: str | None = None


def facts_of(
    day: date,
    drift: pl.DataFrame,
    performance: pl.DataFrame,
    champion: Champion | None,
    policies: tuple[DriftPolicy, HealthPolicy],
) -> DayFacts:
    """Pool what the reports say about one day.

    Counts are pooled over the policy's window, but only over days judged by today's champion: what
    another version did is no evidence about this one.

    Args:
        day: the day to judge.
        drift: `drift.measure_by_day`; without rows of this day when it could not be measured.
        performance: `performance.outcomes_by_day` of this day and of the days before.
        champion: what is expected, or None when there is no champion.
        policies: bounds of drift and of harm.
    """
    drift_policy, policy = policies
    pooled = performance.filter(
        pl.col("day").is_between(day - timedelta(days=policy.window_days - 1), day)
    )
    window = pooled.filter(pl.col("model_version") == (champion.version if champion else None))
    before = pooled.filter(
        pl.col("model_version") == (champion.previous_version if champion else None),
        pl.col("day").is_in(window["day"].implode()),  # the same rows, or it is no comparison
    )
    drift = drift.filter(pl.col("day") == day)
    rising = pl.col("null_share") - pl.col("null_share_reference")
    worst = drift.sort("psi", descending=True).head(1)
    broken_nulls = drift.filter(rising > drift_policy.max_null_share_gain)
    broken_units = drift.filter(pl.col("unit_factor") != 1.0, pl.col("feature").is_in(MONEY_NAMES))
    return DayFacts(
        champion_version=champion.version if champion else None,
        rows=int(window["scored_rows"].sum()),
        alerts=int(window["scored_alerts"].sum()),
        expected_alert_rate=champion.alert_rate if champion else None,
        mature_frauds=int(window["frauds"].sum()),
        missed_frauds=int(window["missed_frauds"].sum()),
        expected_recall=champion.recall if champion else None,
        max_psi=None if worst.is_empty() else worst["psi"].item(),
        drifted_feature=None if worst.is_empty() else worst["feature"].item(),
        null_features=tuple(broken_nulls["feature"]),
        unit_features=tuple(broken_units["feature"]),
        champion_age_days=(day - champion.trained_on).days if champion else None,
        major_psi=drift_policy.major_psi,
        previous_alerts=None if before.is_empty() else int(before["scored_alerts"].sum()),
        previous_missed_frauds=None if before.is_empty() else int(before["missed_frauds"].sum()),
    )


def readings_of(facts: DayFacts, policy: HealthPolicy) -> tuple[Reading, ...]:
    """What a day says of each signal that it can speak of.

    Examples:
        >>> facts = DayFacts(champion_version="1", rows=2_000, alerts=40, expected_alert_rate=0.02,
        ...     mature_frauds=60, missed_frauds=55, expected_recall=0.7, max_psi=0.1,
        ...     drifted_feature=None, champion_age_days=20)
        >>> [str(r.signal) for r in readings_of(facts, HealthPolicy())
        ...  if r.standing is Standing.BREACHED]
        ['missed_fraud']
    """
    if facts.rows < policy.min_rows:
        return (_reading(Signal.HEARTBEAT, is_breached=True, value=facts.rows),)
    return (
        _reading(Signal.HEARTBEAT, is_breached=False, value=facts.rows),
        _units(facts),
        _named(Signal.NULLS, facts.null_features),
        _disturbed(facts, facts.alerts, policy),
        _missed(facts, facts.missed_frauds, policy),
        _replayed(facts, policy),
        _shifted(facts),
        _young(facts, policy),
    )


def _disturbed(facts: DayFacts, alerts: int, policy: HealthPolicy) -> Reading:
    if not facts.expected_alert_rate:
        return _reading(Signal.DISTURBED_RATE, is_breached=None)
    bound = policy.max_alert_rate_ratio * facts.expected_alert_rate
    low, _ = wilson(alerts, facts.rows, policy.confidence)
    rate = alerts / facts.rows
    return _reading(
        Signal.DISTURBED_RATE, is_breached=low > bound, value=rate, bound=bound, rows=facts.rows
    )


def _missed(facts: DayFacts, missed: int, policy: HealthPolicy) -> Reading:
    frauds = facts.mature_frauds
    if facts.expected_recall is None or frauds < policy.min_frauds:
        return _reading(Signal.MISSED_FRAUD, is_breached=None)
    bound = min(0.95, policy.max_missed_fraud_ratio * (1 - facts.expected_recall))
    low, _ = wilson(missed, frauds, policy.confidence)
    return _reading(
        Signal.MISSED_FRAUD,
        is_breached=low > bound,
        value=missed / frauds,
        bound=bound,
        rows=frauds,
    )


def _replayed(facts: DayFacts, policy: HealthPolicy) -> Reading:
    """On the same rows, does the champion a harm that the one before would not do?"""
    if facts.previous_alerts is None:
        return _reading(Signal.REPLAY, is_breached=None)
    now = (_disturbed(facts, facts.alerts, policy), _missed(facts, facts.missed_frauds, policy))
    before = (
        _disturbed(facts, facts.previous_alerts, policy),
        _missed(facts, facts.previous_missed_frauds or 0, policy),
    )
    harms, harmed = (
        any(r.standing is Standing.BREACHED for r in readings) for readings in (now, before)
    )
    return _reading(Signal.REPLAY, is_breached=harms and not harmed, rows=facts.rows)


def _shifted(facts: DayFacts) -> Reading:
    if facts.max_psi is None:
        return _reading(Signal.FEATURE_SHIFT, is_breached=None)
    is_major = facts.max_psi > facts.major_psi
    subjects = (facts.drifted_feature,) if is_major and facts.drifted_feature else ()
    return Reading(
        signal=Signal.FEATURE_SHIFT,
        standing=Standing.BREACHED if is_major else Standing.FINE,
        value=facts.max_psi,
        bound=facts.major_psi,
        rows=facts.rows,
        subjects=subjects,
    )


def _young(facts: DayFacts, policy: HealthPolicy) -> Reading:
    age = facts.champion_age_days
    if age is None or age < 0:  # a day before it was trained
        return _reading(Signal.CHANGE, is_breached=None)
    return _reading(Signal.CHANGE, is_breached=age <= policy.release_watch_days, value=age)


def _units(facts: DayFacts) -> Reading:
    """Whether the payments say it themselves tells a new unit from windows that remember one."""
    found = _named(Signal.UNITS, facts.unit_features)
    sent = float("transaction_amount" in facts.unit_features)
    return replace(found, details={"sent": sent} if facts.unit_features else {})


def _named(signal: Signal, subjects: tuple[str, ...]) -> Reading:
    standing = Standing.BREACHED if subjects else Standing.FINE
    return Reading(signal=signal, standing=standing, value=len(subjects), subjects=subjects)


def _reading(
    signal: Signal,
    *,
    is_breached: bool | None,
    value: float | None = None,
    bound: float | None = None,
    rows: int = 0,
) -> Reading:
    standing = Standing.BREACHED if is_breached else Standing.FINE
    standing = Standing.BLIND if is_breached is None else standing
    return Reading(signal=signal, standing=standing, value=value, bound=bound, rows=rows)


@dataclass(frozen=True)
class HealthReport:
    """One day's facts and what they mean; no diagnosis without a champion."""

    day: date
    facts: DayFacts
    diagnosis: Diagnosis | None

    @property
    def cause(self) -> str:
        """The diagnosis in one word."""
        return NO_CHAMPION if self.diagnosis is None else self.diagnosis.cause

    def to_row(self) -> dict[str, object]:
        """The report as one flat row: the day, the diagnosis and the facts."""
        lists = {"null_features", "unit_features"}
        seen = {k: list(v) if k in lists else v for k, v in asdict(self.facts).items()}
        told = "No model has passed the gate yet; the label sensor trains the first one."
        return {
            "day": self.day,
            "cause": self.cause,
            "advice": told if self.diagnosis is None else advice(self.cause),
            "matched": [] if self.diagnosis is None else list(self.diagnosis.matched),
            **seen,
        }

    def to_markdown(self) -> str:
        """The report as a table a person reads in the UI."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.to_row().items())
        return f"| | {self.day} |\n|---|---|\n{rows}\n"


HEALTH_COLUMNS: dict[str, pl.DataType] = {
    "day": pl.Date(),
    "cause": pl.String(),
    "advice": pl.String(),
    "matched": pl.List(pl.String()),
    "champion_version": pl.String(),
    "rows": pl.Int64(),
    "alerts": pl.Int64(),
    "expected_alert_rate": pl.Float64(),
    "mature_frauds": pl.Int64(),
    "missed_frauds": pl.Int64(),
    "expected_recall": pl.Float64(),
    "max_psi": pl.Float64(),
    "drifted_feature": pl.String(),
    "null_features": pl.List(pl.String()),
    "unit_features": pl.List(pl.String()),
    "champion_age_days": pl.Int64(),
    "major_psi": pl.Float64(),
    "previous_alerts": pl.Int64(),
    "previous_missed_frauds": pl.Int64(),
}
"""Columns of `HealthReport.to_row`."""


def facts_from(row: Mapping[str, object]) -> DayFacts:
    """The facts of a row of `HEALTH_COLUMNS`, as `HealthReport.to_row` wrote them."""
    told = {f.name: row[f.name] for f in fields(DayFacts)}
    lists = {k: tuple(v) for k, v in told.items() if isinstance(v, list)}
    return DayFacts(**(told | lists))  # type: ignore[arg-type]  # the columns are the fields


def assess(
    day: date,
    drift: pl.DataFrame,
    performance: pl.DataFrame,
    champion: Champion | None,
    policies: tuple[DriftPolicy, HealthPolicy],
) -> HealthReport:
    """Gather one day's facts and diagnose them; arguments as in `facts_of`."""
    facts = facts_of(day, drift, performance, champion, policies)
    if champion is None:
        return HealthReport(day, facts, None)
    return HealthReport(day, facts, diagnosed(facts, policies[1]))


def diagnosed(facts: DayFacts, policy: HealthPolicy) -> Diagnosis:
    """What a day means."""
    readings = {reading.signal: reading for reading in readings_of(facts, policy)}
    return diagnose(Evidence(readings=readings, event_us=0, now_us=0, rows=facts.rows or 1))


def health_frame(reports: list[HealthReport]) -> pl.DataFrame:
    """Reports as rows, in the order given."""
    return pl.DataFrame([report.to_row() for report in reports], schema=HEALTH_COLUMNS)
