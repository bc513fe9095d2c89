"""What a transaction must satisfy: rules with names, and the split into valid and quarantined rows.

Types and columns are `schemas`; turning a foreign file into typed rows is `mapping`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ValidationPolicy:
    """Bounds that a transaction must keep."""

    max_amount_minor: int = 1_000_000_00
    """Largest accepted amount, minor units; a larger one is quarantined, not clipped."""
    future_tolerance_seconds: int = 5
    """How far a payment's own clock may run ahead of ours, seconds."""
    oldest_event: str = "2000-01-01T00:00:00Z"
    """Events before this moment are taken for broken clocks, ISO 8601 with a zone."""
