"""Evidence for tests: everything fine but what is named."""

from collections.abc import Iterable
from dataclasses import replace

from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing

MINUTE_US = 60_000_000
T0 = 1_772_000_000_000_000
DETAILS = {
    Signal.UNITS: {"factor": 100.0, "ks_after": 0.02, "share": 1.0, "plain": 0.0, "sent": 1.0},
}
SUBJECTS = {
    Signal.UNITS: ("transaction_amount",),
    Signal.NULLS: ("amount_minor",),
    Signal.PARITY: ("card_amount_mean_30d",),
}


def evidence(
    *breached: Signal,
    blind: Iterable[Signal] = (),
    minute: float = 0.0,
    rows: int | None = None,
    **known: object,
) -> Evidence:
    """What is known at a minute; a hundred payments a minute unless told."""
    unseen = set(blind)
    readings = {
        signal: Reading(
            signal=signal,
            standing=Standing.BLIND
            if signal in unseen
            else Standing.BREACHED
            if signal in breached
            else Standing.FINE,
            value=None if signal in unseen else 1.0,
            subjects=SUBJECTS.get(signal, ()) if signal in breached else (),
            details=DETAILS.get(signal, {}),
        )
        for signal in Signal
    }
    now = T0 + round(minute * MINUTE_US)
    told = Evidence(
        readings=readings,
        event_us=now,
        now_us=now,
        rows=round(10_000 + 100 * minute) if rows is None else rows,
        champion="3",
        previous="2",
        fallbacks=("money", "amount_history", "context", "fraud_labels", "all"),
    )
    return replace(told, **known)  # type: ignore[arg-type]
