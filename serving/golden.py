"""One made-up payment through everything that a real one passes, except the log.

A scorer that starts, finds its model and still fails each payment is not ready. Nothing of the
payment stays: the features are read and not updated.
"""

import logging

import msgspec
import numpy as np

from fraud_platform.events import moment_of
from serving.context import Scorer
from serving.intake import payment_from
from serving.schemas import TransactionIn

LOGGER = logging.getLogger("fraud_platform.scorer")


def golden_problem(scorer: Scorer) -> str | None:
    """Why a payment would not be decided now, or None."""
    now_us = scorer.clock()
    wire = TransactionIn(
        transaction_id="golden",
        event_timestamp=moment_of(now_us),
        card_id="golden-card",
        terminal_id="golden-terminal",
        amount_minor=1_00,
        currency="EUR",
    )
    rings = scorer.engine.rings
    if rings is None:
        return "the state is being folded from the log"
    try:
        payment = payment_from(msgspec.json.encode(wire), now_us, scorer).transaction
        features = np.array([rings.read(payment)], dtype=np.float64)
        [verdict] = scorer.orders.ruling.verdicts(
            features, [payment.card_id], [payment.amount_minor]
        )
    except Exception as error:
        LOGGER.error("a made-up payment cannot be decided", exc_info=error)
        return f"a made-up payment cannot be decided: {type(error).__name__}"
    if verdict.score is None:
        return "a made-up payment gets no score"
    return None
