"""What every class of data can say and do about its retention."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import UnavailableError


class HeldError(UnavailableError):
    """A hold was recorded while a purge was under way: it stops where it is."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """What is to go of one class.

    Attributes:
        object: of the audit log's row.
        digest: names all that goes, hex.
        count: how many of the class's units.
        facts: what the row says, enough to carry it out and to go on after a crash.
    """

    object: str
    digest: str
    count: int
    facts: Mapping[str, str] = field(default_factory=dict)


class Kept(Protocol):
    """One class of data of a home."""

    name: str
    unit: str

    @property
    def days(self) -> int | None:
        """Its limit; None: kept for ever."""

    def oldest(self) -> datetime | None:
        """Of when the oldest is that is kept, UTC; None: nothing is there."""

    def prepare(self) -> None:
        """Whatever has to be before something is due."""

    def due(self, now_us: int) -> Due | None:
        """What is past the limit and not needed any more; reads only.

        Args:
            now_us: the moment, microseconds UTC.
        """

    def require_intact(self, facts: Mapping[str, str]) -> None:
        """Refuse to delete what is not what it was: it would be gone as evidence.

        Args:
            facts: of `due`, or of a row that has them.
        """

    def carry_out(self, row: Row, require_free: Callable[[], None]) -> None:
        """Delete what a first row of the audit log announces; again, it does no more.

        Args:
            row: `retention.purge`, with the facts of `due`.
            require_free: raises HeldError once a hold was recorded; asked before each batch.

        Raises:
            HistoryChangedError: what the row announces is not what is here.
        """


def digest_of(lines: Iterable[str]) -> str:
    """What names a list of files or runs: SHA-256 of its lines, hex."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
