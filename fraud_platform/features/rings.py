"""The online state in memory: what every card and terminal has been through, folded from the log.

State is a deterministic fold of the log's events in seq order (no clock, no randomness): a `Past`
per card and per terminal, the last seq applied, and the newest event time. Entries older than
`newest - LOOKBACK - LATENESS` are dropped, a few per event. A decision that is not late (`is_late`)
therefore always finds its whole window. Not safe for use from several threads.
"""

import hashlib
import itertools
from collections import defaultdict, deque

import msgspec

from fraud_platform.errors import PermanentError
from fraud_platform.events import Event, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    MICROSECOND,
    OUTLIER_REFERENCE,
    Feature,
)
from fraud_platform.features.past import Past
from fraud_platform.features.reading import Reader, verdict_of
from fraud_platform.features.shards import shard_of
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.visible import visible

SHARDS = 256
"""The state is checked in so many parts or a multiple; a card or terminal is in one by its id."""

_CELLS = 1 << 16
"""The finest parts: what is indexed, and the largest number of shards."""
_PASTS_PER_SHARD = 64
"""No more on average, as long as there are cells: their digest takes one or two milliseconds."""

_SWEEP_EVERY = 4  # events between two visits for dropping: a past nobody uses is cold memory


class _Snapshot(msgspec.Struct, frozen=True):
    """The state as bytes know it; pasts in the order in which they are swept."""

    state: str
    last_seq: int
    newest_us: int
    pasts: dict[str, list[tuple[str, bytes]]]


class FeatureRings:
    """The online state: `apply` every event of the log in order, `read` before each decision.

    Args:
        features: what `read` answers, in this order.

    Attributes:
        last_seq: log position of the newest event applied; 0 before the first.
        newest_us: newest transaction time applied, microseconds UTC; 0 before the first.

    Examples:
        >>> payment = Transaction("t1", 1_000_000, "card", "terminal", 500, "EUR")
        >>> rings = FeatureRings(tuple(f for f in FEATURES if f.name == "card_amount_sum_1d"))
        >>> rings.read(payment)
        (0.0,)
        >>> rings.apply(TransactionEvent(1, payment))
        >>> rings.read(payment._replace(transaction_id="t2", event_us=2_000_000))
        (500.0,)
    """

    def __init__(self, features: tuple[Feature, ...] = FEATURES) -> None:
        self.last_seq = 0
        self.newest_us = 0
        self._reader = Reader(features)
        self._pasts: dict[str, dict[str, Past]] = {entity: {} for entity in ENTITY_COLUMNS}
        self._turns: dict[str, deque[str]] = {entity: deque() for entity in ENTITY_COLUMNS}
        self._cells: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
        self._nothing = {e: layout.new_past() for e, layout in self._reader.layouts.items()}

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""
        return self._reader.is_late(event_us, self.newest_us)

    def knows_card(self, card_id: str) -> bool:
        """Whether payments of this card are remembered."""
        return card_id in self._pasts["card"]

    def apply(self, event: Event) -> None:
        """Fold one event in; one that was applied before (seq <= last_seq) changes nothing."""
        if event.seq <= self.last_seq:
            return
        if isinstance(event, LabelEvent):
            self._apply_label(event)
        else:
            self._apply_transaction(event)
        self.last_seq = event.seq

    def read(self, transaction: Transaction) -> tuple[float | None, ...]:
        """The features of a payment, given everything applied so far; changes nothing.

        Returns:
            One value per feature, in order; None where the feature is undefined.
        """
        return self._reader.values(
            transaction,
            self._pasts["card"].get(transaction.card_id, self._nothing["card"]),
            self._pasts["terminal"].get(transaction.terminal_id, self._nothing["terminal"]),
        )

    def snapshot(self) -> bytes:
        """The whole state as bytes, with a digest; `restore` continues from it.

        The same log gives the same bytes.
        """
        body = msgspec.msgpack.encode(
            _Snapshot(
                state=self._reader.state_digest,
                last_seq=self.last_seq,
                newest_us=self.newest_us,
                pasts={
                    entity: [(key, self._pasts[entity][key].pack()) for key in turns]
                    for entity, turns in self._turns.items()
                },
            )
        )
        return hashlib.sha256(body).digest() + body

    @classmethod
    def restore(cls, packed: bytes, features: tuple[Feature, ...] = FEATURES) -> "FeatureRings":
        """The state that `snapshot` packed.

        Raises:
            PermanentError: the bytes are damaged, or of other features.
        """
        digest, body = packed[:32], packed[32:]
        if hashlib.sha256(body).digest() != digest:
            raise PermanentError(
                "found a snapshot of the features that is damaged",
                hint="remove it: the state is then folded from the log",
            )
        rings = cls(features)
        expected = rings._reader.state_digest
        try:
            found = msgspec.msgpack.decode(body, type=_Snapshot)
        except msgspec.ValidationError as error:
            raise _foreign("another version", expected) from error
        if found.state != expected:
            raise _foreign(found.state[:12], expected)
        rings.last_seq, rings.newest_us = found.last_seq, found.newest_us
        for entity, pasts in found.pasts.items():
            layout = rings._reader.layouts[entity]
            rings._pasts[entity] = {key: layout.unpack(past) for key, past in pasts}
            rings._turns[entity].extend(key for key, _ in pasts)
            for key, _ in pasts:
                rings._cells[shard_of(key, _CELLS)].add((entity, key))
        return rings

    def sizes(self) -> dict[str, int]:
        """How many pasts are remembered, per entity."""
        return {entity: len(pasts) for entity, pasts in self._pasts.items()}

    @property
    def shards(self) -> int:
        """In how many shards to check the state: more where one would hold many pasts.

        A multiple of `SHARDS`: the cards and terminals of shard n of so many are all in shard
        n % SHARDS of `SHARDS`.
        """
        pasts = sum(map(len, self._pasts.values()))
        return min(_CELLS, max(SHARDS, 1 << (pasts // _PASTS_PER_SHARD).bit_length()))

    def digest(self, shard: int, shards: int = SHARDS) -> str:
        """SHA-256 (hex) of what windows can see of the cards and terminals of one shard.

        Any two states that applied the log to the same position have the same digests, whether they
        started from its beginning, from a snapshot, or from the horizon of the newest payment. The
        time of that payment is in every one of them: it says what is late, and what is forgotten.

        Args:
            shard: in [0, shards).
            shards: a power of two in [SHARDS, 65,536].
        """
        horizon_us = self.newest_us - self._reader.horizon_us
        # Whoever starts at the horizon cannot know who was an outlier right after it.
        marked_us = horizon_us + OUTLIER_REFERENCE // MICROSECOND
        found = hashlib.sha256(f"{self.newest_us} ".encode())
        cells = (self._cells.get(cell, ()) for cell in range(shard, _CELLS, shards))
        for entity, key in sorted(itertools.chain.from_iterable(cells)):
            layout, past = self._reader.layouts[entity], self._pasts[entity].get(key)
            seen = past and visible(past, horizon_us, marked_us, layout.outliers)
            if seen:
                found.update(f"{entity} {len(key)} {key} {len(seen)} ".encode())
                found.update(seen)
        return found.hexdigest()

    def _apply_transaction(self, event: TransactionEvent) -> None:
        payment = event.transaction
        self.newest_us = max(self.newest_us, payment.event_us)
        if payment.event_us < self.newest_us - self._reader.horizon_us:
            return
        card = self._past("card", payment.card_id, event.seq)
        terminal = self._past("terminal", payment.terminal_id, event.seq)
        of_card, of_terminal = self._reader.entries(event, card)
        card.insert(of_card)
        terminal.insert(of_terminal)
        if event.seq % _SWEEP_EVERY == 0:
            for entity in self._turns:
                self._sweep(entity, 1)

    def _apply_label(self, label: LabelEvent) -> None:
        about = label.transaction
        if about.event_us < self.newest_us - self._reader.horizon_us:
            return
        for entity, key in (("card", about.card_id), ("terminal", about.terminal_id)):
            past = self._past(entity, key, label.seq)
            past.frauds.insert(verdict_of(label, past))

    def _past(self, entity: str, key: str, seq: int) -> Past:
        """The past of a card or a terminal, about to learn of the event at `seq`."""
        past = self._pasts[entity].get(key)
        if past is None:
            self._sweep(entity, 2)  # more than the one that comes: the state cannot only grow
            past = self._pasts[entity][key] = self._reader.layouts[entity].new_past()
            self._turns[entity].append(key)
            self._cells[shard_of(key, _CELLS)].add((entity, key))
        past.last_seq = seq
        return past

    def _sweep(self, entity: str, visits: int) -> None:
        """Visit the next few pasts, in turn, and drop what no decision can see any more."""
        horizon_us = self.newest_us - self._reader.horizon_us
        pasts, turns = self._pasts[entity], self._turns[entity]
        for _ in range(min(visits, len(turns))):
            key = turns.popleft()
            if pasts[key].drop_before(horizon_us):
                del pasts[key]
                self._cells[shard_of(key, _CELLS)].discard((entity, key))
            else:
                turns.append(key)


def _foreign(found: str, expected: str) -> PermanentError:
    return PermanentError(
        f"found a snapshot of the features of {found}, expected {expected[:12]}",
        hint="remove it: the state is then folded from the log",
    )
