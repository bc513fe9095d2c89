"""An executable reading of docs/semantics.md: every decision looks at every event, O(n^2).

Written from the wording of the rules alone, for events in a plain list; it shares no code with the
engines, and no idea of how they work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import sqrt
from statistics import median

from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.declaration import Feature

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Seen:
    """What one decision sees for one feature.

    Attributes:
        now: the payment that is decided on.
        payments: those that count, oldest first.
        is_fraud: of each, whether it is known to be fraud now.
        feature: what is asked.
    """

    now: Transaction
    payments: list[Transaction]
    is_fraud: list[bool]
    feature: Feature

    @property
    def amounts(self) -> list[int]:
        return [payment.amount_minor for payment in self.payments]

    @property
    def frauds(self) -> list[Transaction]:
        return [p for p, is_fraud in zip(self.payments, self.is_fraud, strict=True) if is_fraud]

    @property
    def good(self) -> list[Transaction]:
        return [p for p, is_fraud in zip(self.payments, self.is_fraud, strict=True) if not is_fraud]

    @property
    def streak(self) -> list[Transaction]:
        """The newest payments that are frauds without a gap, oldest first."""
        after = [i for i, is_fraud in enumerate(self.is_fraud) if not is_fraud]
        return self.payments[after[-1] + 1 if after else 0 :]

    def seconds_since(self, then: Transaction) -> float:
        return (self.now.event_us - then.event_us) / 1_000_000


def answer(
    events: list[Event],
    decision: TransactionEvent,
    feature: Feature,
    mutant: str = "",
    seen_seq: int | None = None,
) -> float | None:
    """One feature of one decision.

    Args:
        events: the whole log.
        decision: the payment decided on.
        feature: what is asked.
        mutant: plants one named bug, to test the tests.
        seen_seq: newest log position that the decision had seen; None: all before it.
    """
    now = decision.transaction
    if feature.window is None:
        return _of_the_transaction_alone(now, feature.function.value)
    limit = decision.seq - 1 if seen_seq is None else min(seen_seq, decision.seq - 1)
    window = int(feature.window.total_seconds()) * 1_000_000
    delay = int(feature.delay.total_seconds()) * 1_000_000
    payments = [
        event
        for event in events
        if isinstance(event, TransactionEvent)
        and _same_entity(event.transaction, now, feature.entity)
        and _in_window(event.transaction.event_us, now.event_us, window, delay, mutant)
        and (event.seq <= limit or mutant == "late rows are visible before they arrive")
        and event.seq != decision.seq
        and _counts(events, event, feature)
    ]
    payments.sort(key=lambda event: (event.transaction.event_us, event.seq))
    needs_verdicts = feature.stream.value != "payments"
    frauds = [
        needs_verdicts and _known_fraud(events, event, now.event_us, limit, mutant)
        for event in payments
    ]
    seen = Seen(now, [event.transaction for event in payments], frauds, feature)
    return _OVER_A_WINDOW[feature.stream.value, feature.function.value](seen)


def is_outlier(events: list[Event], event: TransactionEvent) -> bool:
    """Whether a payment was above three times the median of its card's 30 days before it."""
    now = event.transaction
    before = [
        other.transaction.amount_minor
        for other in events
        if isinstance(other, TransactionEvent)
        and other.seq < event.seq
        and other.transaction.card_id == now.card_id
        and now.event_us - 30 * 86_400_000_000 <= other.transaction.event_us < now.event_us
    ]
    return bool(before) and now.amount_minor > 3 * Fraction(median(map(Fraction, before)))


def _counts(events: list[Event], event: TransactionEvent, feature: Feature) -> bool:
    where = feature.where
    if where is None:
        return True
    if where.fact == "is_outlier":
        return is_outlier(events, event) == where.equals
    return bool(getattr(event.transaction, where.fact) == where.equals)


def _of_the_transaction_alone(now: Transaction, function: str) -> float:
    moment = _EPOCH + timedelta(microseconds=now.event_us)
    return {
        "amount": float(now.amount_minor),
        "hour_of_day": float(moment.hour),
        "is_weekend": 1.0 if moment.strftime("%A") in {"Saturday", "Sunday"} else 0.0,
        "is_night": 1.0 if moment.hour < 7 else 0.0,
    }[function]


def _same_entity(event: Transaction, now: Transaction, entity: str) -> bool:
    if entity == "card":
        return event.card_id == now.card_id
    return event.terminal_id == now.terminal_id


def _in_window(then: int, now: int, window: int, delay: int, mutant: str) -> bool:
    oldest, newest = now - delay - window, now - delay
    if mutant == "the old edge is excluded":
        return oldest < then < newest
    if mutant == "ties see each other":
        return oldest <= then <= newest
    if mutant == "the delay is ignored":
        return now - window <= then < now
    return oldest <= then < newest


def _known_fraud(
    events: list[Event], event: TransactionEvent, now_us: int, limit: int, mutant: str
) -> bool:
    verdicts = [
        label
        for label in events
        if isinstance(label, LabelEvent)
        and label.transaction.transaction_id == event.transaction.transaction_id
        and (label.known_us <= now_us or mutant == "verdicts count before they are known")
        and (label.seq <= limit or mutant == "verdicts count before they arrive")
    ]
    if mutant == "a withdrawal is ignored":
        return any(label.verdict == "fraud" for label in verdicts)
    if mutant == "the verdict that arrived last wins":
        verdicts.sort(key=lambda label: label.seq)
    else:
        verdicts.sort(key=lambda label: (label.known_us, label.seq))
    return bool(verdicts) and verdicts[-1].verdict == "fraud"


def _std(amounts: list[int]) -> float:
    """Population standard deviation: exact until the one root and the one division."""
    count, total = len(amounts), sum(amounts)
    return sqrt(float(count * sum(a * a for a in amounts) - total * total)) / float(count)


def _z_score(seen: Seen) -> float | None:
    count, total = len(seen.amounts), sum(seen.amounts)
    root = sqrt(float(count * sum(a * a for a in seen.amounts) - total * total))
    return float(seen.now.amount_minor * count - total) / root if root else None


def _over_median(seen: Seen) -> float | None:
    if not seen.amounts or not median(seen.amounts):
        return None
    return float(Fraction(seen.now.amount_minor) / median(map(Fraction, seen.amounts)))


def _values(seen: Seen) -> list[str]:
    found = [getattr(payment, str(seen.feature.value)) for payment in seen.payments]
    return [value for value in found if value is not None]


def _is_first(seen: Seen) -> float | None:
    own = getattr(seen.now, str(seen.feature.value))
    if own is None:
        return None
    return 0.0 if own in _values(seen) else 1.0


_OVER_A_WINDOW: dict[tuple[str, str], Callable[[Seen], float | None]] = {
    ("payments", "count"): lambda seen: float(len(seen.payments)),
    ("payments", "sum"): lambda seen: float(sum(seen.amounts)),
    ("payments", "mean"): lambda seen: (
        sum(seen.amounts) / len(seen.amounts) if seen.amounts else None
    ),
    ("payments", "min"): lambda seen: float(min(seen.amounts)) if seen.amounts else None,
    ("payments", "max"): lambda seen: float(max(seen.amounts)) if seen.amounts else None,
    ("payments", "median"): lambda seen: (
        float(median(map(Fraction, seen.amounts))) if seen.amounts else None
    ),
    ("payments", "std"): lambda seen: _std(seen.amounts) if seen.amounts else None,
    ("payments", "z_score"): _z_score,
    ("payments", "over_mean"): lambda seen: (
        seen.now.amount_minor * len(seen.amounts) / sum(seen.amounts) if sum(seen.amounts) else None
    ),
    ("payments", "over_median"): _over_median,
    ("payments", "distinct"): lambda seen: float(len(set(_values(seen)))),
    ("payments", "is_first"): _is_first,
    ("payments", "seconds_since_last"): lambda seen: (
        seen.seconds_since(seen.payments[-1]) if seen.payments else None
    ),
    ("payments", "seconds_since_first"): lambda seen: (
        seen.seconds_since(seen.payments[0]) if seen.payments else None
    ),
    ("frauds", "count"): lambda seen: float(len(seen.frauds)),
    ("frauds", "rate"): lambda seen: (
        len(seen.frauds) / len(seen.payments) if seen.payments else None
    ),
    ("frauds", "seconds_since_last"): lambda seen: (
        seen.seconds_since(seen.frauds[-1]) if seen.frauds else None
    ),
    ("frauds", "streak_length"): lambda seen: float(len(seen.streak)),
    ("frauds", "seconds_since_streak"): lambda seen: (
        seen.seconds_since(seen.streak[0]) if seen.streak else None
    ),
    ("good", "seconds_since_last"): lambda seen: (
        seen.seconds_since(seen.good[-1]) if seen.good else None
    ),
}
