"""WHAT the platform materializes: the data flow, stage by stage.

Nothing else belongs here. What runs when is `sensors`; the arithmetic is `fraud_platform`.
"""

STAGES = (
    "ingest",
    "features",
    "labels",
    "training",
    "evaluation",
    "promotion",
    "backtest",
    "monitoring",
    "healing",
    "benchmark",
    "audit",
)
"""Stages in the order of the data flow; a stage is a module here and a group in the UI."""

DATA_ENGINEERING = "team:data-engineering"
"""Owner of ingest, features and labels."""

MODEL_RISK = "team:model-risk"
"""Owner of training, evaluation, promotion, backtest, monitoring and healing."""
