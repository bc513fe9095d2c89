"""Pictures of one evaluation, for the people who read a training run.

What belongs here: drawing. The numbers are `evaluation`'s. Figures are made without pyplot, so
nothing global is touched and nothing needs a display.
"""

from typing import Any

import numpy as np
import polars as pl


def precision_recall_figure(rows: pl.DataFrame) -> Any:
    """Precision over recall, one step per distinct score.

    Args:
        rows: `is_fraud` and `score`, with at least one fraud.

    Returns:
        A matplotlib figure (the library ships its types apart).
    """
    figure, axes = _canvas("Precision and recall", "recall", "precision")
    ranked = rows.select("is_fraud", "score").sort("score", descending=True)
    caught = np.cumsum(ranked["is_fraud"].to_numpy().astype(np.int64))
    scores = ranked["score"].to_numpy()
    last = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
    axes.step(caught[last] / caught[-1], caught[last] / (last + 1), where="post")
    axes.set_ylim(0, 1.02)
    return figure


def reliability_figure(rows: pl.DataFrame, bins: int = 10) -> Any:
    """Share of frauds over mean score, in bins of equally many transactions, on log axes.

    Args:
        rows: `is_fraud` and `score`.
        bins: number of bins.
    """
    figure, axes = _canvas("Reliability", "mean score", "share of frauds")
    ordered = rows.select("score", "is_fraud").sort("score")
    binned = (
        ordered.with_columns(bin=pl.int_range(pl.len()) * bins // pl.len())
        .group_by("bin", maintain_order=True)
        .agg(pl.col("score").mean(), pl.col("is_fraud").mean())
    )
    scores = binned["score"].to_numpy()
    axes.plot(scores, binned["is_fraud"].to_numpy(), marker="o", label="model")
    axes.plot(scores, scores, linestyle=":", label="calibrated")
    # A bin without fraud is 0: symlog shows it, log would drop it.
    axes.set_xscale("symlog", linthresh=1e-4)
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.legend()
    return figure


def _canvas(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
