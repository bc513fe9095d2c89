"""The features of one payment: the online reading of a declaration.

What a card and a terminal have been through is a `Past` each; where they are kept - in memory, in a
file, on a server - does not matter here, so every store answers with the same bits. A window is two
binary searches and one subtraction; state is integers, and a float is made once, at the end.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from fraud_platform.events import LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    MICROSECOND,
    OUTLIER_FACTOR,
    OUTLIER_REFERENCE,
    Feature,
    Function,
    Stream,
    Where,
    digest_of,
    refuse_beyond,
)
from fraud_platform.features.past import UNKNOWN, Entry, Past, Ring, Span, Verdict, fingerprint
from fraud_platform.features.spec import FEATURES, LATENESS

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_LATENESS_US = LATENESS // MICROSECOND
_REFERENCE_US = OUTLIER_REFERENCE // MICROSECOND
_STATE_FORMAT = 1
"""Raise it when packed pasts change while the features do not."""

Number = float | None
Of = Callable[[Ring, int, int, Transaction], Number]
"""A formula over places first..last-1 of a ring, for the payment that is decided on."""
OfFrauds = Callable[[list[Span], Ring, int, int, Transaction], Number]
"""A formula that also looks at those of the payments that are known frauds, oldest first."""


def _over(numerator: float, denominator: float) -> Number:
    return numerator / denominator if denominator else None


def _seconds_since(then_us: int, payment: Transaction) -> float:
    return float(payment.event_us - then_us) / 1e6


def _count(_: Ring, first: int, last: int, __: Transaction) -> Number:
    return float(last - first)


def _sum(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return float(ring.sums[last] - ring.sums[first])


def _mean(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return _over(float(ring.sums[last] - ring.sums[first]), float(last - first))


def _min(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return float(min(ring.amounts[first:last])) if last > first else None


def _max(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return float(max(ring.amounts[first:last])) if last > first else None


def _median(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return float(ring.twice_median(first, last)) / 2.0 if last > first else None


def _root(ring: Ring, first: int, last: int) -> float:
    """Population standard deviation times the number of payments."""
    total = ring.sums[last] - ring.sums[first]
    return sqrt(float((last - first) * ring.squares(first, last) - total * total))


def _std(ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return _over(_root(ring, first, last), float(last - first))


def _z_score(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
    distance = payment.amount_minor * (last - first) - (ring.sums[last] - ring.sums[first])
    return _over(float(distance), _root(ring, first, last))


def _over_mean(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
    amounts = float(payment.amount_minor) * float(last - first)
    return _over(amounts, float(ring.sums[last] - ring.sums[first]))


def _over_median(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
    if last == first:
        return None
    return _over(float(payment.amount_minor), float(ring.twice_median(first, last)) / 2.0)


def _newest(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
    return _seconds_since(ring.times[last - 1], payment) if last > first else None


def _oldest(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
    return _seconds_since(ring.times[first], payment) if last > first else None


_OF_PAYMENTS: dict[Function, Of] = {
    Function.COUNT: _count,
    Function.SUM: _sum,
    Function.MEAN: _mean,
    Function.MIN: _min,
    Function.MAX: _max,
    Function.MEDIAN: _median,
    Function.STD: _std,
    Function.Z_SCORE: _z_score,
    Function.OVER_MEAN: _over_mean,
    Function.OVER_MEDIAN: _over_median,
    Function.SECONDS_SINCE_LAST: _newest,
    Function.SECONDS_SINCE_FIRST: _oldest,
}


def _distinct(column: int, _: str) -> Of:
    def distinct(ring: Ring, first: int, last: int, _: Transaction) -> Number:
        seen = set(ring.values[column][first:last])
        seen.discard(UNKNOWN)
        return float(len(seen))

    return distinct


def _is_first(column: int, name: str) -> Of:
    def is_first(ring: Ring, first: int, last: int, payment: Transaction) -> Number:
        own = fingerprint(getattr(payment, name))
        return None if own == UNKNOWN else float(own not in ring.values[column][first:last])

    return is_first


_OF_VALUES: dict[Function, Callable[[int, str], Of]] = {
    Function.DISTINCT: _distinct,
    Function.IS_FIRST: _is_first,
}


def _streak(frauds: list[Span], ring: Ring, first: int, last: int) -> int:
    """Place of the oldest of the newest payments that are frauds without a gap; last if none."""
    known = {fraud.payment_seq for fraud in frauds}
    while last > first and ring.seqs[last - 1] in known:
        last -= 1
    return last


def _fraud_count(frauds: list[Span], _: Ring, __: int, ___: int, ____: Transaction) -> Number:
    return float(len(frauds))


def _fraud_rate(frauds: list[Span], _: Ring, first: int, last: int, __: Transaction) -> Number:
    return _over(float(len(frauds)), float(last - first))


def _newest_fraud(frauds: list[Span], _: Ring, __: int, ___: int, payment: Transaction) -> Number:
    return _seconds_since(frauds[-1].event_us, payment) if frauds else None


def _streak_length(frauds: list[Span], ring: Ring, first: int, last: int, _: Transaction) -> Number:
    return float(last - _streak(frauds, ring, first, last))


def _streak_age(
    frauds: list[Span], ring: Ring, first: int, last: int, payment: Transaction
) -> Number:
    start = _streak(frauds, ring, first, last)
    return _seconds_since(ring.times[start], payment) if start < last else None


def _newest_good(
    frauds: list[Span], ring: Ring, first: int, last: int, payment: Transaction
) -> Number:
    return _newest(ring, first, _streak(frauds, ring, first, last), payment)


_OF_LABELS: dict[tuple[Stream, Function], OfFrauds] = {
    (Stream.FRAUDS, Function.COUNT): _fraud_count,
    (Stream.FRAUDS, Function.RATE): _fraud_rate,
    (Stream.FRAUDS, Function.SECONDS_SINCE_LAST): _newest_fraud,
    (Stream.FRAUDS, Function.STREAK_LENGTH): _streak_length,
    (Stream.FRAUDS, Function.SECONDS_SINCE_STREAK): _streak_age,
    (Stream.GOOD, Function.SECONDS_SINCE_LAST): _newest_good,
}

_PLAIN: dict[Function, Callable[[Transaction], Number]] = {
    Function.AMOUNT: lambda payment: float(payment.amount_minor),
    Function.HOUR_OF_DAY: lambda payment: float(payment.event_us // _HOUR_US % 24),
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: lambda payment: float((payment.event_us // _DAY_US + 3) % 7 >= 5),
    Function.IS_NIGHT: lambda payment: float(payment.event_us // _HOUR_US % 24 <= 6),
}


@dataclass(frozen=True)
class Layout:
    """What the pasts of one kind of entity must remember for a list of features.

    Attributes:
        values: the columns of texts that are remembered by fingerprint.
        wheres: the conditions that payments are marked with.
        ringed: so many of the first of them have a ring of their own; verdicts need none.
    """

    values: tuple[str, ...]
    wheres: tuple[Where, ...]
    ringed: int

    @classmethod
    def of(cls, features: tuple[Feature, ...], entity: str) -> "Layout":
        """What these features ask of the pasts of an entity."""
        mine = [feature for feature in features if feature.entity == entity]
        ringed = dict.fromkeys(f.where for f in mine if f.where and _counts_payments(f))
        return cls(
            values=tuple(dict.fromkeys(f.value for f in mine if f.value)),
            wheres=tuple(dict.fromkeys([*ringed, *(f.where for f in mine if f.where)])),
            ringed=len(ringed),
        )

    @property
    def outliers(self) -> int:
        """The bits of the marks that say whether a payment is an outlier."""
        about = (where.fact == "is_outlier" for where in self.wheres)
        return sum(1 << bit for bit, is_about in enumerate(about) if is_about)

    def new_past(self) -> Past:
        """A past that remembers nothing yet."""
        return Past(len(self.values), self.ringed)

    def unpack(self, packed: bytes) -> Past:
        """A past of this layout from its bytes."""
        return Past.unpack(packed, len(self.values), self.ringed)

    def entry(self, event: TransactionEvent, *, is_outlier: bool) -> Entry:
        """A payment as a past of this layout remembers it."""
        payment, marks = event.transaction, 0
        for bit, where in enumerate(self.wheres):
            fact = is_outlier if where.fact == "is_outlier" else getattr(payment, where.fact)
            if fact == where.equals:
                marks |= 1 << bit
        values = tuple([fingerprint(getattr(payment, name)) for name in self.values])
        return Entry(payment.event_us, event.seq, payment.amount_minor, marks, values)


def _state_digest(features: tuple[Feature, ...], horizon_us: int) -> str:
    parts = f"{_STATE_FORMAT} {horizon_us} {_LATENESS_US} {digest_of(features)}"
    return hashlib.sha256(parts.encode()).hexdigest()


def _counts_payments(feature: Feature) -> bool:
    """Whether it looks at payments that pass its `where`, not only at verdicts on them."""
    return feature.stream is Stream.PAYMENTS or feature.function is Function.RATE


class _Window(NamedTuple):
    """One window and all that is read from it.

    Attributes:
        reach_us: age of its start.
        of_payments: formula and place of each answer.
        of_frauds: the same with the bit of the marks that frauds need, -1 for none.
    """

    reach_us: int
    of_payments: list[tuple[Of, int]]
    of_frauds: list[tuple[OfFrauds, int, int]]


class Reader:
    """Works out features, and what pasts must remember for them.

    Args:
        features: what `values` answers, in this order.

    Attributes:
        features: the same.
        layouts: of the pasts, by kind of entity.
        horizon_us: age behind the newest payment at which a past may forget.
        state_digest: SHA-256 (hex) of what decides which pasts are kept, and how they are packed;
            a state that was kept under another one is not continued.
    """

    def __init__(self, features: tuple[Feature, ...] = FEATURES) -> None:
        self.features = features
        self.layouts = {entity: Layout.of(features, entity) for entity in ENTITY_COLUMNS}
        lookback = max((feature.lookback for feature in features), default=LATENESS * 0)
        self.horizon_us = (lookback + LATENESS) // MICROSECOND
        self.state_digest = _state_digest(features, self.horizon_us)
        self._marks_outliers = any(feature.needs_marks for feature in features)
        # Worked out once: which windows to cut, and what to read from each of them.
        self._plain: list[tuple[Callable[[Transaction], Number], int]] = []
        self._ends: dict[tuple[int, int, int], list[_Window]] = {}  # by side, ring and delay
        for place, feature in enumerate(features):
            if feature.window is None:
                self._plain.append((_PLAIN[feature.function], place))
            else:
                self._plan(feature, place)

    def values(self, payment: Transaction, card: Past, terminal: Past) -> tuple[Number, ...]:
        """The features of a payment, given what its card and its terminal have been through.

        Returns:
            One value per feature, in order; None where the feature is undefined.
        """
        now, pasts = payment.event_us, (card, terminal)
        found: list[Number] = [None] * len(self.features)
        for of, place in self._plain:
            found[place] = of(payment)
        for (side, ring_at, delay_us), windows in self._ends.items():
            past = pasts[side]
            ring = past.rings[ring_at]
            times = ring.times
            # Strictly before the end: payments of the same instant do not see each other.
            last = bisect_left(times, now - delay_us)
            for reach_us, of_payments, of_frauds in windows:
                first = bisect_left(times, now - reach_us, 0, last)
                for of_window, place in of_payments:
                    found[place] = of_window(ring, first, last, payment)
                if of_frauds:
                    known = past.frauds.known(now - reach_us, now - delay_us, now)
                    for of_known, bit, place in of_frauds:
                        marked = known if bit < 0 else [f for f in known if f.marks >> bit & 1]
                        found[place] = of_known(marked, ring, first, last, payment)
        return tuple(found)

    @staticmethod
    def is_late(event_us: int, newest_us: int) -> bool:
        """Whether a decision may no longer find its whole window behind the newest payment."""
        return event_us < newest_us - _LATENESS_US

    def entries(self, event: TransactionEvent, card: Past) -> tuple[Entry, Entry]:
        """A payment as its card and its terminal remember it.

        Args:
            event: the payment.
            card: the card's past, before it.

        Raises:
            PermanentError: the amount is too large for exact sums.
        """
        refuse_beyond(abs(event.transaction.amount_minor))
        is_outlier = self._marks_outliers and self._is_outlier(event.transaction, card)
        card_entry, terminal_entry = (
            layout.entry(event, is_outlier=is_outlier) for layout in self.layouts.values()
        )
        return card_entry, terminal_entry

    @staticmethod
    def _is_outlier(payment: Transaction, card: Past) -> bool:
        ring = card.rings[0]
        last = bisect_left(ring.times, payment.event_us)
        first = bisect_left(ring.times, payment.event_us - _REFERENCE_US, 0, last)
        if first == last:
            return False
        return 2 * payment.amount_minor > OUTLIER_FACTOR * ring.twice_median(first, last)

    def _plan(self, feature: Feature, place: int) -> None:
        """Add a feature to the window it is read from; sides are 0 for card, 1 for terminal."""
        layout = self.layouts[feature.entity]
        bit = -1 if feature.where is None else layout.wheres.index(feature.where)
        side = list(self.layouts).index(feature.entity)
        ring = bit + 1 if bit < layout.ringed else 0
        windows = self._ends.setdefault((side, ring, feature.delay_us), [])
        window = next((w for w in windows if w.reach_us == feature.reach_us), None)
        if window is None:
            window = _Window(feature.reach_us, [], [])
            windows.append(window)
        if feature.stream is not Stream.PAYMENTS:
            of_known = _OF_LABELS[feature.stream, feature.function]
            window.of_frauds.append((of_known, bit, place))
        elif feature.value is not None:
            column = layout.values.index(feature.value)
            of = _OF_VALUES[feature.function](column, feature.value)
            window.of_payments.append((of, place))
        else:
            window.of_payments.append((_OF_PAYMENTS[feature.function], place))


def verdict_of(label: LabelEvent, past: Past) -> Verdict:
    """A verdict as a past remembers it.

    Args:
        label: the verdict.
        past: of the entity, which remembers the payment it is about.
    """
    about = label.transaction.event_us
    return Verdict(
        event_us=about,
        payment_seq=label.transaction_seq,
        known_us=label.known_us,
        seq=label.seq,
        is_fraud=label.verdict == "fraud",
        marks=past.marks_of(about, label.transaction_seq),
    )
