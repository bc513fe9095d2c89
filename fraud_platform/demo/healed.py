"""What the demonstration shows of healing: what was held, what was done, and what it was worth."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.events import moment_of
from fraud_platform.heal.records import Kind, Record

_SHOWN = (Kind.DIAGNOSED, Kind.DONE, Kind.FAILED, Kind.VERIFIED, Kind.REFUTED, Kind.ESCALATED)
_DISTURBED = ("review", "decline")


def ledger_lines(records: Iterable[Record]) -> list[dict[str, str]]:
    """The milestones of the heal ledger, oldest first."""
    return [
        {
            "at": moment_of(record.event_us).strftime("%Y-%m-%d %H:%M"),
            "kind": str(record.kind),
            "cause": record.cause,
            "act": ""
            if record.act is None
            else " ".join((record.act.action, *record.act.subjects)),
            "why": record.why,
        }
        for record in records
        if record.kind in _SHOWN
    ]


def held(decisions: pl.DataFrame, payments: pl.DataFrame) -> dict[str, float | int | None]:
    """How many genuine payments were disturbed, and how many the models alone would have disturbed.

    Args:
        decisions: `schemas.DECISIONS`.
        payments: transaction_id and is_fraud: the truth, also what no label told yet.
    """
    judged = decisions.filter(pl.col("score").is_not_null()).join(
        payments.select("transaction_id", "is_fraud"), on="transaction_id"
    )
    genuine = judged.filter(~pl.col("is_fraud"))
    alone = pl.coalesce("governed", "decision").is_in(_DISTURBED)
    told = genuine.select(
        with_governor=pl.col("decision").is_in(_DISTURBED).mean(), models_alone=alone.mean()
    ).row(0, named=True)
    return {"genuine_payments": genuine.height, **told}


def quarantined(decisions: pl.DataFrame, champion: Bundle) -> dict[str, float | int | None]:
    """What was decided without the broken features, and what the champion would have made of them.

    Args:
        decisions: `schemas.DECISIONS`, of payments whose amounts are in a wrong unit.
        champion: the model that was set aside.
    """
    by_fallback = decisions.filter(pl.col("arm") == "fallback")
    rows = by_fallback["features"].to_list()
    scores = champion.model.score(np.array(rows, dtype=np.float64)) if rows else np.array([])
    would = (scores >= champion.manifest.review_threshold).mean() if rows else None
    return {
        "decided_by_fallback": by_fallback.height,
        "disturbed": by_fallback.select(pl.col("decision").is_in(_DISTURBED).mean()).item(),
        "champion_would_disturb": None if would is None else float(would),
    }
