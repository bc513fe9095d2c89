"""Laws that payments keep, whoever pays and whatever it costs: one sight of a breach is enough.

What belongs here: readings of the newest payments against the `Reference`. Each asks whether the
*feed* is broken, so each leaves room for what trade does: customers move to web shops, travel, and
prices rise. A change of unit is `units`, of the clock `rhythm`.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl

from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import (
    CLOSED,
    MANNER,
    TERMINAL_FACTS,
    MonitorPolicy,
    Reference,
    broken,
    repeated,
    standing_of,
    surely_above,
)
from fraud_platform.schemas import CONTEXT_COLUMNS, PAYLOAD_COLUMNS
from fraud_platform.stats.drift_measures import tally


def nulls(reference: Reference, window: pl.DataFrame) -> Reading:
    """Is a field empty more often than such payments at such terminals ever left it empty?

    What is expected of a payment is the share of nulls of its terminal (for the terminal's facts),
    else of its manner of paying, else of all. So a move to web shops, which have no location, is
    no breach, and a field that a feed forgets is.

    Returns:
        NULLS; value is the largest rise (absolute share), subjects the fields that breach.
    """
    policy = reference.policy
    named = {name: pl.col(name).alias(f"{name}/t") for name in TERMINAL_FACTS}
    terminals = reference.nulls_by_terminal.select("terminal_id", *named.values())
    manners = reference.nulls_by_manner
    told = window.select(*CONTEXT_COLUMNS, "terminal_id")
    joined = told.join(terminals, on="terminal_id", how="left", maintain_order="left").join(
        manners, on=list(MANNER), how="left", nulls_equal=True, suffix="/m", maintain_order="left"
    )
    gains: dict[str, float] = {}
    breached: list[str] = []
    expecting = {}
    for name, overall in reference.null_shares.items():
        sources = [f"{name}/t"] if name in TERMINAL_FACTS else []
        sources += [f"{name}/m"] if name not in MANNER else []
        expecting[name] = pl.coalesce(*sources, pl.lit(overall)).mean()
    for name, expected in joined.select(**expecting).row(0, named=True).items():
        share = told[name].null_count() / told.height
        gains[name] = share - expected
        bound = expected + policy.max_null_gain
        if surely_above(share * told.height, told.height, bound, policy):
            breached.append(name)
    return _told(Signal.NULLS, gains, breached, policy.max_null_gain, window.height)


def ranges(reference: Reference, window: pl.DataFrame) -> Reading:
    """Are there values that are impossible, or far outside of everything that was seen?

    Returns:
        RANGES; value is the largest share outside, subjects the fields that breach.
    """
    policy = reference.policy
    spread, amounts = policy.range_spread, reference.amounts
    low, high = min(0.0, amounts[0] * spread), amounts[-1] * spread
    bounds = {"latitude": (-90.0, 90.0), "longitude": (-180.0, 180.0)}
    bounds |= {"amount_minor": (low, high)}
    shares = {
        name: float((~window[name].drop_nulls().is_between(*ends)).sum()) / window.height
        for name, ends in bounds.items()
    }
    breached = [n for n, s in shares.items() if _is_over(s, policy.max_outside, window, policy)]
    return _told(Signal.RANGES, shares, breached, policy.max_outside, window.height)


def categories(reference: Reference, window: pl.DataFrame) -> Reading:
    """Does a field take values that were never agreed?

    A new country is trade; a new country in whose favour an old one vanished is another spelling.

    Returns:
        CATEGORIES; value is the largest share of unknown values, subjects the fields that breach,
        `vanished` of the details the largest share of values that went.
    """
    news: dict[str, float] = {}
    vanished: dict[str, float] = {}
    policy = reference.policy
    for name, known in reference.known_values.items():
        now = {value: count for value, count in tally(window[name]).items() if value is not None}
        if not (rows := sum(now.values())):
            continue
        news[name] = sum(count for value, count in now.items() if value not in known) / rows
        vanished[name] = sum(s for v, s in known.items() if now.get(v, 0) < 0.1 * s * rows)
    breached = [
        name
        for name, share in news.items()
        if _is_over(share, policy.max_new_share, window, policy)
        and (name in CLOSED or vanished[name] > 0.5 * share)
    ]
    details = {"vanished": max(vanished.values(), default=0.0)}
    return _told(Signal.CATEGORIES, news, breached, policy.max_new_share, window.height, details)


def schema(window: pl.DataFrame, rejected: int, policy: MonitorPolicy) -> Reading:
    """Are columns missing, of another type, or payments refused at the door?

    Args:
        window: the payments that were accepted.
        rejected: payments that broke a rule at the door over the same time.
        policy: the tolerated share.

    Returns:
        SCHEMA; value is the share refused, subjects the columns that are not as agreed.
    """
    wrong = [n for n, dtype in PAYLOAD_COLUMNS.items() if window.schema.get(n) != dtype]
    rows = window.height + rejected
    share = rejected / max(rows, 1)
    is_over = bool(rows) and surely_above(rejected, rows, policy.max_rejected, policy)
    return Reading(
        signal=Signal.SCHEMA,
        standing=standing_of(bool(wrong) or is_over),
        value=share,
        bound=policy.max_rejected,
        rows=rows,
        subjects=tuple(wrong),
        why=f"{rejected} of {rows} payments were refused, {len(wrong)} columns are not as agreed",
    )


def cross_fields(
    reference: Reference, window: pl.DataFrame, features: pl.DataFrame | None
) -> Reading:
    """Do two fields contradict each other as no well payment ever did?

    Known: pairs of payment method and entry mode that never occur though both values are common,
    a latitude without a longitude, and `LAWS` of the features where the reference keeps them.

    Returns:
        CROSS_FIELDS; value is the largest share, subjects the pairs that breach.
    """
    policy = reference.policy
    shares = {"latitude|longitude": _half_known(window)}
    shares["|".join(MANNER)] = _unheard(reference, window)
    for low, high in reference.kept_laws:
        if features is not None and {low, high} <= set(features.columns):
            shares[f"{low}|{high}"] = broken(features, low, high)
    breached = [n for n, s in shares.items() if _is_over(s, policy.max_outside, window, policy)]
    return _told(Signal.CROSS_FIELDS, shares, breached, policy.max_outside, window.height)


def duplicates(reference: Reference, window: pl.DataFrame) -> Reading:
    """Do payments arrive twice under new ids?

    Returns:
        DUPLICATES; value is the share of payments that repeat another of the same card, terminal
        and amount within `duplicate_seconds`.
    """
    policy = reference.policy
    share = repeated(window, policy.duplicate_seconds)
    bound = reference.repeated_share + policy.max_duplicate_gain
    breached = ["transaction_id"] if _is_over(share, bound, window, policy) else []
    return _told(Signal.DUPLICATES, {"transaction_id": share}, breached, bound, window.height)


def _half_known(window: pl.DataFrame) -> float:
    half = window["latitude"].is_null() != window["longitude"].is_null()
    return float(half.mean() or 0.0)  # type: ignore[arg-type]  # a Boolean column


def _unheard(reference: Reference, window: pl.DataFrame) -> float:
    """Share of payments with two common values that never came together."""
    pairs = Counter(zip(*(window[name].to_list() for name in MANNER), strict=True))
    methods, modes = (
        {value for value, share in reference.known_values.get(name, {}).items() if share >= 0.01}
        for name in MANNER
    )
    unheard = (
        rows
        for (method, mode), rows in pairs.items()
        if method in methods and mode in modes and (method, mode) not in reference.manners
    )
    return sum(unheard) / window.height


def _is_over(share: float, bound: float, window: pl.DataFrame, policy: MonitorPolicy) -> bool:
    return surely_above(share * window.height, window.height, bound, policy)


def _told(
    signal: Signal,
    shares: Mapping[str, float],
    breached: list[str],
    bound: float,
    rows: int,
    details: Mapping[str, float] | None = None,
) -> Reading:
    """A reading of shares by field, the worst first."""
    worst = max(shares, key=lambda name: shares[name], default="")
    ordered = tuple(sorted(breached, key=lambda name: -shares[name]))
    value = float(np.float64(shares.get(worst, 0.0)))
    shown = {name: round(shares[name], 6) for name in ordered}
    return Reading(
        signal=signal,
        standing=standing_of(bool(breached)),
        value=value,
        bound=bound,
        rows=rows,
        subjects=ordered,
        details={**shown, **(details or {})},
        why=f"{worst}: {value:.1%} of {rows} payments, {bound:.1%} are tolerated",
    )
