"""The features of one payment at a time: the state a scorer keeps, folded from the event log.

State, all of it a deterministic fold of the log's events in seq order (no clock, no randomness):

* per card and per terminal a *ring*: four columns sorted by event time (time, running amount sum,
  amount, partner entity); a window is two binary searches and one subtraction;
* beside it the *spans* of time during which each labelled transaction was known to be fraud;
* the last seq applied, and the newest event time.

Entries older than `newest - LOOKBACK - LATENESS` are dropped, a few per event. A decision that is
not late (`is_late`) therefore always finds its whole window. Not safe for use from several threads.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from fraud_platform.events import Event, LabelEvent, Transaction
from fraud_platform.features.past import Past
from fraud_platform.features.spec import (
    FEATURES,
    LATENESS,
    MICROSECOND,
    Feature,
    Function,
)

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_LATENESS_US = LATENESS // MICROSECOND
_ENTITIES = ("card", "terminal")
_NO_PAST = Past()  # of a card or terminal never seen; nothing is ever inserted here
_SWEEP = 2  # pasts visited per event for dropping: more than the one an event can create


class _Look(NamedTuple):
    """One payment, one past and one window [start, end), at places first..last-1 of the ring."""

    payment: Transaction
    partner: str
    past: Past
    start_us: int
    end_us: int
    first: int
    last: int

    @property
    def amount_sum(self) -> int:
        return self.past.ring.sums[self.last] - self.past.ring.sums[self.first]

    @property
    def fraud_count(self) -> int:
        return self.past.frauds.count(self.start_us, self.end_us, self.payment.event_us)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _count(look: _Look) -> float:
    return float(look.last - look.first)


def _amount_sum(look: _Look) -> float:
    return float(look.amount_sum)


def _amount_mean(look: _Look) -> float | None:
    return _ratio(float(look.amount_sum), float(look.last - look.first))


def _amount_max(look: _Look) -> float | None:
    window = look.past.ring.amounts[look.first : look.last]
    return float(max(window)) if window else None


def _amount_over_mean(look: _Look) -> float | None:
    count = float(look.last - look.first)
    return _ratio(float(look.payment.amount_minor) * count, float(look.amount_sum))


def _distinct_partners(look: _Look) -> float:
    return float(len(set(look.past.ring.partners[look.first : look.last])))


def _is_new_partner(look: _Look) -> float:
    return float(look.partner not in look.past.ring.partners[look.first : look.last])


def _seconds_since_last(look: _Look) -> float | None:
    if look.first == look.last:
        return None
    return float(look.payment.event_us - look.past.ring.times[look.last - 1]) / 1e6


def _fraud_count(look: _Look) -> float:
    return float(look.fraud_count)


def _fraud_rate(look: _Look) -> float | None:
    return _ratio(float(look.fraud_count), float(look.last - look.first))


_VALUES: dict[Function, Callable[[_Look], float | None]] = {
    Function.AMOUNT: lambda look: float(look.payment.amount_minor),
    Function.HOUR_OF_DAY: lambda look: float(look.payment.event_us // _HOUR_US % 24),
    # Day 0 of the epoch was a Thursday, weekday 3 when Monday is 0.
    Function.IS_WEEKEND: lambda look: float((look.payment.event_us // _DAY_US + 3) % 7 >= 5),
    Function.IS_NIGHT: lambda look: float(look.payment.event_us // _HOUR_US % 24 <= 6),
    Function.COUNT: _count,
    Function.AMOUNT_SUM: _amount_sum,
    Function.AMOUNT_MEAN: _amount_mean,
    Function.AMOUNT_MAX: _amount_max,
    Function.AMOUNT_OVER_MEAN: _amount_over_mean,
    Function.DISTINCT_PARTNERS: _distinct_partners,
    Function.IS_NEW_PARTNER: _is_new_partner,
    Function.SECONDS_SINCE_LAST: _seconds_since_last,
    Function.FRAUD_COUNT: _fraud_count,
    Function.FRAUD_RATE: _fraud_rate,
}


class FeatureRings:
    """The online state: `apply` every event of the log in order, `read` before each decision.

    Args:
        features: what `read` answers, in this order.

    Attributes:
        last_seq: log position of the newest event applied; 0 before the first.
        newest_us: newest transaction time applied, microseconds UTC; 0 before the first.

    Examples:
        >>> from fraud_platform.events import TransactionEvent
        >>> payment = Transaction("t1", 1_000_000, "card", "terminal", 500, "EUR")
        >>> rings = FeatureRings(tuple(f for f in FEATURES if f.name == "card_amount_sum_1d"))
        >>> rings.read(payment)
        (0.0,)
        >>> rings.apply(TransactionEvent(1, payment))
        >>> rings.read(payment._replace(transaction_id="t2", event_us=2_000_000))
        (500.0,)
    """

    def __init__(self, features: tuple[Feature, ...] = FEATURES) -> None:
        self.last_seq = 0
        self.newest_us = 0
        self._pasts: dict[str, dict[str, Past]] = {entity: {} for entity in _ENTITIES}
        self._turns: dict[str, deque[str]] = {entity: deque() for entity in _ENTITIES}
        reach_us = max((feature.reach_us for feature in features), default=0)
        self._horizon_us = reach_us + _LATENESS_US
        # Worked out once: which windows to cut, and which function reads which of them.
        windows = [(feature.entity, feature.reach_us, feature.delay_us) for feature in features]
        self._windows = list(dict.fromkeys(windows))
        self._readers = [
            (_VALUES[feature.function], self._windows.index(window))
            for feature, window in zip(features, windows, strict=True)
        ]

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""
        return event_us < self.newest_us - _LATENESS_US

    def apply(self, event: Event) -> None:
        """Fold one event in; one that was applied before (seq <= last_seq) changes nothing."""
        if event.seq <= self.last_seq:
            return
        self.last_seq = event.seq
        if isinstance(event, LabelEvent):
            self._apply_label(event)
        else:
            self._apply_transaction(event.transaction)

    def read(self, transaction: Transaction) -> tuple[float | None, ...]:
        """The features of a payment, given everything applied so far; changes nothing.

        Returns:
            One value per feature, in order; None where the feature is undefined.
        """
        card, terminal = transaction.card_id, transaction.terminal_id
        sides = {
            "transaction": (_NO_PAST, ""),
            "card": (self._pasts["card"].get(card, _NO_PAST), terminal),
            "terminal": (self._pasts["terminal"].get(terminal, _NO_PAST), card),
        }
        looks = []
        for entity, reach_us, delay_us in self._windows:
            past, partner = sides[entity]
            start_us, end_us = transaction.event_us - reach_us, transaction.event_us - delay_us
            # Strictly before the end: payments of the same instant do not see each other.
            last = bisect_left(past.ring.times, end_us)
            first = bisect_left(past.ring.times, start_us, 0, last)
            looks.append(_Look(transaction, partner, past, start_us, end_us, first, last))
        return tuple([reader(looks[window]) for reader, window in self._readers])

    def _apply_transaction(self, transaction: Transaction) -> None:
        self.newest_us = max(self.newest_us, transaction.event_us)
        if transaction.event_us < self.newest_us - self._horizon_us:
            return
        card, terminal = transaction.card_id, transaction.terminal_id
        for entity, key, partner in (("card", card, terminal), ("terminal", terminal, card)):
            ring = self._past(entity, key).ring
            ring.insert(transaction.event_us, transaction.amount_minor, partner)
            self._sweep(entity)

    def _apply_label(self, label: LabelEvent) -> None:
        if label.event_us < self.newest_us - self._horizon_us:
            return
        self._past("card", label.card_id).frauds.insert(label)
        self._past("terminal", label.terminal_id).frauds.insert(label)

    def _past(self, entity: str, key: str) -> Past:
        past = self._pasts[entity].get(key)
        if past is None:
            past = self._pasts[entity][key] = Past()
            self._turns[entity].append(key)
        return past

    def _sweep(self, entity: str) -> None:
        """Visit the next few pasts, in turn, and drop what no decision can see any more."""
        pasts, turns = self._pasts[entity], self._turns[entity]
        horizon_us = self.newest_us - self._horizon_us
        for _ in range(min(_SWEEP, len(turns))):
            key = turns.popleft()
            if pasts[key].drop_before(horizon_us):
                del pasts[key]
            else:
                turns.append(key)
