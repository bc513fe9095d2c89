"""The watch over the controls: each is tried again and again, and a failing one is told at once."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fraud_platform.adapters.control_runs import tell_fault
from fraud_platform.controls import Control
from fraud_platform.errors import FraudPlatformError
from fraud_platform.settings import Settings

LOGGER = logging.getLogger("fraud_platform.scorer")

Probe = Callable[[], str | None]
"""Says what is wrong with a control in one sentence, or None."""


class ControlWatch(Collector):
    """Which controls fail, for whoever scrapes and for whoever is called.

    Args:
        settings: of the home.
        probes: how each control is looked at.
        clock: microseconds since 1970-01-01 UTC.

    Attributes:
        faults: what is wrong with each control, by the newest look; None: it works.
    """

    def __init__(
        self, settings: Settings, probes: Mapping[Control, Probe], clock: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._probes = probes
        self._clock = clock
        self._looked_us = clock()
        self.faults: dict[Control, str | None] = dict.fromkeys(probes)

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(self._settings.controls.look_seconds)

    def look(self) -> None:
        """Try every control once, then tell of those that fail and of those that work again."""
        found = {control: self._fault(control) for control in self._probes}
        before, self.faults, self._looked_us = self.faults, found, self._clock()
        for control, fault in found.items():
            if fault is not None and before[control] is None:
                LOGGER.error("a control fails: %s: %s", control, fault)
            try:
                tell_fault(self._settings, control, fault, self._looked_us)
            except OSError as error:  # the metric says it all the same
                LOGGER.error("nobody can be told of the control %s: %s", control, error)

    def _fault(self, control: Control) -> str | None:
        try:
            return self._probes[control]()
        except FraudPlatformError as error:
            return error.message
        except Exception as defect:  # what cannot be looked at does not pass for working
            LOGGER.exception("looking at the control %s met a defect", control)
            return f"looking at it met a defect: {type(defect).__name__}"

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Each control, and when they were looked at."""
        failing = GaugeMetricFamily(
            "fraud_control_failing", "1 for a control that fails", labels=["control"]
        )
        for control, fault in self.faults.items():
            failing.add_metric([control], fault is not None)
        yield failing
        yield GaugeMetricFamily(
            "fraud_controls_looked_timestamp_seconds",
            "When the controls were last looked at",
            value=self._looked_us / 1e6,
        )
