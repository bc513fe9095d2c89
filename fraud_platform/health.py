"""The day's evidence, gathered from the reports: what `healing` diagnoses.

Measuring is `drift` and `performance`; this only pools and selects.
"""

from dataclasses import asdict, dataclass
from datetime import date, timedelta

import polars as pl

from fraud_platform.drift import DriftPolicy
from fraud_platform.features.spec import MONEY_NAMES
from fraud_platform.healing import Diagnosis, Evidence, HealingPolicy, diagnose


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


def evidence_of(
    day: date,
    drift: pl.DataFrame,
    performance: pl.DataFrame,
    champion: Champion | None,
    policies: tuple[DriftPolicy, HealingPolicy],
) -> Evidence:
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
    return Evidence(
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


@dataclass(frozen=True)
class HealthReport:
    """One day's evidence and what it means."""

    day: date
    evidence: Evidence
    diagnosis: Diagnosis

    def to_row(self) -> dict[str, object]:
        """The report as one flat row: the day, the diagnosis and the evidence."""
        found = self.diagnosis
        lists = {"null_features", "unit_features"}
        seen = {k: list(v) if k in lists else v for k, v in asdict(self.evidence).items()}
        return {
            "day": self.day,
            "cause": found.cause,
            "remedy": found.remedy.value,
            "advice": found.advice,
            "matched": list(found.matched),
            **seen,
        }

    def to_markdown(self) -> str:
        """The report as a table a person reads in the UI."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.to_row().items())
        return f"| | {self.day} |\n|---|---|\n{rows}\n"


HEALTH_COLUMNS: dict[str, pl.DataType] = {
    "day": pl.Date(),
    "cause": pl.String(),
    "remedy": pl.String(),
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


def assess(
    day: date,
    drift: pl.DataFrame,
    performance: pl.DataFrame,
    champion: Champion | None,
    policies: tuple[DriftPolicy, HealingPolicy],
) -> HealthReport:
    """Gather one day's evidence and diagnose it; arguments as in `evidence_of`."""
    evidence = evidence_of(day, drift, performance, champion, policies)
    return HealthReport(day, evidence, diagnose(evidence, policies[1]))


def health_frame(reports: list[HealthReport]) -> pl.DataFrame:
    """Reports as rows, in the order given."""
    return pl.DataFrame([report.to_row() for report in reports], schema=HEALTH_COLUMNS)
