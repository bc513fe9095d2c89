"""Scored payments of a world whose truth is known."""

import numpy as np
import polars as pl


def simulated_rows(
    *,
    seed: int,
    cards: int = 400,
    per_card: int = 10,
    fraud_cards: float = 0.15,
    skill: float = 2.0,
) -> pl.DataFrame:
    """Payments of cards, some of them compromised; scores of one card move together.

    Args:
        seed: of everything.
        cards: number of cards.
        per_card: payments of each.
        fraud_cards: share of cards that are compromised; half of their payments are fraud.
        skill: how much higher a fraud scores, in standard deviations of a genuine one.
    """
    random = np.random.default_rng(seed)
    card = np.repeat(np.arange(cards), per_card)
    is_fraud = (random.random(cards) < fraud_cards)[card] & (random.random(card.size) < 0.5)
    own = random.normal(size=cards)[card]
    level = 0.7 * own + 0.7 * random.normal(size=card.size) + skill * is_fraud
    score = 1 / (1 + np.exp(3 - 1.5 * level))
    seconds = 1_767_225_600 + random.integers(0, 3 * 86_400, card.size)  # three days of 2026
    return pl.DataFrame(
        {
            "event_timestamp": pl.from_epoch(pl.Series(seconds), time_unit="s").cast(
                pl.Datetime("us", "UTC")
            ),
            "card_id": [f"card {number}" for number in card],
            "amount_minor": random.integers(100, 30_000, card.size),
            "is_fraud": is_fraud,
            "score": score,
            "probability": score,
            "payment_method": random.choice(["chip", "online"], card.size),
        }
    )
