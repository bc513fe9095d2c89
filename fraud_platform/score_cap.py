"""One cut over scores that goes up at once and comes down slowly, and what equal scores are to it.

What belongs here: where scores want a cut to be, how it moves, and what tells equal scores apart.
Which scores, and how many may reach it, is `governor`.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from fraud_platform.stats.block_budget import allowed_blocks, lowest_threshold

_HOUR_US = 3_600_000_000


def tie_breaker(transaction_id: str) -> float:
    """What a payment's score is raised by before it meets a cap: below 2**-26, by its id alone.

    So of many payments with one score as many are stopped as there is room for, and neither all of
    them nor none. Scores of 32 bits from 1/4 on differ by more than it; of lower ones those that
    differ by less than a hundred-millionth may change places.

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

    Args:
        scores: shape (n,).
        share: of payments that may reach it, in (0, 1).
        risk: chance that more do, in (0, 1); see `allowed_blocks`.
    """
    # Where no cut would be sure, the highest that these scores tell of comes closest.
    return lowest_threshold(scores, allowed_blocks(scores.size, share, risk) or 0)


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
