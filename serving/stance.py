"""What a scorer finds when it looks at itself, several times a second, and the mode it takes.

The order of the modes and their hysteresis are `fraud_platform.modes`; here is where to look.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fraud_platform.adapters.mode_order import read_order
from fraud_platform.errors import FraudPlatformError
from fraud_platform.modes import Mode, ModePolicy, ModeSwitch, Situation, worst

LOGGER = logging.getLogger("fraud_platform.scorer")

_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Stance:
    """The mode in force, as a group of decisions reads it once.

    Attributes:
        mode: the mode.
        missing: capabilities that are missing in mode degraded, in alphabetical order.
    """

    mode: Mode
    missing: tuple[str, ...] = ()


class StanceWatch:
    """Keeps the stance current.

    Args:
        order_path: where an operator or a remedy orders a mode.
        policy: the hysteresis.
        look: what the parts of the scorer say about themselves now, `ceiling` left out.
        clock: seconds of a clock that does not go back.
        changed: called with each new stance.

    Attributes:
        stance: one frozen object, replaced as a whole.
        order_error: why the order could not be read, or None; the last one stays in force.
    """

    def __init__(
        self,
        order_path: Path,
        policy: ModePolicy,
        look: Callable[[], Situation],
        *,
        clock: Callable[[], float],
        changed: Callable[[Stance], None],
    ) -> None:
        self._order_path = order_path
        self._switch = ModeSwitch(policy)
        self._situation = look
        self._clock = clock
        self._changed = changed
        self._ceiling = Mode.CLOSED  # until the order was read once: nothing fails open
        self.stance = Stance(Mode.CLOSED)
        self.order_error: str | None = None

    async def run(self) -> None:
        """Look for ever; cancel to stop. A defect costs one look, not all that follow."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            [defect] = await asyncio.gather(self.look(), return_exceptions=True)
            if defect is not None:
                LOGGER.error("a look at the scorer's mode ended with a defect", exc_info=defect)

    async def look(self) -> None:
        """Find out what is there, and change the mode if that asks for it."""
        await self._read_order()
        found = self._situation()
        situation = Situation(
            has_model=found.has_model,
            can_record=found.can_record,
            missing=found.missing,
            ceiling=worst((found.ceiling, self._ceiling)),
        )
        mode = self._switch.look(situation, round(self._clock() * 1_000_000))
        stance = Stance(mode, self._switch.missing)
        if stance != self.stance:
            level = logging.INFO if mode is Mode.NORMAL else logging.WARNING
            LOGGER.log(level, " ".join(["mode", mode, *stance.missing]))
            self.stance = stance
            self._changed(stance)

    async def _read_order(self) -> None:
        try:
            order = await asyncio.to_thread(read_order, self._order_path)
        except FraudPlatformError as error:
            if error.message != self.order_error:
                LOGGER.error("kept the ordered mode %s: %s", self._ceiling, error.message)
            self.order_error = error.message
            return
        self._ceiling, self.order_error = order.mode, None
