"""The parts of a mapping file, and how strictly they are read.

Applying a mapping to rows is `mapping`; the file itself is opened by `adapters.ingest`.
"""

import codecs
import difflib
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import msgspec

from fraud_platform.errors import MappingError

LabelValue = str | int | float | bool
LabelSource = Literal["chargeback", "dispute", "analyst", "audit", "customer_report"]
_Part = TypeVar("_Part")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which source column holds what; the first five are required."""

    transaction_id: str
    event_timestamp: str
    card_id: str
    terminal_id: str
    amount: str
    currency: str | None = None
    merchant_category: str | None = None
    payment_method: str | None = None
    country: str | None = None
    device_id: str | None = None
    entry_mode: str | None = None
    latitude: str | None = None
    longitude: str | None = None

    def __post_init__(self) -> None:
        needed = [self.transaction_id, self.event_timestamp, self.card_id, self.terminal_id]
        needed.append(self.amount)
        if twice := sorted({name for name in needed if needed.count(name) > 1}):
            raise MappingError(
                f"found column {twice[0]!r} for two of the five required facts in columns",
                hint="transaction_id, event_timestamp, card_id, terminal_id and amount each have a"
                " column of their own",
            )


@dataclass(frozen=True, kw_only=True)
class Time:
    """How times are written."""

    zone: str | None = None
    """IANA zone of times that name none, e.g. UTC or Europe/Paris."""
    format: str | None = None
    """strptime pattern, or epoch_seconds, epoch_milliseconds, epoch_microseconds; else ISO 8601."""

    def __post_init__(self) -> None:
        if self.zone is None:
            return
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise MappingError(
                f"found time.zone {self.zone!r}, expected an IANA zone such as UTC or Europe/Paris",
                hint=nearest([self.zone], zoneinfo.available_timezones()),
            ) from error


@dataclass(frozen=True, kw_only=True)
class LabelColumns:
    """Where the verdicts are and when they became known."""

    column: str
    """An empty value means: not known yet."""
    fraud: LabelValue | list[LabelValue]
    """The value or values that mean fraud."""
    genuine: LabelValue | list[LabelValue] | None = None
    """The values that mean genuine; None: every other value does."""
    known_at: str | None = None
    """Column with the moment the verdict became known; zone and format as for the events."""
    known_after_days: float | None = None
    """Or: days from the event until its verdict became known."""
    source: LabelSource = "chargeback"
    """Who gave the verdicts."""
    reason: str | None = None
    """Column with the reason, if there is one."""

    def __post_init__(self) -> None:
        if (self.known_at is None) == (self.known_after_days is None):
            raise MappingError(
                "found both or none of labels.known_at and labels.known_after_days, expected one",
                hint="known_at names a column, known_after_days is a number of days; knowing it"
                " keeps later knowledge out of earlier decisions",
            )
        if self.known_after_days is not None and not 0 <= self.known_after_days <= 3650:
            raise MappingError(
                f"found labels.known_after_days {self.known_after_days}, expected 0 to 3650"
            )


@dataclass(frozen=True, kw_only=True)
class Csv:
    """How a CSV file is written; ignored for Parquet."""

    delimiter: str = ","
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise MappingError(f"found csv.delimiter {self.delimiter!r}, expected one character")
        try:
            "".encode(codecs.lookup(self.encoding).name)
        except LookupError as error:
            raise MappingError(
                f"found csv.encoding {self.encoding!r}, expected a text encoding such as utf-8"
            ) from error


def read_part(kind: type[_Part], document: object, where: str) -> _Part:
    """One part of a mapping document as its dataclass: no unknown keys, no guessed types.

    Args:
        kind: the dataclass.
        document: what YAML made of the part.
        where: the part's place in the file, for messages.

    Raises:
        MappingError: not a mapping, an unknown or missing key, a value of another type.

    Examples:
        >>> read_part(Time, {"zone": "UTC"}, "time")
        Time(zone='UTC', format=None)
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # always a dataclass
    if not isinstance(document, dict):
        found = "nothing" if document is None else type(document).__name__
        raise MappingError(
            f"found {found} in {where}, expected keys and values",
            hint=f"{where} may have {', '.join(names)}",
        )
    for key in document:
        if key not in names:
            raise MappingError(
                f"found unknown key {key!r} in {where}, expected one of {', '.join(names)}",
                hint=nearest([str(key)], names),
            )
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise MappingError(
            f"found a value that does not fit in {where}: {error}",
            hint="put text that looks like a number or a date in quotes",
        ) from error


def nearest(wanted: Iterable[str], found: Iterable[str]) -> str | None:
    """A did-you-mean sentence for names that were not found, or None.

    Examples:
        >>> nearest(["amout"], ["amount", "card"])
        'did you mean amount instead of amout?'
    """
    by_lower = {name.lower(): name for name in found}
    guesses = []
    for name in wanted:
        close = difflib.get_close_matches(name.lower(), by_lower, n=1)
        guesses += [f"{by_lower[close[0]]} instead of {name}"] if close else []
    return f"did you mean {', '.join(guesses)}?" if guesses else None
