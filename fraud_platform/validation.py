"""What a transaction must satisfy: rules with names, and the split into valid and quarantined rows.

Types and columns are `schemas`; turning a foreign file into typed rows is `mapping`.

Every rule is stated twice: as a Polars expression for tables and as a predicate for one live
transaction. A property test holds the two together.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from fraud_platform.card_number import (
    are_card_numbers,
    has_no_card_number,
    hold_card_numbers,
    holds_card_number,
    looks_like_a_card,
    masked,
    masked_json,
)
from fraud_platform.events import Transaction, microseconds
from fraud_platform.schemas import LARGEST_AMOUNT, PAYLOAD_COLUMNS, QUARANTINE, TRANSACTIONS

if TYPE_CHECKING:
    from pandera.api.polars.types import PolarsData
    from pandera.polars import DataFrameSchema

_IDS = ("transaction_id", "card_id", "terminal_id")
_CONTEXT_TEXTS = ("merchant_category", "payment_method", "country", "device_id", "entry_mode")
_TEXTS = (*_IDS, *_CONTEXT_TEXTS)
_REQUIRED = tuple(c for c in PAYLOAD_COLUMNS if c in TRANSACTIONS.required)
_BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_CONTROL = r"[\x00-\x1f\x7f]"
_CONTROL_PATTERN = re.compile(_CONTROL)
_CURRENCY_PATTERN = re.compile("[A-Z]{3}")
_PARTED = "\xb6"
"""Between texts in `_PLAIN_TEXTS`: no plain text has it, and no card number goes on behind it."""
_PLAIN_TEXTS = re.compile(f"[A-Z]{{3}}(?:{_PARTED}[!-~]{{1,64}}){{3}}(?:{_PARTED}[ -~]{{0,200}})*")


@dataclass(frozen=True, kw_only=True)
class ValidationPolicy:
    """Bounds that a transaction must keep."""

    max_amount_minor: int = 1_000_000_00
    """Largest accepted amount, minor units; a larger one is quarantined, not clipped."""
    future_tolerance_seconds: int = 5
    """How far a payment's own clock may run ahead of ours, seconds."""
    oldest_event: str = "2000-01-01T00:00:00Z"
    """Events before this moment are taken for broken clocks, ISO 8601 with a zone."""
    no_card_numbers_in: tuple[str, ...] = ("transaction_id", "terminal_id", *_CONTEXT_TEXTS)
    """Columns beside card_id whose values must hold no card number; take one out if your own
    numbers only look like cards."""

    def __post_init__(self) -> None:
        if self.max_amount_minor > LARGEST_AMOUNT:
            raise ValueError(
                f"found max_amount_minor={self.max_amount_minor}, expected at most "
                f"{LARGEST_AMOUNT}, up to which features are exact"
            )
        if self.max_amount_minor < 1 or self.future_tolerance_seconds < 0:
            raise ValueError(
                f"found max_amount_minor={self.max_amount_minor} and "
                f"future_tolerance_seconds={self.future_tolerance_seconds}, "
                "expected at least 1 and 0"
            )
        if not _has_zone(self.oldest_event):
            raise ValueError(
                f"found oldest_event={self.oldest_event!r}, expected ISO 8601 with a zone"
            )
        if unknown := set(self.no_card_numbers_in) - set(_TEXTS):
            raise ValueError(f"found no_card_numbers_in={sorted(unknown)}, expected of {_TEXTS}")


def _has_zone(moment: str) -> bool:
    try:
        return datetime.fromisoformat(moment).tzinfo is not None
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that is true of every valid transaction.

    Attributes:
        name: a sentence in snake case; what quarantine shows.
        text: what was expected, for people.
        columns: the columns it looks at, shown with their values when it is broken.
        expression: policy -> Polars expression over `TRANSACTIONS` that is true for a valid row.
        holds: the same for one transaction received at `received_us` (microseconds UTC).
    """

    name: str
    text: str
    columns: tuple[str, ...]
    expression: Callable[[ValidationPolicy], pl.Expr]
    holds: Callable[[Transaction, int, ValidationPolicy], bool]


@dataclass(frozen=True)
class Split:
    """Every input row once: either valid, or quarantined under its first broken rule.

    Attributes:
        valid: the rows that keep all rules, columns and order as given.
        quarantined: the others, in `QUARANTINE` columns.
    """

    valid: pl.DataFrame
    quarantined: pl.DataFrame


@cache
def _oldest(event: str) -> tuple[datetime, int]:
    moment = datetime.fromisoformat(event)
    return moment, microseconds(moment)


def _texts(transaction: Transaction) -> tuple[str, ...]:
    return tuple(
        text
        for text in (transaction[0], transaction[2], transaction[3], *transaction[6:11])
        if isinstance(text, str)
    )


def _no_card_number_elsewhere(policy: ValidationPolicy) -> pl.Expr:
    return pl.all_horizontal(
        pl.lit(value=True),  # a policy may name no column at all
        *(
            ~pl.col(name).map_batches(hold_card_numbers, return_dtype=pl.Boolean)
            for name in policy.no_card_numbers_in
        ),
    )


def _within(name: str, bound: float) -> pl.Expr:
    return pl.col(name).is_null() | pl.col(name).is_between(-bound, bound)


RULES: tuple[Rule, ...] = (
    Rule(
        name="required_values_are_present",
        text="a transaction has an id, a time, a card, a terminal, an amount and a currency",
        columns=_REQUIRED,
        expression=lambda _: pl.all_horizontal(pl.col(c).is_not_null() for c in _REQUIRED),
        holds=lambda t, *_: None not in t[:6],
    ),
    Rule(
        name="ids_are_not_blank",
        text="an id has at least one visible character",
        columns=_IDS,
        expression=lambda _: pl.all_horizontal(
            pl.col(c).str.strip_chars(_BLANKS) != "" for c in _IDS
        ),
        holds=lambda t, *_: all(
            i.strip(_BLANKS) for i in (t.transaction_id, t.card_id, t.terminal_id)
        ),
    ),
    Rule(
        name="ids_are_at_most_64_characters",
        text="an id has at most 64 characters",
        columns=_IDS,
        expression=lambda _: pl.all_horizontal(pl.col(c).str.len_chars() <= 64 for c in _IDS),
        holds=lambda t, *_: max(len(t.transaction_id), len(t.card_id), len(t.terminal_id)) <= 64,
    ),
    Rule(
        name="context_is_at_most_200_characters",
        text="a context value has at most 200 characters",
        columns=_CONTEXT_TEXTS,
        expression=lambda _: pl.all_horizontal(
            pl.col(c).str.len_chars().fill_null(0) <= 200 for c in _CONTEXT_TEXTS
        ),
        holds=lambda t, *_: all(len(text) <= 200 for text in _texts(t)[3:]),
    ),
    Rule(
        name="texts_have_no_control_characters",
        text="ids and context values hold no line breaks or other control characters",
        columns=_TEXTS,
        expression=lambda _: (
            ~pl.any_horizontal(
                pl.col(c).str.contains(_CONTROL).fill_null(value=False) for c in _TEXTS
            )
        ),
        holds=lambda t, *_: _CONTROL_PATTERN.search(" ".join(_texts(t))) is None,
    ),
    Rule(
        name="card_id_is_not_a_card_number",
        text="a card id is an opaque token, never a card number",
        columns=("card_id",),
        expression=lambda _: (
            ~pl.col("card_id").map_batches(are_card_numbers, return_dtype=pl.Boolean)
        ),
        holds=lambda t, *_: len(t.card_id) < 13 or not looks_like_a_card(t.card_id),
    ),
    Rule(
        name="no_other_column_holds_a_card_number",
        text="no value is or holds a card number",
        columns=_TEXTS,
        expression=_no_card_number_elsewhere,
        holds=lambda t, _, policy: (
            not any(
                (text := getattr(t, name)) is not None
                and len(text) >= 13
                and holds_card_number(text)
                for name in policy.no_card_numbers_in
            )
        ),
    ),
    Rule(
        name="amount_is_not_negative",
        text="an amount is zero or more; refunds are not payments",
        columns=("amount_minor",),
        expression=lambda _: pl.col("amount_minor") >= 0,
        holds=lambda t, *_: t.amount_minor >= 0,
    ),
    Rule(
        name="amount_is_within_the_maximum",
        text="an amount is at most the policy's max_amount_minor",
        columns=("amount_minor", "currency"),
        expression=lambda policy: pl.col("amount_minor") <= policy.max_amount_minor,
        holds=lambda t, _, policy: t.amount_minor <= policy.max_amount_minor,
    ),
    Rule(
        name="currency_is_an_iso_4217_code",
        text="a currency is three capital letters, such as EUR",
        columns=("currency",),
        expression=lambda _: pl.col("currency").str.contains("^[A-Z]{3}$"),
        holds=lambda t, *_: _CURRENCY_PATTERN.fullmatch(t.currency) is not None,
    ),
    Rule(
        name="event_is_not_from_the_future",
        text="a payment happened before it was received, give or take the tolerated seconds",
        columns=("event_timestamp", "received_timestamp"),
        expression=lambda policy: (
            pl.col("event_timestamp")
            <= pl.col("received_timestamp") + timedelta(seconds=policy.future_tolerance_seconds)
        ),
        holds=lambda t, received_us, policy: (
            t.event_us <= received_us + policy.future_tolerance_seconds * 1_000_000
        ),
    ),
    Rule(
        name="event_is_not_older_than_the_oldest",
        text="a payment happened after the policy's oldest_event",
        columns=("event_timestamp",),
        expression=lambda policy: pl.col("event_timestamp") >= _oldest(policy.oldest_event)[0],
        holds=lambda t, _, policy: t.event_us >= _oldest(policy.oldest_event)[1],
    ),
    Rule(
        name="coordinates_are_on_earth",
        text="latitude is within 90 degrees and longitude within 180, as finite numbers",
        columns=("latitude", "longitude"),
        expression=lambda _: _within("latitude", 90.0) & _within("longitude", 180.0),
        holds=lambda t, *_: (
            (t.latitude is None or -90.0 <= t.latitude <= 90.0)
            and (t.longitude is None or -180.0 <= t.longitude <= 180.0)
        ),
    ),
)
"""In the order in which they are asked; the first broken one names the row."""


def split(transactions: pl.DataFrame, policy: ValidationPolicy) -> Split:
    """Split rows into valid and quarantined; each row is in exactly one of the two.

    Args:
        transactions: `PAYLOAD_COLUMNS`, received_timestamp (the "now" of each row) and source;
            with a column row_number, quarantine names the file's row.
        policy: the bounds.
    """
    broken = pl.coalesce(
        pl.lit(None, pl.String),
        *(
            pl.when(~rule.expression(policy).fill_null(value=False)).then(pl.lit(rule.name))
            for rule in RULES
        ),
    )
    named = transactions.with_columns(broken_rule=broken)
    bad = named.filter(pl.col("broken_rule").is_not_null())
    return Split(
        valid=named.filter(pl.col("broken_rule").is_null()).drop("broken_rule"),
        quarantined=quarantine(
            bad.with_columns(
                detail=_details(bad), payload=masked_json(bad.select(*PAYLOAD_COLUMNS))
            ),
            policy,
        ),
    )


def check_transaction(
    transaction: Transaction, received_us: int, policy: ValidationPolicy
) -> str | None:
    """The name of the first rule that one live transaction breaks, or None; agrees with `split`.

    Args:
        transaction: what the sender said.
        received_us: when the platform took it, microseconds since 1970-01-01 UTC.
        policy: the bounds.

    Examples:
        >>> payment = Transaction("t-1", 1_700_000_000_000_000, "c-1", "m-1", -5, "EUR")
        >>> check_transaction(payment, 1_700_000_000_000_000, ValidationPolicy())
        'amount_is_not_negative'
    """
    if is_plain(transaction, received_us, policy):
        return None
    for rule in RULES:
        if not rule.holds(transaction, received_us, policy):
            return rule.name
    return None


def is_plain(transaction: Transaction, received_us: int, policy: ValidationPolicy) -> bool:
    """Whether a payment is so plain that it keeps all rules; most are, and this is quick.

    Its ids are visible ASCII without blanks, and nothing in it has the digits of a card number.

    Args:
        transaction: what the sender said.
        received_us: when the platform took it, microseconds since 1970-01-01 UTC.
        policy: the bounds.

    Examples:
        >>> payment = Transaction("t-1", 1_700_000_000_000_000, "c-1", "m-1", 5, "EUR")
        >>> is_plain(payment, 1_700_000_000_000_000, ValidationPolicy())
        True
    """
    if None in transaction[:6]:
        return False
    name, event_us, card, terminal, amount, currency, a, b, c, d, e, latitude, longitude = (
        transaction
    )
    context = (a or "", b or "", c or "", d or "", e or "")
    texts = _PARTED.join((currency, name, card, terminal, *context))
    return (
        0 <= amount <= policy.max_amount_minor
        and event_us <= received_us + policy.future_tolerance_seconds * 1_000_000
        and event_us >= _oldest(policy.oldest_event)[1]
        and (latitude is None or -90.0 <= latitude <= 90.0)
        and (longitude is None or -180.0 <= longitude <= 180.0)
        and _PLAIN_TEXTS.fullmatch(texts) is not None
        and has_no_card_number(texts)
    )


def quarantine(rejected: pl.DataFrame, policy: ValidationPolicy) -> pl.DataFrame:
    """Bring rejected rows into `QUARANTINE` columns.

    A row's partition is the day of its event where that is readable and sane (not before the
    oldest, not from the future), else the day it arrived.

    Args:
        rejected: event_timestamp (nullable), received_timestamp, source, transaction_id
            (nullable), broken_rule, detail, payload, and perhaps row_number.
        policy: what is sane.
    """
    latest = pl.col("received_timestamp") + timedelta(seconds=policy.future_tolerance_seconds)
    sane = pl.col("event_timestamp").is_between(_oldest(policy.oldest_event)[0], latest)
    number = pl.col("row_number") if "row_number" in rejected.columns else pl.lit(None)
    return rejected.with_columns(
        partition_timestamp=pl.when(sane).then("event_timestamp").otherwise("received_timestamp"),
        row_number=number,
        transaction_id=masked(rejected["transaction_id"]),
    ).select(pl.col(name).cast(dtype) for name, dtype in QUARANTINE.columns.items())


def transaction_schema(policy: ValidationPolicy | None = None) -> "DataFrameSchema":
    """The contract of `TRANSACTIONS` as a pandera schema: dtypes, nulls, unique ids, all `RULES`.

    It flags what `split` flags, names the rule, and quotes failing rows by their seq only.

    Args:
        policy: the bounds; the default policy when None.
    """
    from pandera.polars import Check, Column, DataFrameSchema

    bounds = policy or ValidationPolicy()
    rules = [
        Check(
            _pandera_check(rule, bounds),
            name=rule.name,
            error=f"{rule.name}: {rule.text}",
        )
        for rule in RULES
    ]
    return DataFrameSchema(
        columns={
            name: Column(
                dtype,
                nullable=name not in TRANSACTIONS.required,
                unique=name == TRANSACTIONS.key,
                # Pandera quotes the failing value, and a row may hold a secret: it quotes a seq.
                checks=rules if name == "seq" else None,
            )
            for name, dtype in TRANSACTIONS.columns.items()
        },
        strict=True,
    )


def _details(rows: pl.DataFrame) -> pl.Series:
    """What was found and what was expected, per row, by its broken_rule."""
    shown = rows.select(
        masked(rows[name].cast(pl.String)).str.head(80).fill_null("nothing").alias(name)
        for name in {column for rule in RULES for column in rule.columns}
    )
    sentences = pl.coalesce(
        pl.when(rows["broken_rule"] == rule.name).then(
            pl.concat_str(
                pl.lit("found "),
                pl.concat_str((pl.format(f"{c} = {{}}", c) for c in rule.columns), separator=", "),
                pl.lit(f"; expected: {rule.text}"),
            )
        )
        for rule in RULES
    )
    return shown.select(detail=sentences).to_series()


def _pandera_check(rule: Rule, policy: ValidationPolicy) -> Callable[["PolarsData"], pl.LazyFrame]:
    def check(data: "PolarsData") -> pl.LazyFrame:
        return data.lazyframe.select(rule.expression(policy).fill_null(value=False))

    return check
