"""The features of one payment: the online reading of a declaration.

What a card and a terminal have been through is a `Past` each; where they are kept - in memory, in a
file, on a server - does not matter here, so every store answers with the same bits. A window is two
binary searches and one subtraction; state is integers, and a float is made once, at the end.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

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
)
from fraud_platform.features.past import UNKNOWN, Entry, Past, Ring, Span, Verdict, fingerprint
from fraud_platform.features.spec import FEATURES, LATENESS

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_REFERENCE_US = OUTLIER_REFERENCE // MICROSECOND

Number = float | None


_NO_FRAUDS: list[Span] = []


class Look:
    """One payment looking at one window of one ring: its places first..last-1.

    Attributes:
        payment: the payment that is decided on.
        own: fingerprints of the payment's own value columns.
        past: of its card or its terminal.
        bit: which mark counts, or -1 for all payments.
        ring: the payments of the past that count; all, where only verdicts are asked for.
        start_us: of the window, inclusive.
        end_us: of the window, exclusive.
        first: place of the oldest payment seen.
        last: place after the newest.
        count: number of payments seen.
    """

    __slots__ = (
        *("payment", "own", "past", "bit", "ring", "start_us", "end_us", "first", "last", "count"),
        *("_frauds", "_streak"),
    )

    def __init__(  # noqa: PLR0913 -- a value, filled once
        self,
        payment: Transaction,
        own: tuple[int, ...],
        past: Past,
        ring: Ring,
        bit: int,
        start_us: int,
        end_us: int,
        last: int,
    ) -> None:
        self.payment, self.own, self.past, self.bit = payment, own, past, bit
        self.start_us, self.end_us = start_us, end_us
        self.ring = ring
        self.first = first = bisect_left(ring.times, start_us, 0, last)
        self.last, self.count = last, last - first
        self._frauds: list[Span] | None = None
        self._streak = -1

    @property
    def total(self) -> int:
        """Sum of the amounts seen."""
        sums = self.ring.sums
        return sums[self.last] - sums[self.first]

    @property
    def amounts(self) -> Sequence[int]:
        """The amounts seen, oldest first."""
        return self.ring.amounts[self.first : self.last]

    @property
    def root(self) -> float:
        """Population standard deviation times the number of payments."""
        squares = self.ring.squares(self.first, self.last)
        return sqrt(float(self.count * squares - self.total**2))

    @property
    def frauds(self) -> list[Span]:
        """Payments of the window that are known to be fraud now, oldest first."""
        if not self.past.frauds.spans:
            return _NO_FRAUDS
        if self._frauds is None:
            known = self.past.frauds.known(self.start_us, self.end_us, self.payment.event_us)
            self._frauds = [f for f in known if self.bit < 0 or f.marks >> self.bit & 1]
        return self._frauds

    @property
    def streak(self) -> int:
        """How many of the newest payments seen are known frauds, without a gap."""
        if not self.frauds:
            return 0
        if self._streak < 0:
            known = {fraud.payment_seq for fraud in self.frauds}
            place = self.last
            while place > self.first and self.ring.seqs[place - 1] in known:
                place -= 1
            self._streak = self.last - place
        return self._streak

    def seconds_since(self, then_us: int) -> float:
        """Age of an event, seconds."""
        return float(self.payment.event_us - then_us) / 1e6


def _over(numerator: float, denominator: float) -> Number:
    return numerator / denominator if denominator else None


def _median(look: Look) -> Number:
    if not look.count:
        return None
    return float(look.ring.twice_median(look.first, look.last)) / 2.0


def _over_median(look: Look) -> Number:
    median = _median(look)
    return _over(float(look.payment.amount_minor), median) if median else None


def _z_score(look: Look) -> Number:
    return _over(float(look.payment.amount_minor * look.count - look.total), look.root)


def _newest(look: Look) -> Number:
    return look.seconds_since(look.ring.times[look.last - 1]) if look.count else None


def _oldest(look: Look) -> Number:
    return look.seconds_since(look.ring.times[look.first]) if look.count else None


def _newest_fraud(look: Look) -> Number:
    return look.seconds_since(look.frauds[-1].event_us) if look.frauds else None


def _streak_start(look: Look) -> Number:
    if not look.streak:
        return None
    return look.seconds_since(look.ring.times[look.last - look.streak])


def _newest_good(look: Look) -> Number:
    if look.streak == look.count:
        return None
    return look.seconds_since(look.ring.times[look.last - look.streak - 1])


_FORMULAS: dict[tuple[Stream, Function], Callable[[Look], Number]] = {
    (Stream.PAYMENTS, Function.COUNT): lambda look: float(look.count),
    (Stream.PAYMENTS, Function.SUM): lambda look: float(look.total),
    (Stream.PAYMENTS, Function.MEAN): lambda look: _over(float(look.total), float(look.count)),
    (Stream.PAYMENTS, Function.MIN): lambda look: float(min(look.amounts)) if look.count else None,
    (Stream.PAYMENTS, Function.MAX): lambda look: float(max(look.amounts)) if look.count else None,
    (Stream.PAYMENTS, Function.MEDIAN): _median,
    (Stream.PAYMENTS, Function.STD): lambda look: _over(look.root, float(look.count)),
    (Stream.PAYMENTS, Function.Z_SCORE): _z_score,
    (Stream.PAYMENTS, Function.OVER_MEAN): lambda look: _over(
        float(look.payment.amount_minor) * float(look.count), float(look.total)
    ),
    (Stream.PAYMENTS, Function.OVER_MEDIAN): _over_median,
    (Stream.PAYMENTS, Function.SECONDS_SINCE_LAST): _newest,
    (Stream.PAYMENTS, Function.SECONDS_SINCE_FIRST): _oldest,
    (Stream.FRAUDS, Function.COUNT): lambda look: float(len(look.frauds)),
    (Stream.FRAUDS, Function.RATE): lambda look: _over(float(len(look.frauds)), float(look.count)),
    (Stream.FRAUDS, Function.SECONDS_SINCE_LAST): _newest_fraud,
    (Stream.FRAUDS, Function.STREAK_LENGTH): lambda look: float(look.streak),
    (Stream.FRAUDS, Function.SECONDS_SINCE_STREAK): _streak_start,
    (Stream.GOOD, Function.SECONDS_SINCE_LAST): _newest_good,
}


def _distinct(column: int) -> Callable[[Look], Number]:
    def distinct(look: Look) -> Number:
        seen = set(look.ring.values[column][look.first : look.last])
        seen.discard(UNKNOWN)
        return float(len(seen))

    return distinct


def _is_first(column: int) -> Callable[[Look], Number]:
    def is_first(look: Look) -> Number:
        own = look.own[column]
        if own == UNKNOWN:
            return None
        return float(own not in look.ring.values[column][look.first : look.last])

    return is_first


_OF_VALUES = {Function.DISTINCT: _distinct, Function.IS_FIRST: _is_first}

_PLAIN: dict[Function, Callable[[Look], Number]] = {
    Function.AMOUNT: lambda look: float(look.payment.amount_minor),
    Function.HOUR_OF_DAY: lambda look: float(look.payment.event_us // _HOUR_US % 24),
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: lambda look: float((look.payment.event_us // _DAY_US + 3) % 7 >= 5),
    Function.IS_NIGHT: lambda look: float(look.payment.event_us // _HOUR_US % 24 <= 6),
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
        values = self.fingerprints(payment)
        return Entry(payment.event_us, event.seq, payment.amount_minor, marks, values)

    def fingerprints(self, payment: Transaction) -> tuple[int, ...]:
        """The payment's own values."""
        return tuple([fingerprint(getattr(payment, name)) for name in self.values])


def _counts_payments(feature: Feature) -> bool:
    """Whether it looks at payments that pass its `where`, not only at verdicts on them."""
    return feature.stream is Stream.PAYMENTS or feature.function is Function.RATE


class Reader:
    """Works out features, and what pasts must remember for them.

    Args:
        features: what `values` answers, in this order.

    Attributes:
        features: the same.
        layouts: of the pasts, by kind of entity.
        horizon_us: age behind the newest payment at which a past may forget.
    """

    def __init__(self, features: tuple[Feature, ...] = FEATURES) -> None:
        self.features = features
        self.layouts = {entity: Layout.of(features, entity) for entity in ENTITY_COLUMNS}
        lookback = max((feature.lookback for feature in features), default=LATENESS * 0)
        self.horizon_us = (lookback + LATENESS) // MICROSECOND
        self._marks_outliers = any(feature.needs_marks for feature in features)
        # Worked out once: which windows to cut, and which formula reads which of them.
        windowed = {f.name: self._window(f) for f in features if f.window is not None}
        windows = list(dict.fromkeys(windowed.values()))
        ends = list(dict.fromkeys((side, ring, delay) for side, ring, _, delay, _ in windows))
        self._ends = ends
        self._windows = [(ends.index((w[0], w[1], w[3])), *w) for w in windows]
        self._formulas = [
            (self._formula(feature), windows.index(windowed[feature.name]))
            if feature.window is not None
            else (_PLAIN[feature.function], -1)
            for feature in features
        ]

    def values(self, payment: Transaction, card: Past, terminal: Past) -> tuple[Number, ...]:
        """The features of a payment, given what its card and its terminal have been through.

        Returns:
            One value per feature, in order; None where the feature is undefined.
        """
        now = payment.event_us
        pasts = (card, terminal)
        own = [layout.fingerprints(payment) for layout in self.layouts.values()]
        # Strictly before the end: payments of the same instant do not see each other.
        lasts = [
            bisect_left(pasts[side].rings[ring].times, now - delay_us)
            for side, ring, delay_us in self._ends
        ]
        looks = [
            Look(
                payment,
                own[side],
                pasts[side],
                pasts[side].rings[ring],
                bit,
                now - reach_us,
                now - delay_us,
                lasts[end],
            )
            for end, side, ring, bit, delay_us, reach_us in self._windows
        ]
        looks.append(Look(payment, (), card, card.rings[0], -1, now, now, 0))  # of it alone
        return tuple([formula(looks[place]) for formula, place in self._formulas])

    def entries(self, event: TransactionEvent, card: Past) -> tuple[Entry, Entry]:
        """A payment as its card and its terminal remember it.

        Args:
            event: the payment.
            card: the card's past, before it.
        """
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

    def _window(self, feature: Feature) -> tuple[int, int, int, int, int]:
        """Side (0 card, 1 terminal), ring, bit of the marks (-1: all), delay and reach."""
        layout = self.layouts[feature.entity]
        bit = -1 if feature.where is None else layout.wheres.index(feature.where)
        side = list(self.layouts).index(feature.entity)
        ring = bit + 1 if bit < layout.ringed else 0
        return side, ring, bit, feature.delay_us, feature.reach_us

    def _formula(self, feature: Feature) -> Callable[[Look], Number]:
        if feature.value is None:
            return _FORMULAS[feature.stream, feature.function]
        column = self.layouts[feature.entity].values.index(feature.value)
        return _OF_VALUES[feature.function](column)


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
