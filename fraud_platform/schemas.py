"""Every table once: columns, dtypes, units, key and time column.

What belongs here: shapes that two or more modules share. What a row must satisfy beyond its type is
`validation`; how a table is stored is `adapters.tables` and `adapters.event_log`.

Conventions: times are UTC with microseconds and end in `_timestamp`; money is integer minor units
of `currency` (ISO 4217); ids are opaque strings; a null means "not known", never zero.
"""

from dataclasses import dataclass

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")

LARGEST_AMOUNT = 2**40
"""Largest amount of any currency, minor units: sums of squares over millions of payments stay exact
in two machine words."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table's contract.

    Attributes:
        columns: name -> Polars dtype, in storage order.
        required: columns that never hold a null.
        key: the column whose values are unique within the table, or None.
        time: the column that assigns a row to a day partition (UTC).
    """

    columns: dict[str, pl.DataType]
    required: tuple[str, ...]
    key: str | None
    time: str

    def empty(self) -> pl.DataFrame:
        """A frame without rows that has exactly this table's columns.

        Examples:
            >>> TRANSACTIONS.empty().height
            0
        """
        return pl.DataFrame(schema=self.columns)


CONTEXT_COLUMNS: dict[str, pl.DataType] = {
    "merchant_category": pl.String(),  # ISO 18245 code or the sender's own group
    "payment_method": pl.String(),  # e.g. chip, contactless, online, wallet
    "country": pl.String(),  # ISO 3166 alpha-2 of the terminal
    "device_id": pl.String(),
    "entry_mode": pl.String(),  # e.g. present, not_present
    "latitude": pl.Float64(),  # degrees, WGS 84
    "longitude": pl.Float64(),
}
"""Optional facts of a transaction; null when the sender does not know them."""

PAYLOAD_COLUMNS: dict[str, pl.DataType] = {
    "transaction_id": pl.String(),
    "event_timestamp": UTC_MICROSECONDS,  # when the payment happened
    "card_id": pl.String(),  # opaque token; a card number is refused at the door
    "terminal_id": pl.String(),
    "amount_minor": pl.Int64(),  # minor units of `currency`
    "currency": pl.String(),  # ISO 4217 alphabetic code
    **CONTEXT_COLUMNS,
}
"""What the sender says; two transactions are the same when all of these are."""

TRANSACTIONS = Table(
    columns={
        "seq": pl.Int64(),  # position in the event log; total order over transactions and labels
        **PAYLOAD_COLUMNS,
        "received_timestamp": UTC_MICROSECONDS,  # when the platform took it, by its own clock
        "source": pl.String(),  # "scorer" or "ingest:<file name>"
    },
    required=(
        "seq",
        "transaction_id",
        "event_timestamp",
        "card_id",
        "terminal_id",
        "amount_minor",
        "currency",
        "received_timestamp",
        "source",
    ),
    key="transaction_id",
    time="event_timestamp",
)

QUARANTINE = Table(
    columns={
        "partition_timestamp": UTC_MICROSECONDS,  # event time where readable and sane, else arrival
        "received_timestamp": UTC_MICROSECONDS,
        "source": pl.String(),
        "row_number": pl.Int64(),  # 1-based row of the source file; null when there is no file
        "transaction_id": pl.String(),  # null when unreadable
        "broken_rule": pl.String(),  # the first broken rule's name
        "detail": pl.String(),  # what was found; card-number-like digits masked
        "payload": pl.String(),  # the row as JSON text; card-number-like digits masked
    },
    required=(
        "partition_timestamp",
        "received_timestamp",
        "source",
        "broken_rule",
        "detail",
        "payload",
    ),
    key=None,
    time="partition_timestamp",
)

LABELS = Table(
    columns={
        "seq": pl.Int64(),
        "transaction_id": pl.String(),
        "verdict": pl.String(),  # fraud | genuine | withdrawn
        "label_source": pl.String(),  # chargeback | dispute | analyst | audit | customer_report
        "reason": pl.String(),
        "reported_by": pl.String(),  # subject of the caller's key, or "ingest:<file name>"
        "happened_timestamp": UTC_MICROSECONDS,  # when what it speaks of happened, e.g. the dispute
        "label_timestamp": UTC_MICROSECONDS,  # when the verdict became known
        "received_timestamp": UTC_MICROSECONDS,
        # of the labelled transaction, joined from the log:
        "event_timestamp": UTC_MICROSECONDS,
        "card_id": pl.String(),
        "terminal_id": pl.String(),
    },
    required=(
        "seq",
        "transaction_id",
        "verdict",
        "label_source",
        "label_timestamp",
        "received_timestamp",
        "event_timestamp",
        "card_id",
        "terminal_id",
    ),
    key=None,
    time="label_timestamp",
)

MATURE_LABELS = Table(
    columns={
        "transaction_id": pl.String(),
        "event_timestamp": UTC_MICROSECONDS,
        "card_id": pl.String(),
        "is_fraud": pl.Boolean(),
        "label_source": pl.String(),  # whose verdict decides; "implied" if silence does
        "label_timestamp": UTC_MICROSECONDS,  # of the deciding verdict; null if implied
        "propensity": pl.Float64(),  # chance that this label could become known, in (0, 1]
        "as_of_timestamp": UTC_MICROSECONDS,  # end of the day at which the label became mature
    },
    required=(
        "transaction_id",
        "event_timestamp",
        "card_id",
        "is_fraud",
        "label_source",
        "propensity",
        "as_of_timestamp",
    ),
    key="transaction_id",
    time="as_of_timestamp",
)

DECISIONS = Table(
    columns={
        "transaction_id": pl.String(),
        "decision_id": pl.String(),
        "seq": pl.Int64(),  # of its transaction
        "seen_seq": pl.Int64(),  # the newest log position the features had seen
        "event_timestamp": UTC_MICROSECONDS,  # of its transaction
        "decided_timestamp": UTC_MICROSECONDS,
        "decision": pl.String(),  # approve | review | decline
        "score": pl.Float64(),  # in [0, 1]; null when no model decided
        "reasons": pl.List(pl.String()),  # stable reason codes, strongest first, at most four
        "probability": pl.Float64(),  # calibrated chance of fraud; null when it cannot be told
        "expected_fpr": pl.Float64(),  # share of genuine payments that score at least this
        "mode": pl.String(),  # normal | degraded | rules_only
        "missing": pl.List(pl.String()),  # capabilities that were missing in mode degraded
        "arm": pl.String(),  # champion | canary | control | fallback | none: who decided
        "is_late": pl.Boolean(),  # older than the state's lateness bound: its windows may be cut
        "model_version": pl.String(),
        "model_digest": pl.String(),
        "policy_digest": pl.String(),
        "feature_spec_digest": pl.String(),
        "features": pl.List(pl.Float64()),  # in the order of FEATURE_NAMES; null where undefined
        "latency_us": pl.Int64(),  # from the parsed request to the computed decision, microseconds
        "expires_timestamp": UTC_MICROSECONDS,  # nobody should act on the answer later
        "pass_propensity": pl.Float64(),  # chance to be let through; null: not to be declined
        "audit_propensity": pl.Float64(),  # chance of an audit, had it not been let through
        "explored": pl.String(),  # passed | audited, at random; null: neither
        "governed": pl.String(),  # what the model alone would have answered; null: the same
        "review_cut": pl.Float64(),  # scores from here on were reviewed; null: no governor
        "decline_cut": pl.Float64(),  # scores from here on were declined
        "fpr_bound": pl.Float64(),  # of genuine payments disturbed at most; null: not known
        "budget": pl.Float64(),  # share of payments that might be disturbed
        "price_minor": pl.Float64(),  # fraud let go per false block avoided, minor units
        "worth_multiplier": pl.Float64(),  # what friction weighed; null: the cuts alone decided
    },
    required=(
        "transaction_id",
        "decision_id",
        "seq",
        "seen_seq",
        "event_timestamp",
        "decided_timestamp",
        "decision",
        "reasons",
        "mode",
        "missing",
        "arm",
        "is_late",
        "policy_digest",
        "feature_spec_digest",
        "features",
        "latency_us",
        "expires_timestamp",
    ),
    key="transaction_id",
    time="event_timestamp",
)
