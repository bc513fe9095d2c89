"""The replay proof: a whole log through the online path, every value against the batch table.

What an engine of either side does is its own business; here is only the order in which events are
delivered, and the comparison, bit for bit.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl

from fraud_platform.events import Event, Transaction, TransactionEvent
from fraud_platform.features.declaration import Feature, digest_of
from fraud_platform.features.journal import Journal, Repeats, deliveries
from fraud_platform.features.parity import differing_bits
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.state import FeatureState

Vector = tuple[float | None, ...]

_CHUNK = 16_384  # vectors compared at a time
_SHOWN = 5
_DAY_US = 86_400_000_000


class Restarting:
    """A state that is thrown away now and then, and goes on from what it kept.

    Args:
        state: where it starts.
        every: number of deliveries after which it starts again.
        restarted: makes a new state of what the old one kept.

    Attributes:
        restarts: how often it did.
    """

    def __init__(
        self, state: FeatureState, every: int, restarted: Callable[[FeatureState], FeatureState]
    ) -> None:
        self.restarts = 0
        self._state, self._every, self._restarted = state, every, restarted
        self._deliveries = 0

    @property
    def last_seq(self) -> int:
        """Log position of the newest event applied; 0 before the first."""
        return self._state.last_seq

    @property
    def newest_us(self) -> int:
        """Newest payment time applied, microseconds UTC; 0 before the first."""
        return self._state.newest_us

    def apply(self, event: Event) -> None:
        """Fold one event in, and start again if it is time to."""
        self._state.apply(event)
        self._deliveries += 1
        if self._deliveries % self._every == 0:
            self._state = self._restarted(self._state)
            self.restarts += 1

    def read(self, transaction: Transaction) -> Vector:
        """The features of a payment that is not applied yet."""
        return self._state.read(transaction)

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""
        return self._state.is_late(event_us)


class Mismatch(NamedTuple):
    """One value that differs."""

    transaction_id: str
    feature: str
    online: float | None
    batch: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a replay found.

    Attributes:
        events: events of the log.
        transactions: payments among them.
        labels: verdicts among them.
        late_rows: payments that arrived after one with a later event time.
        late_rows_of_earlier_days: of them, those whose UTC day was over by then.
        duplicates_delivered: events that were delivered a second time.
        late_decisions: payments beyond the lateness bound, left out: their windows may be cut.
        decisions_compared: payments whose vectors were compared.
        values_compared: single values compared, bit for bit.
        mismatches: of them, how many differ.
        missing: payments that the batch table lacks.
        extra: rows of the batch table that are no payment of the log.
        mismatches_by_feature: the same, where it is more than 0.
        first_mismatches: a few of them.
        feature_spec_digest: of the features compared.
    """

    events: int
    transactions: int
    labels: int
    late_rows: int
    late_rows_of_earlier_days: int
    duplicates_delivered: int
    late_decisions: int
    decisions_compared: int
    values_compared: int
    mismatches: int
    missing: int
    extra: int
    mismatches_by_feature: dict[str, int]
    first_mismatches: tuple[Mismatch, ...]
    feature_spec_digest: str

    @property
    def is_exact(self) -> bool:
        """Something was compared, all of it was equal and nothing was missing."""
        return self.values_compared > 0 and not (self.mismatches or self.missing or self.extra)

    def to_dict(self) -> dict[str, object]:
        """The fields by name, for reports."""
        shown = [mismatch._asdict() for mismatch in self.first_mismatches]
        return asdict(self) | {"first_mismatches": shown}


def replay(
    log: Journal,
    batch: pl.DataFrame,
    state: FeatureState,
    *,
    features: tuple[Feature, ...] = FEATURES,
    repeats: Repeats | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Tell a state the whole log, event by event, and compare what it answers before each payment.

    Args:
        log: all events.
        batch: what the batch engine answered for this log: seq and one Float64 column per feature,
            sorted by seq.
        state: an empty state, which answers `features` in their order.
        features: what is compared.
        repeats: which events are delivered twice; None: no event.
        progress: called with the number of events delivered, now and then.
    """
    compared = _Compared(batch, tuple(feature.name for feature in features))
    again = 0
    for done, delivery in enumerate(deliveries(log, repeats or Repeats()), start=1):
        event, again = delivery.event, again + delivery.is_again
        if not delivery.is_again and isinstance(event, TransactionEvent):
            compared.add(event.seq, event.transaction, state)
        state.apply(event)
        if progress is not None and done % _CHUNK == 0:
            progress(done)
    compared.flush()
    return _report(log, compared, again, features)


@dataclass
class _Compared:
    """The comparison so far; vectors wait in lists until a chunk of them is full."""

    batch: pl.DataFrame
    names: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)
    by_feature: Counter[str] = field(default_factory=Counter)
    first: list[Mismatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._batch_seqs = self.batch["seq"].to_numpy()
        self._payments: list[tuple[int, str]] = []
        self._vectors: list[Vector] = []

    def add(self, seq: int, payment: Transaction, state: FeatureState) -> None:
        """Ask the state about a payment that comes next, unless it is too late to be asked."""
        late = state.is_late(payment.event_us)
        self.counts["late_decisions"] += late
        self._payments.append((seq, payment.transaction_id))
        self._vectors.append(() if late else state.read(payment))
        if len(self._vectors) == _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Compare the vectors that wait."""
        places = np.searchsorted(self._batch_seqs, [seq for seq, _ in self._payments])
        told = np.array([seq for seq, _ in self._payments], np.int64)
        found = np.append(self._batch_seqs, -1)[places] == told
        self.counts["found"] += int(found.sum())
        self.counts["missing"] += int((~found).sum())
        asked = found & np.array([bool(vector) for vector in self._vectors], np.bool_)
        which = np.flatnonzero(asked)
        self.counts["compared"] += len(which)
        schema = dict.fromkeys(self.names, pl.Float64)
        online = pl.DataFrame([self._vectors[i] for i in which], schema=schema, orient="row")
        self._compare(online, self.batch[places[which]], [self._payments[i][1] for i in which])
        self._payments, self._vectors = [], []

    def _compare(self, online: pl.DataFrame, batch: pl.DataFrame, ids: list[str]) -> None:
        for name in self.names:
            wrong = np.flatnonzero(differing_bits(online[name], batch[name]))
            if not wrong.size:
                continue
            self.by_feature[name] += len(wrong)
            for row in wrong[: _SHOWN - len(self.first)].tolist():
                self.first.append(Mismatch(ids[row], name, online[name][row], batch[name][row]))


def _report(log: Journal, compared: _Compared, again: int, features: tuple[Feature, ...]) -> Report:
    late, of_earlier_days = _late_rows(log.transactions)
    return Report(
        events=log.events,
        transactions=log.transactions.height,
        labels=log.labels.height,
        late_rows=late,
        late_rows_of_earlier_days=of_earlier_days,
        duplicates_delivered=again,
        late_decisions=compared.counts["late_decisions"],
        decisions_compared=compared.counts["compared"],
        values_compared=compared.counts["compared"] * len(features),
        mismatches=compared.by_feature.total(),
        missing=compared.counts["missing"],
        extra=compared.batch.height - compared.counts["found"],
        mismatches_by_feature=dict(compared.by_feature.most_common()),
        first_mismatches=tuple(compared.first),
        feature_spec_digest=digest_of(features),
    )


def _late_rows(transactions: pl.DataFrame) -> tuple[int, int]:
    """Payments that came after a later one, and those of them whose day was over by then."""
    times = transactions["event_timestamp"].dt.epoch("us")
    newest = times.cum_max()
    return int((times < newest).sum()), int((times // _DAY_US < newest // _DAY_US).sum())
