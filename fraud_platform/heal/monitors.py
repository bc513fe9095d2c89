"""All readings that the newest payments give, taken at once.

What belongs here: which monitor looks at what. How each of them judges is `invariants`, `units`,
`rhythm` and `clues`; readings that need labels are `verdicts`, of the machinery `probes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import polars.selectors as cs

from fraud_platform.heal import clues, invariants, rhythm
from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import AMOUNT, Floats, Reference, blind, floats
from fraud_platform.heal.units import units

_OF_PAYMENTS = (
    Signal.SCHEMA,
    Signal.NULLS,
    Signal.RANGES,
    Signal.UNITS,
    Signal.CATEGORIES,
    Signal.CROSS_FIELDS,
    Signal.DUPLICATES,
    Signal.CLOCK,
    Signal.FEATURE_SHIFT,
    Signal.SCORE_SHIFT,
    Signal.VOLUME,
    Signal.CONCENTRATION,
)
"""The signals that `payment_readings` tells."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The newest payments, in order of arrival.

    Attributes:
        payments: `PAYLOAD_COLUMNS`, and received_timestamp if known.
        features: of the same payments, one Float64 column per feature; or None.
        scores: of the same payments, NaN where no model scored; or None.
        rejected: payments refused at the door over the same time.
    """

    payments: pl.DataFrame
    features: pl.DataFrame | None = None
    scores: Floats | None = None
    rejected: int = 0

    def newest(self, rows: int) -> "Window":
        """The last so many payments."""
        return replace(
            self,
            payments=self.payments.tail(rows),
            features=None if self.features is None else self.features.tail(rows),
            scores=None if self.scores is None else self.scores[-rows:],
        )


def payment_readings(
    reference: Reference, window: Window, *, now_us: int = 0
) -> dict[Signal, Reading]:
    """Read every signal that payments give.

    Args:
        reference: what is normal, and the bounds.
        window: the newest payments; only the last `policy.window` are looked at.
        now_us: what the readings say as `measured_us`.
    """
    policy = reference.policy
    window = window.newest(policy.window)
    schema = invariants.schema(window.payments, window.rejected, policy)
    if schema.subjects or window.payments.height < policy.min_rows:
        # What is not a table of payments cannot be read any further.
        few = f"{window.payments.height} payments, {policy.min_rows} are needed"
        unread = [blind(s, few, window.payments.height) for s in _OF_PAYMENTS[1:]]
        readings = [schema, *unread]
    else:
        readings = [schema, *_read(reference, window)]
    return {r.signal: replace(r, measured_us=now_us) for r in readings}


def _read(reference: Reference, window: Window) -> list[Reading]:
    payments, features = window.payments, window.features
    in_time = payments.select(cs.temporal()).sort("event_timestamp")
    return [
        invariants.nulls(reference, payments),
        invariants.ranges(reference, payments),
        units(*_quantities(reference, window), reference.policy),
        invariants.categories(reference, payments),
        invariants.cross_fields(reference, payments, features),
        invariants.duplicates(reference, payments),
        rhythm.clock(reference, in_time),
        rhythm.volume(reference, in_time),
        clues.feature_shift(reference, payments, features),
        _score_shift(reference, window),
        clues.concentration(reference, payments),
    ]


def _score_shift(reference: Reference, window: Window) -> Reading:
    if window.scores is None:
        return blind(Signal.SCORE_SHIFT, "no scores to compare")
    known = window.scores[~np.isnan(window.scores)]
    return clues.score_shift(reference, window.payments, known)


def _quantities(
    reference: Reference, window: Window
) -> tuple[Mapping[str, Floats], Mapping[str, Floats]]:
    """What has a unit: the amount as sent, under the name of its feature, and features of it."""
    now = {AMOUNT: floats(window.payments["amount_minor"])}
    if window.features is not None:
        for name in reference.quantities.keys() & set(window.features.columns) - {AMOUNT}:
            now[name] = floats(window.features[name])
    return reference.quantities, now
