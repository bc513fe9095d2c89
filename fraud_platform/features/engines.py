"""Which program computes the features of whole tables: all give the same bits."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import polars as pl

from fraud_platform.errors import PermanentError
from fraud_platform.features.declaration import Feature
from fraud_platform.features.spec import FEATURES


class Engine(StrEnum):
    """An engine by the name that people choose it by."""

    POLARS = "polars"  # always there; its values are the contract
    KERNEL = "kernel"  # compiled loops, several times faster; needs the extra `kernel`


class Compute(Protocol):
    """What every engine does: see `batch.compute`."""

    def __call__(
        self,
        transactions: pl.DataFrame,
        labels: pl.DataFrame,
        *,
        since: datetime | None = None,
        features: tuple[Feature, ...] = FEATURES,
        seen: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Every feature of every transaction, as it was at the moment of its decision."""


def compute_by(engine: Engine) -> Compute:
    """The engine's `compute`.

    Raises:
        PermanentError: it is not installed.
    """
    if engine is Engine.POLARS:
        from fraud_platform.features import batch

        return batch.compute
    try:
        from fraud_platform.features import kernel
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise PermanentError(
            "found no numba, which the compiled engine is made of",
            hint="pip install 'fraud-platform[kernel]', or choose the engine polars",
        ) from error
    return kernel.compute
