"""One cut over scores that goes up at once and comes down slowly, and what equal scores are to it.

What belongs here: how a cut moves, and what tells equal scores apart. Where it should go is
`governor`.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from fraud_platform.stats.block_budget import allowed_blocks, lowest_threshold, usual_most

_HOUR_US = 3_600_000_000
_FEWEST = 250
"""Scores that a cut may be an order statistic of, when what came before is of another time."""
_FEWEST_NEWEST = 100
_BY_CHANCE = 0.1
"""Chance that the newest scores look like another time though they are not: it costs little."""


def tie_breaker(transaction_id: str) -> float:
    """What a payment's score is raised by before it meets a cap: below 2**-26, by its id alone.

    So of many payments with one score as many are stopped as there is room for, and neither all of
    them nor none. It is less than what two scores of a model differ by, which are 32 bits long.

    Args:
        transaction_id: of the payment; a replay finds the same.

    Examples:
        >>> 0.0 <= tie_breaker("t1") < 2.0**-26, tie_breaker("t1") == tie_breaker("t2")
        (True, False)
    """
    word = hashlib.sha256(b"tie " + transaction_id.encode()).digest()[:4]
    return int.from_bytes(word) * 2.0**-58


def lowest_cut(scores: NDArray[np.float64], share: float, risk: float) -> float:
    """The lowest cut that at most this share of payments reaches, as far as is known.

    An order statistic of all scores, or a higher one of the newest where these reach the former too
    often: after an abrupt change a window that is still full of the time before promises what no
    longer holds. Never lower than that of all, so what that guarantees stays.

    Args:
        scores: shape (n,), newest last.
        share: of payments that may reach it, in (0, 1).
        risk: chance that more do, in (0, 1); see `allowed_blocks`.

    Examples:
        >>> before = np.random.default_rng(1).uniform(0.0, 0.5, 2_800)
        >>> shifted = np.concatenate([before, 2.0 * before[:200]])
        >>> [round(lowest_cut(scores, 0.049, 0.1), 2) for scores in (before, shifted)]
        [0.48, 0.95]
    """
    size, cut = scores.size, -np.inf
    while True:
        # Where no cut would be sure, the highest that these scores tell of comes closest.
        allowed = allowed_blocks(size, share, risk) or 0
        cut = max(cut, lowest_threshold(scores[-size:], allowed))
        if size < 2 * _FEWEST or not _is_too_often(scores[-(size // 4) :], cut, share):
            return float(cut)
        size //= 2


def _is_too_often(newest: NDArray[np.float64], cut: float, share: float) -> bool:
    """Whether these, or the newest of them, reach a cut more often than a share by chance."""
    reached, size = newest >= cut, newest.size
    while size >= _FEWEST_NEWEST:
        if np.count_nonzero(reached[-size:]) > usual_most(size, share, _BY_CHANCE):
            return True
        size //= 2
    return False


class ScoreCap:
    """A cut, and since when it stands.

    Args:
        cut: scores from here on are stopped.

    Attributes:
        cut: now in force.
    """

    def __init__(self, cut: float) -> None:
        self.cut = cut
        self._since_us = 0

    def move(
        self, scores: NDArray[np.float64], target: float, now_us: int, per_hour: float
    ) -> None:
        """Up to the target at once, down to it slowly.

        Args:
            scores: shape (n,), the window.
            target: where the cut should be.
            now_us: time of the payments, microseconds UTC.
            per_hour: share of the window by which it may be lowered in an hour.
        """
        elapsed_us = now_us - self._since_us
        if target >= self.cut or elapsed_us < 0:  # a clock that ran ahead once delays nothing
            self.cut, self._since_us = max(target, self.cut), now_us
            return
        ranks = int(per_hour * elapsed_us / _HOUR_US * scores.size)
        if ranks:  # else the time goes on counting
            reaching = int(np.count_nonzero(scores >= self.cut)) + ranks
            lower = lowest_threshold(scores, min(reaching, scores.size - 1))
            self.cut, self._since_us = max(target, min(lower, self.cut)), now_us
