"""Compiled spreads of amounts: exact in 128 bits until they are rounded once."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled
from fraud_platform.features.kernel_loops import Asked, Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LIMB, _LOW = np.int64(40), np.int64((1 << 40) - 1)
"""Squares of amounts are summed in two words, the lower of this many bits."""
_HALF, _HALF_LOW = np.int64(20), np.int64((1 << 20) - 1)
_FEW, _SMALL = np.int64(1 << 20), np.int64(1 << 42)
"""So many payments with so small a sum of squares fit one word."""
_U0, _U1, _U24, _U32, _U40, _U63 = (np.uint64(bits) for bits in (0, 1, 24, 32, 40, 63))
_U32_LOW, _TOP = np.uint64((1 << 32) - 1), np.uint64(1 << 63)


class Squares(NamedTuple):
    """Running sums up to each place: amounts, and their squares in two words; may wrap around."""

    sums: Ints
    highs: Ints
    lows: Ints


@compiled
def running_squares(amounts: Ints, highs: Ints, lows: Ints) -> tuple[Ints, Ints]:
    """Sums of squared amounts, which are below 2^81, before each place: high and low words."""
    highs[0] = lows[0] = 0
    for place in range(len(amounts)):
        amount = abs(amounts[place])
        upper, lower = amount >> _HALF, amount & _HALF_LOW
        rest = ((2 * upper * lower) << _HALF) + lower * lower
        highs[place + 1] = highs[place] + upper * upper + (rest >> _LIMB)
        lows[place + 1] = lows[place] + (rest & _LOW)
    return highs, lows


@compiled
def spreads(asked: Asked, window: Window, squares: Squares, out: Floats) -> None:
    """Population standard deviation of the amounts."""
    for at in range(len(asked.slots)):
        first, last = window.first[at], window.last[at]
        root = _root(squares, first, last)
        out[asked.slots[at]] = root / float(last - first) if first < last else np.nan


@compiled
def z_scores(asked: Asked, window: Window, squares: Squares, out: Floats) -> None:
    """Distance of the own amount from the mean, in standard deviations."""
    for at in range(len(asked.slots)):
        first, last = window.first[at], window.last[at]
        total = squares.sums[last] - squares.sums[first]
        distance = asked.amounts[at] * np.int64(last - first) - total
        root = _root(squares, first, last)
        out[asked.slots[at]] = float(distance) / root if root != 0 else np.nan


@compiled
def _root(squares: Squares, first: int, last: int) -> float:
    """Population standard deviation of the amounts times their number."""
    total = squares.sums[last] - squares.sums[first]
    high = squares.highs[last] - squares.highs[first]
    low = squares.lows[last] - squares.lows[first]
    return math.sqrt(variance(last - first, total, high, low))


@compiled
def variance(count: int, total: int, high: int, low: int) -> float:
    """The count times the squares, less the squared total: exact, then rounded once.

    The squares are high * 2^40 + low.
    """
    if high == 0 and count < _FEW and low < _SMALL:
        return float(count * low - total * total)
    size, amount = np.uint64(count), np.uint64(abs(total))
    upper, lower = _product(size, np.uint64(high))
    shifted = ((upper << _U40) | (lower >> _U24), lower << _U40)
    scaled = _sum(shifted, _product(size, np.uint64(low)))
    return nearest_float(*_difference(scaled, _product(amount, amount)))


@compiled
def nearest_float(high: np.uint64, low: np.uint64) -> float:
    """The float64 nearest to high * 2^64 + low, ties to even: as Python and Rust convert.

    The leading 64 bits are converted, which rounds once; what is cut off makes their last bit 1, so
    that nothing that lies above a tie looks like one.
    """
    if high == _U0:
        return float(low)
    shift = _U0
    while high & _TOP == _U0:
        high = (high << _U1) | (low >> _U63)
        low = low << _U1
        shift += _U1
    leading = high | (_U1 if low != _U0 else _U0)
    return math.ldexp(float(leading), 64 - int(np.int64(shift)))


@compiled
def _product(one: np.uint64, other: np.uint64) -> tuple[np.uint64, np.uint64]:
    """High and low word of a product, by halves of words as on paper."""
    a, b, c, d = one >> _U32, one & _U32_LOW, other >> _U32, other & _U32_LOW
    low, cross, turned = b * d, a * d, b * c
    middle = (low >> _U32) + (cross & _U32_LOW) + (turned & _U32_LOW)
    high = a * c + (cross >> _U32) + (turned >> _U32) + (middle >> _U32)
    return high, (middle << _U32) | (low & _U32_LOW)


@compiled
def _sum(
    one: tuple[np.uint64, np.uint64], other: tuple[np.uint64, np.uint64]
) -> tuple[np.uint64, np.uint64]:
    low = one[1] + other[1]
    return one[0] + other[0] + (_U1 if low < other[1] else _U0), low


@compiled
def _difference(
    one: tuple[np.uint64, np.uint64], other: tuple[np.uint64, np.uint64]
) -> tuple[np.uint64, np.uint64]:
    return one[0] - other[0] - (_U1 if one[1] < other[1] else _U0), one[1] - other[1]
