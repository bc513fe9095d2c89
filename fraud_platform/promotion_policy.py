"""What a challenger must show before it may decide."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromotionPolicy:
    """What a challenger must show; shares are fractions, not percent."""

    min_average_precision: float = 0.10
    """Floor for the first champion, and for every later one."""
    max_average_precision: float = 0.98
    """Above this a leak is likelier than skill: the challenger is rejected."""
    min_embargo_days: int = 1
    """Fewest days between the last train day and the first test day."""
    min_rows: int = 1000
    """Fewest test rows on which two models are compared."""
    min_frauds: int = 50
    """Fewest frauds among them; with fewer the challenger may only watch."""
    confidence: float = 0.999
    """How sure it must be, one-sided, that the challenger is better than the champion: costs less,
    or ranks better. Hundreds of retrains are judged one after the other; none of them is to make
    things worse by chance."""
    margin: float = 0.01
    """How much dearer than the champion still counts as not inferior, relative to its cost."""
    promote_refresh: bool = False
    """Whether a challenger that is surely not inferior takes over without being surely better."""
    max_average_precision_loss: float = 0.005
    """A loss beyond this that is no chance rejects the challenger, absolute."""
    max_recall_loss: float = 0.02
    """The same for the share of frauds caught while 5 % of the genuine are disturbed, absolute."""
    max_calibration_slope: float = 1.25
    """Stated probabilities may be too timid by this slope, or too extreme by its inverse."""
    min_segment_frauds: int = 200
    """Fewest frauds to judge a segment alone; smaller ones are judged together."""
    max_segment_loss: float = 0.05
    """How much dearer a segment may become, relative to the champion's cost in it."""
    max_segment_fpr_ratio: float = 1.25
    """Most by which a segment's false alerts may grow while the whole's stay equal."""
    replay_rows: int = 20_000
    """So many of the newest payments go through both models, without labels."""
    min_replay_rows: int = 1000
    """Fewest of them to judge the alert rate; with fewer the challenger may only watch."""
    max_alert_change: float = 0.10
    """Most by which the alert rate may change without the mature rows showing the same."""
    approval_required: bool = False
    """Whether people must approve a promotion (`fraud-platform approve`)."""
    clean_code_required: bool = False
    """Whether a challenger that was trained by code which no commit names is rejected."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_average_precision < self.max_average_precision <= 1.0:
            raise ValueError(
                f"found min_average_precision={self.min_average_precision} and "
                f"max_average_precision={self.max_average_precision}, expected 0 <= min < max <= 1"
            )
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(f"found confidence={self.confidence}, expected above 0.5, below 1")
        _require(
            self,
            0.0,
            "margin max_average_precision_loss max_recall_loss max_segment_loss max_alert_change",
            most=1.0,
        )
        _require(self, 1.0, "max_calibration_slope max_segment_fpr_ratio min_rows min_frauds")
        _require(self, 1.0, "min_segment_frauds replay_rows min_replay_rows")
        _require(self, 0.0, "min_embargo_days")


def _require(policy: PromotionPolicy, least: float, names: str, most: float = float("inf")) -> None:
    for name in names.split():
        if not least <= getattr(policy, name) <= most:
            raise ValueError(
                f"found {name}={getattr(policy, name)}, expected {least:g} to {most:g}"
            )
