"""How far one day's inputs and scores moved from the champion's training window.

Numbers only: PSI and KS per feature, null shares and medians. They explain; they never act alone
(`healing` weighs them against harm). The report that people open is made by Evidently in `assets`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.stats.drift_measures import ks, psi


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """What counts as a shift."""

    major_psi: float = 0.25
    """PSI from which a shift is called major, unitless; a convention, hence policy."""
    max_null_share_gain: float = 0.10
    """Largest tolerated rise of a feature's null share against the reference, absolute."""
    unit_tolerance: float = 0.25
    """How near to a power of ten a jump of the median must be to be called a change of unit."""
    bins: int = 10
    """Quantile bins of the reference."""
    min_rows: int = 200
    """Fewest rows in a day; below, the day cannot be judged."""

    def __post_init__(self) -> None:
        if self.bins < 2 or self.min_rows < 1:
            raise ValueError(
                f"found bins={self.bins} and min_rows={self.min_rows}, expected at least 2 and 1"
            )
        if not self.major_psi > 0.0:
            raise ValueError(f"found major_psi={self.major_psi}, expected above 0")
        for name in ("max_null_share_gain", "unit_tolerance"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected 0 to below 1")


def measure(reference: pl.DataFrame, current: pl.DataFrame, policy: DriftPolicy) -> pl.DataFrame:
    """Drift of every column that both frames have.

    Args:
        reference: a sample of the champion's training rows, one numeric column per feature.
        current: the rows under test; `policy.min_rows` or more.
        policy: bins and bounds.

    Returns:
        One row per feature, largest PSI first: feature, psi, ks, null_share_reference, null_share,
        median_reference, median, unit_factor (a power of ten when the median jumped by about that
        much, else 1).
    """
    shared = [name for name in reference.columns if name in current.columns]
    rows = [
        _compared(name, _values(reference, name), _values(current, name), policy) for name in shared
    ]
    return pl.DataFrame(rows, schema=DRIFT_COLUMNS).sort("psi", "feature", descending=[True, False])


def measure_by_day(
    reference: pl.DataFrame, current: pl.DataFrame, policy: DriftPolicy
) -> pl.DataFrame:
    """`measure` for each UTC day of `current`, by its `event_timestamp`.

    Days with fewer than `policy.min_rows` rows cannot be judged and are left out.

    Returns:
        `DRIFT_COLUMNS` and day (Date), in day order.
    """
    days = current.with_columns(day=pl.col("event_timestamp").dt.date()).sort("day")
    measured = [
        measure(reference, rows, policy).with_columns(day=pl.lit(day, pl.Date()))
        for (day,), rows in days.group_by("day", maintain_order=True)
        if rows.height >= policy.min_rows
    ]
    nothing = pl.DataFrame(schema={**DRIFT_COLUMNS, "day": pl.Date()})
    return pl.concat([nothing, *measured])


DRIFT_COLUMNS: dict[str, pl.DataType] = {
    "feature": pl.String(),
    "psi": pl.Float64(),
    "ks": pl.Float64(),
    "null_share_reference": pl.Float64(),
    "null_share": pl.Float64(),
    "median_reference": pl.Float64(),
    "median": pl.Float64(),
    "unit_factor": pl.Float64(),
}
"""Columns of `measure`'s result."""


def unit_factor(median_reference: float, median: float, tolerance: float) -> float:
    """The power of ten by which a quantity seems to be expressed differently, else 1.

    Only factors of 100 and more (or 0.01 and less) are named: prices do move by ten.

    Examples:
        >>> unit_factor(2500.0, 240000.0, 0.25)
        100.0
        >>> unit_factor(2500.0, 4000.0, 0.25)
        1.0
    """
    if not (median_reference > 0 and median > 0):
        return 1.0
    exponent = round(float(np.log10(median / median_reference)))
    near = abs(median / median_reference / 10.0**exponent - 1) <= tolerance
    return float(10.0**exponent) if abs(exponent) >= 2 and near else 1.0


def _values(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _compared(
    name: str, r: NDArray[np.float64], c: NDArray[np.float64], policy: DriftPolicy
) -> dict[str, object]:
    medians = [
        float(np.median(s[~np.isnan(s)])) if (~np.isnan(s)).any() else float("nan") for s in (r, c)
    ]
    return {
        "feature": name,
        "psi": psi(r, c, policy.bins),
        "ks": ks(r, c),
        "null_share_reference": float(np.isnan(r).mean()),
        "null_share": float(np.isnan(c).mean()),
        "median_reference": medians[0],
        "median": medians[1],
        "unit_factor": unit_factor(medians[0], medians[1], policy.unit_tolerance),
    }
