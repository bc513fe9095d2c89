"""Champion against challenger on the same rows: promote, shadow only, or reject."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromotionPolicy:
    """What a challenger must show."""

    min_average_precision: float = 0.10
    """Floor for the first champion, and for every later one."""
    max_average_precision: float = 0.98
    """Above this a leak is likelier than skill: the challenger is rejected."""
    max_average_precision_loss: float = 0.005
    """Non-inferiority margin against the champion on the same rows, absolute."""
