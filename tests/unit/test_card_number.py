"""Card numbers: what counts as one, and that none survives masking or tokenizing."""

import json
import random
import re
import unicodedata
import uuid
from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fraud_platform.card_number import (
    are_card_numbers,
    bare_card_number,
    hold_card_numbers,
    holds_card_number,
    is_card_number,
    looks_like_a_card,
    mask,
    masked,
    masked_json,
    token,
    tokens,
)

TEST_CARDS = [
    "4111111111111111",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
    "4222222222222",
    "6304000000000000",
]


def with_check_digit(body: str) -> str:
    return next(body + d for d in "0123456789" if is_card_number(body + d))


cards = st.from_regex(re.compile(r"[2-6][0-9]{11,17}", re.ASCII), fullmatch=True).map(
    with_check_digit
)


@pytest.mark.parametrize("card", TEST_CARDS)
@pytest.mark.parametrize("written", ["{}", " {} ", "[{}]", "pan={};", "{}.0"])
def test_test_cards_of_all_networks_are_found_and_masked(card, written):
    text = written.format(card)
    assert looks_like_a_card(text)
    assert card not in mask(text)
    assert card[-4:] in mask(text)


@pytest.mark.parametrize(
    "card", ["4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005"]
)
def test_a_card_written_in_groups_is_a_card(card):
    assert is_card_number(card)
    assert holds_card_number(f"paid with {card} today")
    assert re.sub(r"\D", "", card) not in re.sub(r"\D", "", mask(card))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1504627",
        "4111111111111112",
        "2018-04-01 00:00:31",
        "550e8400-e29b-41d4-a716-446655440000",
        "tok_" + "a" * 40,
        "48.85661400000000",
        "20240101123451",
        "1522540831000",
    ],
)
def test_ids_dates_and_counters_are_not_held_for_cards(text):
    assert not holds_card_number(text)


def test_a_quantity_before_the_card_does_not_hide_it():
    assert mask("5 4111 1111 1111 1111") == "5 [card number ending 1111]"
    assert holds_card_number("5 4111 1111 1111 1111")
    assert holds_card_number("1234 4111 1111 1111 1111")


@given(cards, st.text(max_size=20), st.text(max_size=20))
def test_a_card_between_other_characters_is_masked(card, before, after):
    text = f"{before}|{card}|{after}"
    assert card not in mask(text)


@given(st.text(alphabet="0123456789 -.ax\u00a0\u2011", max_size=60))
@example("0000000000000")
@example("4111111111111111 4111111111111111")
def test_nothing_is_left_to_find_after_masking(text):
    once = mask(text)
    assert mask(once) == once
    assert not looks_like_a_card(once)


@given(st.lists(st.none() | st.text(alphabet="0123456789 -ax٣", max_size=30) | cards, max_size=8))
def test_columns_agree_with_single_values(values):
    column = pl.Series("c", values, dtype=pl.String)
    assert are_card_numbers(column).to_list() == [bool(v) and looks_like_a_card(v) for v in values]
    assert hold_card_numbers(column).to_list() == [bool(v) and holds_card_number(v) for v in values]
    assert masked(column).to_list() == [None if v is None else mask(v) for v in values]


@given(cards, st.binary(min_size=1, max_size=64))
def test_a_token_is_stable_opaque_and_no_card_itself(card, key):
    made = token(card, key)
    assert re.fullmatch("tok_[a-p]{8}_[a-p]{40}", made)
    assert made == token(" ".join(card[i : i + 4] for i in range(0, len(card), 4)), key)
    assert made == token(card + ".0", key)
    assert made != token(card, key + b"!")
    assert not looks_like_a_card(made)


def test_tokens_of_a_column_keep_its_nulls_and_length():
    column = pl.Series("card", ["a", None, "a", "b"])
    made = tokens(column, b"key").to_list()
    assert made == [token("a", b"key"), None, token("a", b"key"), token("b", b"key")]


def test_masked_json_masks_names_and_values_and_cuts_long_ones():
    rows = pl.DataFrame({"4111111111111111": ["x" * 5000], "n": ["4111\n1111 1111-1111"]})
    text = masked_json(rows).item()
    assert text.count("[card number ending 1111]") == 2
    assert len(text) < 1200


BRANDS = {
    "visa": (["4"], [13, 16, 19]),
    "mastercard": (["51", "55", "2221", "2720"], [16]),
    "american express": (["34", "37"], [15]),
    "discover": (["6011", "644", "65"], [16, 19]),
    "jcb": (["3528", "3589"], [16, 19]),
    "diners": (["300", "305", "3095", "36", "38"], [14, 16, 19]),
    "unionpay": (["62", "81"], [16, 17, 18, 19]),
    "maestro": (["5018", "56", "58", "6304", "67"], [13, 14, 15, 16, 17, 18, 19]),
    "mir": (["2200", "2204"], [16]),
    "rupay and troy": (["508", "6521", "82", "9792"], [16]),
}
"""Issuer ranges (ISO/IEC 7812-1, by the networks' public rules) and lengths."""


def grouped(card: str, mark: str) -> str:
    sizes = (4, 6, 5) if len(card) in (14, 15) else (4, 4, 4, 4, 3)
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    groups = [card[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return mark.join(group for group in groups if group)


NOTATIONS = {
    "plain": lambda card: card,
    "spaces": lambda card: grouped(card, " "),
    "dashes": lambda card: grouped(card, "-"),
    "dots": lambda card: grouped(card, "."),
    "in a sentence": lambda card: f"paid with {card}, thanks",
    "in brackets": lambda card: f"[{grouped(card, ' ')}]",
    "in a form": lambda card: f"pan={card}&exp=",
    "after a quantity": lambda card: f"2 {grouped(card, '-')}",
    "as a float": lambda card: f"{card}.0",
    "slashes": lambda card: grouped(card, "/"),
    "underscores": lambda card: grouped(card, "_"),
    "two spaces": lambda card: grouped(card, "  "),
    "spaced dashes": lambda card: grouped(card, " - "),
    "no-break spaces": lambda card: grouped(card, "\u00a0"),
    "en dashes": lambda card: grouped(card, "\u2013"),
    "zero-width spaces": lambda card: grouped(card, "\u200b"),
    "joined digits": lambda card: "\u2060".join(card),
    "one invisible": lambda card: f"{card[:4]}\u200b{card[4:]}",
    "invisible after a quantity": lambda card: f"2\u200b{grouped(card, '-')}",
    "full-width": lambda card: foreign(card, 0xFF10),
    "arabic-indic, named": lambda card: f"c:{foreign(card, 0x660)}",
    "bold, full-width dashes": lambda card: grouped(foreign(card, 0x1D7CE), "\uff0d"),
    "before an expiry": lambda card: f"{grouped(card, ' ')} 12/27",
}


def foreign(card: str, zero: int) -> str:
    return "".join(chr(zero + int(digit)) for digit in card)


def made_cards(count: int) -> Iterator[str]:
    chance = random.Random(20_260_105)
    names = sorted(BRANDS)
    for number in range(count):
        prefixes, lengths = BRANDS[names[number % len(names)]]
        start, length = chance.choice(prefixes), chance.choice(lengths)
        body = start + "".join(chance.choices("0123456789", k=length - 1 - len(start)))
        yield with_check_digit(body)


def test_of_2000_cards_of_ten_brands_in_all_notations_almost_none_passes():
    cards_ = list(made_cards(2_000))
    missed = {
        name: [written(c) for c in cards_ if not holds_card_number(written(c))]
        for name, written in NOTATIONS.items()
    }
    counts = {name: len(texts) for name, texts in missed.items()}
    recall = 1 - sum(counts.values()) / (len(cards_) * len(NOTATIONS))
    print(json.dumps({"test": "T-PAN", "numbers": len(cards_), "recall": recall}), counts)
    assert recall >= 0.999, {name: texts[:3] for name, texts in missed.items() if texts}
    for name, written in NOTATIONS.items():
        texts = pl.Series([written(card) for card in cards_])
        assert hold_card_numbers(texts).to_list() == [holds_card_number(t) for t in texts], name
        left = {text for text in texts if looks_like_a_card(mask(text))}
        assert not left, name
        assert not any(card in mask(text) for card, text in zip(cards_, texts, strict=True)), name


FOUND_ANYWHERE = [
    foreign("4111111111111111", 0xFF10),
    "c:" + foreign("4111111111111111", 0xFF10),
    "card " + foreign("4111111111111111", 0xFF10) + " was stolen",
    "4111/1111/1111/1111",
    "4111_1111_1111_1111",
    "4111.1111.1111.1111",
    "4111\u00a01111\u00a01111\u00a01111",
    "4111\u20131111\u20131111\u20131111",
    "4111\u200b111111111111",
    "4111  1111  1111  1111",
    "4111 -1111- 1111/1111",
    "4111\u3164\u31641111\u20281111\u00ad 1111",
    "4111 1111 1111 1111 123",
    "\u2074\u00b9\u00b9\u00b9" + "\u00b9" * 12,
    "_4111111111111111_",
]
ONLY_IN_A_CARD_ID = [
    "PAN4111111111111111",
    "c4111-1111-1111-1111",
    "x:pan4111 1111 1111 1111",
    "411111/1111111111",
    "41_11_11_11_11_11_11_11",
]


@pytest.mark.parametrize("text", FOUND_ANYWHERE, ids=ascii)
def test_a_card_in_other_digits_or_with_other_gaps_is_found_and_masked(text):
    assert holds_card_number(text)
    assert looks_like_a_card(text)
    assert hold_card_numbers(pl.Series([text])).item()
    assert mask(text).count("[card number ending ") == 1
    assert not looks_like_a_card(mask(text))
    assert masked(pl.Series([text])).item() == mask(text)


@pytest.mark.parametrize("text", ONLY_IN_A_CARD_ID)
def test_a_card_id_is_also_looked_at_behind_letters_and_across_any_groups(text):
    assert looks_like_a_card(text)
    assert are_card_numbers(pl.Series([text])).item()
    assert not holds_card_number(text)
    assert not looks_like_a_card(mask(text))


GAPS = (
    "0123456789 -./_ax\u00a0\u2011\u2013\u200b\u2060\u3000\u0301\u3164\uff0f\uff10\uff14\u0664"
    "\u00b2\u00bd\u2460\x00\x1f\u0085\u00b7"
)


@given(st.lists(st.text(alphabet=GAPS, max_size=50) | st.text(max_size=30), max_size=6), cards)
@settings(max_examples=200)
def test_columns_agree_with_single_values_in_any_script(values, card):
    values = [
        *values,
        "".join(f"{digit}{gap}" for digit, gap in zip(card, GAPS[10:], strict=False)),
    ]
    column = pl.Series("c", values, dtype=pl.String)
    assert are_card_numbers(column).to_list() == [looks_like_a_card(v) for v in values]
    assert hold_card_numbers(column).to_list() == [holds_card_number(v) for v in values]
    assert masked(column).to_list() == [mask(v) for v in values]
    assert not any(looks_like_a_card(mask(v)) for v in values)


def test_every_character_is_a_digit_a_gap_or_none_to_columns_as_to_single_values():
    kinds = {*("Nd", "No", "Nl", "Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me", "Pd", "Pc")}
    every = [chr(n) for n in range(0x11_0000) if unicodedata.category(chr(n)) in kinds]
    every += [chr(n) for n in range(0x2FFF) if chr(n) not in every]
    between = pl.Series([f"4111{c}1111{c}1111{c}1111" for c in every])
    assert hold_card_numbers(between).to_list() == [holds_card_number(t) for t in between]
    first = pl.Series([f"{c}111111111111111" for c in every])
    found = hold_card_numbers(first)
    assert found.to_list() == [holds_card_number(t) for t in first]
    assert found.sum() > 60, "a four of each script"


def test_one_card_has_one_token_in_every_script_and_ids_keep_theirs():
    card = "4111111111111111"
    assert token(foreign(card, 0xFF10), b"key") == token(card, b"key")
    assert token(grouped(card, "\u2007"), b"key") == token(card, b"key")
    assert bare_card_number(foreign(card, 0x660)) == card
    assert token("1_23", b"key") != token("12_3", b"key") != token("12.3", b"key")


def ordinary_ids(count: int) -> Iterator[str]:
    chance = random.Random(7)
    for _ in range(count):
        second = chance.randrange(1_400_000_000, 1_900_000_000)
        yield str(uuid.UUID(int=chance.getrandbits(128), version=4))
        yield uuid.UUID(int=chance.getrandbits(128), version=4).hex
        yield str(second * 1_000 + chance.randrange(1_000))
        yield str(second * 1_000_000 + chance.randrange(1_000_000))
        yield str(second * 1_000_000_000 + chance.randrange(1_000_000_000))
        yield f"{chance.uniform(0, 1e9):.2f}"
        yield repr(chance.uniform(-180, 180))
        yield f"{chance.randrange(10**12):012d}"


def test_ids_times_and_amounts_do_not_pass_for_cards():
    ids = list(ordinary_ids(10_000))
    wrong = [text for text in ids if holds_card_number(text)]
    print(json.dumps({"test": "T-PAN", "ids": len(ids), "false_positives": len(wrong)}))
    assert len(wrong) <= 0.0001 * len(ids), wrong[:5]
    assert hold_card_numbers(pl.Series(ids)).sum() == len(wrong)


def test_uuids_digests_and_decimal_numbers_do_not_pass_for_card_ids():
    chance = random.Random(8)
    ids = [
        made
        for _ in range(10_000)
        for made in (
            str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            uuid.UUID(int=chance.getrandbits(128), version=4).hex,
            f"{chance.getrandbits(256):064x}",
            f"{chance.getrandbits(64):016x}",
            f"{chance.uniform(0, 1e9):.2f}",
            repr(chance.uniform(-180, 180)),
            f"{chance.randrange(10**12):012d}",
            f"C{chance.randrange(10**10):016d}",
            f"card_{chance.randrange(10**9):09d}",
        )
    ]
    wrong = [text for text in ids if looks_like_a_card(text)]
    print(f"{len(wrong)} of {len(ids):,}")
    assert len(wrong) <= 0.0001 * len(ids), wrong[:5]
