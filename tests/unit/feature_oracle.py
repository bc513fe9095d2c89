"""An executable reading of what each feature means: every decision looks at every event, O(n^2).

Written from the wording of the semantics alone, for events in a plain list; it shares no code with
the two engines, and no idea of how they work.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.spec import Feature

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def answer(
    events: list[Event], decision: TransactionEvent, feature: Feature, mutant: str = ""
) -> float | None:
    """One feature of one decision; `mutant` plants one named bug, to test the tests."""
    now = decision.transaction
    if feature.window is None:
        return _of_the_transaction_alone(now, feature.function.value)
    window = int(feature.window.total_seconds()) * 1_000_000
    delay = int(feature.delay.total_seconds()) * 1_000_000
    seen = [
        event
        for event in events
        if isinstance(event, TransactionEvent)
        and _same_entity(event.transaction, now, feature.entity)
        and _in_window(event.transaction.event_us, now.event_us, window, delay, mutant)
        and (event.seq < decision.seq or mutant == "late rows are visible before they arrive")
        and event.seq != decision.seq
    ]
    about_fraud = feature.function.value.startswith("fraud")
    frauds = [
        event for event in seen if about_fraud and _known_fraud(events, event, decision, mutant)
    ]
    return _OVER_A_WINDOW[feature.function.value](
        [event.transaction for event in seen], now, len(frauds), feature.entity
    )


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
    events: list[Event], event: TransactionEvent, decision: TransactionEvent, mutant: str
) -> bool:
    now = decision.transaction.event_us
    verdicts = [
        label
        for label in events
        if isinstance(label, LabelEvent)
        and label.transaction_id == event.transaction.transaction_id
        and (label.known_us <= now or mutant == "verdicts count before they are known")
        and (label.seq < decision.seq or mutant == "verdicts count before they arrive")
    ]
    if mutant == "a withdrawal is ignored":
        return any(label.verdict == "fraud" for label in verdicts)
    if mutant == "the verdict that arrived last wins":
        verdicts.sort(key=lambda label: label.seq)
    else:
        verdicts.sort(key=lambda label: (label.known_us, label.seq))
    return bool(verdicts) and verdicts[-1].verdict == "fraud"


def _partner(transaction: Transaction, entity: str) -> str:
    return transaction.terminal_id if entity == "card" else transaction.card_id


def _total(seen: list[Transaction]) -> int:
    return sum(transaction.amount_minor for transaction in seen)


_OVER_A_WINDOW: dict[str, Callable[[list[Transaction], Transaction, int, str], float | None]] = {
    "count": lambda seen, now, frauds, entity: float(len(seen)),
    "amount_sum": lambda seen, now, frauds, entity: float(_total(seen)),
    "amount_mean": lambda seen, now, frauds, entity: _total(seen) / len(seen) if seen else None,
    "amount_max": lambda seen, now, frauds, entity: (
        float(max(transaction.amount_minor for transaction in seen)) if seen else None
    ),
    "amount_over_mean": lambda seen, now, frauds, entity: (
        now.amount_minor * len(seen) / _total(seen) if _total(seen) else None
    ),
    "distinct_partners": lambda seen, now, frauds, entity: float(
        len({_partner(transaction, entity) for transaction in seen})
    ),
    "is_new_partner": lambda seen, now, frauds, entity: (
        0.0 if any(_partner(earlier, entity) == _partner(now, entity) for earlier in seen) else 1.0
    ),
    "seconds_since_last": lambda seen, now, frauds, entity: (
        (now.event_us - max(earlier.event_us for earlier in seen)) / 1_000_000 if seen else None
    ),
    "fraud_count": lambda seen, now, frauds, entity: float(frauds),
    "fraud_rate": lambda seen, now, frauds, entity: frauds / len(seen) if seen else None,
}
