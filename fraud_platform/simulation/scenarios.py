"""What can go wrong from a date on: `inject` disturbs any frame of payments, a user's own included.

Which scenarios exist and which rows they touch is here; how they touch them is `disturbances`.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import numpy as np
import polars as pl

from fraud_platform.errors import DataContractError, PermanentError
from fraud_platform.simulation import disturbances
from fraud_platform.simulation.disturbances import Disturbance
from fraud_platform.simulation.payments import LABELLED_PAYLOAD


class Scenario(StrEnum):
    """What happens; the first three are drift, then a new enemy, then two broken feeds."""

    AMOUNT_INFLATION = "amount_inflation"
    PAYMENT_MIX_SHIFT = "payment_mix_shift"
    GEOGRAPHY_SHIFT = "geography_shift"
    NEW_FRAUD_PATTERN = "new_fraud_pattern"
    UNIT_CHANGE = "unit_change"
    NULL_FLOOD = "null_flood"


def inject(
    frame: pl.DataFrame,
    scenario: Scenario,
    *,
    since: datetime,
    seed: int,
    strength: float = 1.0,
) -> pl.DataFrame:
    """Disturb every payment from `since` on; the past stays as it is.

    No row is lost. Added rows (NEW_FRAUD_PATTERN) have ids of an "x" and ten digits that the frame
    did not use yet. Same frame, seed and strength give the same rows.

    * AMOUNT_INFLATION: amounts x (1 + 0.8 * strength).
    * PAYMENT_MIX_SHIFT: 60 % * strength of the payments move to the web or a wallet; those on the
      web go to web shops and are a third larger.
    * GEOGRAPHY_SHIFT: 60 % * strength happen at new terminals in countries not seen before.
    * NEW_FRAUD_PATTERN: frauds are added, 1.5 % * strength of the payments: within hours a card
      pays ordinary to low amounts at four to seven terminals; fraud_type "new_pattern".
    * UNIT_CHANGE: amounts x 100 in a share of min(1, strength) of the payments.
    * NULL_FLOOD: every context value is lost with chance 90 % * strength.

    Args:
        frame: PAYLOAD_COLUMNS, is_fraud, label_timestamp, fraud_type, e.g. from `simulate`.
        scenario: what happens.
        since: first disturbed moment, with a time zone.
        seed: seed of all chance, >= 0.
        strength: 1 as described above, 0 nothing; shares end at 100 %.

    Returns:
        The same columns; those of the user's own are null in added rows. Rows before `since`
        come first, unchanged and in their order; later rows follow in order of event_timestamp.

    Raises:
        DataContractError: the frame lacks a column.
        PermanentError: `since` has no zone, or seed or strength is negative.

    Examples:
        >>> from datetime import UTC
        >>> from fraud_platform.simulation.world import World, simulate
        >>> frame = simulate(World(customers=100, terminals=50, days=10))
        >>> since = datetime(2026, 1, 12, tzinfo=UTC)
        >>> dear = inject(frame, Scenario.AMOUNT_INFLATION, since=since, seed=7)
        >>> frame.filter(pl.col("event_timestamp") >= since)["amount_minor"].head(3).to_list()
        [2951, 2669, 3864]
        >>> dear.filter(pl.col("event_timestamp") >= since)["amount_minor"].head(3).to_list()
        [5312, 4804, 6955]
    """
    _check(frame, since, seed, strength)
    frame = frame.cast(pl.Schema(LABELLED_PAYLOAD))  # e.g. a fraud_type that is null throughout
    is_later = pl.col("event_timestamp") >= since
    later = frame.filter(is_later).sort("event_timestamp", maintain_order=True)
    if later.is_empty() or strength == 0:
        return frame
    rng = np.random.default_rng([seed, list(Scenario).index(scenario)])
    disturbed = _DISTURBANCES[scenario](Disturbance(frame, later, rng, strength))
    return pl.concat(
        [frame.filter(~is_later), disturbed.sort("event_timestamp", maintain_order=True)]
    )


def _check(frame: pl.DataFrame, since: datetime, seed: int, strength: float) -> None:
    missing = [c for c in LABELLED_PAYLOAD if c not in frame.columns]
    if missing:
        raise DataContractError(
            f"The frame lacks the columns {missing}; found {frame.columns}.",
            hint="Map the file first; fraud_type may be null throughout.",
        )
    if since.tzinfo is None or seed < 0 or not strength >= 0:
        raise PermanentError(
            f"inject got since={since.isoformat()}, seed={seed}, strength={strength}; "
            "expected a time with a zone, a seed >= 0 and a strength >= 0."
        )


_DISTURBANCES: dict[Scenario, Callable[[Disturbance], pl.DataFrame]] = {
    Scenario.AMOUNT_INFLATION: disturbances.amount_inflation,
    Scenario.PAYMENT_MIX_SHIFT: disturbances.payment_mix_shift,
    Scenario.GEOGRAPHY_SHIFT: disturbances.geography_shift,
    Scenario.NEW_FRAUD_PATTERN: disturbances.new_fraud_pattern,
    Scenario.UNIT_CHANGE: disturbances.unit_change,
    Scenario.NULL_FLOOD: disturbances.null_flood,
}
