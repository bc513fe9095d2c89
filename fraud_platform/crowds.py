"""Who pays by what, and whether many cards pay by one device: a burst of stolen cards.

What belongs here: payers as numbers, which payments of a window are of a crowd, and how many of
them were spared of late. What a crowd is to a cap is `governor`; the monitors' own look at it is
`heal.clues`.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_CARDS = 5
"""Cards of one device that are a crowd: a family has fewer."""
LEAST_CARDS_PER_PAYMENT = 0.8
"""Stolen cards are tried once or twice each; who pays by one card again and again is no crowd."""


class Payer(NamedTuple):
    """A device and a card, by numbers that name them within one process.

    Attributes:
        device: 0: not known.
        card: any number.
    """

    device: int
    card: int


NOBODY = Payer(0, 0)
"""Of a payment of which nothing is known: never of a crowd."""


def payer_of(device_id: str | None, card_id: str) -> Payer:
    """The payer of a payment, good for comparing in this process alone.

    Examples:
        >>> payer_of(None, "c1").device, payer_of("d1", "c1") == payer_of("d1", "c1")
        (0, True)
    """
    return Payer(hash(device_id or ""), hash(card_id))  # that of nothing is 0


def crowded(payers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which payments are of devices by which many cards pay, hardly one of them again.

    Args:
        payers: shape (2, n), a column per payment, as in `Payer`.

    Examples:
        >>> devices, cards = [0] * 6 + [7] * 5 + [8] * 10, [*range(6), *range(5), *(0, 1) * 5]
        >>> crowded(np.array([devices, cards])).nonzero()[0].tolist()
        [6, 7, 8, 9, 10]
    """
    known, device, payments = np.unique(payers[0], return_inverse=True, return_counts=True)
    rows = np.flatnonzero(((payments >= FEWEST_CARDS) & (known != 0))[device])  # the rest is fast
    rows = rows[np.lexsort((payers[1][rows], device[rows]))]
    pairs = np.stack([device[rows], payers[1][rows]])
    is_new = np.diff(pairs, axis=1, prepend=-1).any(axis=0)
    distinct = np.bincount(pairs[0][is_new], minlength=known.size)
    is_many = (distinct >= FEWEST_CARDS) & (distinct >= LEAST_CARDS_PER_PAYMENT * payments)
    found: NDArray[np.bool_] = is_many[device]
    return found


class Spared:
    """How many payments left the window of a cap of late, and how many were spared until then.

    A burst is a large part of a short window and a small one of the hours around it: what may
    stand beside a budget is a share of both.

    Args:
        span_us: how long a payment counts after it left, microseconds.
    """

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._gone: deque[tuple[int, int, int]] = deque()
        self._payments = self._spared = 0

    def left(self, now_us: int, payments: int, spared: int) -> None:
        """Note payments that left, and forget those that left long ago.

        Those that left long after now, too: a clock ran ahead, and they would never be old.

        Args:
            now_us: time of the payments, microseconds UTC.
            payments: how many left.
            spared: how many of them stood beside the budget while they were there.
        """
        self._gone.append((now_us, payments, spared))
        self._payments += payments
        self._spared += spared
        while abs(now_us - self._gone[0][0]) > self._span_us:
            _, payments, spared = self._gone.popleft()
            self._payments -= payments
            self._spared -= spared

    def room(self, share: float, payments: int) -> float:
        """How many of a window may be spared, so that of it and of what left at most a share is.

        Args:
            share: in [0, 1].
            payments: in the window.

        Examples:
            >>> past = Spared(span_us=60)
            >>> past.left(100, 900, 20)
            >>> past.room(0.25, 100), past.left(161, 0, 0), past.room(0.25, 100)
            (230.0, None, 25.0)
        """
        return max(0.0, share * (payments + self._payments) - self._spared)
