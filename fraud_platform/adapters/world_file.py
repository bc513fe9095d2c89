"""A simulated world as a file and a mapping, so that it enters by the same door as any data."""

from pathlib import Path

import polars as pl
import yaml

from fraud_platform.schemas import CONTEXT_COLUMNS

_MAPPING = {
    "columns": {
        "transaction_id": "transaction_id",
        "event_timestamp": "event_timestamp",
        "card_id": "card_id",
        "terminal_id": "terminal_id",
        "amount": "amount_minor",
        "currency": "currency",
        **{name: name for name in CONTEXT_COLUMNS},
    },
    "amount_unit": "minor",
    "labels": {"column": "verdict", "fraud": "fraud", "known_at": "label_timestamp"},
}


def write_world(frame: pl.DataFrame, path: Path) -> Path:
    """Write a labelled frame as Parquet and its mapping as `<name>.mapping.yaml` beside it.

    Only frauds get a verdict: nobody sends word that a payment was genuine.

    Args:
        frame: PAYLOAD_COLUMNS, is_fraud, label_timestamp.
        path: the Parquet file to replace.

    Returns:
        The mapping's path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    verdict = pl.when("is_fraud").then(pl.lit("fraud"))
    frame.with_columns(verdict=verdict).drop("is_fraud").write_parquet(path)
    mapping = path.with_suffix(".mapping.yaml")
    mapping.write_text(yaml.safe_dump(_MAPPING, sort_keys=False), "utf-8")
    return mapping
