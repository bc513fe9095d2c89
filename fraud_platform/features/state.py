"""What every backend of the online features can do, and what an event changes in it.

Backends differ in where pasts are kept: in memory (`rings`), in a file (`adapters.sqlite_state`) or
on a server (`adapters.redis_state`). What a past is, what an event adds to it and what is read from
it is the same code for all, so that they answer with the same bits.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from fraud_platform.events import Event, LabelEvent, Transaction
from fraud_platform.features.past import Entry, Past, Verdict
from fraud_platform.features.reading import Reader, verdict_of


class FeatureState(Protocol):
    """The online state: `apply` every event of the log in order, `read` before each decision.

    A state that has applied the log up to `last_seq` answers as if nothing came after it.
    """

    @property
    def last_seq(self) -> int:
        """Log position of the newest event applied; 0 before the first."""

    @property
    def newest_us(self) -> int:
        """Newest payment time applied, microseconds UTC; 0 before the first."""

    def apply(self, event: Event) -> None:
        """Fold one event in; one that was applied before (seq <= last_seq) changes nothing."""

    def read(self, transaction: Transaction) -> tuple[float | None, ...]:
        """The features of a payment that is not applied yet; changes nothing."""

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""


class Sight(NamedTuple):
    """A vector of features, and how much of the log it knows: what `batch.compute` calls `seen`.

    Attributes:
        values: one per feature, in order; None where the feature is undefined.
        card_seen: every event of the card up to this log position is in the values, none later.
        terminal_seen: the same of the terminal.
        is_late: whether the payment is so old that its windows may be cut.
    """

    values: tuple[float | None, ...]
    card_seen: int
    terminal_seen: int
    is_late: bool


class Change(NamedTuple):
    """What one event adds to the past of one card or terminal."""

    entity: str
    key: str
    added: Entry | Verdict

    def insert_into(self, past: Past) -> None:
        """Remember it."""
        if isinstance(self.added, Entry):
            past.insert(self.added)
        else:
            past.frauds.insert(self.added)


def changes(
    event: Event, newest_us: int, reader: Reader, past_of: Callable[[str, str], Past]
) -> Iterator[Change]:
    """What an event adds to its card's and its terminal's past; nothing, if it is beyond sight.

    Args:
        event: the event.
        newest_us: newest payment time, this event's included.
        reader: what pasts must remember.
        past_of: the past of an entity and a key, with all earlier events and without this one.
    """
    about = event.transaction
    if about.event_us < newest_us - reader.horizon_us:
        return
    keys = (("card", about.card_id), ("terminal", about.terminal_id))
    if isinstance(event, LabelEvent):
        for entity, key in keys:
            yield Change(entity, key, verdict_of(event, past_of(entity, key)))
        return
    for (entity, key), entry in zip(keys, reader.entries(event, past_of(*keys[0])), strict=True):
        yield Change(entity, key, entry)
