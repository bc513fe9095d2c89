"""What every route is handed: the parts of one running scorer."""

from collections.abc import Callable
from dataclasses import dataclass

from fraud_platform.card_tokens import TokenKeys
from fraud_platform.settings import Settings
from serving.access import Access
from serving.children import Child
from serving.engine import Engine
from serving.metrics import Metrics
from serving.residents import Residents
from serving.stance import StanceWatch


@dataclass(frozen=True)
class Scorer:
    """The parts of one running scorer.

    Attributes:
        settings: configuration of the installation.
        engine: decides and records.
        champion: which model decides.
        stance: in which mode it answers.
        metrics: what operators see.
        access: who may do what.
        token_keys: what card numbers are tokenized with; None: they are refused.
        clock: microseconds since 1970-01-01 UTC.
        children: programs kept running beside it.
    """

    settings: Settings
    engine: Engine
    champion: Residents
    stance: StanceWatch
    metrics: Metrics
    access: Access
    token_keys: TokenKeys | None
    clock: Callable[[], int]
    children: tuple[Child, ...] = ()
