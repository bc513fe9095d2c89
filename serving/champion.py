"""Keeping the verified champion current: poll the pointer, verify in a thread, swap by assignment.

The registry may be away and a bundle may be broken: the last good model keeps deciding. Moving the
pointer is `adapters.model_registry`; verifying a bundle is `adapters.model_bundle`.
"""

import asyncio
import gc
import logging
from pathlib import Path

from fraud_platform.adapters.deployment import Pointer, read_deployment
from fraud_platform.adapters.model_bundle import load_pointed
from fraud_platform.decision import DecisionPolicy
from fraud_platform.errors import FraudPlatformError
from serving.metrics import Metrics
from serving.ruling import Ruling, rules_only, ruling_of

LOGGER = logging.getLogger("fraud_platform.scorer")


class ChampionWatch:
    """The ruling in force, and the task that replaces it.

    Args:
        models_dir: bundles and the pointer to the champion's.
        policy: the decision policy in force.
        poll_seconds: how often to look, seconds.
        metrics: where swaps and failures are counted.

    Attributes:
        ruling: one frozen object; replaced as a whole, never changed.
        load_error: why the pointer's bundle is not the one that decides, or None.
    """

    def __init__(
        self, models_dir: Path, policy: DecisionPolicy, *, poll_seconds: float, metrics: Metrics
    ) -> None:
        self._models_dir = models_dir
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._seen: Pointer | None = None
        self.ruling: Ruling = rules_only(policy)
        self.load_error: str | None = None

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.look()

    async def look(self) -> None:
        """Take over the pointer's bundle if the pointer moved and the bundle is sound."""
        try:
            pointer = (await asyncio.to_thread(read_deployment, self._models_dir)).champion
            if pointer is None or (pointer == self._seen and self.load_error is None):
                return
            ruling = await asyncio.to_thread(self._load, pointer)
        except (FraudPlatformError, OSError) as error:
            self._keep(error)
            return
        self._seen, self.load_error = pointer, None
        self.ruling = ruling
        self._metrics.swapped(ruling)
        LOGGER.info("model %s decides from now on", ruling.version)
        # The garbage collector must not walk the new model's objects in the middle of a request.
        gc.collect()
        gc.freeze()

    def _load(self, pointer: Pointer) -> Ruling:
        ruling = ruling_of(load_pointed(self._models_dir, pointer), self._policy)
        _warm_up(ruling)
        return ruling

    def _keep(self, error: Exception) -> None:
        """Stay with the last good model and say why, once per cause."""
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        self._metrics.load_failed()
        if reason != self.load_error:
            LOGGER.error("kept model %s: %s", self.ruling.version, reason)
        self.load_error = reason


def _warm_up(ruling: Ruling) -> None:
    """Parse the booster and touch both paths now, in this thread, not in the first request."""
    import numpy as np

    from fraud_platform.features.spec import FEATURE_NAMES

    rows = np.zeros((2, len(FEATURE_NAMES)))
    if ruling.model is not None:
        ruling.model.score(rows)
        ruling.model.contributions(rows)
