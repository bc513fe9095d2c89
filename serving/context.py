"""What every route is handed: the parts of one running scorer."""

from collections.abc import Callable
from dataclasses import dataclass

from fraud_platform.card_tokens import TokenKeys
from fraud_platform.settings import Settings
from serving.access import Access
from serving.engine import Engine
from serving.metrics import Metrics
from serving.residents import Residents


@dataclass(frozen=True)
class Scorer:
    """The parts of one running scorer.

    Attributes:
        settings: configuration of the installation.
        engine: decides and records.
        champion: which model decides.
        metrics: what operators see.
        access: who may do what.
        token_keys: what card numbers are tokenized with; None: they are refused.
        clock: microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: Engine
    champion: Residents
    metrics: Metrics
    access: Access
    token_keys: TokenKeys | None
    clock: Callable[[], int]
