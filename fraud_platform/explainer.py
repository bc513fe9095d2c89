"""Reasons on the reply path: a model's exact contributions without the library's long call.

What belongs here: when contributions come from `tree_shap` and when from the library, which is
`model.Model.explain` and always what they mean. The margin that each row's contributions must add
up to is the library's own, not a sum over our reading of the trees: so every answer also proves
that the row took the same way through both. The logit of the score would not do: a float32 score
of 0.9999 leaves the margin open by 6e-4.
"""

import logging
import struct

import numpy as np
from numpy.typing import NDArray

from fraud_platform.forest import forest_of
from fraud_platform.model import EXACT, Explanations, Model
from fraud_platform.native_score import NativeScorer
from fraud_platform.tree_shap import TreeShap

LOGGER = logging.getLogger("fraud_platform.explainer")

_CHECKED = 32
"""Most rows that the library explains at the start, which costs it milliseconds each."""


class FastExplainer:
    """The explanations of one model, for one thread at a time: the buffers belong to the object.

    Args:
        model: the verified model.
        check: shape (n, k), n >= 1, rows on which both ways must agree before the fast one is used:
            base and contributions to `EXACT`, the margin to the bit.

    Attributes:
        fallback: why the library explains instead, or None.
        missed: how many rows did not add up and were given to the library after all.
    """

    def __init__(self, model: Model, check: NDArray[np.float64]) -> None:
        self._model = model
        self.fallback: str | None = None
        self.missed = 0
        self._trees: TreeShap | None = None
        try:
            trees = TreeShap(forest_of(model))
            self._margins = NativeScorer(model, check, of_margins=True)
            self._require_agreement(trees, check[:_CHECKED])
            self._trees = trees
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            self.fallback = f"{type(error).__name__}: {error}"
            LOGGER.warning("the library explains model %.12s: %s", model.digest, self.fallback)

    def explain(self, features: NDArray[np.float64]) -> Explanations:
        """`Model.explain`, to `EXACT`; rows that do not add up are the library's to explain.

        Raises:
            DataContractError: the matrix has another width.
        """
        if self._trees is None:
            return self._model.explain(features)
        found = self._fast(self._trees, features)
        if found.is_exact.all():
            return found
        if not self.missed:
            LOGGER.warning("contributions of model %.12s do not add up", self._model.digest)
        self.missed += int(np.sum(~found.is_exact))
        return self._model.explain(features)

    def _fast(self, trees: TreeShap, features: NDArray[np.float64]) -> Explanations:
        rows = self._model.rounded(features).astype(np.float64)
        return Explanations(
            base=np.full(len(rows), trees.base),
            contributions=trees.contributions(rows),
            margin=self._margins.score(features),
        )

    def _require_agreement(self, trees: TreeShap, rows: NDArray[np.float64]) -> None:
        found, expected = self._fast(trees, rows), self._model.explain(rows)
        ours = np.column_stack([found.base, found.contributions])
        theirs = np.column_stack([expected.base, expected.contributions])
        apart = float(np.max(np.abs(ours - theirs)))
        if not apart <= EXACT:  # also when one is not a number
            raise ValueError(f"found contributions {apart:.2g} apart from the library's")
        if not (found.is_exact.all() and np.array_equal(found.margin, expected.margin)):
            raise ValueError("found contributions that do not add up to the library's margin")
