"""Event logs with payments, decisions and verdicts, as the drain leaves them."""

import random

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.events import Decision, Label, Transaction
from fraud_platform.settings import Settings

FEATURES = 46
DAY_US = 86_400_000_000


def log_of(settings: Settings, positions: int, *, start: int = 0) -> None:
    """Append so many positions: every tenth is a verdict, the others are decided payments."""
    log = EventLog(settings.log_path)
    draw = random.Random(start)
    with log.writing() as writer:
        for number in range(start, start + positions):
            if number % 10 == 9:
                writer.append_label(_label(number))
                continue
            payment = _payment(number, draw)
            seq = writer.append_transaction(payment, received_us=number, source="test")
            writer.append_decision(_decision(payment, seq, draw))
    log.close()


def _payment(number: int, draw: random.Random) -> Transaction:
    return Transaction(
        transaction_id=f"t-{number:08}",
        event_us=number * 1_000_000,
        card_id=f"tok_a1_{draw.randrange(99):040}",
        terminal_id="m-1",
        amount_minor=draw.randrange(2 ** draw.randrange(1, 40)),
        currency="EUR",
        merchant_category="5411",
        payment_method=draw.choice(["card", None]),
        country="DE",
        device_id=None,
        entry_mode="chip",
        latitude=draw.uniform(-90, 90),
        longitude=-0.0,
    )


def _label(number: int) -> Label:
    return Label(
        transaction_id=f"t-{number - 1:08}",
        verdict="fraud",
        label_source="chargeback",
        reason="größer",
        known_us=number * 1_000_000,
        received_us=number * 1_000_000,
        happened_us=None,
        reported_by="bank",
    )


def decision_of(payment: Transaction, seq: int) -> Decision:
    """An approval by version 3, to be changed where a test wants another."""
    return Decision(
        transaction_id=payment.transaction_id,
        decision_id=f"d-{seq:032x}",
        seq=seq,
        seen_seq=seq - 1,
        event_us=payment.event_us,
        decided_us=payment.event_us + 900,
        decision="approve",
        score=0.25,
        reasons=(),
        probability=0.1,
        expected_fpr=1e-3,
        mode="normal",
        missing=(),
        arm="champion",
        is_late=False,
        model_version="3",
        model_digest="ab" * 32,
        policy_digest="cd" * 32,
        feature_spec_digest="ef" * 32,
        features=(1.0,) * FEATURES,
        latency_us=900,
        expires_us=payment.event_us + DAY_US,
    )


def _decision(payment: Transaction, seq: int, draw: random.Random) -> Decision:
    score = draw.random()
    return decision_of(payment, seq)._replace(
        decision="decline" if score > 0.5 else "approve",
        score=score,
        reasons=("amount_unusual_for_card", "terminal_fraud_rate", "new_country"),
        probability=score / 2,
        features=tuple(draw.uniform(-5, 5) for _ in range(FEATURES)),
        review_cut=0.4,
        decline_cut=0.5,
        fpr_bound=0.01,
        budget=0.02,
    )
