"""A recorded score taken apart by the model that gave it: for a route, a dossier or a page."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.orders_file import known_orders
from fraud_platform.errors import InexactExplanationError
from fraud_platform.events import Decision
from fraud_platform.model import Explanations, Model
from serving.obeying import divisors_of


def taken_apart(decision: Decision, model: Model, orders_path: Path) -> Explanations:
    """The exact contributions to the recorded score, one row, features in their order.

    Raises:
        InexactExplanationError: the model does not give the recorded features the recorded score,
            or the contributions do not add up.
    """
    return model.explanation(_seen(decision, model, orders_path))


def _seen(decision: Decision, model: Model, orders_path: Path) -> NDArray[np.float64]:
    """The recorded features as the model saw them: in the units of then, which the score tells."""
    row: NDArray[np.float64] = np.array(decision.features, dtype=np.float64)
    if decision.score is None or model.score(row.reshape(1, -1))[0] == decision.score:
        return row
    for divisors in filter(None, map(divisors_of, known_orders(orders_path))):
        seen: NDArray[np.float64] = row / np.array(divisors)
        if model.score(seen.reshape(1, -1))[0] == decision.score:
            return seen
    raise InexactExplanationError(
        "The model does not give the recorded features the recorded score",
        hint="`fraud-platform audit replay` says what differs",
    )
