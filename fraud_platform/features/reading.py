"""The features of one payment: the online reading of a declaration.

What a card and a terminal have been through is a `Past` each; where they are kept - in memory, in a
file, on a server - does not matter here, so every store answers with the same bits. A window is two
binary searches and one subtraction; state is integers, and a float is made once, at the end. The
formulas, and how they become one function, are `reading_code`.
"""

import hashlib
from bisect import bisect_left
from dataclasses import dataclass

from fraud_platform.events import LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    MICROSECOND,
    OUTLIER_FACTOR,
    OUTLIER_REFERENCE,
    Feature,
    Function,
    Stream,
    Where,
    digest_of,
    refuse_beyond,
)
from fraud_platform.features.past import Entry, Past, Verdict
from fraud_platform.features.reading_code import (
    Asked,
    Reading,
    Remembering,
    Slots,
    compiled_entries,
    compiled_reading,
    entries_source,
    reading_source,
)
from fraud_platform.features.spec import FEATURES, LATENESS

_LATENESS_US = LATENESS // MICROSECOND
_REFERENCE_US = OUTLIER_REFERENCE // MICROSECOND
_STATE_FORMAT = 1
"""Raise it when packed pasts change while the features do not."""
_OF_ORDER = frozenset({Function.MIN, Function.MAX, Function.MEDIAN, Function.OVER_MEDIAN})
_OF_SQUARES = frozenset({Function.STD, Function.Z_SCORE})
_REFERENCE_SLOT = 0
"""Where a card's ring of all payments keeps the amounts in order that judge outliers."""


@dataclass(frozen=True)
class Layout:
    """What the pasts of one kind of entity must remember for a list of features.

    Attributes:
        values: the columns of texts that are remembered by fingerprint.
        wheres: the conditions that payments are marked with.
        ringed: so many of the first of them have a ring of their own; verdicts need none.
        squared: whether sums of squared amounts are asked.
        ordered: delay and reach of the windows over all payments whose amounts are kept in order;
            those that judge outliers come first.
    """

    values: tuple[str, ...]
    wheres: tuple[Where, ...]
    ringed: int
    squared: bool
    ordered: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, features: tuple[Feature, ...], entity: str) -> "Layout":
        """What these features ask of the pasts of an entity."""
        mine = [feature for feature in features if feature.entity == entity]
        judges = entity == "card" and any(f.needs_marks for f in features)
        judging = [(0, _REFERENCE_US)] if judges else []
        ordered = [
            (f.delay_us, f.reach_us) for f in mine if f.where is None and f.function in _OF_ORDER
        ]
        ringed = dict.fromkeys(f.where for f in mine if f.where and _counts_payments(f))
        return cls(
            values=tuple(dict.fromkeys(f.value for f in mine if f.value)),
            wheres=tuple(dict.fromkeys([*ringed, *(f.where for f in mine if f.where)])),
            ringed=len(ringed),
            squared=any(f.function in _OF_SQUARES for f in mine),
            ordered=tuple(dict.fromkeys([*judging, *ordered])),
        )

    @property
    def outliers(self) -> int:
        """The bits of the marks that say whether a payment is an outlier."""
        about = (where.fact == "is_outlier" for where in self.wheres)
        return sum(1 << bit for bit, is_about in enumerate(about) if is_about)

    def new_past(self) -> Past:
        """A past that remembers nothing yet."""
        return Past(len(self.values), self.ringed, squared=self.squared, slots=len(self.ordered))

    def unpack(self, packed: bytes) -> Past:
        """A past of this layout from its bytes."""
        past = self.new_past()
        past.fill(packed)
        return past


def _state_digest(features: tuple[Feature, ...], horizon_us: int) -> str:
    parts = f"{_STATE_FORMAT} {horizon_us} {_LATENESS_US} {digest_of(features)}"
    return hashlib.sha256(parts.encode()).hexdigest()


def _counts_payments(feature: Feature) -> bool:
    """Whether it looks at payments that pass its `where`, not only at verdicts on them."""
    return feature.stream is Stream.PAYMENTS or feature.function is Function.RATE


class Reader:
    """Works out features, and what pasts must remember for them.

    Args:
        features: what `values` answers, in this order.

    Attributes:
        features: the same.
        values: the features of a payment, from the pasts of its card and its terminal: one per
            feature, in order; None where the feature is undefined.
        layouts: of the pasts, by kind of entity.
        horizon_us: age behind the newest payment at which a past may forget.
        state_digest: SHA-256 (hex) of what decides which pasts are kept, and how they are packed;
            a state that was kept under another one is not continued.
    """

    def __init__(self, features: tuple[Feature, ...] = FEATURES) -> None:
        self.features = features
        self.layouts = {entity: Layout.of(features, entity) for entity in ENTITY_COLUMNS}
        lookback = max((feature.lookback for feature in features), default=LATENESS * 0)
        self.horizon_us = (lookback + LATENESS) // MICROSECOND
        self.state_digest = _state_digest(features, self.horizon_us)
        self._marks_outliers = any(feature.needs_marks for feature in features)
        plain = {at: f.function for at, f in enumerate(features) if f.window is None}
        asked = [self._asked(f, at) for at, f in enumerate(features) if f.window is not None]
        slots: Slots = {(e, 0): list(layout.ordered) for e, layout in self.layouts.items()}
        self.values: Reading = compiled_reading(reading_source(plain, asked, slots))
        told = [(layout.values, layout.wheres) for layout in self.layouts.values()]
        self._entries: Remembering = compiled_entries(entries_source(told))

    @staticmethod
    def is_late(event_us: int, newest_us: int) -> bool:
        """Whether a decision may no longer find its whole window behind the newest payment."""
        return event_us < newest_us - _LATENESS_US

    def entries(self, event: TransactionEvent, card: Past) -> tuple[Entry, Entry]:
        """A payment as its card and its terminal remember it.

        Args:
            event: the payment.
            card: the card's past, before it.

        Raises:
            PermanentError: the amount is too large for exact sums.
        """
        refuse_beyond(abs(event.transaction.amount_minor))
        is_outlier = self._marks_outliers and self._is_outlier(event.transaction, card)
        return self._entries(event, is_outlier)

    @staticmethod
    def _is_outlier(payment: Transaction, card: Past) -> bool:
        ring = card.rings[0]
        times, now = ring.times, payment.event_us
        last = len(times)
        if last and times[-1] >= now:
            last = bisect_left(times, now)
        first = bisect_left(times, now - _REFERENCE_US, 0, last)
        if first == last:
            return False
        ordered, middle = ring.ordered(_REFERENCE_SLOT, first, last), (last - first) // 2
        return 2 * payment.amount_minor > OUTLIER_FACTOR * (ordered[middle] + ordered[~middle])

    def _asked(self, feature: Feature, place: int) -> Asked:
        """Where a feature is read from."""
        layout = self.layouts[feature.entity]
        bit = -1 if feature.where is None else layout.wheres.index(feature.where)
        return Asked(
            entity=feature.entity,
            ring=bit + 1 if bit < layout.ringed else 0,
            delay_us=feature.delay_us,
            reach_us=feature.reach_us,
            place=place,
            formula=(feature.stream, feature.function),
            value=feature.value or "",
            column=layout.values.index(feature.value) if feature.value else -1,
            bit=bit,
        )


def verdict_of(label: LabelEvent, past: Past) -> Verdict:
    """A verdict as a past remembers it.

    Args:
        label: the verdict.
        past: of the entity, which remembers the payment it is about.
    """
    about = label.transaction.event_us
    return Verdict(
        event_us=about,
        payment_seq=label.transaction_seq,
        known_us=label.known_us,
        seq=label.seq,
        is_fraud=label.verdict == "fraud",
        marks=past.marks_of(about, label.transaction_seq),
    )
