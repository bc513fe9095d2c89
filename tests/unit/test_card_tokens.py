"""Tokens in the place of card numbers, and what stays together when their key changes."""

import random
import re

import polars as pl
import pytest
from pydantic import ValidationError

from fraud_platform.card_number import looks_like_a_card, token, token_key_id, tokens
from fraud_platform.card_tokens import (
    SENSITIVE_FIELDS,
    CardNumbers,
    TokenKeys,
    is_sensitive_field,
    tokenized,
)
from fraud_platform.events import Transaction
from fraud_platform.settings import Settings
from fraud_platform.validation import ValidationPolicy, check_transaction

OLD, NEW = b"the old key, of thirty-two bytes", b"the new key, of thirty-two bytes"
CARD = "4111111111111111"
NOW_US = 1_772_000_000_000_000


def nobody(_: str) -> bool:
    return False


def payment(card_id: str, **more: object) -> Transaction:
    return Transaction("t-1", NOW_US, card_id, "m-1", 1_250, "EUR")._replace(**more)


def cards(count: int) -> list[str]:
    chance = random.Random(5)
    bodies = {f"4{chance.randrange(10**14):014d}" for _ in range(count)}
    return [next(b + d for d in "0123456789" if looks_like_a_card(b + d)) for b in sorted(bodies)]


@pytest.mark.parametrize(
    "written", [CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", CARD + ".0"]
)
def test_a_card_number_gets_the_token_that_a_file_gives_it(written):
    made = tokenized(payment(written), TokenKeys(NEW), nobody)
    (of_file,) = tokens(pl.Series([CARD]), NEW)
    assert made == payment(of_file)
    assert check_transaction(made, NOW_US, ValidationPolicy()) is None


@pytest.mark.parametrize(
    "card_id", ["c-17", "card-0000000000017", "4111111111111112", "tok_" + "a" * 49]
)
def test_an_opaque_id_stays_as_it_is(card_id):
    sent = payment(card_id)
    assert tokenized(sent, TokenKeys(NEW), nobody) is sent


@pytest.mark.parametrize(
    "sent",
    [
        payment(f"card {CARD}"),
        payment(f"{CARD}/12/29"),
        payment("c-17", device_id=CARD),
        payment(CARD, terminal_id=CARD),
    ],
)
def test_a_card_number_anywhere_else_is_still_refused(sent):
    made = tokenized(sent, TokenKeys(NEW), nobody)
    assert "card_number" in check_transaction(made, NOW_US, ValidationPolicy())


def test_without_keys_a_card_number_is_refused_as_ever():
    sent = payment(CARD)
    assert tokenized(sent, None, nobody) is sent
    assert "card_number" in check_transaction(sent, NOW_US, ValidationPolicy())


def test_a_token_names_its_key_and_two_keys_have_two_names():
    assert token_key_id(OLD) != token_key_id(NEW)
    assert token(CARD, NEW).split("_")[1] == token_key_id(NEW)
    assert len(token(CARD, NEW)) <= 64, "it must fit where card ids fit"


def test_after_a_rotation_known_cards_keep_their_tokens_and_new_ones_get_the_new_keys():
    everybody = cards(10_000)
    before = {card: token(card, OLD) for card in everybody[:5_000]}
    known = set(before.values())
    keys = TokenKeys(NEW, (OLD,))
    mismatches = 0
    for card in everybody:
        made = tokenized(payment(card), keys, known.__contains__).card_id
        again = tokenized(payment(card), keys, (known | {made}).__contains__).card_id
        mismatches += made != before.get(card, token(card, NEW)) or again != made
    assert mismatches == 0


def test_after_the_overlap_a_card_begins_anew():
    known = {token(CARD, OLD)}
    made = tokenized(payment(CARD), TokenKeys(NEW), known.__contains__).card_id
    assert made == token(CARD, NEW)
    assert made not in known


def test_of_two_histories_the_newest_previous_one_is_kept():
    older = b"an older key, of 32 or more bytes"
    known = {token(CARD, key) for key in (NEW, OLD, older)}
    keys = TokenKeys(NEW, (OLD, older))
    assert keys.token_of(CARD, known.__contains__) == token(CARD, OLD)


def test_keys_are_never_shown():
    assert "key, of" not in repr(TokenKeys(NEW, (OLD,)))


def test_settings_make_the_keys_of_the_edge():
    told = {"token_key": NEW.decode(), "previous_token_keys": [OLD.decode()]}
    assert Settings(**told).edge_token_keys is None, "reject is the default"
    made = Settings(**told, card_numbers="tokenize")
    assert made.card_numbers is CardNumbers.TOKENIZE
    assert made.edge_token_keys == TokenKeys(NEW, (OLD,))
    assert not [t for t in (repr(made), made.model_dump_json()) if "key, of" in t]


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FRAUD_CARD_NUMBERS", "tokenize")
    monkeypatch.setenv("FRAUD_TOKEN_KEY", NEW.decode())
    monkeypatch.setenv("FRAUD_PREVIOUS_TOKEN_KEYS", f'["{OLD.decode()}"]')
    assert Settings().edge_token_keys == TokenKeys(NEW, (OLD,))


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"token_key": "short"},
        {"token_key": NEW.decode(), "previous_token_keys": ["short"]},
        {"token_key": NEW.decode(), "previous_token_keys": [NEW.decode()]},
        {"previous_token_keys": [OLD.decode()]},
    ],
)
def test_tokenizing_without_good_keys_is_refused_without_showing_them(told):
    with pytest.raises(ValidationError, match="card_numbers=tokenize") as error:
        Settings(card_numbers="tokenize", **told)
    assert "key, of" not in re.sub(r"input_value=.*", "", str(error.value))


@pytest.mark.parametrize(
    "name",
    ["cvv", "CVV2", "card_cvc", "security-code", "cardVerificationValue", "track_2", "Track1Data",
     "pin", "PIN block", "magstripe"],
)  # fmt: skip
def test_names_of_what_nobody_may_keep_are_known_however_they_are_written(name):
    assert is_sensitive_field(name)


def test_no_field_of_a_payment_has_such_a_name():
    assert not [name for name in Transaction._fields if is_sensitive_field(name)]
    assert all(is_sensitive_field(name) for name in SENSITIVE_FIELDS)
