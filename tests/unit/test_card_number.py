"""Card numbers: what counts as one, and that none survives masking or tokenizing."""

import re

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fraud_platform.card_number import (
    are_card_numbers,
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
