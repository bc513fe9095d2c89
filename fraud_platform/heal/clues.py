"""What explains a harm and never starts anything: what moved, what is concentrated, what is new.

What belongs here: readings of tier attribution, and the paired replay, which blames a release.
Distances and their error are `stats.drift_measures`; here they only get their bounds.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import (
    AMOUNT,
    HOUR_US,
    Floats,
    MonitorPolicy,
    Reference,
    blind,
    busiest_shares,
    floats,
    standing_of,
    surely_above,
)
from fraud_platform.stats.drift_measures import (
    Counts,
    benjamini_hochberg,
    side_by_side,
    stability_index,
    tally,
    weighted,
)
from fraud_platform.stats.sequential import share_evidence

_FEW_DEVICES = 3


def feature_shift(
    reference: Reference, window: pl.DataFrame, features: pl.DataFrame | None
) -> Reading:
    """Which inputs are distributed otherwise, beyond chance and by how much?

    Debiased PSI of every feature but those of the calendar, and of every category of the payment,
    against the same hours of the reference's days: nights look otherwise, and no night is a shift.
    A shift is written down from `noted_psi` on where chance does not explain it (Benjamini and
    Hochberg over all inputs), and is a clue from `major_psi` on.

    Returns:
        FEATURE_SHIFT; value is the largest PSI, subjects are the major ones, largest first; details
        say the PSI of all that are written down.
    """
    policy = reference.policy
    if window.height < policy.min_rows:
        return blind(Signal.FEATURE_SHIFT, "too few payments", window.height)
    counted = _counted(reference, window, features)
    sizes = {name: stability_index(counts) for name, counts in counted.items()}
    chances = [_chance(counts, sizes[name]) for name, counts in counted.items()]
    surely = dict(zip(counted, benjamini_hochberg(chances, policy.false_discoveries), strict=True))
    noted = {n: psi for n, psi in sizes.items() if surely[n] and psi >= policy.noted_psi}
    ordered = sorted(noted, key=lambda name: -noted[name])
    major = tuple(name for name in ordered if noted[name] >= policy.major_psi)
    return Reading(
        signal=Signal.FEATURE_SHIFT,
        standing=standing_of(bool(major)),
        value=max(sizes.values(), default=0.0),
        bound=policy.major_psi,
        rows=window.height,
        subjects=major,
        details={name: noted[name] for name in ordered},
        why=f"{len(major)} of {len(sizes)} inputs moved far: {', '.join(major[:4]) or 'none'}",
    )


def score_shift(reference: Reference, window: pl.DataFrame, scores: Floats) -> Reading:
    """Are the scores distributed otherwise? Nearly blind to the tail, where decisions are made.

    Args:
        reference: what is normal.
        window: the payments; only their hours matter.
        scores: of those that were scored, shape (m,).
    """
    policy, bins = reference.policy, reference.score_bins
    if bins is None or min(scores.size, bins.counts.sum()) < policy.min_rows:
        return blind(Signal.SCORE_SHIFT, "too few scores to compare", scores.size)
    psi = stability_index(bins.against(scores, reference.matched_scores(window)))
    return Reading(
        signal=Signal.SCORE_SHIFT,
        standing=standing_of(psi >= policy.major_psi),
        value=psi,
        bound=policy.major_psi,
        rows=scores.size,
        why=f"PSI of the scores {psi:.3f}",
    )


def concentration(reference: Reference, window: pl.DataFrame) -> Reading:
    """Do few cards, terminals or devices make unusually many of the payments?

    The shares of the busiest and of the ten busiest, against the largest that any window of the
    reference had; shares of payments, so that a flash sale alone does not move them. A window that
    is not full yet may hold as many payments of the busiest as a full one: a usual hour of one
    card is a large share of few payments.

    Returns:
        CONCENTRATION; value is the largest ratio to the reference's, subjects say of what. Its
        detail `cards_per_payment` tells stolen cards that are tried, each once or twice, from a
        few devices, near 1, from few cards that pay again and again.
    """
    policy = reference.policy
    if not reference.busiest or window.height < policy.min_rows:
        return blind(Signal.CONCENTRATION, "too few payments, or windows of reference")
    rows, bound = window.height, policy.max_concentration
    shares, whole = busiest_shares(window), max(policy.window / rows, 1.0)
    usual = {who: share * whole for who, share in reference.busiest.items()}
    ratios = {who: shares[who] / usual[who] for who in usual if usual[who] and shares[who]}
    breached = [
        who
        for who, ratio in ratios.items()
        if surely_above(shares[who] * rows, rows, bound * shares[who] / ratio, policy)
    ]
    ordered = sorted(ratios, key=lambda who: -ratios[who])
    worst = ordered[0] if ordered else ("", 0)
    return Reading(
        signal=Signal.CONCENTRATION,
        standing=standing_of(bool(breached)),
        value=ratios.get(worst, 0.0),
        bound=bound,
        rows=rows,
        subjects=tuple(dict.fromkeys(who[0] for who in ordered if who in breached)),
        details={
            **{f"{entity}_{count}": share for (entity, count), share in shares.items()},
            "cards_per_payment": _cards_per_payment(window),
        },
        why=f"the {worst[1]} busiest by {worst[0]} make {shares.get(worst, 0.0):.1%}",
    )


def change(changed: Mapping[str, int], now_us: int, policy: MonitorPolicy) -> Reading:
    """Did model, thresholds or configuration change not long ago?

    Args:
        changed: what -> when it changed last, microseconds UTC.
        now_us: on the same clock.
        policy: for how long a change is a suspect.
    """
    if not changed:
        return blind(Signal.CHANGE, "nothing is known of any change")
    ages = {name: now_us - at for name, at in changed.items()}
    newest = min(ages, key=lambda name: ages[name])
    young = [n for n, age in ages.items() if 0 <= age < policy.change_hours * HOUR_US]
    return Reading(
        signal=Signal.CHANGE,
        standing=standing_of(bool(young)),
        value=ages[newest] / HOUR_US,
        bound=policy.change_hours,
        rows=len(ages),
        subjects=tuple(sorted(young, key=lambda name: ages[name])),
        details={"age_us": float(ages[newest])},
        why=f"{newest} changed {ages[newest] / HOUR_US:.1f} hours ago",
    )


def replay(
    champion: NDArray[np.bool_],
    previous: NDArray[np.bool_],
    policy: MonitorPolicy,
    cards: Sequence[str] | None = None,
) -> Reading:
    """On the same payments, does the champion disturb more than the one before?

    Rows that only one of them disturbs are fair coins while both disturb alike (McNemar's test, at
    any time). Rows of one card hang together, so only the first of each counts when cards are told.

    Args:
        champion: shape (n,), whether it would review or decline.
        previous: the same payments by the model before.
        policy: tolerated ratio, and the chance to be wrong.
        cards: of the payments.

    Returns:
        REPLAY; value is the ratio of disturbed payments.
    """
    rows = champion.size
    if rows < policy.min_rows:
        return blind(Signal.REPLAY, f"{rows} payments are too few", rows)
    only_new, only_old = champion & ~previous, previous & ~champion
    if cards is not None:
        only_new, only_old = (_first_of_each(flags, cards) for flags in (only_new, only_old))
    new, old = int(only_new.sum()), int(only_old.sum())
    ratio = float(champion.sum()) / max(float(previous.sum()), 1.0)
    evidence = float(share_evidence(new, new + old, 0.5))
    is_worse = ratio > policy.max_replay_ratio and evidence >= -math.log(policy.replay_alpha)
    return Reading(
        signal=Signal.REPLAY,
        standing=standing_of(is_worse),
        value=ratio,
        bound=policy.max_replay_ratio,
        rows=rows,
        details={"only_new": new, "only_old": old, "log_evidence": evidence},
        why=f"{new} payments only the champion disturbs, {old} only the one before",
    )


def _counted(
    reference: Reference, window: pl.DataFrame, features: pl.DataFrame | None
) -> dict[str, Counts]:
    weights = reference.matched_payments(window)
    counted = {AMOUNT: reference.bins[AMOUNT].against(floats(window["amount_minor"]), weights)}
    if features is not None:
        usual_hours = reference.matched_features(window)
        for name, bins in reference.bins.items():
            if name != AMOUNT and name in features.columns:
                counted[name] = bins.against(floats(features[name]), usual_hours)
    for name, usual in reference.tallies.items():
        now = tally(window[name])
        if weights is not None:
            usual = weighted(reference.tallies_by_hour[name], weights)
        if {*usual, *now} != {None}:
            counted[name] = side_by_side(usual, now)
    return counted


def _cards_per_payment(payments: pl.DataFrame) -> float:
    """Different cards per payment of the busiest devices, in [0, 1]; 0 without devices."""
    told = payments.select("device_id", "card_id").drop_nulls()
    by_device = told.group_by("device_id").agg(pl.len(), cards=pl.col("card_id").n_unique())
    busiest = by_device.top_k(_FEW_DEVICES, by="len")
    return float(busiest["cards"].sum()) / max(float(busiest["len"].sum()), 1.0)


def _chance(counts: Counts, psi: float) -> float:
    """p-value of no shift: n m / (n + m) PSI is about chi-square before its mean is taken off."""
    from scipy.special import chdtrc

    n, m = (float(count.sum()) for count in counts)
    freedom = max(1, int(np.count_nonzero(counts[0] + counts[1])) - 1)
    whole = psi + freedom * (1 / n + 1 / m)
    return float(chdtrc(freedom, max(0.0, whole) * n * m / (n + m)))


def _first_of_each(flags: NDArray[np.bool_], cards: Sequence[str]) -> NDArray[np.bool_]:
    hit = np.flatnonzero(flags)
    _, first = np.unique(np.asarray(cards, dtype=object)[hit].astype(str), return_index=True)
    kept = np.zeros_like(flags)
    kept[hit[first]] = True
    return kept
