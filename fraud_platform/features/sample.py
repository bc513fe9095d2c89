"""Which cards belong to a sample: the same ones on every machine, in every version, for ever.

A proof looks at a sample of cards, never of rows: all payments of a card are checked, or none.
"""

import hashlib

import polars as pl

from fraud_platform.errors import PermanentError

_BYTES = 8
_RANGE = 2.0 ** (8 * _BYTES)


def is_sampled(card_id: str, share: float) -> bool:
    """Whether a card belongs to the sample of about this share of all cards.

    A card of a sample is in every larger one, so that a smaller share never finds more.

    Args:
        card_id: an opaque id.
        share: in [0, 1].

    Examples:
        >>> [is_sampled("c1", 1.0), is_sampled("c1", 0.0)]
        [True, False]
        >>> sum(is_sampled(f"c{number}", 0.25) for number in range(1_000))
        251
    """
    digest = hashlib.blake2b(card_id.encode(), digest_size=_BYTES).digest()
    return int.from_bytes(digest) < share * _RANGE


def sampled_cards(cards: pl.Series, share: float) -> pl.Series:
    """The different cards of a column that belong to a sample.

    Args:
        cards: shape (n,), card ids.
        share: in [0, 1].

    Returns:
        Each sampled card once.

    Raises:
        PermanentError: the share is no share.
    """
    if not 0 <= share <= 1:
        raise PermanentError(
            f"found a sample of {share} of all cards, expected a share from 0 to 1",
            hint="1 looks at every card",
        )
    distinct = cards.unique(maintain_order=True)
    return distinct.filter([is_sampled(card, share) for card in distinct])
