"""Random logs as frames: late rows, ties, and verdicts that come early, late, twice and back."""

import random
from datetime import UTC, datetime

import polars as pl

from fraud_platform.schemas import LABELS, TRANSACTIONS

START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000
HOUR, DAY = 3_600_000_000, 86_400_000_000


def log_frames(
    seed: int, payments: int, *, cards: int = 20, terminals: int = 12, days: int = 60
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Transactions and labels; one of ten payments is late, the seqs have gaps."""
    rng = random.Random(seed)
    moments: list[tuple[int, str, dict[str, object]]] = []
    for number in range(payments):
        event_us = START + rng.randrange(days * 24) * HOUR
        arrived = event_us + (rng.randrange(10 * 24) * HOUR if rng.random() < 0.1 else 0)
        payment = {
            "transaction_id": f"t{number}",
            "event_timestamp": event_us,
            "card_id": f"c{rng.randrange(cards)}",
            "terminal_id": f"m{int(rng.triangular(0, terminals, 0))}",
            "amount_minor": rng.choice([0, 1, 99, 5_00, 20_00, 900_00, rng.randrange(2**40)]),
            "currency": "EUR",
            "country": rng.choice(["DE", "FR", None]),
            "merchant_category": rng.choice(["5411", None]),
            "received_timestamp": arrived,
            "source": "test",
        }
        moments.append((arrived, "payment", payment))
        for verdict in rng.choices(["fraud", "fraud", "withdrawn", "genuine"], k=rng.randrange(3)):
            known = event_us + rng.randrange(20 * 24) * HOUR
            reported = max(arrived, known) + rng.randrange(5) * DAY
            label = {
                **payment,
                "verdict": verdict,
                "label_source": "chargeback",
                "label_timestamp": known,
                "received_timestamp": reported,
            }
            moments.append((reported, "label", label))
    moments.sort(key=lambda moment: moment[0])
    rows: dict[str, list[dict[str, object]]] = {"payment": [], "label": []}
    seq = 0
    for _, kind, row in moments:
        seq += rng.randrange(1, 4)
        rows[kind].append({**row, "seq": seq})
    return _frame(rows["payment"], TRANSACTIONS.columns), _frame(rows["label"], LABELS.columns)


def _frame(rows: list[dict[str, object]], columns: dict[str, pl.DataType]) -> pl.DataFrame:
    frame = pl.DataFrame(
        [{name: row.get(name) for name in columns} for row in rows],
        schema={
            name: pl.Int64 if name.endswith("_timestamp") else t for name, t in columns.items()
        },
    )
    times = [name for name in columns if name.endswith("_timestamp")]
    return frame.with_columns(
        pl.from_epoch(name, "us").dt.replace_time_zone("UTC") for name in times
    )
