"""When a model is trained by itself: enough new labels, enough patience, not too often.

Pure. Counting labels and starting runs is `sensors`; a training as a remedy is `heal`, which only
asks here how long it must wait until there is something to learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, kw_only=True)
class RetrainingPolicy:
    """How many labels a training needs, and how often there may be one."""

    learn_after_days: int = 17
    """Days of data from the first sign of a harm until a training set can hold it: younger days are
    still immature, test or delay, and a model trained earlier would learn only the old world."""
    recalibrate_after_days: int = 1
    """Days of data from the first sign of a harm until new cuts can follow it: whole days of it."""
    cooldown_days: int = 3
    """Days of data between two trainings."""
    max_per_week: int = 3
    """Most trainings in seven days of data."""
    retrain_new_frauds: int = 1_000
    """New mature frauds since the last training set that call for a retraining on their own."""
    first_training_frauds: int = 70
    """Mature frauds after which the first model is trained."""

    def __post_init__(self) -> None:
        least = {"learn_after_days": 0, "recalibrate_after_days": 0}
        least |= {"cooldown_days": 0, "max_per_week": 0}
        least |= {"retrain_new_frauds": 1, "first_training_frauds": 1}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")

    def days_before(self, remedy: str) -> int:
        """Days of data from the first sign of a harm until this remedy can know it.

        Examples:
            >>> [RetrainingPolicy().days_before(remedy) for remedy in ("recalibrate", "roll_back")]
            [1, 0]
        """
        waits = {"retrain": self.learn_after_days, "recalibrate": self.recalibrate_after_days}
        return waits.get(remedy, 0)


def refusal(day: date, past: Sequence[date], policy: RetrainingPolicy) -> str | None:
    """Why no training may be started now, or None when one may.

    Args:
        day: the day of data it would be of.
        past: days of data of trainings that ran or run, in any order.
        policy: cooldown and weekly budget, both in days of data.

    Examples:
        >>> refusal(date(2026, 3, 2), [date(2026, 3, 1)], RetrainingPolicy())
        'a training ran for 2026-03-01, cooldown is 3 days'
    """
    if past and day - max(past) < timedelta(days=policy.cooldown_days):
        return f"a training ran for {max(past)}, cooldown is {policy.cooldown_days} days"
    week = [one for one in past if timedelta(0) <= day - one < timedelta(days=7)]
    if len(week) >= policy.max_per_week:
        return f"{len(week)} trainings ran in the seven days before {day}, the budget is used up"
    return None


def patience(day: date, first_sign: date, days: int) -> str | None:
    """Why a harm cannot be learnt yet, or None when the data can hold it.

    Args:
        day: the newest day of data.
        first_sign: the day on which the harm was first seen.
        days: how long it takes; see `RetrainingPolicy.days_before`.

    Examples:
        >>> patience(date(2026, 3, 2), date(2026, 3, 1), 17)
        'the harm first showed on 2026-03-01, it can be learnt from 2026-03-18 on'
    """
    ready = first_sign + timedelta(days=days)
    if day >= ready:
        return None
    return f"the harm first showed on {first_sign}, it can be learnt from {ready} on"


@dataclass(frozen=True)
class Volume:
    """An amount of mature labels: days, and frauds on them."""

    days: int
    frauds: int


def too_few(labels: Volume, needed: Volume) -> str | None:
    """Why these labels are too few to train on, or None when they are not.

    Examples:
        >>> too_few(Volume(days=30, frauds=5), Volume(days=21, frauds=70))
        '5 mature frauds since the last training, 70 needed'
        >>> too_few(Volume(days=30, frauds=70), Volume(days=21, frauds=70)) is None
        True
    """
    if labels.days < needed.days:
        return f"{labels.days} days of mature labels, {needed.days} needed"
    if labels.frauds < needed.frauds:
        return f"{labels.frauds} mature frauds since the last training, {needed.frauds} needed"
    return None
