"""Reasons on the reply path: a model's exact contributions without the library's long call.

What belongs here: when contributions come from `tree_shap` and when from the library, which is
`model.Model.explain` and always what they mean. What each row's contributions must add up to comes
from the library, not from our reading of the trees, so every answer also proves that the row took
the same way through both. It is the logit of the score that decided, which costs nothing, while
that is sharp enough; a float32 score of 0.9999 would leave the margin open by 6e-4, so beyond
`_SHARP` the library is asked for the margin, which costs as much as a score.
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
_SHARP = 0.99
"""Between 1 - this and this, two float32 steps of a score are 2.4e-5 of the margin or less."""


class FastExplainer:
    """The explanations of one model, for one thread at a time: the buffers belong to the object.

    Args:
        model: the verified model.
        check: shape (n, k), n >= 1, rows on which both ways must agree to `EXACT` before the fast
            one is used.

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
            trees = TreeShap(forest_of(model), np.float32)
            self._margins = NativeScorer(model, check, of_margins=True)
            self._require_agreement(trees, check[:_CHECKED])
            self._trees = trees
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            self.fallback = f"{type(error).__name__}: {error}"

    def explain(self, features: NDArray[np.float64], scores: NDArray[np.float64]) -> Explanations:
        """`Model.explain`, to `EXACT`; rows that do not add up are the library's to explain.

        Args:
            features: as for `Model.score`.
            scores: shape (n,), what `Model.score` gave for them; the margins come from them.

        Raises:
            DataContractError: the matrix has another width.
        """
        if self._trees is None:
            return self._model.explain(features)
        found = self._fast(self._trees, features, scores)
        if found.is_exact.all():
            return found
        if not self.missed:
            LOGGER.warning("contributions of model %.12s do not add up", self._model.digest)
        self.missed += int(np.sum(~found.is_exact))
        return self._model.explain(features)

    def _fast(
        self, trees: TreeShap, features: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> Explanations:
        rows = self._model.rounded(features).astype(np.float64)
        if np.all((scores >= 1 - _SHARP) & (scores <= _SHARP)):
            margin = np.log(scores / (1 - scores))
        else:
            margin = self._margins.score(features)
        return Explanations(
            base=np.full(len(rows), trees.base),
            contributions=trees.contributions(rows),
            margin=margin,
        )

    def _require_agreement(self, trees: TreeShap, rows: NDArray[np.float64]) -> None:
        expected = self._model.explain(rows)
        found = self._fast(trees, rows, self._model.score(rows))
        ours = np.column_stack([found.base, found.contributions])
        theirs = np.column_stack([expected.base, expected.contributions])
        apart = float(np.max(np.abs(ours - theirs)))
        if not apart <= EXACT:  # also when one is not a number
            raise ValueError(f"found contributions {apart:.2g} apart from the library's")
        if not found.is_exact.all():
            raise ValueError("found contributions that do not add up to the margin")
