"""The bets behind one harm signal: an alarm and a relief that take turns, a step at a time.

What belongs here: steps of counts in, what is held out. Which signal bets on what is `harm`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from fraud_platform.stats.detectors import BETS, FALLS, RISES, Detector, count_factors, mean_factors

STEP = 100
"""Payments of one step."""
TOGETHER = 2.0
"""So many events that come together are one."""

_WINDOW = 30
"""Steps that a reading's value is the mean of."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What is held about one signal.

    Attributes:
        rows: payments since the start.
        logs: ln of what each bet of the detector in turn holds: of the alarm, or of the relief.
        is_breached: which of the two it is.
        recent: shares of the last steps, the newest last.
        bounds: what was tolerated in each of them; () from a release that knew one bound.
    """

    rows: int = 0
    logs: tuple[float, ...] = ()
    is_breached: bool = False
    recent: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def log_evidence(self) -> float:
        """Ln E of the detector in turn; 0 before its first step."""
        return max(0.0, Detector(self.logs).log_evidence) if self.logs else 0.0

    @property
    def value(self) -> float | None:
        """The mean share of the last steps, or None before the first."""
        return math.fsum(self.recent) / len(self.recent) if self.recent else None

    @property
    def bound(self) -> float | None:
        """The mean of what was tolerated in the last steps, or None before the first."""
        return math.fsum(self.bounds) / len(self.bounds) if self.bounds else None


@dataclass(frozen=True)
class Bets:
    """What one signal bets on.

    Attributes:
        bound: the share that is tolerated, of each step; shape (steps,).
        relief: the share that a harm is surely off when it is over, of each step; shape (steps,).
        is_fall: whether less is harm.
        has_clusters: whether events come together.
    """

    bound: NDArray[np.float64]
    relief: NDArray[np.float64]
    is_fall: bool = False
    has_clusters: bool = False

    def alarm(self, raw: NDArray[np.float64], once: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors against "within its bound", shape (steps, bets)."""
        if self.is_fall:
            return _counts(raw, self.bound, FALLS)
        means = mean_factors(once / STEP, self.bound, BETS)
        if not self.has_clusters:  # a single failure of the disk takes whole groups with it
            return means
        return np.concatenate((_counts(once, self.bound, RISES), means), axis=1)

    def relieved(self, raw: NDArray[np.float64], once: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors against "still at the level of relief", shape (steps, bets)."""
        if self.is_fall:
            return _counts(once, self.relief, RISES)
        return _counts(raw, self.relief, FALLS)


def _counts(
    seen: NDArray[np.float64], share: NDArray[np.float64], ratios: Sequence[float]
) -> NDArray[np.float64]:
    return count_factors(seen / TOGETHER, STEP * share / TOGETHER, ratios)


def each_card_once(values: NDArray[np.float64], cards: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many cards have an event, of each step."""
    steps = len(values) // STEP
    [events] = np.nonzero(values)
    _, which = np.unique(cards[events], return_inverse=True)
    many = int(which.max(initial=0)) + 1
    pairs = np.unique(events // STEP * many + which)
    return np.bincount(pairs // many, minlength=steps).astype(np.float64)


def after(
    held: Watched,
    bets: Bets,
    raw: NDArray[np.float64],
    once: NDArray[np.float64],
    *,
    false_alarm: float,
    false_relief: float,
) -> Watched:
    """The signal after these steps, one by one: alarm and relief take turns.

    Args:
        held: before them.
        bets: of the signal.
        raw: shape (steps,), events of each step.
        once: shape (steps,), cards with an event.
        false_alarm: chance of a false alarm a step.
        false_relief: chance a step that a harm that lasts is called over.
    """
    alarm, relief = bets.alarm(raw, once), bets.relieved(raw, once)
    logs, is_breached = held.logs, held.is_breached
    for place in range(len(raw)):
        factors = (relief if is_breached else alarm)[place]
        # An earlier release may have held other bets: then from nothing.
        told = logs if len(logs) == len(factors) else (0.0,) * len(factors)
        detector = Detector(told).after(factors)
        logs = detector.logs
        if detector.alarms(false_relief if is_breached else false_alarm):
            logs, is_breached = (), not is_breached
    recent = (*held.recent, *(raw / STEP).tolist())[-_WINDOW:]
    return Watched(
        rows=held.rows + STEP * len(raw),
        logs=logs,
        is_breached=is_breached,
        recent=recent,
        bounds=(*held.bounds, *bets.bound.tolist())[-_WINDOW:],
    )
