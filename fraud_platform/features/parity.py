"""The proof of zero skew: each vector a scorer used, against its value recomputed from the log."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.events import IN_DOUBT
from fraud_platform.features.sample import sampled_cards
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest

LARGEST_DAY = 500_000
"""Decisions up to which a day is compared whole; of a larger one about so many are."""

_SHOWN = 5


@dataclass(frozen=True)
class Parity:
    """What a comparison of served and recomputed values found.

    Attributes:
        decisions: decisions in the period.
        decisions_compared: of them, those of sampled cards that were made with today's feature
            definitions, not late and not in doubt.
        values_compared: single values compared, bit for bit.
        mismatches: of them, how many differ.
        missing: decisions to compare whose transaction has no recomputed row.
        extra: recomputed rows of sampled cards without a decision: they came by file.
        sample: share of the cards looked at; all decisions of a sampled card are.
        in_doubt: decisions left out because their record says that the scorer's memory of the card
            or terminal was in doubt: no model judged them, and the fault was told when it happened.
        mismatches_by_feature: feature -> how many of its values differ, where any does.
        smape_by_feature: the same features -> symmetric mean absolute percentage error over all
            compared decisions, as a fraction: mean of 2|a - b| / (|a| + |b|), so 2 at most; null
            against a number counts as 2.
        first_mismatches: up to five transaction ids with a difference.
    """

    decisions: int
    decisions_compared: int
    values_compared: int
    mismatches: int
    missing: int
    extra: int
    sample: float
    in_doubt: int = 0
    mismatches_by_feature: dict[str, int] = field(default_factory=dict)
    smape_by_feature: dict[str, float] = field(default_factory=dict)
    first_mismatches: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, for metadata and reports."""
        return asdict(self) | {"first_mismatches": list(self.first_mismatches)}


def compare(features: pl.DataFrame, decisions: pl.DataFrame, *, sample: float = 1.0) -> Parity:
    """Compare served feature vectors with the batch values of the same transactions.

    Left out, and told by the counts: decisions made under another feature specification, late ones,
    whose windows the online state may have cut, and those whose record says `IN_DOUBT`.

    Args:
        features: what `batch.compute` returned: transaction_id, card_id and one Float64 column per
            feature.
        decisions: `schemas.DECISIONS` of the same period.
        sample: share of the cards to look at, in [0, 1]; see `features.sample`.
    """
    is_in_doubt = pl.col("reasons").list.contains(IN_DOUBT).fill_null(value=False)
    in_doubt = decisions.filter(is_in_doubt)
    looked_at, usable = _sampled(features, decisions.filter(~is_in_doubt), sample)
    served = usable.select(
        "transaction_id",
        *(pl.col("features").list.get(i).alias(name) for i, name in enumerate(FEATURE_NAMES)),
    )
    both = served.join(
        looked_at.select("transaction_id", *FEATURE_NAMES), on="transaction_id", suffix="_batch"
    )
    pairs = {name: (both[name], both[f"{name}_batch"]) for name in FEATURE_NAMES}
    differs = {name: differing_bits(*pair) for name, pair in pairs.items()}
    counts = {name: int(rows.sum()) for name, rows in differs.items() if rows.any()}
    wrong = np.any(list(differs.values()), axis=0)
    decided = decisions.select("transaction_id")
    return Parity(
        decisions=decisions.height,
        decisions_compared=both.height,
        values_compared=both.height * len(FEATURE_NAMES),
        mismatches=sum(counts.values()),
        missing=usable.height - both.height,
        extra=looked_at.join(decided, on="transaction_id", how="anti").height,
        sample=sample,
        in_doubt=in_doubt.height,
        mismatches_by_feature=counts,
        smape_by_feature={name: _smape(*pairs[name]) for name in counts},
        first_mismatches=tuple(both["transaction_id"].filter(pl.Series(wrong)).head(_SHOWN)),
    )


def affordable_sample(decisions: int) -> float:
    """The share of cards to look at on a day with so many decisions.

    Examples:
        >>> [affordable_sample(LARGEST_DAY // 2), affordable_sample(4 * LARGEST_DAY)]
        [1.0, 0.25]
    """
    return min(1.0, LARGEST_DAY / max(decisions, 1))


def together(days: Sequence[Parity]) -> Parity:
    """What comparisons of several periods found, as one; of the samples the smallest is told."""
    by_feature: Counter[str] = Counter()
    error: defaultdict[str, float] = defaultdict(float)
    for day in days:
        by_feature.update(day.mismatches_by_feature)
        for name, smape in day.smape_by_feature.items():
            error[name] += smape * day.decisions_compared
    compared = sum(day.decisions_compared for day in days)
    return Parity(
        decisions=sum(day.decisions for day in days),
        decisions_compared=compared,
        values_compared=sum(day.values_compared for day in days),
        mismatches=by_feature.total(),
        missing=sum(day.missing for day in days),
        extra=sum(day.extra for day in days),
        sample=min((day.sample for day in days), default=1.0),
        in_doubt=sum(day.in_doubt for day in days),
        mismatches_by_feature=dict(by_feature.most_common()),
        smape_by_feature={name: total / compared for name, total in error.items()},
        first_mismatches=tuple(name for day in days for name in day.first_mismatches)[:_SHOWN],
    )


def differing_bits(one: pl.Series, other: pl.Series) -> NDArray[np.bool_]:
    """Where two Float64 columns differ: null against a number, or in any bit of the number.

    Args:
        one: shape (n,).
        other: shape (n,).

    Returns:
        shape (n,).

    Examples:
        >>> one, other = pl.Series([0.0, None, 0.1 + 0.2]), pl.Series([-0.0, None, 0.3])
        >>> differing_bits(one, other).tolist()
        [True, False, True]
    """
    bits = [series.cast(pl.Float64).fill_null(0.0).to_numpy() for series in (one, other)]
    differs: NDArray[np.bool_] = bits[0].view(np.int64) != bits[1].view(np.int64)
    differs |= (one.is_null() != other.is_null()).to_numpy()
    return differs


def _sampled(
    features: pl.DataFrame, decisions: pl.DataFrame, sample: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The recomputed rows of the sample, and the decisions to compare with them.

    A decision names no card: it belongs to the sample unless its row belongs to another card.
    """
    chosen = sampled_cards(features["card_id"], sample).implode()
    is_chosen = pl.col("card_id").is_in(chosen)
    usable = decisions.filter(
        (pl.col("feature_spec_digest") == spec_digest()) & ~pl.col("is_late")
    ).join(features.filter(~is_chosen), on="transaction_id", how="anti", maintain_order="left")
    return features.filter(is_chosen), usable


def _smape(one: pl.Series, other: pl.Series) -> float:
    told, recomputed = (series.fill_null(0.0).to_numpy() for series in (one, other))
    size = np.abs(told) + np.abs(recomputed)
    error = np.zeros(len(size))
    np.divide(2 * np.abs(told - recomputed), size, out=error, where=size > 0)
    error[(one.is_null() != other.is_null()).to_numpy()] = 2.0
    return float(error.mean())
