"""Card numbers: recognise them, mask them, turn them into tokens.

A card number (PAN) has 13 to 19 digits whose last one is a Luhn check digit (ISO/IEC 7812-1). The
platform wants opaque ids, so this module is the one place that knows what a card number looks like.
Which columns are refused is `mapping` and `validation`.
"""

import hashlib
import hmac
import re
import unicodedata
from functools import cache

import polars as pl

_GAP = r"[\x00-\x20\x7f\u200b-]"
_WIDE_GAP = r"[\x00-\x20\x7f\u200b./_-]"
"""Gaps of a plain text (`_plain`): spaces, controls, dashes; and what else parts groups."""
_RUN = re.compile(rf"[0-9](?:{_WIDE_GAP}*[0-9]){{12,}}")
_ENOUGH = re.compile(rf"[0-9](?:{_WIDE_GAP}*[0-9]){{12}}")
_GAPS = re.compile(_GAP)
_GAP_RUNS = re.compile(r"[ .]{2,}")
_TO_SPACES = str.maketrans(dict.fromkeys([*map(chr, range(32)), *"\x7f\u200b/_-"], " "))
_DIGITS = re.compile(r"[0-9]+")
_WHOLE_FLOAT = re.compile(r"([0-9]{13,19})\.0*")
_AS_A_CARD = (
    r"[0-9]{13,19}"
    r"|(?P<fours>[0-9]{4}(?P<m>[ .])[0-9]{4}(?P=m)[0-9]{4}(?P=m)[0-9]{1,4})"
    r"(?P<more>(?P=m)[0-9]{1,3})?"
    r"|[0-9]{4}(?P<n>[ .])[0-9]{6}(?P=n)[0-9]{4,5}"
)
_WRITTEN_LIKE_A_CARD = re.compile(
    rf"(?<![0-9A-Za-z])(?<![0-9]\.)(?=(?P<card>{_AS_A_CARD})(?![0-9A-Za-z]))"
)  # nor as the fraction of a number
_BEHIND_LETTERS = re.compile(rf"(?<![0-9A-Za-z])[A-Za-z]+(?=(?P<card>{_AS_A_CARD})(?![0-9A-Za-z]))")
_IN_A_CARD_ID = (_WRITTEN_LIKE_A_CARD, _BEHIND_LETTERS)
_NETWORK_PREFIX = re.compile(r"4|5[0-8]|2[2-7]|3[04-9]|6|8[12]|9792")
"""First digits of the payment networks' ranges; dates and clock readings begin otherwise."""
_SINGLE = bytes(n - 48 if 48 <= n < 58 else 0 for n in range(256))
_DOUBLED = bytes(sum(divmod(2 * n, 10)) for n in _SINGLE)
"""What a digit adds to Luhn's sum, as it is and doubled, by its ASCII code."""
_MAX_SHOWN = 1000
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_LIKE_SLASH, _LIKE_DASH = "\u2044\u2215\u2571\uff0f", "\u02d7\u2043\u2212"
_LIKE_DOT, _BLANK_LETTERS = "\u00b7\u2022\u2024\u2027\u2219\uff0e", "\u115f\u1160\u2800\u3164\uffa0"
_INVISIBLE = "\u200b"
_MOST_KNOWN = 20_000
_PLAIN_GAPS = {
    **dict.fromkeys(_LIKE_SLASH, "/"),
    **dict.fromkeys(_LIKE_DASH, "-"),
    **dict.fromkeys(_LIKE_DOT, "."),
    **dict.fromkeys(_BLANK_LETTERS, " "),
}
_PLAIN_KINDS = {
    **dict.fromkeys(("Zs", "Zl", "Zp", "Cc"), " "),
    **dict.fromkeys(("Cf", "Mn", "Me"), _INVISIBLE),
    **dict.fromkeys(("Pd", "Pc"), "-"),
}
_CANDIDATE = (
    r"\pN(?:[\pZ\p{Pd}\p{Pc}\pC\pM\s/._"
    + _LIKE_SLASH
    + _LIKE_DASH
    + _LIKE_DOT
    + _BLANK_LETTERS
    + r"]*\pN){12}"
)
"""Filter of Polars: whatever `_ENOUGH` finds in a plain text, and some more."""


class _Plain(dict[int, str]):
    """Character -> what it looks like, for `str.translate`: one for one, so that places stay."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.digit(character, None) if code > 127 else None
        if digit is not None:
            plain = str(digit)
        elif code < 128:
            plain = character
        else:
            kind = _PLAIN_KINDS.get(unicodedata.category(character), character)
            plain = _PLAIN_GAPS.get(character, kind)
        if len(self) < _MOST_KNOWN:
            self[code] = plain
        return plain


_PLAIN = _Plain()


def is_card_number(text: str) -> bool:
    """Whether the whole text is a card number: 13-19 digits, Luhn-valid, spaces and dashes aside.

    Examples:
        >>> is_card_number("4111 1111-1111 1111")
        True
        >>> is_card_number("4111111111111112")
        False
    """
    digits = _GAPS.sub("", _plain(text))
    return 13 <= len(digits) <= 19 and digits.isdecimal() and _passes_luhn(digits)


def holds_card_number(text: str) -> bool:
    """Whether a card number stands somewhere in the text, written the way cards are.

    Narrower than `mask` on purpose, because a row is refused for it: the digits stand alone or in a
    card's groups, and begin like a payment network's. Dates, counters and the fraction of a decimal
    number do not pass for cards. Digits of all scripts count, and any spaces, dashes, slashes,
    underscores and invisible characters between the groups.

    Examples:
        >>> holds_card_number("paid with 4111-1111-1111-1111")
        True
        >>> holds_card_number("order 20240101123451")
        False
    """
    return any(_finds(_WRITTEN_LIKE_A_CARD, form) for form in _forms(text))


def has_no_card_number(text: str) -> bool:
    """Whether an ASCII text has too few digits in a row for any card number; the quick question.

    Examples:
        >>> has_no_card_number("card-17"), has_no_card_number("1-2-3-4-5-6-7-8-9-0-1-2-3")
        (True, False)
    """
    return _ENOUGH.search(text) is None


def mask(text: str) -> str:
    """The text with everything that might be a card number replaced; the last four digits stay.

    Rather too much than too little: any 13 to 19 digits between other characters count, whatever
    they begin with, also across spaces, dashes, dots, slashes and underscores.

    Examples:
        >>> mask("card 4111 1111 1111 1111, 12.50")
        'card [card number ending 1111], 12.50'
    """
    plain = _plain(text)
    for start, card_end, end in reversed(_merged(_spans(plain))):
        last_four = "".join(_DIGITS.findall(plain[start:card_end]))[-4:]
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
    bare = _GAPS.sub("", _plain(text))
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
    """Whether this text must not be a card id: it is a card number, or holds one.

    Here a card is also found right behind letters, where other columns hold all kinds of numbers.

    Examples:
        >>> looks_like_a_card("PAN4111111111111111"), holds_card_number("PAN4111111111111111")
        (True, False)
    """
    forms = _forms(text)
    if not forms:
        return False
    bare = forms[0].replace(" ", "")
    if bare == forms[0] and bare.isdecimal():
        return len(bare) <= 19 and _passes_luhn(bare)
    return (
        is_card_number(text)
        or _is_of_a_network(bare)
        or any(_finds(pattern, form) for form in forms for pattern in _IN_A_CARD_ID)
    )


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


def _plain(text: str) -> str:
    """The text as it looks, in ASCII where it can be; as long as before."""
    return text if text.isascii() else text.translate(_PLAIN)


def _forms(text: str) -> tuple[str, ...]:
    """How a card could stand in this text: plain, one gap between groups; none: too few digits."""
    plain = _plain(text)
    if not _ENOUGH.search(plain):
        return ()
    if _INVISIBLE not in plain:
        return (_with_single_gaps(plain),)
    # What is not seen may part groups or stand inside one.
    return _with_single_gaps(plain.replace(_INVISIBLE, "")), _with_single_gaps(plain)


def _with_single_gaps(plain: str) -> str:
    """Every run of gaps as one space, but a dot alone, which may be a decimal point."""
    spaced = plain.translate(_TO_SPACES)
    return _GAP_RUNS.sub(" ", spaced)


def _finds(pattern: re.Pattern[str], text: str) -> bool:
    for found in pattern.finditer(text):
        card, fours = found.group("card"), found.group("fours")
        # Behind four groups there may be more of the card, or another number.
        texts = (card, fours) if found.group("more") else (card,)
        if any(_is_of_a_network("".join(_DIGITS.findall(written))) for written in texts):
            return True
    return False


def _is_of_a_network(digits: str) -> bool:
    return (
        13 <= len(digits) <= 19
        and digits.isdecimal()
        and _NETWORK_PREFIX.match(digits) is not None
        and _passes_luhn(digits)
    )


def _passes_luhn(digits: str) -> bool:
    codes = digits.encode()
    total = sum(codes[::-1][::2].translate(_SINGLE)) + sum(codes[::-1][1::2].translate(_DOUBLED))
    return total % 10 == 0


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
