"""How a foreign file of transactions becomes ours: a small declaration, applied to raw rows.

What belongs here: which rules a row breaks when it cannot be read at all. The parts of the mapping
file are `mapping_document`, how one column is read is `source_columns`, its verdicts are
`label_columns`, bounds on readable rows are `validation`, files are `adapters.ingest`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import polars as pl

from fraud_platform.card_number import are_card_numbers, mask, tokens
from fraud_platform.card_tokens import is_sensitive_field
from fraud_platform.errors import DataContractError, MappingError
from fraud_platform.label_columns import LABEL_COLUMNS, read_labels
from fraud_platform.mapping_document import Columns, Csv, LabelColumns, Time, nearest, read_part
from fraud_platform.rejections import REJECTION, Broken, divide
from fraud_platform.schemas import CONTEXT_COLUMNS, PAYLOAD_COLUMNS
from fraud_platform.source_columns import (
    read_minor_units,
    read_number,
    read_text,
    read_times,
    sanitized,
)

_IDS = ("transaction_id", "card_id", "terminal_id")
_COORDINATES = ("latitude", "longitude")
_PARTS = {"columns": Columns, "time": Time, "labels": LabelColumns, "csv": Csv}


@dataclass(frozen=True)
class Mapped:
    """What a mapping made of some rows; every row is in `transactions` or in `rejected`.

    Attributes:
        transactions: row_number and `PAYLOAD_COLUMNS`.
        labels: `label_columns.LABEL_COLUMNS`, about rows of `transactions` only.
        rejected: `rejections.REJECTION`.
        rejected_labels: `rejections.REJECTION`, verdicts of rows that are in `transactions`.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame
    rejected: pl.DataFrame
    rejected_labels: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """One kind of file, declared; made by `parse_mapping`."""

    columns: Columns
    amount_unit: Literal["major", "minor"]
    """major: euros; minor: cents."""
    currency: str | None = None
    """ISO 4217 code of every row, or of the rows whose currency column is empty."""
    decimal_mark: Literal[".", ","] = "."
    time: Time = field(default_factory=Time)
    labels: LabelColumns | None = None
    tokenize: bool = False
    """Replace every card id by a keyed token; without it a card number is refused."""
    csv: Csv = field(default_factory=Csv)

    def __post_init__(self) -> None:
        _refuse_sensitive(self.source_columns)
        code = self.currency
        if code is None and self.columns.currency is None:
            raise MappingError(
                "found no currency in the mapping, expected a column or a constant",
                hint="add `currency: EUR`, or `currency:` under columns",
            )
        if code is not None and not re.fullmatch("[A-Z]{3}", code):
            raise MappingError(
                f"found currency {code!r}, expected an ISO 4217 code such as EUR",
                hint="the name of a column goes to columns.currency",
            )

    @property
    def source_columns(self) -> list[str]:
        """The columns that a file must have, each once."""
        named = [getattr(self.columns, part.name) for part in fields(Columns)]
        if self.labels is not None:
            named += [self.labels.column, self.labels.known_at, self.labels.reason]
        return list(dict.fromkeys(name for name in named if name is not None))

    def check_columns(self, found: Sequence[str]) -> None:
        """Make sure that a file has the columns this mapping names.

        Raises:
            DataContractError: with what was found, what is missing and the nearest names.
        """
        missing = [name for name in self.source_columns if name not in found]
        if not missing:
            return
        shown = [mask(name)[:60] for name in found[:30]]
        more = f" and {len(found) - 30} more" if len(found) > 30 else ""
        raise DataContractError(
            f"found the columns {', '.join(map(repr, shown)) or 'none'}{more};"
            f" expected also {', '.join(map(repr, missing))}",
            hint=nearest(missing, shown)
            or "put the file's own column names into the mapping, and check csv.delimiter",
        )

    def check_token_key(self, token_key: bytes | None) -> None:
        """Make sure that there is a key if this mapping needs one.

        Raises:
            MappingError: `tokenize` without a key.
        """
        if self.tokenize and not token_key:
            raise MappingError(
                "found tokenize: true and no token key, expected a secret key",
                hint="set FRAUD_TOKEN_KEY, e.g. to the output of `openssl rand -hex 32`",
            )

    def apply(
        self, raw: pl.DataFrame, *, token_key: bytes | None, row_numbers: pl.Series | None = None
    ) -> Mapped:
        """Read raw rows as transactions and verdicts.

        Args:
            raw: `source_columns` as text or native types; other columns are ignored.
            token_key: the secret for `tokenize`.
            row_numbers: the rows' numbers in their file; 1, 2, 3, ... when None.

        Raises:
            DataContractError: a column is missing.
            MappingError: no token key; a column whose type cannot mean what the mapping says; these
                rows begin a file, no time in them names its zone and neither does the mapping.
        """
        self.check_columns(raw.columns)
        self.check_token_key(token_key)
        source = sanitized(raw.select(self.source_columns))
        if self.tokenize and token_key:
            cards = read_text(source[self.columns.card_id])
            source = source.with_columns(tokens(cards, token_key))
        rows, broken = self._read(source)
        if row_numbers is None:
            row_numbers = pl.int_range(1, raw.height + 1, dtype=pl.Int64, eager=True)
        if 1 in row_numbers.head(1):
            self._refuse_naive_times(broken)
        rows = rows.insert_column(0, row_numbers.alias("row_number"))
        good, source, rejected = divide(rows, source, broken)
        if self.labels is None:
            nothing = pl.DataFrame(schema=LABEL_COLUMNS), pl.DataFrame(schema=REJECTION)
            return Mapped(good, nothing[0], rejected, nothing[1])
        labels, rejected_labels = read_labels(good, source, self.labels, self.time)
        return Mapped(good, labels, rejected, rejected_labels)

    def _read(self, source: pl.DataFrame) -> tuple[pl.DataFrame, list[Broken]]:
        """Typed rows (`PAYLOAD_COLUMNS`), and the rules of reading in the order they are asked."""
        names = self.columns
        moments, naive = read_times(
            source[names.event_timestamp], zone=self.time.zone, time_format=self.time.format
        )
        ids = {name: read_text(source[getattr(names, name)]) for name in _IDS}
        context = {name: _context(source, getattr(names, name), name) for name in CONTEXT_COLUMNS}
        currencies = self._currencies(source)
        amounts, broken_amounts = self._amounts(source, currencies)
        typed = {
            **ids,
            **context,
            "event_timestamp": moments,
            "amount_minor": amounts,
            "currency": currencies,
        }
        broken = [
            Broken("row_is_readable_text", _undecodable(source), None, "text in csv.encoding"),
            *(
                Broken(f"{name}_is_present", ids[name].is_null(), getattr(names, name), "an id")
                for name in _IDS
            ),
            Broken(
                "card_id_is_not_a_card_number",
                are_card_numbers(ids["card_id"]),
                names.card_id,
                "an opaque id, not a card number (or tokenize: true in the mapping)",
            ),
            Broken(
                "event_timestamp_has_a_zone",
                naive,
                names.event_timestamp,
                "a time with a zone (or time.zone in the mapping)",
            ),
            Broken(
                "event_timestamp_is_readable",
                moments.is_null(),
                names.event_timestamp,
                f"date and time of day as {self.time.format or 'ISO 8601'}",
            ),
            *broken_amounts,
            *_broken_coordinates(source, names, context),
        ]
        return pl.DataFrame({name: typed[name] for name in PAYLOAD_COLUMNS}), broken

    def _currencies(self, source: pl.DataFrame) -> pl.Series:
        constant = pl.Series([self.currency], dtype=pl.String).new_from_index(0, source.height)
        if self.columns.currency is None:
            return constant
        told = read_text(source[self.columns.currency]).str.to_uppercase()
        return told.zip_with(told.is_not_null(), constant)

    def _amounts(
        self, source: pl.DataFrame, currencies: pl.Series
    ) -> tuple[pl.Series, list[Broken]]:
        column = self.columns.amount
        read = read_number(source[column], self.decimal_mark)
        numbers = read.set((~read.is_finite()).fill_null(value=False), None)
        minor, too_fine = read_minor_units(numbers, currencies, unit=self.amount_unit)
        missing = currencies.is_null()
        decimals = "no more decimals than the currency has"
        return minor, [
            Broken("amount_is_a_number", numbers.is_null(), column, "a finite number"),
            Broken("currency_is_present", missing, self.columns.currency, "a currency code"),
            Broken("amount_has_the_currencys_decimals", too_fine, column, decimals),
            Broken("amount_is_within_the_maximum", minor.is_null(), column, "less than 2**53"),
        ]

    def _refuse_naive_times(self, broken: list[Broken]) -> None:
        flags = {rule.rule: rule.rows for rule in broken}
        naive = flags["event_timestamp_has_a_zone"]
        if naive.any() and flags["event_timestamp_is_readable"].all():
            raise MappingError(
                f"found {naive.sum()} times without a zone in column"
                f" {self.columns.event_timestamp!r}, none with one, and no zone in the mapping",
                hint="name the zone in which the times were written, e.g. `time: {zone: UTC}`",
            )


def parse_mapping(document: object) -> Mapping:
    """Make a mapping of a parsed YAML document.

    Args:
        document: what YAML made of the file.

    Raises:
        MappingError: an unknown or missing key, a wrong type, or parts that contradict each other.

    Examples:
        >>> names = ["transaction_id", "event_timestamp", "card_id", "terminal_id", "amount"]
        >>> mapping = parse_mapping(
        ...     {"columns": dict(zip(names, "abcde")), "amount_unit": "minor", "currency": "EUR"}
        ... )
        >>> mapping.columns.amount
        'e'
    """
    if isinstance(document, dict):
        for key, kind in _PARTS.items():
            if key in document:
                read_part(kind, document[key], key)
    return read_part(Mapping, document, "the mapping")


def _context(source: pl.DataFrame, column: str | None, name: str) -> pl.Series:
    if column is None:
        return pl.Series([None], dtype=CONTEXT_COLUMNS[name]).new_from_index(0, source.height)
    return read_number(source[column]) if name in _COORDINATES else read_text(source[column])


def _broken_coordinates(
    source: pl.DataFrame, names: Columns, context: dict[str, pl.Series]
) -> list[Broken]:
    columns = [(name, getattr(names, name)) for name in _COORDINATES]
    return [
        Broken(
            f"{name}_is_a_number",
            context[name].is_null() & read_text(source[column]).is_not_null(),
            column,
            "a number or nothing",
        )
        for name, column in columns
        if column is not None
    ]


def _undecodable(source: pl.DataFrame) -> pl.Series:
    """Rows with U+FFFD, which decoding puts where bytes are no text."""
    found = pl.repeat(value=False, n=source.height, eager=True)
    for column in source.iter_columns():
        if column.dtype == pl.String:
            found |= column.str.contains("\ufffd", literal=True).fill_null(value=False)
    return found


def _refuse_sensitive(columns: Sequence[str]) -> None:
    """Refuse to read what nobody may keep after authorization."""
    if named := [name for name in columns if is_sensitive_field(name)]:
        raise MappingError(
            f"found the column {mask(named[0])!r} in the mapping, expected none for a security"
            " code, a track or a PIN: nobody may keep them",
            hint="take it out; if the column means something else, rename it in the file",
        )
