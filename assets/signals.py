"""How a reading of healing is shown as an asset check."""

from typing import Any

import dagster as dg

from fraud_platform.heal.evidence import TIERS, Reading, Signal, Standing, Tier

LIVE_HEALTH = dg.AssetKey("live_health")
"""What the checks of all signals belong to."""


def spec_of(signal: Signal) -> dg.AssetCheckSpec:
    """The check of one signal."""
    return dg.AssetCheckSpec(
        signal.value,
        asset=LIVE_HEALTH,
        description=f"The {TIERS[signal]} signal {signal} is not breached; blind passes, too.",
    )


def passes(reading: Reading) -> bool:
    """Whether the check passes: what cannot be measured accuses nobody."""
    return reading.standing is not Standing.BREACHED


def severity(signal: Signal) -> dg.AssetCheckSeverity:
    """What explains a harm and is none itself only warns."""
    is_clue = TIERS[signal] is Tier.ATTRIBUTION
    return dg.AssetCheckSeverity.WARN if is_clue else dg.AssetCheckSeverity.ERROR


def numbers(reading: Reading) -> dict[str, Any]:
    """The numbers of a reading as metadata."""
    found = {
        "standing": reading.standing.value,
        "value": reading.value,
        "bound": reading.bound,
        "rows": reading.rows,
        "subjects": ", ".join(reading.subjects) or None,
        "why": reading.why or None,
    }
    return {name: value for name, value in found.items() if value is not None}
