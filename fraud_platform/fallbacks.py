"""Groups of features that can fail together, and the fallback model that does without one.

What belongs here: which features rest on what, read from their declarations, and how a training set
forgets them. `assets.training` trains fallbacks, `adapters.model_roles` publishes them, and
`serving.obeying` lets them decide.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TypeVar

import polars as pl

from fraud_platform.errors import PermanentError
from fraud_platform.features.declaration import OF_AMOUNTS, Feature, Function, Stream
from fraud_platform.features.spec import FEATURES
from fraud_platform.schemas import CONTEXT_COLUMNS

T = TypeVar("T")


def _rests_on_amounts(feature: Feature) -> bool:
    """An outlier is one by its amount, so counting outliers rests on amounts too."""
    return feature.function in {Function.AMOUNT, *OF_AMOUNTS} or feature.needs_marks


def _remembers_amounts(feature: Feature) -> bool:
    """What an amount was once stays in a window for weeks, whatever is known of it by now."""
    return _rests_on_amounts(feature) and feature.function is not Function.AMOUNT


def _rests_on_context(feature: Feature) -> bool:
    facts = {feature.value, None if feature.where is None else feature.where.fact}
    return not facts.isdisjoint(CONTEXT_COLUMNS)


def _rests_on_frauds(feature: Feature) -> bool:
    """Payments not known to be fraud are told by the same verdicts as those that are."""
    return feature.stream is not Stream.PAYMENTS


_MEMBERS = {
    "money": _rests_on_amounts,
    "amount_history": _remembers_amounts,
    "context": _rests_on_context,
    "fraud_labels": _rests_on_frauds,
}

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    group: tuple(feature.name for feature in FEATURES if is_member(feature))
    for group, is_member in _MEMBERS.items()
})  # fmt: skip
"""Group -> its features, in the order of the model's columns; a feature may be in several.

Without "amount_history" a payment's own amount is all that is known of money. A unit can be divided
out of that one at once; means and medians over both units cannot be mended.
"""


FALLBACKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {group: (group,) for group in GROUPS} | {"all": tuple(GROUPS)}
)
"""The models trained beside each champion: what each is called -> the groups it does without."""


def fallback_version(champion: str, name: str) -> str:
    """The version of a champion's fallback: who reads a decision sees what it was taken without.

    Examples:
        >>> fallback_version("7", "money")
        '7-without-money'
    """
    return f"{champion}-without-{name}"


def features_of(groups: Collection[str]) -> tuple[str, ...]:
    """The features of these groups, each once, in the order of the model's columns.

    Raises:
        PermanentError: a group is none of `GROUPS`.

    Examples:
        >>> len(features_of(["context"])), len(features_of(["context", "fraud_labels"]))
        (2, 13)
    """
    if unknown := sorted(set(groups) - set(GROUPS)):
        raise PermanentError(
            f"found groups of features {unknown}, expected some of {sorted(GROUPS)}"
        )
    wanted = {name for group in groups for name in GROUPS[group]}
    return tuple(feature.name for feature in FEATURES if feature.name in wanted)


def groups_of(features: Collection[str]) -> tuple[str, ...]:
    """The groups that hold one of these features: what to quarantine when they are not to be used.

    A group stands back where a part of it holds the same of them.

    Examples:
        >>> groups_of(["terminal_fraud_rate_7d_delayed"])
        ('fraud_labels',)
        >>> groups_of(["card_amount_mean_30d"]), groups_of(["transaction_amount"])
        (('amount_history',), ('money',))
    """
    wanted = set(features)
    holding = {g: set(names) for g, names in GROUPS.items() if not wanted.isdisjoint(names)}
    return tuple(
        group
        for group, names in holding.items()
        if not any(part < names and part & wanted == names & wanted for part in holding.values())
    )


def smallest(lacking: Mapping[T, Collection[str]], groups: Collection[str]) -> T | None:
    """Of what lacks all features of these groups, whatever lacks the fewest; None: nothing does.

    Args:
        lacking: a model -> the groups that it was trained without.
        groups: keys of `GROUPS`.

    Examples:
        >>> smallest({"a": ["money"], "b": ["money", "context"]}, ["amount_history"])
        'a'
        >>> smallest({"a": ["money"]}, ["context"]) is None
        True
    """
    gone = {model: features_of(without) for model, without in lacking.items()}
    wanted = set(features_of(groups))
    fit = [model for model, features in gone.items() if wanted <= set(features)]
    return min(fit, key=lambda model: len(gone[model]), default=None)


def without(rows: pl.DataFrame, groups: Collection[str]) -> pl.DataFrame:
    """The rows with the features of these groups unknown everywhere; the columns stay.

    A tree never splits on a column that has one value only, so a model that is fitted on them rests
    on nothing of the groups, whatever is in those columns when it scores.

    Args:
        rows: with the features of the groups among its columns.
        groups: keys of `GROUPS`.

    Raises:
        PermanentError: a group is none of `GROUPS`.

    Examples:
        >>> without(pl.DataFrame({name: [1.0] for name in GROUPS["context"]}), ["context"]).row(0)
        (None, None)
    """
    gone = features_of(groups)
    return rows.with_columns(pl.lit(None, rows.schema[name]).alias(name) for name in gone)
