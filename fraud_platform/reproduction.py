"""A model made again from what its manifest names, and the first thing that differs.

What belongs here: comparing the inputs with what the training set's document says of them, building
its rows and fitting again. Reading tables and bundles is `adapters.reproduction_run`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform import fallbacks
from fraud_platform.events import microseconds
from fraud_platform.heal.doubt import Span, outside
from fraud_platform.model import Model, ModelPolicy, refit
from fraud_platform.recipe import Recipe, tree_digest
from fraud_platform.training_document import TrainingSetDocument, digests_by_day
from fraud_platform.training_set import build, digest

_FEATURES, _LABELS, _AMOUNTS = "transaction_features", "mature_labels", "validated_transactions"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What came of making a model again.

    Attributes:
        version: which.
        differences: what is not as it was, the first cause first; () if the model is the same.
        notes: what is otherwise than at the training and need not matter: code, lock, machine.
        expected_trees: `tree_digest` of the model that was trained.
        found_trees: of the one made now; None: it could not be made.
        golden_rows: rows whose scores were compared.
        largest_gap: the largest difference of two scores, at least 0; None: nothing to compare.
    """

    version: str
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    expected_trees: str
    found_trees: str | None = None
    golden_rows: int = 0
    largest_gap: float | None = None

    @property
    def is_same(self) -> bool:
        """Whether the same inputs gave the same trees and the same scores."""
        return not self.differences


def changed_inputs(
    told: TrainingSetDocument, inputs: Mapping[str, Mapping[date, pl.DataFrame]]
) -> tuple[str, ...]:
    """Which days of which tables are gone, or are not what the document says; () if none.

    Args:
        told: the training set's document.
        inputs: table -> day -> its rows as stored; days that are gone are not there.
    """
    found = []
    for name, days in sorted(told.inputs.items()):
        stored = inputs.get(name, {})
        gone = [day for day in days if date.fromisoformat(day) not in stored]
        changed = [
            day
            for day in days
            if day not in gone
            and digests_by_day(stored[date.fromisoformat(day)]) != {day: days[day]}
        ]
        for what, which in (("gone", gone), ("changed", changed)):
            if which:
                found.append(
                    f"{len(which)} of {len(days)} days of {name} are {what}, first {which[0]}"
                )
    return tuple(found)


def rows_again(
    told: TrainingSetDocument, inputs: Mapping[str, Mapping[date, pl.DataFrame]]
) -> pl.DataFrame:
    """The rows of the training set, built again from its inputs.

    Args:
        told: the training set's document.
        inputs: as for `changed_inputs`, and found unchanged.
    """
    tables = {
        name: pl.concat(days[day] for day in sorted(days)) for name, days in inputs.items() if days
    }
    doubtful = tuple(
        Span(
            microseconds(span.since),
            None if span.until is None else microseconds(span.until),
            span.why,
        )
        for span in told.left_out
    )
    return build(
        tables[_FEATURES],
        outside(tables[_LABELS], doubtful),
        tables[_AMOUNTS],
        as_of=told.as_of,
        policy=told.training,
    )


def changed_rows(told: TrainingSetDocument, rows: pl.DataFrame) -> tuple[str, ...]:
    """Whether the rows built again are others than the document's; () if they are the same."""
    if (found := digest(rows)) == told.rows_digest:
        return ()
    return (
        f"the same inputs give other rows: {rows.height} of digest {found[:12]}, the document says "
        f"{told.rows_digest[:12]}",
    )


def model_again(
    model: Model, rows: pl.DataFrame, recipe: Recipe, without: tuple[str, ...] = ()
) -> Model:
    """The model fitted again on the train rows, by its own parameters, rounds and seed.

    Args:
        model: the one that was trained.
        rows: the training set.
        recipe: seed and threads of the fit.
        without: groups of features that it was trained without.
    """
    train = rows.filter(pl.col("slice") == "train")
    if without:
        train = fallbacks.without(train, without)
    policy = ModelPolicy(seed=recipe.seed, threads=recipe.threads)
    return refit(model.library, train, model.parameters, model.rounds, policy)


def compared(
    version: str,
    model: Model,
    again: Model,
    golden: NDArray[np.float64],
    notes: tuple[str, ...],
) -> Reproduction:
    """What two models have in common: their trees, and the bits of their scores of some rows.

    Args:
        version: which.
        model: the one that was trained.
        again: the one made now.
        golden: shape (n, k), the rows.
        notes: what is otherwise than at the training.
    """
    expected, found = tree_digest(model), tree_digest(again)
    scores, now = model.score(golden), again.score(golden)
    differences = []
    if found != expected:
        differences.append(f"the trees have digest {found[:12]}, the model's {expected[:12]}")
    if scores.tobytes() != now.tobytes():
        differences.append(f"{int(np.sum(scores != now))} of {len(scores)} golden rows differ")
    if again.library_version != model.library_version:
        then = model.library_version
        notes = (f"{model.library} is {again.library_version}, was {then}", *notes)
    return Reproduction(
        version=version,
        differences=tuple(differences),
        notes=notes,
        expected_trees=expected,
        found_trees=found,
        golden_rows=len(golden),
        largest_gap=float(np.max(np.abs(scores - now))),
    )


def told_otherwise(then: Recipe, now: Recipe) -> tuple[str, ...]:
    """What surrounds a fit now that did not surround the one of then, as sentences.

    Examples:
        >>> then = Recipe(seed=1, threads=1, code_commit="aaa", machine="x86_64 avx2")
        >>> told_otherwise(then, Recipe(seed=1, threads=1, code_commit="bbb", machine="x86_64"))
        ('code_commit is bbb, was aaa', 'machine is x86_64, was x86_64 avx2')
    """
    names = ("code_commit", "is_dirty", "lock_digest", "machine")
    return tuple(
        f"{name} is {_shown(getattr(now, name))}, was {_shown(getattr(then, name))}"
        for name in names
        if getattr(now, name) != getattr(then, name)
    )


def _shown(value: object) -> str:
    return "unknown" if value in (None, "") else f"{value}"[:40]
