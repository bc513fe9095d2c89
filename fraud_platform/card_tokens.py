"""What an edge does with card numbers where ids belong: refuse them, or put tokens in their place.

A token tells which key made it (`card_number.token`), and keys can be changed:

* A card that the log knows under a previous key's token keeps that token, as long as the previous
  key is configured. Its history, its repeats and its labels stay together.
* Any other card gets a token of the current key.
* When a previous key is taken out, cards that still had its tokens begin anew: their windows are
  empty for as long as windows look back, and a repeat of an old payment is another payload. So a
  previous key stays until its cards were silent for that long, or are worth losing.
* A key that leaked cannot be healed by rotation: who has it can find the card numbers behind all
  its tokens by trying. The stored tokens must then be replaced by who still has the card numbers.
* A file (`tokenize` of a mapping) is always read with the current key: it does not look into the
  log, so a card that kept an older token has two names as soon as a file names it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fraud_platform.card_number import bare_card_number, is_card_number, token
from fraud_platform.events import Transaction

SHORTEST_KEY = 32
"""Characters of a key at an edge: an attacker tries card numbers, and must not try keys as well."""

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_SECURITY_CODES = {
    *("cvv", "cvv2", "cvc", "cvc2", "cvn", "cvn2", "cid", "csc", "cav", "cav2", "cve"),
    *("cardverificationvalue", "cardverificationcode", "cardverificationnumber"),
    *("cardsecuritycode", "cardcvv", "cardcvc", "cvvcode", "cvccode", "securitycode"),
}
_TRACKS = {
    *("track", "track1", "track2", "track3", "trackdata", "track1data", "track2data"),
    *("magstripe", "magneticstripe", "magstripedata", "trackequivalentdata", "chipdata"),
}
_PINS = {"pin", "pinblock", "encryptedpin", "cardpin", "pincode", "pinhash"}
SENSITIVE_FIELDS = frozenset(_SECURITY_CODES | _TRACKS | _PINS)
"""Names of what nobody may keep after authorization (PCI DSS 3.3.1), without case and marks."""


class CardNumbers(StrEnum):
    """What the scorer does with a card number sent as a card id."""

    REJECT = "reject"
    TOKENIZE = "tokenize"


@dataclass(frozen=True)
class TokenKeys:
    """The secrets that card numbers are tokenized with.

    Attributes:
        current: of new tokens.
        previous: of older ones, newest first; they make no new cards.
    """

    current: bytes = field(repr=False)
    previous: tuple[bytes, ...] = field(default=(), repr=False)

    def token_of(self, number: str, known: Callable[[str], bool]) -> str:
        """The token of a card number.

        Args:
            number: the card number, however it is written.
            known: whether this card id has a history; not asked without previous keys.

        Examples:
            >>> keys = TokenKeys(b"new", (b"old",))
            >>> old, new = (token("4111111111111111", key) for key in (b"old", b"new"))
            >>> keys.token_of("4111111111111111", {old}.__contains__) == old
            True
            >>> keys.token_of("4111111111111111", set().__contains__) == new
            True
        """
        for key in self.previous:
            if known(made := token(number, key)):
                return made
        return token(number, self.current)


def tokenized(
    transaction: Transaction, keys: TokenKeys | None, known: Callable[[str], bool]
) -> Transaction:
    """The transaction with a token where its card id was a card number; else as it is.

    Only a card id that is a card number as a whole: text around a number, and numbers in other
    fields, are left for the rules of `validation`, which refuse them.

    Args:
        transaction: as decoded.
        keys: None: card numbers are to be refused.
        known: whether this card id has a history.
    """
    if keys is None or len(transaction.card_id) < 13:
        return transaction
    number = bare_card_number(transaction.card_id)
    if number is None or not is_card_number(number):
        return transaction
    return transaction._replace(card_id=keys.token_of(number, known))


def known_as(
    transaction: Transaction, older: Sequence[str], known: Callable[[str], bool]
) -> Transaction:
    """The transaction under the first older name of its card that has a history; else as it is.

    Args:
        transaction: with a token of the current key.
        older: tokens of the same card by previous keys, newest first.
        known: whether this card id has a history.

    Examples:
        >>> new = Transaction("t1", 0, "tok_new", "terminal", 100, "EUR")
        >>> known_as(new, ("tok_old",), {"tok_old"}.__contains__).card_id
        'tok_old'
    """
    name = next((name for name in older if known(name)), None)
    return transaction if name is None else transaction._replace(card_id=name)


def is_sensitive_field(name: str) -> bool:
    """Whether a field by this name would hold a security code, a track or a PIN.

    Examples:
        >>> is_sensitive_field("CVV-2"), is_sensitive_field("track2_data")
        (True, True)
        >>> is_sensitive_field("entry_mode")
        False
    """
    return _SEPARATORS.sub("", name.lower()) in SENSITIVE_FIELDS
