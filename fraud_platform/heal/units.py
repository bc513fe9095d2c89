"""Is a quantity expressed in another unit? Told apart from prices that rise, however far.

Somebody who sends cents for euros multiplies by a power of ten and changes nothing else: divided
by it, the values fall back onto what they were. A mixture of both is fitted: with a share s of
values times f, s follows from the mass beyond the reference's outermost quantile, and what is left
is the distance to (1 - s) F(x) + s F(x / f). No inflation of 30 % or 80 % comes near a power of
ten, and a burst of tiny amounts does not have the shape of the usual ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fraud_platform.features.spec import MONEY_NAMES
from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import Floats, MonitorPolicy, blind, standing_of
from fraud_platform.stats.drift_measures import ks_sorted

EXPONENTS = (-3, -2, -1, 1, 2, 3)
WHOLE = 0.98
"""Share of the values from which on all of them are taken to be in the other unit."""
_OUTERMOST = 0.0005
_FEWEST_BEYOND = 30
_LEAST_REFERENCE = 1_000


@dataclass(frozen=True)
class Unit:
    """A change of unit that explains the values.

    Attributes:
        factor: what the values are multiplied with, a power of ten.
        share: of the values, in (0, 1].
        before: Kolmogorov-Smirnov distance to the reference as it is.
        after: the same to the mixture.
    """

    factor: float
    share: float
    before: float
    after: float


def changed_unit(reference: Floats, current: Floats, policy: MonitorPolicy) -> Unit | None:
    """The change of unit that explains values best, or None when none does.

    Args:
        reference: shape (n,), sorted, without NaN; only what is above 0 tells a unit.
        current: shape (m,), without NaN.
        policy: largest distance left, and smallest share.

    Examples:
        >>> usual = np.sort(np.exp(np.random.default_rng(1).normal(3, 1, 5_000)))
        >>> found = changed_unit(usual, usual[::3] * 100, MonitorPolicy())
        >>> found.factor, round(found.share, 1), found.after < 0.01
        (100.0, 1.0, True)
        >>> changed_unit(usual, usual[::3] * 1.8, MonitorPolicy()) is None
        True
    """
    usual, now = reference[reference > 0], np.sort(current[current > 0])
    if usual.size < _LEAST_REFERENCE or now.size < policy.min_rows:
        return None
    before = ks_sorted(usual, now)
    found = [_fitted(usual, now, 10.0**k, before) for k in EXPONENTS]
    fit = [
        unit
        for unit in found
        if unit is not None
        and unit.share >= policy.min_unit_share
        and unit.after <= min(policy.max_unit_distance, before / 2)
    ]
    return min(fit, key=lambda unit: unit.after, default=None)


def units(
    reference: Mapping[str, Floats], current: Mapping[str, Floats], policy: MonitorPolicy
) -> Reading:
    """The units of all quantities that both know.

    Args:
        reference: feature that rests on amounts -> its known values, shape (n,), sorted.
        current: feature -> values of the window, shape (m,), NaN for unknown.
        policy: as in `changed_unit`.

    Returns:
        UNITS; subjects are the features in another unit, most surely first; of the first, details
        say `factor`, `share` and `ks_after`, and `left` how many features moved that a division by
        the factor does not bring back: means over a month that mix both units, and ratios to them.
        Value is the share.
    """
    found: dict[str, Unit] = {}
    shared = [name for name in reference if name in current]
    rows = max((current[name].size for name in shared), default=0)
    if rows < policy.min_rows:
        return blind(Signal.UNITS, f"{rows} payments tell no unit", rows)
    for name in (n for n in shared if n in MONEY_NAMES):
        now = current[name]
        unit = changed_unit(reference[name], now[~np.isnan(now)], policy)
        if unit is not None:
            found[name] = unit
    if not found:
        return Reading(
            signal=Signal.UNITS,
            standing=standing_of(is_breached=False),
            value=0.0,
            bound=policy.min_unit_share,
            rows=rows,
            why=f"no power of ten explains any of {len(shared)} quantities",
        )
    ordered = sorted(found, key=lambda name: (-found[name].share, found[name].after))
    first = found[ordered[0]]
    left = sum(_is_left(reference[n], current[n], found.get(n), first, policy) for n in shared)
    return Reading(
        signal=Signal.UNITS,
        standing=standing_of(is_breached=True),
        value=first.share,
        bound=policy.min_unit_share,
        rows=rows,
        subjects=tuple(ordered),
        details={
            "factor": first.factor,
            "share": first.share,
            "ks_before": first.before,
            "ks_after": first.after,
            "left": float(left),
        },
        why=f"{ordered[0]}: {first.share:.0%} are {first.factor:g} times what they were",
    )


def _is_left(
    usual: Floats, now: Floats, unit: Unit | None, first: Unit, policy: MonitorPolicy
) -> bool:
    """Whether a feature has moved and a division by the first one's factor does not mend it."""
    known = np.sort(now[~np.isnan(now)])
    if unit is not None and unit.factor == first.factor and unit.share >= WHOLE:
        return False
    return bool(ks_sorted(usual, known) > policy.max_unit_distance)


def _fitted(usual: Floats, now: Floats, factor: float, before: float) -> Unit | None:
    """The mixture with the share that the mass beyond the outermost quantile tells."""
    outermost = round(_OUTERMOST * (usual.size - 1))
    if factor > 1:
        edge = usual[-1 - outermost]
        beyond = now[np.searchsorted(now, edge, side="right") :]
        scaled = usual[np.searchsorted(usual, edge / factor, side="right") :]
    else:
        edge = usual[outermost]
        beyond = now[: np.searchsorted(now, edge)]
        scaled = usual[: np.searchsorted(usual, edge / factor)]
    reach = scaled.size / usual.size - _OUTERMOST
    if beyond.size < _FEWEST_BEYOND or reach <= 0.05:
        return None
    share = min(1.0, max(0.0, (beyond.size / now.size - _OUTERMOST) / reach))
    # The shape of what lies beyond must be that of usual values in the other unit, too: a few
    # strange amounts could hide in the distance of the whole.
    shape = ks_sorted(scaled, beyond / factor)
    if shape > max(0.15, 2.0 / np.sqrt(beyond.size)):
        return None
    return Unit(factor, share, before, _distance(usual, now, factor, share))


def _distance(usual: Floats, now: Floats, factor: float, share: float) -> float:
    """Kolmogorov-Smirnov distance of sorted values to the mixture."""
    plain = np.searchsorted(usual, now, side="right") / usual.size
    moved = np.searchsorted(usual, now / factor, side="right") / usual.size
    mixture = (1 - share) * plain + share * moved
    seen = np.searchsorted(now, now, side="right") / now.size
    return float(np.abs(seen - mixture).max())
