"""What a day costs now, and what could be learnt: looked up for one tick of healing.

What belongs here: queries and tables. What they mean is `heal.money`.
"""

from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from fraud_platform.adapters.log_file import LogFile
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import NotReadyError
from fraud_platform.heal.evidence import Evidence, Signal
from fraud_platform.heal.money import (
    Daily,
    Priced,
    can_be_counted,
    daily,
    ratio_audited,
    ratio_missed,
)
from fraud_platform.money import APPROVE, DECLINE, REVIEW
from fraud_platform.settings import Settings

NEWEST = 4_000
"""So many decisions tell what a payment costs now."""
FEWEST = 1_000
"""Fewest of them with a probability: money rests on few large amounts."""
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000
_SHORTEST_US = 6 * _HOUR_US
"""Of less time nobody knows how many payments a day brings."""
_OUTCOMES = {"approve": APPROVE, "review": REVIEW, "decline": DECLINE}
_DECIDED = (
    "SELECT t.card_id, t.amount_minor, d.probability, d.decision"
    " FROM (SELECT * FROM transactions ORDER BY seq DESC LIMIT ?) t"
    " JOIN decisions d USING (transaction_id) WHERE d.probability IS NOT NULL"
)
_LAST_DAY = "SELECT COUNT(*), MIN(event_us) FROM decisions WHERE event_us > ?"


def with_money(evidence: Evidence, settings: Settings, expected_disturbed: float) -> Evidence:
    """The evidence with what a day costs, what a training would save, and what it has to learn.

    Each stays None where too little is known, or what is known cannot be believed.

    Args:
        evidence: of this tick.
        settings: of the home.
        expected_disturbed: share of payments that the champion was promoted to disturb.
    """
    learnable = learnable_frauds(settings)
    missed = ratio_missed(evidence.reading(Signal.MISSED_FRAUD))
    priced = None
    if missed is not None and can_be_counted(evidence):
        priced = _priced(settings.log_path, evidence.event_us, expected_disturbed)
    if missed is None or priced is None:
        return replace(evidence, learnable_frauds=learnable)
    audited = ratio_audited(evidence.reading(Signal.AUDITED_PRECISION))
    found: Daily = daily(priced, missed, audited, settings.evaluation.money)
    return replace(
        evidence,
        money_per_day=found.cost.value,
        money_interval=(found.cost.low, found.cost.high),
        gain_per_day=found.gain,
        learnable_frauds=learnable,
    )


def learnable_frauds(settings: Settings) -> int | None:
    """Frauds that came of age in the days that a training would see; None without such a day."""
    policy = settings.training
    days = policy.train_days + policy.delay_days + policy.test_days
    known = Tables(settings.tables_dir).days("mature_labels")[-days:]
    return _frauds(settings.tables_dir, tuple(known)) if known else None


@lru_cache(maxsize=4)
def _frauds(tables_dir: Path, days: tuple[date, ...]) -> int | None:
    """What came of age once stays so: read again when another day has."""
    try:
        return int(Tables(tables_dir).read("mature_labels", days)["is_fraud"].sum())
    except NotReadyError:
        return None


def _priced(path: Path, event_us: int, expected_disturbed: float) -> Priced | None:
    """The newest decisions with their prices; None while they are too few, or of too short."""
    with LogFile(path).snapshot() as connection:
        rows = connection.execute(_DECIDED, (NEWEST,)).fetchall()
        count, first_us = connection.execute(_LAST_DAY, (event_us - _DAY_US,)).fetchone()
    if len(rows) < FEWEST or not count or event_us - first_us < _SHORTEST_US:
        return None
    schema = {"card": pl.String, "amount": pl.Int64, "chance": pl.Float64, "decision": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return Priced(
        probability=frame["chance"].to_numpy(),
        amount_minor=frame["amount"].to_numpy().astype(np.float64),
        outcome=frame["decision"].replace_strict(_OUTCOMES, return_dtype=pl.Int8).to_numpy(),
        card=frame["card"].rank("dense").to_numpy().astype(np.int64) - 1,
        per_day=count * _DAY_US / (event_us - first_us),
        expected_disturbed=expected_disturbed,
    )
