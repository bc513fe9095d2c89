"""Whether the machinery does what it says: digests, stored rows, ages and signs of life.

What belongs here: readings from plain values that an adapter has looked up.
"""

from collections.abc import Mapping

import numpy as np

from fraud_platform.features.parity import Parity
from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import Floats, MonitorPolicy, blind, standing_of


def golden_rows(recorded: Floats, scores: Floats, policy: MonitorPolicy) -> Reading:
    """Do stored rows still score as they did when the model was registered?

    Args:
        recorded: scores in the registry, shape (n,).
        scores: of the same rows by the model as it is deployed, shape (n,).
        policy: the largest change.

    Examples:
        >>> str(golden_rows(np.array([0.1]), np.array([0.2]), MonitorPolicy()).standing)
        'breached'
    """
    if not recorded.size or recorded.shape != scores.shape:
        return blind(Signal.GOLDEN_ROWS, f"{recorded.size} rows recorded, {scores.size} scored")
    # A NaN is no score, and no difference from one is small.
    worst = float(np.nan_to_num(np.abs(recorded - scores), nan=np.inf).max())
    return Reading(
        signal=Signal.GOLDEN_ROWS,
        standing=standing_of(worst > policy.max_score_change),
        value=worst,
        bound=policy.max_score_change,
        rows=recorded.size,
        why=f"the largest change of a score is {worst:.2g}",
    )


def artifact(expected: Mapping[str, str], found: Mapping[str, str | None]) -> Reading:
    """Is what is deployed and held in memory what the history names?

    Args:
        expected: version -> digest by the history.
        found: the same as deployed or as a scorer says; None: it cannot be read.
    """
    return _compared(Signal.ARTIFACT, expected, found)


def configuration(approved: Mapping[str, str], running: Mapping[str, str | None]) -> Reading:
    """Are policy and thresholds those that were approved; arguments as in `artifact`."""
    return _compared(Signal.CONFIGURATION, approved, running)


def heartbeat(seen_us: Mapping[str, int | None], now_us: int, policy: MonitorPolicy) -> Reading:
    """Has a scorer or a monitor fallen silent?

    Args:
        seen_us: who -> last sign of life, microseconds UTC of the wall; None: never any.
        now_us: the clock of the wall.
        policy: the longest silence.

    Returns:
        HEARTBEAT; value is the longest silence in seconds, None if somebody never gave a sign.
        Blind when nobody is expected to live.
    """
    if not seen_us:
        return blind(Signal.HEARTBEAT, "nobody is expected to give signs of life")
    # A sign from the future tells of a clock that was set, not of life.
    silence = {w: np.inf if at is None else abs(now_us - at) / 1e6 for w, at in seen_us.items()}
    silent = [who for who, seconds in silence.items() if seconds > policy.max_silence_seconds]
    longest = max(silence, key=lambda who: silence[who])
    is_known = np.isfinite(silence[longest])
    return Reading(
        signal=Signal.HEARTBEAT,
        standing=standing_of(bool(silent)),
        value=float(silence[longest]) if is_known else None,
        bound=policy.max_silence_seconds,
        rows=len(silence),
        subjects=tuple(sorted(silent, key=lambda who: -silence[who])),
        why=f"{longest} was heard {silence[longest]:.0f} s ago"
        if is_known
        else f"{longest} was never heard, and should be",
    )


def feature_age(age_us: Floats, policy: MonitorPolicy) -> Reading:
    """Do the features know the newest past?

    Args:
        age_us: of each decision, how much older than it the newest event is that its features
            had seen, beyond what the traffic explains, microseconds, shape (n,).
        policy: the largest 99th percentile.

    Returns:
        FEATURE_AGE; value in seconds.
    """
    if not age_us.size:
        return blind(Signal.FEATURE_AGE, "no decision says what its features had seen")
    age = float(np.quantile(age_us, 0.99)) / 1e6
    return Reading(
        signal=Signal.FEATURE_AGE,
        standing=standing_of(age > policy.max_feature_age_seconds),
        value=age,
        bound=policy.max_feature_age_seconds,
        rows=age_us.size,
        why=f"99 % of the features are at most {age:.0f} s behind",
    )


def parity(found: Parity, policy: MonitorPolicy) -> Reading:
    """Do served features equal those recomputed from the log?

    Returns:
        PARITY; value is the share of compared decisions with a feature that differs, at most;
        subjects are the features that differ, the most frequent first.
    """
    rows = found.decisions_compared
    if not rows:
        return blind(Signal.PARITY, "no decision could be compared")
    worst = max(found.mismatches_by_feature.values(), default=0)
    wrong = max(worst, min(found.missing, rows)) / rows
    ordered = sorted(found.mismatches_by_feature.items(), key=lambda item: -item[1])
    is_over = wrong > policy.max_parity_share
    return Reading(
        signal=Signal.PARITY,
        standing=standing_of(is_over),
        value=wrong,
        bound=policy.max_parity_share,
        rows=rows,
        subjects=tuple(name for name, _ in ordered) if is_over else (),
        why=f"{found.mismatches} of {found.values_compared} values differ",
    )


def _compared(
    signal: Signal, expected: Mapping[str, str], found: Mapping[str, str | None]
) -> Reading:
    shared = [name for name in expected if name in found]
    if not shared:
        return blind(signal, "nothing to compare")
    wrong = tuple(name for name in shared if found[name] != expected[name])
    return Reading(
        signal=signal,
        standing=standing_of(bool(wrong)),
        value=float(len(wrong)),
        bound=0.0,
        rows=len(shared),
        subjects=wrong,
        why=f"{len(wrong)} of {len(shared)} differ from what was approved",
    )
