"""What routes are handed: the parts of one running scorer, or of its edge alone."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from fraud_platform.card_tokens import TokenKeys
from fraud_platform.errors import PermanentError
from fraud_platform.events import Decision, Transaction
from fraud_platform.settings import Settings
from serving.access import Access
from serving.children import Child
from serving.controls import ControlWatch
from serving.engine import Engine
from serving.governing import Governing
from serving.group import DecisionRequest, DecisionResult, LabelResult, NewLabel
from serving.harm import HarmWatch
from serving.metrics import Metrics
from serving.orders import OrdersWatch
from serving.owner_socket import OwnerSocket
from serving.residents import Residents
from serving.stance import StanceWatch
from serving.upkeep import Upkeep


class Deciding(Protocol):
    """What decides: the engine, or in a front the way to it."""

    async def decide(
        self, transaction: Transaction, *, received_us: int, older: tuple[str, ...] = ()
    ) -> DecisionResult:
        """As `Engine.decide`."""

    def submit(self, request: DecisionRequest) -> asyncio.Future[Any]:
        """As `Engine.submit`."""

    async def label(
        self, labels: Sequence[NewLabel], *, received_us: int, latest_us: int
    ) -> tuple[LabelResult | PermanentError, ...]:
        """As `Engine.label`."""

    async def decision(self, transaction_id: str) -> Decision | None:
        """As `Engine.decision`."""


@dataclass(frozen=True)
class Edge:
    """What it takes to read a request and to answer it, whoever decides.

    Attributes:
        settings: configuration of the installation.
        engine: decides and records.
        access: who may do what.
        token_keys: what card numbers are tokenized with; None: they are refused.
        clock: microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: Deciding
    access: Access
    token_keys: TokenKeys | None
    clock: Callable[[], int]


EdgeDependency = NamedDependency[SkipValidation[Edge]]
"""A handler's parameter `scorer` where an edge is enough: a `Scorer` is one as it is."""


@dataclass(frozen=True)
class Scorer(Edge):
    """The parts of one running scorer, beside its edge.

    Attributes:
        engine: decides and records.
        champion: which models are in memory, by their roles.
        orders: what is ordered, and which model decides under it.
        stance: in which mode it answers.
        metrics: what operators see.
        governing: holds the caps of the models that decide; None: it is off.
        harm: what is counted beside the answers, and told once a second.
        controls: whether what protects works.
        children: programs kept running beside it.
        upkeep: what goes on beside the answers.
        door: where its fronts come in; None: it has none.
    """

    engine: Engine
    champion: Residents
    orders: OrdersWatch
    stance: StanceWatch
    metrics: Metrics
    harm: HarmWatch
    controls: ControlWatch
    governing: Governing | None = None
    children: tuple[Child, ...] = ()
    upkeep: Upkeep = field(default_factory=Upkeep)
    door: OwnerSocket | None = None
