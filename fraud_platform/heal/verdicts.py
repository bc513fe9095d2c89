"""What labels and audits say about the scores: fraud that was missed, and fraud that was not there.

What belongs here: readings that need the truth of some payments. Whether verdicts still come at
all, and whether they contradict each other, is told here too: without that none may be believed.
"""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.reference import (
    DAY_US,
    HOUR_US,
    Floats,
    MonitorPolicy,
    blind,
    event_us,
    standing_of,
    surely_above,
)
from fraud_platform.label_arrivals import Feed
from fraud_platform.stats.cbpe import Estimate, audit_ratio
from fraud_platform.stats.detectors import count_factors, log_evidence

KnownShare = Callable[[Floats], Floats]
"""Age in days -> share of the frauds that is known then, `DelayCurve.share_known`."""


def missed_fraud(
    approved: pl.DataFrame,
    known_share: KnownShare,
    now_us: int,
    policy: MonitorPolicy,
    *,
    usual_ratio: float = 1.0,
) -> Reading:
    """Is more fraud reported among approved payments than their scores led to expect?

    Reports are counted step by step, each card once, against sum p F(age): what calibration says,
    times the share that is known by then. The evidence is a bet that starts anew (`detectors`).

    Args:
        approved: card_id, event_timestamp, probability (calibrated, in [0, 1]) and
            reported_timestamp (null: not reported as fraud), of payments that were let through.
        known_share: the delay curve.
        now_us: microseconds UTC, on the clock of the reports.
        policy: the tolerated ratio, the step, and how often it may be wrong.
        usual_ratio: reports over expectation while all was well: frauds of one card count once,
            so it is mostly below 1.

    Returns:
        MISSED_FRAUD; value is the ratio to what is usual, over all steps.
    """
    told = approved.filter(pl.col("probability").is_not_null())
    if told.height < policy.min_rows:
        return blind(Signal.MISSED_FRAUD, f"{told.height} scored payments", told.height)
    expected, observed = _by_step(told, known_share, now_us, policy.report_step_hours * HOUR_US)
    if not expected.sum() > 0.0:
        return blind(Signal.MISSED_FRAUD, "no report can be expected yet", told.height)
    bound = policy.max_missed_ratio * usual_ratio * expected
    evidence = float(log_evidence(count_factors(observed, bound))[-1])
    ratio = float(observed.sum() / expected.sum()) / usual_ratio
    return Reading(
        signal=Signal.MISSED_FRAUD,
        standing=standing_of(evidence >= -math.log(policy.report_alpha)),
        value=ratio,
        bound=policy.max_missed_ratio,
        rows=told.height,
        details={
            "reported": float(observed.sum()),
            "expected": float(expected.sum() * usual_ratio),
            "log_evidence": evidence,
        },
        why=f"{observed.sum():.0f} cards reported, {expected.sum() * usual_ratio:.1f} expected",
    )


def audited(
    probability: Floats, is_fraud: Floats, propensity: Floats, policy: MonitorPolicy
) -> tuple[Reading, Reading]:
    """Do audits of disturbed payments find the fraud that calibration expects there?

    Given its score, whether a payment is fraud must not depend on its chance to be audited; so the
    test needs no weights, and the ratio over all disturbed payments is told beside it, weighted by
    1 / propensity.

    Args:
        probability: calibrated chance of each audited payment, shape (n,), in [0, 1].
        is_fraud: what was found, 0 or 1, shape (n,).
        propensity: the chance of each audit, in (0, 1], shape (n,).
        policy: bounds and confidence.

    Returns:
        AUDITED_PRECISION, breached when the ratio is surely below `min_audit_ratio`, and
        AUDITED_SURGE, breached when it reaches `surge_audit_ratio` and is surely above 1, fine when
        it is surely below `surge_audit_ratio`, and blind while audits cannot tell: a burst that
        nobody has looked at is not innocent.
    """
    rows, both = probability.size, (Signal.AUDITED_PRECISION, Signal.AUDITED_SURGE)
    if rows < policy.min_audits or not probability.sum() > 0.0:
        few = f"{rows} audits, {policy.min_audits} are needed"
        return blind(both[0], few, rows), blind(both[1], few, rows)
    found = audit_ratio(probability, round(float(is_fraud.sum())), policy.audit_confidence)
    weights = 1.0 / propensity
    weighted = float(weights @ is_fraud / (weights @ probability))
    low, high = policy.min_audit_ratio, policy.surge_audit_ratio
    precision = standing_of(found.high < low)
    return (
        _audit_reading(both[0], found, low, rows, weighted, precision),
        _audit_reading(both[1], found, high, rows, weighted, _surge(found, high)),
    )


def _surge(found: Estimate, bound: float) -> Standing:
    if found.low > 1.0 and found.value >= bound:
        return Standing.BREACHED
    return Standing.FINE if found.high < bound else Standing.BLIND


def label_arrivals(arrivals: pl.DataFrame) -> Reading:
    """Do verdicts still come, as past payments lead to expect?

    Args:
        arrivals: `label_arrivals.judge_arrivals` of the newest day.

    Returns:
        LABEL_ARRIVALS; value is the smallest share of what was expected, subjects are the sources
        that have stopped.
    """
    judged = arrivals.filter(pl.col("feed") != Feed.UNKNOWN.value)
    if judged.is_empty():
        return blind(Signal.LABEL_ARRIVALS, "no source can be judged yet")
    stopped = judged.filter(pl.col("feed") == Feed.STOPPED.value).sort("share")["label_source"]
    return Reading(
        signal=Signal.LABEL_ARRIVALS,
        standing=standing_of(len(stopped) > 0),
        value=float(judged["share"].min()),  # type: ignore[arg-type]  # a Float64 column
        rows=int(judged["arrived"].sum()),
        subjects=tuple(stopped),
        why=f"{len(stopped)} of {judged.height} sources of verdicts have stopped",
    )


def label_conflicts(labels: pl.DataFrame, usual_share: float, policy: MonitorPolicy) -> Reading:
    """Do sources contradict each other more often than they did?

    Args:
        labels: transaction_id, verdict and label_source of the verdicts of the last days.
        usual_share: of payments with verdicts of several sources, those that are contradicted.
        policy: the tolerated rise.

    Returns:
        LABEL_CONFLICTS; value is the share of twice judged payments that are contradicted.
    """
    by_payment = (
        labels.filter(pl.col("verdict") != "withdrawn")
        .group_by("transaction_id")
        .agg(sources=pl.col("label_source").n_unique(), verdicts=pl.col("verdict").n_unique())
    )
    twice = by_payment.filter(pl.col("sources") > 1)
    if twice.height < policy.min_audits:
        few = f"{twice.height} payments were judged by several sources"
        return blind(Signal.LABEL_CONFLICTS, few, twice.height)
    torn, bound = (
        twice.filter(pl.col("verdicts") > 1).height,
        usual_share + policy.max_conflict_gain,
    )
    return Reading(
        signal=Signal.LABEL_CONFLICTS,
        standing=standing_of(surely_above(torn, twice.height, bound, policy)),
        value=torn / twice.height,
        bound=bound,
        rows=twice.height,
        why=f"{torn} of {twice.height} payments that several sources judged are contradicted",
    )


def _by_step(
    approved: pl.DataFrame, known_share: KnownShare, now_us: int, step_us: int
) -> tuple[Floats, Floats]:
    """Expected reports and reported cards in each step until now, both of shape (steps,)."""
    made = event_us(approved)
    first = int(made.min())
    ends = np.arange(now_us, first, -step_us, dtype=np.int64)[::-1]
    # By the hour of the payment, not one by one: ages of days do not turn on an hour.
    hour = (made - first) // HOUR_US
    chances = np.bincount(hour, approved["probability"].to_numpy())
    middles = first + (np.arange(chances.size) + 0.5) * HOUR_US
    ages = np.maximum(ends[:, None] - middles[None, :], 0.0) / DAY_US
    known = np.asarray(known_share(ages.ravel())).reshape(ages.shape) @ chances
    expected = np.diff(known, prepend=0.0)
    reported = (
        approved.filter(pl.col("reported_timestamp").is_not_null())
        .group_by("card_id")
        .agg(pl.col("reported_timestamp").min().cast(pl.Int64))["reported_timestamp"]
        .to_numpy()
    )
    places = np.searchsorted(ends, reported[reported <= now_us])
    observed = np.bincount(places, minlength=ends.size).astype(np.float64)
    return np.maximum(expected, 0.0), observed


def _audit_reading(
    signal: Signal,
    found: Estimate,
    bound: float,
    rows: int,
    weighted: float,
    standing: Standing,
) -> Reading:
    return Reading(
        signal=signal,
        standing=standing,
        value=None if standing is Standing.BLIND else found.value,
        bound=bound,
        rows=rows,
        details={"low": found.low, "high": found.high, "weighted": weighted},
        why=f"{rows} audits found {found.value:.2f} times the fraud expected"
        f" ({found.low:.2f} to {found.high:.2f})",
    )
