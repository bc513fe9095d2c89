"""The online reading of a list of features, written out as straight Python functions.

Declarations do not change while a process runs. Going through them for every payment - which
window, which formula, which ring - costs several times what the arithmetic does, so it is done
once, and what is left is written down: every window is cut once, what several features need (a sum,
a spread) is worked out once, and nothing is looked up. The sources are plain text to look at
and to test.

Numbers become floats by `+ 0.0`, which gives the bits of `float()` at half its price. Where a
quotient's parts may be beyond 2^53, one of them is a float before they are divided: whoever divides
the integers rounds once, and not twice as every other engine does.
"""

import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import groupby
from math import sqrt
from typing import NamedTuple

from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.declaration import Function, Stream, Where
from fraud_platform.features.past import UNKNOWN, Entry, Past, Ring, Span, fingerprint

Number = float | None
Reading = Callable[[Transaction, Past, Past], tuple[Number, ...]]
"""The features of a payment, from the pasts of its card and of its terminal."""
Remembering = Callable[[TransactionEvent, bool], tuple[Entry, Entry]]
"""A payment as its card and its terminal remember it, from whether it is an outlier."""

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US

PLAIN: dict[Function, str] = {
    Function.AMOUNT: "amount + 0.0",
    Function.HOUR_OF_DAY: "now // HOUR_US % 24 + 0.0",
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: "((now // DAY_US + 3) % 7 >= 5) + 0.0",
    Function.IS_NIGHT: "(now // HOUR_US % 24 <= 6) + 0.0",
}
"""Formulas over the payment alone."""

FORMULAS: dict[tuple[Stream, Function], str] = {
    (Stream.PAYMENTS, Function.COUNT): "count + 0.0",
    (Stream.PAYMENTS, Function.SUM): "total + 0.0",
    (Stream.PAYMENTS, Function.MEAN): "(total + 0.0) / count if count else None",
    (Stream.PAYMENTS, Function.MIN): "ordered[0] + 0.0 if count else None",
    (Stream.PAYMENTS, Function.MAX): "ordered[-1] + 0.0 if count else None",
    (Stream.PAYMENTS, Function.MEDIAN): "twice_median / 2.0 if count else None",
    (Stream.PAYMENTS, Function.STD): "root / count if count else None",
    (Stream.PAYMENTS, Function.Z_SCORE): "(amount * count - total) / root if root else None",
    (Stream.PAYMENTS, Function.OVER_MEAN): "(amount + 0.0) * count / total if total else None",
    (Stream.PAYMENTS, Function.OVER_MEDIAN): (
        "amount / (twice_median / 2.0) if count and twice_median else None"
    ),
    (Stream.PAYMENTS, Function.SECONDS_SINCE_LAST): (
        "(now - times[last - 1]) / 1e6 if count else None"
    ),
    (Stream.PAYMENTS, Function.SECONDS_SINCE_FIRST): (
        "(now - times[first]) / 1e6 if count else None"
    ),
    (Stream.PAYMENTS, Function.DISTINCT): (
        "len(seen := {{*ring.values[{column}][first:last]}}) - (UNKNOWN in seen) + 0.0"
        " if count else 0.0"
    ),
    (Stream.PAYMENTS, Function.IS_FIRST): (
        "None if own_{value} == UNKNOWN"
        " else (not is_among(own_{value}, ring.values[{column}][first:last])) + 0.0"
    ),
    (Stream.FRAUDS, Function.COUNT): "len({frauds}) + 0.0",
    (Stream.FRAUDS, Function.RATE): "len({frauds}) / count if count else None",
    (Stream.FRAUDS, Function.SECONDS_SINCE_LAST): (
        "(now - {frauds}[-1].event_us) / 1e6 if {frauds} else None"
    ),
    (Stream.FRAUDS, Function.STREAK_LENGTH): "last - streak + 0.0",
    (Stream.FRAUDS, Function.SECONDS_SINCE_STREAK): (
        "(now - times[streak]) / 1e6 if streak < last else None"
    ),
    (Stream.GOOD, Function.SECONDS_SINCE_LAST): (
        "(now - times[streak - 1]) / 1e6 if streak > first else None"
    ),
}
"""Formulas over places first..last-1 of a ring; `frauds` are those of them that are known."""

_FACTS = {
    "count": "count = last - first",
    "total": "total = sums[last] - sums[first]",
    # Population standard deviation times the number of payments.
    "root": "root = sqrt(float(count * ring.squares(first, last) - total * total))",
    "ordered": "ordered = ring.ordered({slot}, first, last)",
    "twice_median": (
        "twice_median = ordered[count >> 1] + ordered[~(count >> 1)] if count else None"
    ),
    "streak": "streak = streak_of(frauds, ring, first, last) if frauds else last",
}
"""What several formulas of one window may need, in the order in which it is worked out."""

_BEGIN = """
def read(payment, card, terminal):
    now, amount = payment.event_us, payment.amount_minor
"""
# Strictly before the end: payments of the same instant do not see each other.
_END = """
    past = {entity}
    ring = past.rings[{ring}]
    times, sums = ring.times, ring.sums
    first, last = 0, len(times)
    if last and times[-1] >= now - {delay_us}:
        last = bisect_left(times, now - {delay_us})
"""
_START = """
    first = bisect_left(times, now - {reach_us}, first, last)
"""
_SHORT_START = """
    if last > first and times[last - 1] < now - {reach_us}:
        first = last
    else:
        first = bisect_left(times, now - {reach_us}, first, last)
"""
_ENTRIES = """
def entries(event, is_outlier):
    seq, payment = event
    us, amount = payment.event_us, payment.amount_minor
    return (
"""
_FACT_OF = {"is_outlier": "is_outlier"}
"""Facts that no column of a payment holds."""
_SHORT_US = _DAY_US
"""Windows of this length are so often empty that it pays to look before searching."""
_KNOWN = """
    frauds = past.frauds.spans and past.frauds.known(now - {reach_us}, now - {delay_us}, now)
"""
_KNOWN_OF_LONGER = """
    frauds = frauds and since(frauds, now - {reach_us})
"""


class Asked(NamedTuple):
    """One feature over a past, as it is read.

    Attributes:
        entity: card or terminal.
        ring: which ring of its past.
        delay_us: age of the end of the window.
        reach_us: age of its start.
        place: of the feature among all.
        formula: key of `FORMULAS`.
        value: the column of texts it looks at; empty for none.
        column: the place of that among the ring's values.
        bit: of the marks that frauds need; -1 for none.
    """

    entity: str
    ring: int
    delay_us: int
    reach_us: int
    place: int
    formula: tuple[Stream, Function]
    value: str
    column: int
    bit: int

    @property
    def is_about_frauds(self) -> bool:
        """Whether it needs to know which of the payments are frauds."""
        return self.formula[0] is not Stream.PAYMENTS


Slots = dict[tuple[str, int], list[tuple[int, int]]]
"""For each entity and ring: delay and reach of the windows whose amounts are kept in order."""


def reading_source(plain: dict[int, Function], asked: list[Asked], slots: Slots) -> str:
    """The function `read(payment, card, terminal)`, as text.

    Args:
        plain: functions of the payment alone, by their place.
        asked: all other features.
        slots: numbers of windows that are kept in order; those that are missing are added.

    Examples:
        >>> print(reading_source({0: Function.AMOUNT}, [], {}))
        def read(payment, card, terminal):
            now, amount = payment.event_us, payment.amount_minor
            value_0 = amount + 0.0
            return (value_0,)
    """
    lines = [_BEGIN.strip("\n")]
    lines += [f"    value_{place} = {PLAIN[function]}" for place, function in plain.items()]
    owns = {a.value for a in asked if a.formula[1] is Function.IS_FIRST}
    lines += [f"    own_{value} = fingerprint(payment.{value})" for value in sorted(owns)]
    ordered = sorted(asked, key=lambda a: (*a[:3], -a.reach_us))  # each window within the last
    for (entity, ring, delay_us), of_end in groupby(ordered, lambda a: a[:3]):
        end = _END.format(entity=entity, ring=ring, delay_us=delay_us)
        lines.append(end.strip("\n"))
        lines += _windows(list(of_end), slots.setdefault((entity, ring), []))
    places = sorted([*plain, *(a.place for a in asked)])
    return "\n".join(
        [*lines, f"    return ({''.join(f'value_{place}, ' for place in places)[:-1]})"]
    )


def entries_source(told: list[tuple[tuple[str, ...], tuple[Where, ...]]]) -> str:
    """The function `entries(event, is_outlier)`, as text.

    Args:
        told: of each kind of past: the columns whose texts it remembers, and the conditions it
            marks payments with.

    Examples:
        >>> print(entries_source([(("country",), (Where("entry_mode", "chip"),)), ((), ())]))
        def entries(event, is_outlier):
            seq, payment = event
            us, amount = payment.event_us, payment.amount_minor
            return (
                new(Entry, (us, seq, amount, \
(payment.entry_mode == 'chip') << 0, (fingerprint(payment.country),))),
                new(Entry, (us, seq, amount, 0, ())),
            )
    """
    lines = [_ENTRIES.strip("\n")]
    for values, wheres in told:
        marks = [
            f"({_FACT_OF.get(where.fact, f'payment.{where.fact}')} == {where.equals!r}) << {bit}"
            for bit, where in enumerate(wheres)
        ]
        prints = "".join(f"fingerprint(payment.{value})," for value in values)
        entry = f"(us, seq, amount, {' | '.join(marks) or 0}, ({prints}))"
        lines.append(f"        new(Entry, {entry}),")
    return "\n".join([*lines, "    )"])


def compiled_reading(source: str) -> Reading:
    """What `reading_source` wrote, as a function."""
    names = {
        "HOUR_US": _HOUR_US,
        "DAY_US": _DAY_US,
        "UNKNOWN": UNKNOWN,
        "bisect_left": bisect_left,
        "fingerprint": fingerprint,
        "is_among": _is_among,
        "marked": _marked,
        "since": _since,
        "sqrt": sqrt,
        "streak_of": _streak_of,
    }
    read: Reading = _compiled(source, names)["read"]  # type: ignore[assignment]  # written so
    return read


def compiled_entries(source: str) -> Remembering:
    """What `entries_source` wrote, as a function."""
    # Entry's own constructor would be one more call of a Python function.
    names = {"Entry": Entry, "fingerprint": fingerprint, "new": tuple.__new__}
    entries: Remembering = _compiled(source, names)["entries"]  # type: ignore[assignment]  # written so
    return entries


def _compiled(source: str, names: dict[str, object]) -> dict[str, object]:
    exec(compile(source, "<written>", "exec"), names)  # noqa: S102 -- text of this module, from our own declarations
    return names


def _windows(of_end: list[Asked], slots: list[tuple[int, int]]) -> Iterator[str]:
    """The lines of all windows that end at one place, the longest first."""
    known = _KNOWN
    for reach_us, of_window in groupby(of_end, lambda a: a.reach_us):
        window = list(of_window)
        edges = {"reach_us": reach_us, "delay_us": window[0].delay_us}
        values = "\n".join(_values(window, slots))
        if "first" in values:
            is_short = reach_us - window[0].delay_us <= _SHORT_US
            yield (_SHORT_START if is_short else _START).format(**edges).strip("\n")
        if any(asked.is_about_frauds for asked in window):
            yield known.format(**edges).strip("\n")
            known = _KNOWN_OF_LONGER
        yield values


def _values(window: list[Asked], slots: list[tuple[int, int]]) -> Iterator[str]:
    """The lines that work out the features of one window."""
    formulas = [(asked, _formula(asked)) for asked in window]
    needed: set[str] = set()
    for fact in reversed(_FACTS):  # a fact needs only those that stand before it
        texts = [*(formula for _, formula in formulas), *(_FACTS[name] for name in needed)]
        if any(re.search(rf"\b{fact}\b", text) for text in texts):
            needed.add(fact)
    slot, edges = -1, (window[0].delay_us, window[0].reach_us)
    if "ordered" in needed:
        if edges not in slots:
            slots.append(edges)
        slot = slots.index(edges)
    yield from (f"    {line.format(slot=slot)}" for fact, line in _FACTS.items() if fact in needed)
    for asked, formula in formulas:
        if asked.bit >= 0 and asked.is_about_frauds:
            yield f"    marked_{asked.bit} = frauds and marked(frauds, {asked.bit})"
        yield f"    value_{asked.place} = {formula}"


def _formula(asked: Asked) -> str:
    frauds = "frauds" if asked.bit < 0 else f"marked_{asked.bit}"
    return FORMULAS[asked.formula].format(value=asked.value, column=asked.column, frauds=frauds)


def _is_among(own: int, values: "array[int]") -> bool:
    """Whether a fingerprint is one of some values; bytes are searched without making numbers."""
    place = values.tobytes().rfind(own.to_bytes(8, sys.byteorder, signed=True))
    # Found across the border of two values, it says nothing about the rest.
    return own in values if place % 8 and place > 0 else place >= 0


def _since(frauds: list[Span], start_us: int) -> list[Span]:
    """Those of the frauds that happened at or after a moment."""
    return [fraud for fraud in frauds if fraud.event_us >= start_us]


def _marked(frauds: list[Span], bit: int) -> list[Span]:
    """Those of the frauds that bear a mark."""
    return [fraud for fraud in frauds if fraud.marks >> bit & 1]


def _streak_of(frauds: list[Span], ring: Ring, first: int, last: int) -> int:
    """Place of the oldest of the newest payments that are frauds without a gap; last if none."""
    known = {fraud.payment_seq for fraud in frauds}
    while last > first and ring.seqs[last - 1] in known:
        last -= 1
    return last
