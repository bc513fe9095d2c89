"""Compiled medians of sliding windows, in steps that do not grow with the window.

Every line is sorted by amount once. The payments of a window are bits at their positions in that
order; the median is a bit that steps to its neighbours as others come and go.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled
from fraud_platform.features.kernel_loops import Asked, Window

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

_U0, _U1 = np.uint64(0), np.uint64(1)
_ROOM = 63  # bits of a number that is not negative


def in_order(starts: Ints, amounts: Ints) -> tuple[Places, Ints]:
    """Each place's position among the amounts of its line from small to large, and these.

    Where line, amount and place fit one number, NumPy sorts all lines at once, which is twice as
    fast as one by one.
    """
    longest = int(np.diff(starts).max(initial=0)).bit_length()
    largest = int(amounts.max(initial=0)).bit_length()
    positions, ordered = np.empty(len(amounts), np.int32), np.empty_like(amounts)
    if len(starts).bit_length() + largest + longest > _ROOM or amounts.min(initial=0) < 0:
        return order_by_line(starts, amounts, positions, ordered)
    _pack(starts, amounts, largest, longest, ordered)
    ordered.sort()
    _unpack(starts, largest, longest, positions, ordered)
    return positions, ordered


@compiled
def order_by_line(
    starts: Ints, amounts: Ints, positions: Places, ordered: Ints
) -> tuple[Places, Ints]:
    """The same, whatever the amounts."""
    for line in range(len(starts) - 1):
        start, end = starts[line], starts[line + 1]
        order = np.argsort(amounts[start:end])
        for position in range(end - start):
            positions[start + order[position]] = start + position
            ordered[start + position] = amounts[start + order[position]]
    return positions, ordered


@compiled
def _pack(starts: Ints, amounts: Ints, largest: int, longest: int, keys: Ints) -> None:
    """Line, amount and place within the line as one number; the latter two of so many bits."""
    for line in range(len(starts) - 1):
        for place in range(starts[line], starts[line + 1]):
            key = (line << largest) | amounts[place]
            keys[place] = (key << longest) | (place - starts[line])


@compiled
def _unpack(starts: Ints, largest: int, longest: int, positions: Places, keys: Ints) -> None:
    """Positions, and amounts in place of the numbers, which are sorted."""
    for line in range(len(starts) - 1):
        for position in range(starts[line], starts[line + 1]):
            key = keys[position]
            positions[starts[line] + (key & ((1 << longest) - 1))] = position
            keys[position] = (key >> longest) & ((1 << largest) - 1)


@compiled
def twice_medians(window: Window, positions: Places, ordered: Ints, found: Ints) -> Ints:
    """Twice the median amount of each decision's window; `found` is 0 where that is empty."""
    bits = np.zeros((len(ordered) >> 6) + 2, np.uint64)
    start = end = 0
    middle = below = 0  # a position in the window, and how many of it are smaller
    for at in range(len(found)):
        first, last = window.first[at], window.last[at]
        while end < last:
            position = positions[end]
            bits[position >> 6] |= _U1 << np.uint64(position & 63)
            if start == end:
                middle, below = position, 0
            below += position < middle
            end += 1
        while start < first:
            position = positions[start]
            bits[position >> 6] &= ~(_U1 << np.uint64(position & 63))
            below -= position < middle
            start += 1
        if first < last:
            middle, below = _seek(bits, middle, below, last - first)
            is_even = (last - first) & 1 == 0
            found[at] = ordered[middle] + ordered[_next(bits, middle) if is_even else middle]
    return found


@compiled
def medians(asked: Asked, window: Window, twice: Ints, out: Floats) -> None:
    """The median amount."""
    for at in range(len(asked.slots)):
        is_empty = window.first[at] == window.last[at]
        out[asked.slots[at]] = np.nan if is_empty else float(twice[at]) / 2.0


@compiled
def over_medians(asked: Asked, twice: Ints, out: Floats) -> None:
    """Own amount over the median."""
    for at in range(len(asked.slots)):
        median = float(twice[at]) / 2.0
        out[asked.slots[at]] = float(asked.amounts[at]) / median if median != 0 else np.nan


@compiled
def outliers(asked: Asked, window: Window, twice: Ints, factor: int) -> Flags:
    """Whether an amount exceeds `factor` times the median, by rank; all payments are asked."""
    found = np.zeros(len(asked.ranks), np.bool_)
    for at in range(len(asked.ranks)):
        if window.first[at] < window.last[at]:
            found[asked.ranks[at]] = 2 * asked.amounts[at] > factor * twice[at]
    return found


@compiled
def _seek(bits: Words, middle: int, below: int, size: int) -> tuple[int, int]:
    """The set bit with half of the others below it (rounded down), from any position nearby."""
    if (bits[middle >> 6] >> np.uint64(middle & 63)) & _U1 == _U0:
        if below < size:
            middle = _next(bits, middle)
        else:
            middle, below = _previous(bits, middle), below - 1
    while below < (size - 1) >> 1:
        middle, below = _next(bits, middle), below + 1
    while below > (size - 1) >> 1:
        middle, below = _previous(bits, middle), below - 1
    return middle, below


@compiled
def _next(bits: Words, position: int) -> int:
    """The first set bit after a position; there is one."""
    index = (position + 1) >> 6
    word = (bits[index] >> np.uint64((position + 1) & 63)) << np.uint64((position + 1) & 63)
    while word == _U0:
        index += 1
        word = bits[index]
    return (index << 6) + int(_zeros_below(word))


@compiled
def _previous(bits: Words, position: int) -> int:
    """The last set bit before a position; there is one."""
    index = position >> 6
    word = bits[index] & ((_U1 << np.uint64(position & 63)) - _U1)
    while word == _U0:
        index -= 1
        word = bits[index]
    return (index << 6) + 63 - int(_zeros_above(word))


@intrinsic
def _zeros_below(_context, word):  # type: ignore[no-untyped-def]
    """How many bits below the lowest that is set; a word is not zero."""

    def instruction(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(word), instruction


@intrinsic
def _zeros_above(_context, word):  # type: ignore[no-untyped-def]
    """How many bits above the highest that is set; a word is not zero."""

    def instruction(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(word), instruction
