"""What an engine is made of; `app` chooses, tests put others in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.state_snapshots import StateSnapshots
from serving.governing import Governing
from serving.metrics import Metrics
from serving.ruling import Ruling
from serving.stance import Stance

Durability = Literal["durable", "written", "async"]
"""When a group is answered: its record is on the disk; it is written; it is decided."""


@dataclass(frozen=True)
class Parts:
    """What an engine is made of.

    Attributes:
        ledger: opens what is recorded, and where to record; called again until it succeeds.
        log: the whole log, for folding; used from the loop's thread only.
        snapshots: what the state starts from.
        ruling: returns what decides now; read once per group.
        stance: returns the mode in force; read once per group.
        clock: microseconds since 1970-01-01 UTC.
        metrics: where groups and failures are counted.
        durability: when a group is answered.
        queue_limit: so many requests may wait; more are told to come back.
        governing: holds the caps; None: the models alone decide.
    """

    ledger: Callable[[], Ledger]
    log: EventLog
    snapshots: StateSnapshots
    ruling: Callable[[], Ruling]
    stance: Callable[[], Stance]
    clock: Callable[[], int]
    metrics: Metrics
    durability: Durability = "durable"
    queue_limit: int = 10_000
    governing: Governing | None = None
