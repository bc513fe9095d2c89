"""The feature table in pieces: card shard by card shard, then terminal shard by terminal shard.

A feature looks at the past of one card or of one terminal, so all payments of a card (a terminal)
computed together give the same bits as the whole log computed at once. Which payments belong
together, how a table is taken apart and put together again is here; how the pieces travel through
files and processes is `adapters.sharded_features`.
"""

import hashlib
from datetime import datetime

import polars as pl

from fraud_platform.errors import PermanentError
from fraud_platform.features import batch
from fraud_platform.features.declaration import KEYS, Feature
from fraud_platform.features.spec import FEATURES


def shard_of(entity_id: str, shards: int) -> int:
    """The shard a card or a terminal belongs to, in [0, shards).

    Depends on the id alone: the same in every process, on every machine, with every version.

    Args:
        entity_id: the id.
        shards: number of shards, >= 1.

    Examples:
        >>> [shard_of(entity_id, 7) for entity_id in ("c1", "c2", "c3")]
        [1, 4, 0]
    """
    digest = hashlib.blake2b(entity_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def split(rows: pl.DataFrame, column: str, shards: int) -> dict[int, pl.DataFrame]:
    """The rows of each shard that has any, in their order.

    Args:
        rows: any table.
        column: the column of the entity's id, without nulls.
        shards: number of shards, >= 1.

    Examples:
        >>> rows = pl.DataFrame({"card_id": ["c1", "c3", "c1"], "seq": [1, 2, 3]})
        >>> {shard: part["seq"].to_list() for shard, part in split(rows, "card_id", 7).items()}
        {1: [1, 3], 0: [2]}
    """
    ids = rows[column].unique(maintain_order=True)
    numbers = pl.Series([shard_of(entity_id, shards) for entity_id in ids], dtype=pl.Int64)
    numbered = rows.with_columns(
        shard=rows[column].replace_strict(ids, numbers, return_dtype=pl.Int64)
    )
    parts = numbered.partition_by("shard", maintain_order=True, include_key=False, as_dict=True)
    return {int(key[0]): part for key, part in parts.items()}


def card_side(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """What a card shard computes: features of the card, and of the payment alone."""
    return tuple(feature for feature in features if feature.entity != "terminal")


def terminal_side(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """What a terminal shard computes."""
    return tuple(feature for feature in features if feature.entity == "terminal")


def join(
    card_parts: list[pl.DataFrame],
    terminal_parts: list[pl.DataFrame],
    features: tuple[Feature, ...],
) -> pl.DataFrame:
    """The whole table, or a stretch of it, from what the shards computed of the same payments.

    Args:
        card_parts: per card shard: at least `KEYS` and the features of `card_side`.
        terminal_parts: per terminal shard: at least seq and the features of `terminal_side`.
        features: the columns wanted, in this order.

    Returns:
        `KEYS` and one column per feature, sorted by seq.

    Raises:
        PermanentError: the two sides are not about the same payments.
    """
    cards = pl.concat(card_parts).sort("seq")
    terminals = pl.concat(terminal_parts).sort("seq")
    if not cards["seq"].equals(terminals["seq"]):
        raise PermanentError(
            f"found {terminals.height} payments in the terminal shards, expected the same as the "
            f"{cards.height} in the card shards",
            hint="compute both sides from one input, which nothing changes meanwhile",
        )
    left = cards.select(*KEYS, *(feature.name for feature in card_side(features)))
    right = terminals.select(feature.name for feature in terminal_side(features))
    both = pl.concat([left, right], how="horizontal")
    return both.select(*KEYS, *(feature.name for feature in features))


def compute(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    shards: int,
    since: datetime | None = None,
    features: tuple[Feature, ...] = FEATURES,
) -> pl.DataFrame:
    """What `batch.compute` answers, bit for bit, computed shard by shard.

    Args:
        transactions: as for `batch.compute`.
        labels: as for `batch.compute`.
        shards: into how many shards cards and terminals are split, >= 1.
        since: as for `batch.compute`.
        features: what to compute.
    """
    if transactions.is_empty():
        return batch.compute(transactions, labels, since=since, features=features)
    # Whether a payment is an outlier is a fact about its card; terminal shards only read it.
    marked = pl.concat(
        mark(rows, features) for rows in split(transactions, "card_id", shards).values()
    )

    def side(column: str, of_this_side: tuple[Feature, ...]) -> list[pl.DataFrame]:
        verdicts, none = split(labels, column, shards), labels.clear()
        return [
            batch.compute(rows, verdicts.get(shard, none), since=since, features=of_this_side)
            for shard, rows in split(marked, column, shards).items()
        ]

    cards = side("card_id", card_side(features))
    return join(cards, side("terminal_id", terminal_side(features)), features)


def mark(transactions: pl.DataFrame, features: tuple[Feature, ...]) -> pl.DataFrame:
    """The payments of whole cards, with the marks that only its card can give, if any are asked."""
    needs_marks = any(feature.needs_marks for feature in features)
    return batch.mark_outliers(transactions) if needs_marks else transactions


def inputs(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """Columns of `schemas.TRANSACTIONS` that the features look at, besides the keys of the output.

    Examples:
        >>> inputs(FEATURES)[:6]
        ('seq', 'transaction_id', 'event_timestamp', 'card_id', 'terminal_id', 'amount_minor')
    """
    facts = {feature.where.fact for feature in features if feature.where} - {"is_outlier"}
    values = {feature.value for feature in features if feature.value}
    return (*KEYS, "amount_minor", *sorted((facts | values) - set(KEYS)))
