"""Event logs of many days: some payments a day, each decided, and verdicts some days later."""

import random

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.events import Label, Transaction
from fraud_platform.settings import Settings
from tests.integration.sealed_logs import DAY_US, decision_of

START_US = 19_723 * DAY_US
"""2024-01-01."""
DELAY_DAYS = 9
CARDS = 7


def aged_log(settings: Settings, days: int, *, per_day: int = 4, first: int = 0) -> None:
    """Append days of payments, each day's verdicts on those of `DELAY_DAYS` before."""
    log = EventLog(settings.log_path)
    with log.writing() as writer:
        for day in range(first, first + days):
            for number in range(per_day):
                payment = payment_of(day, number, per_day)
                received = payment.event_us + 1
                seq = writer.append_transaction(payment, received_us=received, source="test")
                writer.append_decision(decision_of(payment, seq))
            if day - first >= DELAY_DAYS:
                writer.append_label(_label(payment_of(day - DELAY_DAYS, 1, per_day), day))
    log.close()


def payment_of(day: int, number: int, per_day: int) -> Transaction:
    """A payment of a day, always the same."""
    draw = random.Random(f"{day} {number}")
    return Transaction(
        transaction_id=f"t-{day:05}-{number:03}",
        event_us=START_US + day * DAY_US + number * (DAY_US // per_day),
        card_id=f"c-{draw.randrange(CARDS)}",
        terminal_id=f"m-{draw.randrange(CARDS)}",
        amount_minor=draw.randrange(100, 90_000),
        currency="EUR",
        merchant_category="5411",
        payment_method="card",
        country=draw.choice(["DE", "FR"]),
        device_id=None,
        entry_mode="chip",
        latitude=None,
        longitude=None,
    )


def _label(payment: Transaction, day: int) -> Label:
    known_us = START_US + day * DAY_US + DAY_US - 1
    return Label(
        transaction_id=payment.transaction_id,
        verdict="fraud",
        label_source="chargeback",
        reason=None,
        known_us=known_us,
        received_us=known_us,
        happened_us=None,
        reported_by="bank",
    )
