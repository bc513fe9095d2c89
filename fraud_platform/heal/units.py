"""Is a quantity expressed in another unit? Told apart from prices that rise, however far.

Somebody who sends cents for euros multiplies by a power of ten and changes nothing else: divided
by it, the values fall back onto what they were. A mixture of both is fitted: with a share s of
values times f, s follows from the mass beyond the reference's outermost quantile, and what is left
is the distance to (1 - s) F(x) + s F(x / f). No inflation of 30 % or 80 % comes near a power of
ten, and a burst of tiny amounts does not have the shape of the usual ones.

A sender begins and ends at a moment. So amounts are judged from the payment on with which the other
unit began, not over a window that holds the time before, and a few right ones in a row tell that
the sender has mended it. What remembers amounts mixes both units long after.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.declaration import Function
from fraud_platform.features.spec import FEATURES, MONEY_NAMES
from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import AMOUNT, Floats, MonitorPolicy, blind, standing_of
from fraud_platform.stats.drift_measures import ks_sorted

EXPONENTS = (-3, -2, -1, 1, 2, 3)
WHOLE = 0.9
"""Share of the values from which on they are judged as being all in the other unit."""
_OUTERMOST = 0.0005
_FEWEST_BEYOND = 30
_FEWEST_SINCE = 100
"""Payments since it began: fewer tell no distribution."""
_LEAST_REFERENCE = 1_000
_BEGUN = 0.25
"""Share of values beyond all usual ones from which on there is a moment at which they began."""
_TOLD_BY_SIZE = tuple(
    feature.name
    for feature in FEATURES
    if feature.name in MONEY_NAMES and feature.function not in {Function.AMOUNT, Function.SUM}
)
"""What remembers amounts one by one: many payments in a day make a large sum in any unit."""
_NORMAL_BEYOND = 0.01
"""Share of amounts beyond all usual ones up to which they are in their unit."""
_BY_CHANCE = 1e-6
"""So unlikely were the newest amounts if the sender had not mended it."""


@dataclass(frozen=True)
class Unit:
    """A change of unit that explains the values.

    Attributes:
        factor: what the values are multiplied with, a power of ten.
        share: of the values, in (0, 1].
        before: Kolmogorov-Smirnov distance to the reference as it is.
        after: the same to the mixture.
        plain: share of the values that cannot be in the other unit.
    """

    factor: float
    share: float
    before: float
    after: float
    plain: float


def changed_unit(
    reference: Floats, current: Floats, policy: MonitorPolicy, *, fewest: int | None = None
) -> Unit | None:
    """The change of unit that explains values best, or None when none does.

    Args:
        reference: shape (n,), sorted, without NaN; only what is above 0 tells a unit.
        current: shape (m,), without NaN.
        policy: largest distance left, and smallest share.
        fewest: values that tell a unit; None: the policy's.

    Examples:
        >>> usual = np.sort(np.exp(np.random.default_rng(1).normal(3, 1, 5_000)))
        >>> found = changed_unit(usual, usual[::3] * 100, MonitorPolicy())
        >>> found.factor, round(found.share, 1), found.after < 0.01
        (100.0, 1.0, True)
        >>> changed_unit(usual, usual[::3] * 1.8, MonitorPolicy()) is None
        True
    """
    usual, now = reference[reference > 0], np.sort(current[current > 0])
    if usual.size < _LEAST_REFERENCE or now.size < (fewest or policy.min_rows):
        return None
    before = ks_sorted(usual, now)
    found = [_fitted(usual, now, 10.0**k, before) for k in EXPONENTS]
    fit = [
        unit
        for unit in found
        if unit is not None
        and unit.share >= policy.min_unit_share
        # Prices that rise meanwhile do not bring 100 near 10 or 1,000.
        and (
            unit.after <= min(policy.max_unit_distance, before / 3)
            or (unit.share >= WHOLE and unit.after <= before / 4)
        )
    ]
    return min(fit, key=lambda unit: unit.after, default=None)


def units(
    reference: Mapping[str, Floats], current: Mapping[str, Floats], policy: MonitorPolicy
) -> Reading:
    """The units of all quantities that both know.

    Args:
        reference: feature that rests on amounts -> its known values, shape (n,), sorted.
        current: feature -> values of the window in order of arrival, shape (m,), NaN for unknown.
        policy: as in `changed_unit`.

    Returns:
        UNITS. If amounts are sent in another unit the subject is the amount, and details say
        `factor`, `share`, `ks_before`, `ks_after`, and `plain`, the share that cannot be in the
        other unit; `sent` is 1. If they are right, and what remembers them is beyond all usual
        more often than they ever were, subjects are that, worst first, and `sent` is 0. Value is
        the share.
    """
    shared = [name for name in MONEY_NAMES if name in reference and name in current]
    rows = max((current[name].size for name in shared), default=0)
    if rows < policy.min_rows:
        return blind(Signal.UNITS, f"{rows} payments tell no unit", rows)
    unit = _sent(reference, current, policy)
    mixed = {} if unit else _mixed(reference, current, policy)
    if unit is None and not mixed:
        return Reading(
            signal=Signal.UNITS,
            standing=standing_of(is_breached=False),
            value=0.0,
            bound=policy.min_unit_share,
            rows=rows,
            why=f"no power of ten explains any of {len(shared)} quantities",
        )
    share = unit.share if unit else max(mixed.values())
    return Reading(
        signal=Signal.UNITS,
        standing=standing_of(is_breached=True),
        value=share,
        bound=policy.min_unit_share,
        rows=rows,
        subjects=(AMOUNT,) if unit else tuple(sorted(mixed, key=lambda name: -mixed[name])),
        details=_details(unit) if unit else {"share": share, "sent": 0.0},
        why=f"{AMOUNT}: {share:.0%} are {unit.factor:g} times what they were"
        if unit
        else f"amounts are usual, and up to {share:.0%} of what remembers them is beyond all usual",
    )


def _details(unit: Unit) -> dict[str, float]:
    return {
        "factor": unit.factor,
        "share": unit.share,
        "plain": unit.plain,
        "ks_before": unit.before,
        "ks_after": unit.after,
        "sent": 1.0,
    }


def _sent(
    reference: Mapping[str, Floats], current: Mapping[str, Floats], policy: MonitorPolicy
) -> Unit | None:
    """The unit in which amounts are sent now, if it is another one."""
    if AMOUNT not in reference or AMOUNT not in current:
        return None
    usual, now = reference[AMOUNT], current[AMOUNT]
    usual, now = usual[usual > 0], now[now > 0]
    if usual.size < _LEAST_REFERENCE:
        return None
    return changed_unit(usual, _lasting(usual, now), policy, fewest=_FEWEST_SINCE)


def _lasting(usual: Floats, now: Floats) -> Floats:
    """Values from the first in another unit to the last; all, if it did not begin at a moment.

    None if the sender has mended it: the newest are as they were.
    """
    begin, end, rate = _run(usual, now)
    if end == begin:
        return now
    is_mended = (1.0 - rate) ** (now.size - end) < _BY_CHANCE
    return now[:0] if is_mended else now[begin:end]


def _run(usual: Floats, now: Floats) -> tuple[int, int, float]:
    """Where values beyond all usual ones began and ended, and their share there; 0, 0 if nowhere.

    The steepest climb of a sum that falls while values are usual.
    """
    edge = _outermost(usual)
    for beyond in (now > usual[-1 - edge], now < usual[edge]):
        path = np.concatenate([[0.0], np.cumsum(beyond - _BEGUN)])
        end = int((path - np.minimum.accumulate(path)).argmax())
        begin = int(path[: end + 1].argmin())
        if end - begin >= _FEWEST_SINCE:
            return begin, end, float(beyond[begin:end].mean())
    return 0, 0, 0.0


def _mixed(
    reference: Mapping[str, Floats], current: Mapping[str, Floats], policy: MonitorPolicy
) -> dict[str, float]:
    """Of what remembers amounts, how much of the newest is beyond all usual though amounts are not.

    A mean or a maximum over both units is no power of ten from what it was.
    """
    usual, now = reference.get(AMOUNT), current.get(AMOUNT)
    if usual is None or now is None or usual.size < _LEAST_REFERENCE:
        return {}
    since = now[_run(usual, now)[1] :][-policy.min_rows :]
    if not since.size or (since > usual[-1 - _outermost(usual)]).mean() > _NORMAL_BEYOND:
        return {}
    shares: dict[str, float] = {}
    for name in (n for n in _TOLD_BY_SIZE if n in reference and n in current):
        usual, known = reference[name], current[name][~np.isnan(current[name])]
        if usual.size >= _LEAST_REFERENCE and known.size >= policy.min_rows:
            beyond = known[-policy.min_rows :] > usual[-1 - _outermost(usual)]
            shares[name] = float(beyond.mean())
    return {name: share for name, share in shares.items() if share >= policy.min_unit_share}


def _outermost(usual: Floats) -> int:
    """Place of the outermost quantile, from either end."""
    return round(_OUTERMOST * (usual.size - 1))


def _beyond(usual: Floats, now: Floats, factor: float) -> tuple[NDArray[np.bool_], float]:
    """Which values usual ones hardly ever are, and how often multiplied ones are."""
    outermost = _outermost(usual)
    if factor > 1:
        edge = usual[-1 - outermost]
        return now > edge, float((usual > edge / factor).mean()) - _OUTERMOST
    edge = usual[outermost]
    return now < edge, float((usual < edge / factor).mean()) - _OUTERMOST


def _fitted(usual: Floats, now: Floats, factor: float, before: float) -> Unit | None:
    """The mixture with the share that the mass beyond the outermost quantile tells."""
    is_beyond, reach = _beyond(usual, now, factor)
    beyond = now[is_beyond]
    if beyond.size < _FEWEST_BEYOND or reach <= 0.05:
        return None
    share = min(1.0, max(0.0, (beyond.size / now.size - _OUTERMOST) / reach))
    # The shape of what lies beyond must be that of usual values in the other unit, too: a few
    # strange amounts could hide in the distance of the whole.
    scaled = usual[_beyond(usual, usual * factor, factor)[0]]
    shape = ks_sorted(scaled, beyond / factor)
    if share < WHOLE and shape > max(0.15, 2.0 / np.sqrt(beyond.size)):
        return None
    plain, plain_reach = _beyond(usual * factor, now, 1.0 / factor)
    left = plain.mean() / plain_reach if plain_reach > 0.05 else 1.0
    return Unit(factor, share, before, _distance(usual, now, factor, share), float(min(1.0, left)))


def _distance(usual: Floats, now: Floats, factor: float, share: float) -> float:
    """Kolmogorov-Smirnov distance of sorted values to the mixture."""
    plain = np.searchsorted(usual, now, side="right") / usual.size
    moved = np.searchsorted(usual, now / factor, side="right") / usual.size
    mixture = (1 - share) * plain + share * moved
    seen = np.searchsorted(now, now, side="right") / now.size
    return float(np.abs(seen - mixture).max())
