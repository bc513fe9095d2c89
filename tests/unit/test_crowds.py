"""Which payments are of a crowd: many cards of one device, and neither families nor bots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.crowds import NOBODY, crowded, payer_of


def found(payers):
    return crowded(np.transpose(np.array(payers, np.int64))).tolist()


@pytest.mark.parametrize(
    ("cards", "is_crowd"),
    [
        ([1, 2, 3, 4, 5], True),
        ([1, 2, 3, 4], False),  # a family
        ([1, 2, 3, 4, 5] * 20, False),  # bots
        ([*range(100), *range(20)], True),  # stolen cards, some of them tried again
    ],
)
def test_many_cards_of_one_device_are_a_crowd_if_hardly_one_pays_again(cards, is_crowd):
    assert found([(7, card) for card in cards]) == [is_crowd] * len(cards)


def test_payments_without_a_device_are_never_of_a_crowd():
    assert found([payer_of(None, f"c{n}") for n in range(50)]) == [False] * 50
    assert NOBODY.device == payer_of(None, "c1").device


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1), st.randoms())
def test_the_order_of_payments_tells_nothing(payers, chance):
    told = dict(zip(payers, found(payers), strict=True))
    chance.shuffle(payers)
    assert found(payers) == [told[payer] for payer in payers]
