"""Following what healing has ordered: the file is looked at several times a second.

What obeying means is `obeying`; the form of the file is `adapters.orders_file`.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.errors import FraudPlatformError
from fraud_platform.orders import NORMAL, Orders
from serving.obeying import under, without_orders
from serving.ruling import Ruling

LOGGER = logging.getLogger("fraud_platform.scorer")

_LOOK_SECONDS = 0.25


class OrdersWatch:
    """Keeps the orders current, and the ruling under them.

    Args:
        path: where the orders are.
        ruling: the models by their roles, as they are now.

    Attributes:
        orders: the last ones that could be read; None before any could: then no model decides.
        error: why the orders cannot be read now, or None; the last ones stay in force.
    """

    def __init__(self, path: Path, ruling: Callable[[], Ruling]) -> None:
        self._path = path
        self._unordered = ruling
        self._of: tuple[Ruling, Orders | None] | None = None
        self._ruling = ruling()
        self.orders: Orders | None = None
        self.error: str | None = None

    @property
    def ruling(self) -> Ruling:
        """What decides now: one frozen object, another one after each change."""
        before, ruling = self._of, self._unordered()
        if before is None or before[0] is not ruling or before[1] is not self.orders:
            self._of = (ruling, self.orders)
            self._ruling = (
                without_orders(ruling) if self.orders is None else under(ruling, self.orders)
            )
        return self._ruling

    async def run(self) -> None:
        """Look for ever; cancel to stop. A defect costs one look, not all that follow."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            [defect] = await asyncio.gather(self.look(), return_exceptions=True)
            if defect is not None:
                LOGGER.error("a look at the orders ended with a defect", exc_info=defect)

    async def look(self) -> None:
        """Take over what is ordered, if it can be read."""
        try:
            found = await asyncio.to_thread(read_orders, self._path)
        except FraudPlatformError as error:
            if error.message != self.error:
                LOGGER.error("kept the orders of before: %s", error.message)
            self.error = error.message
            return
        self.error = None
        if found != self.orders:
            LOGGER.warning("under orders %d: %s", found.sequence, _shown(found))
            self.orders = found


def _shown(orders: Orders) -> str:
    """What differs from normal, for the log."""
    told = {
        name: value
        for name in Orders.__struct_fields__
        if name not in ("sequence", "because")
        and (value := getattr(orders, name)) != getattr(NORMAL, name)
    }
    return ", ".join(f"{name} {value}" for name, value in told.items()) or "nothing is ordered"
