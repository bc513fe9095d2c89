"""A ruling under orders: what decides, and on what, while healing has ordered otherwise.

Orders are obeyed by ruling with other models, not by other code on the way of a decision. The
features that are recorded stay what was read; only what a model sees of them is changed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from fraud_platform.decision import QUARANTINED, SET_ASIDE
from fraud_platform.fallbacks import smallest
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.orders import NORMAL, Orders
from fraud_platform.selective_labels import Explorer
from serving.ruling import FALLBACK_ARM, Resident, Ruling


def under(ruling: Ruling, orders: Orders) -> Ruling:
    """The ruling that obeys the orders.

    Of the fallbacks that lack all that is set aside, the one that lacks the fewest features
    decides. Where there is none no model does, and a person looks at every payment.

    Args:
        ruling: the models by their roles, under no orders.
        orders: what is ordered.
    """
    if orders.digest == NORMAL.digest:
        return replace(ruling, orders=orders)
    challenger, share, missing = ruling.challenger, ruling.canary_share, ruling.missing
    champion, lead, cause = ruling.champion, ruling.lead, ruling.cause
    if orders.set_aside:
        champion = _fallback(ruling.fallbacks, orders.set_aside)
        challenger, share = None, 0.0  # it rests on the same features
        missing = (*missing, "features") if champion is not None else ()
        lead, cause = FALLBACK_ARM, QUARANTINED
    return replace(
        ruling,
        champion=None if champion is None else ordered(champion, orders),
        challenger=None if challenger is None else ordered(challenger, orders),
        canary_share=share,
        missing=missing,
        lead=lead,
        cause=cause,
        orders=orders,
    )


def without_orders(ruling: Ruling) -> Ruling:
    """The ruling while nobody knows what is ordered: no model decides, nothing is approved."""
    return replace(ruling, champion=None, challenger=None, missing=(), cause=SET_ASIDE)


def ordered(resident: Resident, orders: Orders) -> Resident:
    """The same model under orders; its rule has another name, as it may decide otherwise.

    Nothing is let go for its worth then, nor let through to learn from: what is ordered of
    decisions is ordered because something is wrong. A chance of fraud that is stated too low would
    let fraud go, and of an attack some would be let go on purpose.
    """
    if orders.digest == NORMAL.digest:
        return resident
    told = f"{resident.policy_digest} {orders.digest}"
    explorer = resident.explorer
    return replace(
        resident,
        policy_digest=hashlib.sha256(told.encode()).hexdigest(),
        explorer=None if explorer is None else _audits_alone(explorer, orders.audit_factor),
        worth=None,
        divisors=divisors_of(orders),
    )


def divisors_of(orders: Orders) -> tuple[float, ...]:
    """What each feature is divided by before a model sees it; () where none is changed."""
    factors = orders.unit_factors
    return tuple(factors.get(name, 1.0) for name in FEATURE_NAMES) if factors else ()


def _fallback(fallbacks: Sequence[Resident], set_aside: Sequence[str]) -> Resident | None:
    place = smallest({n: found.without for n, found in enumerate(fallbacks)}, set_aside)
    return None if place is None else fallbacks[place]


def _audits_alone(explorer: Explorer, factor: float) -> Explorer:
    """Nothing is let through, and audits have `factor` times their rates and daily limit."""
    policy = explorer.policy
    return replace(
        explorer,
        policy=replace(
            policy,
            pass_rate=0.0,
            pass_floor=0.0,
            audit_rate=min(1.0, policy.audit_rate * factor),
            audit_rate_approved=min(1.0, policy.audit_rate_approved * factor),
            audits_per_day=round(policy.audits_per_day * factor),
        ),
    )
