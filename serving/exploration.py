"""What operators see of exploration: what is spent today, and how many audits are open.

Who draws is `group`, and what is spent is the ledger's knowledge; here both are only looked at.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fraud_platform.adapters.audit_queue import count_open
from fraud_platform.errors import LogUnavailableError
from fraud_platform.selective_labels import day_of
from serving.engine import Engine
from serving.metrics import Metrics

LOGGER = logging.getLogger("fraud_platform.scorer")

_LOOK_SECONDS = 10.0


def show_exposure(metrics: Metrics, engine: Engine, clock: Callable[[], int]) -> None:
    """Have the metrics ask, whenever they are read, what was let through on this UTC day."""

    def exposure() -> float:
        ledger = engine.ledger
        return 0.0 if ledger is None else ledger.spent(day_of(clock())).exposure_minor

    metrics.exposure.set_function(exposure)


async def count_audits(path: Path, metrics: Metrics) -> None:
    """Count the open audits for ever; cancel to stop. A log that cannot be read is asked again."""
    while True:
        try:
            metrics.audits_open.set(await asyncio.to_thread(count_open, path))
        except LogUnavailableError as error:
            LOGGER.warning("open audits were not counted: %s", error.message)
        await asyncio.sleep(_LOOK_SECONDS)
