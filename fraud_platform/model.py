"""Fitting and scoring: gradient-boosted trees, deterministic for the same rows and policy."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelPolicy:
    """The search that finds a model's parameters."""

    trials: int = 8
    """Parameter sets tried per library."""
    seed: int = 20_180_401
    """Seed of the search and of every fit."""
    max_rounds: int = 400
    """Upper bound of trees; early stopping on the last train days chooses the number."""
    early_stopping_rounds: int = 30
    """Stop when this many further trees brought nothing."""
    threads: int = 1
    """Threads of a fit; results do not depend on it."""
