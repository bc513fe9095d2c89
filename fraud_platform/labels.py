"""Which verdicts were known at a given moment, and from when on silence means genuine."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """When a transaction without a verdict may be called genuine."""

    maturity_days: int = 7
    """Days after the transaction's day until "no fraud verdict" counts as genuine."""
