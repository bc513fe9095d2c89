"""Card numbers: recognise them, mask them, turn them into tokens.

A card number (PAN) has 13 to 19 digits whose last one is a Luhn check digit (ISO/IEC 7812-1). The
platform wants opaque ids, so this module is the one place that knows what a card number looks like.
Which columns are refused is `mapping` and `validation`.
"""

import hashlib
import hmac
import re
from functools import cache

import polars as pl

_GAP = r"[\s\x1c-\x1f\x{ad}\x{200b}-\x{200d}\x{2010}-\x{2015}\x{2060}\x{2212}\x{feff}-]"
"""Spaces and dashes, the invisible ones too; in Rust's spelling, translated below for Python's."""
_PYTHON_GAP = re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: f"\\u{int(found.group(1), 16):04x}", _GAP)
_CANDIDATE = rf"\d(?:(?:{_GAP}|\.)*\d){{12}}"
"""Fast Polars filter: at least 13 digits with nothing but gaps and dots between them."""
_RUN = re.compile(rf"\d(?:(?:{_PYTHON_GAP}|\.)*\d){{12,}}")
_GAPS = re.compile(_PYTHON_GAP)
_DIGITS = re.compile(r"\d+")
_WHOLE_FLOAT = re.compile(r"(\d{13,19})\.0*")
_WRITTEN_LIKE_A_CARD = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9]\.)(?=("  # nor as the fraction of a number
    r"\d{13,19}"
    r"|\d{4}([ .-])\d{4}\2\d{4}\2\d{1,4}(?:\2\d{1,3})?"
    r"|\d{4}([ .-])\d{6}\3\d{4,5}"
    r")(?![0-9A-Za-z]))"
)
_NETWORK_PREFIX = re.compile(r"4|5[0-8]|2[2-7]|3[04-9]|6|8[12]|9792")
"""First digits of the payment networks' ranges; dates and clock readings begin otherwise."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_MAX_SHOWN = 1000
_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def is_card_number(text: str) -> bool:
    """Whether the whole text is a card number: 13-19 digits, Luhn-valid, spaces and dashes aside.

    Examples:
        >>> is_card_number("4111 1111-1111 1111")
        True
        >>> is_card_number("4111111111111112")
        False
    """
    digits = _GAPS.sub("", text)
    return 13 <= len(digits) <= 19 and digits.isdecimal() and _passes_luhn(digits)


def holds_card_number(text: str) -> bool:
    """Whether a card number stands somewhere in the text, written the way cards are.

    Narrower than `mask` on purpose, because a row is refused for it: the digits stand alone or in a
    card's groups, and begin like a payment network's. Dates, counters and the fraction of a decimal
    number do not pass for cards.

    Examples:
        >>> holds_card_number("paid with 4111-1111-1111-1111")
        True
        >>> holds_card_number("order 20240101123451")
        False
    """
    for found in _WRITTEN_LIKE_A_CARD.finditer(text):
        digits = "".join(_DIGITS.findall(found.group(1)))
        if len(digits) <= 19 and _NETWORK_PREFIX.match(digits) and _passes_luhn(digits):
            return True
    return False


def mask(text: str) -> str:
    """The text with everything that might be a card number replaced; the last four digits stay.

    Rather too much than too little: any 13 to 19 digits between other characters count, whatever
    they begin with, also across spaces, dashes and dots.

    Examples:
        >>> mask("card 4111 1111 1111 1111, 12.50")
        'card [card number ending 1111], 12.50'
    """
    for start, card_end, end in reversed(_merged(_spans(text))):
        last_four = "".join(_DIGITS.findall(text[start:card_end]))[-4:]
        text = f"{text[:start]}[card number ending {last_four}]{text[end:]}"
    return text


def token(text: str, key: bytes) -> str:
    """A stable opaque id for a card number: HMAC-SHA256 under a secret key, 160 bits, letters only.

    The same card written with or without spaces and dashes has one token. Letters only, so that a
    token never looks like a card number itself; 53 characters: `tok_<key id>_<digest>`.

    Args:
        text: the card number, or any other id of the same column.
        key: the secret; whoever has it can find the card numbers again by trying them all.

    Examples:
        >>> token("4111 1111 1111 1111", b"key") == token("4111111111111111", b"key")
        True
        >>> token("4111111111111111", b"key")[:13]
        'tok_dpbmdjpf_'
    """
    digest = hmac.digest(key, (bare_card_number(text) or text).encode(), hashlib.sha256)
    return f"tok_{token_key_id(key)}_{digest[:20].hex().translate(_LETTERS)}"


@cache
def token_key_id(key: bytes) -> str:
    """The public name of a token key, told by the key itself, so that no list can confuse two."""
    digest = hmac.digest(key, b"fraud_platform: the id of this token key", hashlib.sha256)
    return digest[:4].hex().translate(_LETTERS)


def bare_card_number(text: str) -> str | None:
    """The digits of a text that is one number, as cards are written; None: it is something else.

    Spaces and dashes do not count, nor does the `.0` of a number that a table held as a float.

    Examples:
        >>> bare_card_number("4111-1111 11111111"), bare_card_number("4111111111111111.0")
        ('4111111111111111', '4111111111111111')
    """
    bare = _GAPS.sub("", text)
    whole = _WHOLE_FLOAT.fullmatch(bare)
    return whole.group(1) if whole else bare if bare.isdecimal() else None


def tokens(values: pl.Series, key: bytes) -> pl.Series:
    """`token` of every non-null value; each distinct value is hashed once."""
    distinct = values.drop_nulls().unique()
    return values.replace_strict(
        distinct, [token(value, key) for value in distinct], return_dtype=pl.String
    )


def are_card_numbers(values: pl.Series) -> pl.Series:
    """Per value whether it is or holds a card number; null counts as no. For the card id column.

    Examples:
        >>> are_card_numbers(pl.Series(["c-17", "4111111111111111", None])).to_list()
        [False, True, False]
    """
    return _flagged(values, {v for v in _candidates(values) if looks_like_a_card(v)})


def hold_card_numbers(values: pl.Series) -> pl.Series:
    """Per value whether it holds a card number; null counts as no. For all other columns."""
    return _flagged(values, {v for v in _candidates(values) if holds_card_number(v)})


def looks_like_a_card(text: str) -> bool:
    """Whether this text must not be a card id: it is a card number, or holds one."""
    return is_card_number(text) or holds_card_number(text)


def masked(values: pl.Series) -> pl.Series:
    """`mask` of every value; only the few that have enough digits are touched."""
    suspects = _candidates(values)
    return values.replace(suspects, [mask(value) for value in suspects])


def masked_json(rows: pl.DataFrame) -> pl.Series:
    """Each row as JSON text of its columns' texts, masked, every value cut at 1000 characters.

    Examples:
        >>> masked_json(pl.DataFrame({"card": ["4111111111111111"], "amount": [5]})).item()
        '{"card":"[card number ending 1111]","amount":"5"}'
    """
    texts = [
        masked(column.cast(pl.String)).str.head(_MAX_SHOWN).alias(mask(column.name))
        for column in rows.iter_columns()
    ]
    return pl.DataFrame(texts).to_struct("payload").struct.json_encode()


def _candidates(values: pl.Series) -> list[str]:
    long_enough = values.filter(values.str.len_bytes() >= 13)
    return long_enough.filter(long_enough.str.contains(_CANDIDATE)).unique().to_list()


def _flagged(values: pl.Series, found: set[str]) -> pl.Series:
    if not found:
        return pl.Series(values.name, [False], dtype=pl.Boolean).new_from_index(0, len(values))
    return values.is_in(list(found)).fill_null(value=False)


def _passes_luhn(digits: str) -> bool:
    numbers = [int(digit) for digit in reversed(digits)]
    return (sum(numbers[::2]) + sum(_DOUBLED[n] for n in numbers[1::2])) % 10 == 0


def _spans(text: str) -> list[tuple[int, int]]:
    """Where 13 to 19 digits, made of whole digit groups, pass Luhn; spans may overlap."""
    found = []
    for run in _RUN.finditer(text):
        groups = [m.span() for m in _DIGITS.finditer(text, run.start(), run.end())]
        for first, (start, _) in enumerate(groups):
            digits = ""
            for group_start, group_end in groups[first : first + 19]:
                digits += text[group_start:group_end]
                if 13 <= len(digits) <= 19 and _passes_luhn(digits):
                    found.append((start, group_end))
    return found


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Overlapping spans as one: its start, the end of its first span, its end."""
    merged: list[tuple[int, int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][2]:
            merged[-1] = (*merged[-1][:2], max(end, merged[-1][2]))
        else:
            merged.append((start, end, end))
    return merged
