"""Who pays by what, and whether many cards pay by one device: a burst of stolen cards.

What belongs here: payers as numbers, and which payments of a window are of a crowd. What a crowd is
to a cap is `governor`; the monitors' own look at it is `heal.clues`.
"""

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
