"""The proof of zero skew: each vector a scorer used, against its value recomputed from the log."""

from dataclasses import asdict, dataclass

import polars as pl

from fraud_platform.features.spec import FEATURE_NAMES, spec_digest


@dataclass(frozen=True)
class Parity:
    """What a comparison of served and recomputed values found.

    Attributes:
        decisions: decisions in the period.
        decisions_compared: of them, those made with today's feature definitions and not late.
        values_compared: single values compared, bit for bit.
        mismatches: of them, how many differ.
        missing: compared decisions whose transaction has no recomputed row.
        first_mismatches: up to five transaction ids with a difference.
    """

    decisions: int
    decisions_compared: int
    values_compared: int
    mismatches: int
    missing: int
    first_mismatches: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The fields by name, for metadata and reports."""
        return asdict(self) | {"first_mismatches": list(self.first_mismatches)}


def compare(features: pl.DataFrame, decisions: pl.DataFrame) -> Parity:
    """Compare served feature vectors with the batch values of the same transactions.

    Left out, and told by the counts: decisions made under another feature specification, and late
    ones, whose windows the online state may have cut.

    Args:
        features: what `batch.compute` returned: transaction_id and one Float64 column per feature.
        decisions: `schemas.DECISIONS` of the same period.
    """
    usable = decisions.filter(
        (pl.col("feature_spec_digest") == spec_digest()) & ~pl.col("is_late")
    ).select("transaction_id", "features")
    served = usable.select(
        "transaction_id",
        *(pl.col("features").list.get(i).alias(name) for i, name in enumerate(FEATURE_NAMES)),
    )
    both = served.join(
        features.select("transaction_id", *FEATURE_NAMES), on="transaction_id", suffix="_batch"
    )
    differs = [_differ(name) for name in FEATURE_NAMES]
    found = both.select("transaction_id", *differs).with_columns(
        differing=pl.sum_horizontal(pl.col(name).cast(pl.Int64) for name in FEATURE_NAMES)
    )
    wrong = found.filter(pl.col("differing") > 0)
    return Parity(
        decisions=decisions.height,
        decisions_compared=both.height,
        values_compared=both.height * len(FEATURE_NAMES),
        mismatches=int(found["differing"].sum()),
        missing=usable.height - both.height,
        first_mismatches=tuple(wrong["transaction_id"].head(5)),
    )


def _differ(name: str) -> pl.Expr:
    # Equal floats here are equal bits: no value is NaN, and no function returns a negative zero.
    return pl.col(name).ne_missing(pl.col(f"{name}_batch")).alias(name)
