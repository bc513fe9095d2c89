"""What the parts of a scorer say about themselves, as the situation that its mode is drawn from."""

from collections.abc import Callable

from fraud_platform.adapters.mirror_status import is_away, read_status, status_path
from fraud_platform.modes import Situation
from fraud_platform.settings import Settings
from serving.engine import Engine
from serving.orders import OrdersWatch

_LARGE_TAIL = 50_000
"""So many records that are not in the tables yet: whatever drains them is not there."""


class Surroundings:
    """Where a scorer looks before it takes a mode.

    Args:
        settings: what is configured, and may therefore be missing.
        engine: whether it can record.
        orders: whether a model decides, and what it lacks.
        clock: microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        orders: OrdersWatch,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._orders = orders
        self._clock = clock
        self._since = clock() / 1e6

    def situation(self) -> Situation:
        """What is found now."""
        ruling, ledger = self._orders.ruling, self._engine.ledger
        missing = set(ruling.missing)
        if self._engine.doubtful:
            missing.add("state")
        if ledger is not None and ledger.tail > _LARGE_TAIL:
            missing.add("drain")
        if ledger is not None and ledger.journal.spare_error is not None:
            missing.add("journal_room")
        if self._is_mirror_away():
            missing.add("mirror")
        return Situation(
            has_model=ruling.model is not None,
            can_record=self._engine.fault is None,
            missing=frozenset(missing),
        )

    def _is_mirror_away(self) -> bool:
        if self._settings.postgres_url is None:
            return False
        return is_away(
            read_status(status_path(self._settings.log_path)),
            now=self._clock() / 1e6,
            since=self._since,
            after=self._settings.mirror_away_seconds,
        )
