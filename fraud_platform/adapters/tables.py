"""Tables and documents on disk: one folder per asset, one file per day.

Frames are Parquet, everything else is JSON (bytes as base64); no pickle. A file appears whole or
not at all: it is written beside its place, synced and renamed.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import polars as pl

from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.errors import NotReadyError, PurgedError

PURGED_UNTIL = "purged.json"
"""Beside a table's days: the first that retention kept, and the audit log's row that says so."""

Document = TypeVar("Document")


@dataclass(frozen=True)
class StoredFile:
    """One day of a table or document, as bytes.

    Attributes:
        name: of the table or document.
        day: its partition.
        path: the file.
        sha256: of the bytes that were read or written, hex.
    """

    name: str
    day: date
    path: Path
    sha256: str


class Witness(Protocol):
    """Who is told of every file that is read and written."""

    def has_read(self, file: StoredFile) -> None:
        """These bytes were read."""

    def has_written(self, file: StoredFile, content: object) -> None:
        """These bytes are in place, and this is what they hold: a frame or a document."""


class Tables:
    """Everything the asset graph materialized, by asset name and day.

    Args:
        root: the folder of all tables; made on the first write.
        witness: told of every file, if anybody is.
    """

    def __init__(self, root: Path, witness: Witness | None = None) -> None:
        self._root = root
        self._witness = witness

    def write(self, name: str, day: date, frame: pl.DataFrame) -> Path:
        """Replace one day of a table."""
        path = self.path(name, day, "parquet")
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd", compression_level=1)
        self._put(name, day, path, content.getvalue(), frame)
        return path

    def read(self, name: str, days: Sequence[date]) -> pl.DataFrame:
        """The rows of some days of a table, in day order.

        Days before the table's first are before history and hold nothing; a day that is missing
        later is a gap, and reading over it would be silently wrong.

        Raises:
            NotReadyError: no day of the table exists, there is a gap in the days asked for, or some
                of them were stored with other columns than the newest.
            PurgedError: some of them were purged.
        """
        self._refuse_purged(name, days)
        present = self.days(name)
        if not present:
            wanted_days = f"{days[0]} to {days[-1]}" if days else "any"
            raise NotReadyError(
                f"found no day of {name}, expected {wanted_days}",
                hint=f"materialize {name} first",
            )
        wanted = [day for day in days if day >= present[0]]
        if gaps := sorted(set(wanted) - set(present)):
            raise NotReadyError(
                f"found {len(gaps)} of {len(wanted)} days of {name} missing, first {gaps[0]}",
                hint=f"materialize {name} for {gaps[0]} to {gaps[-1]}",
            )
        if not wanted:
            return pl.read_parquet(self.path(name, present[0], "parquet")).clear()
        frames = [self._frame(name, day) for day in wanted]
        expected = frames[-1].schema
        others = [d for d, f in zip(wanted, frames, strict=True) if f.schema != expected]
        if others:
            raise NotReadyError(
                f"found {len(others)} of {len(wanted)} days of {name} with other columns (first "
                f"{others[0]}), expected those of {wanted[-1]}: {', '.join(expected)}",
                hint=f"materialize {name} for {wanted[0]} to {wanted[-1]} again",
            )
        return pl.concat(frames)

    def heights(self, name: str, first: date, last: date) -> dict[date, int]:
        """How many rows each existing day of a table has; reads only the ends of the files."""
        found = [day for day in self.days(name) if first <= day <= last]
        scans = [pl.scan_parquet(self.path(name, day, "parquet")).select(pl.len()) for day in found]
        counts = [frame.item() for frame in pl.collect_all(scans)]
        return dict(zip(found, counts, strict=True))

    def days(self, name: str) -> list[date]:
        """The days of a table that exist, oldest first."""
        return sorted(date.fromisoformat(p.stem) for p in (self._root / name).glob("????-??-??.*"))

    def write_document(self, name: str, day: date, document: object) -> Path:
        """Replace one day's document."""
        path = self.path(name, day, "json")
        content = msgspec.json.format(msgspec.json.encode(document), indent=1)
        self._put(name, day, path, content, document)
        return path

    def read_document(self, name: str, day: date, kind: type[Document]) -> Document:
        """One day's document, checked against its type.

        Raises:
            NotReadyError: there is none for this day.
            PurgedError: it was purged.
        """
        self._refuse_purged(name, [day])
        path = self.path(name, day, "json")
        if not path.exists():
            raise NotReadyError(
                f"found no {name} for {day}", hint=f"materialize {name} for {day} first"
            )
        return msgspec.json.decode(self._content(name, day, path), type=kind)

    def path(self, name: str, day: date, suffix: str) -> Path:
        """Where one day of a table or document is kept."""
        return self._root / name / f"{day.isoformat()}.{suffix}"

    def kept_from(self, name: str) -> date | None:
        """The first day of a table that retention left; None: it never took any."""
        path = self._root / name / PURGED_UNTIL
        told = msgspec.json.decode(path.read_bytes()) if path.exists() else None
        return None if told is None else date.fromisoformat(told["until"])

    def _refuse_purged(self, name: str, days: Sequence[date]) -> None:
        kept = self.kept_from(name)
        gone = [day for day in days if kept is not None and day < kept]
        if gone and not set(gone) <= set(self.days(name)):
            raise PurgedError(
                f"found {name} purged before {kept}, expected {gone[0]} on",
                hint="fraud-platform audit log --action 'retention.*' says by whom",
            )

    def _frame(self, name: str, day: date) -> pl.DataFrame:
        path = self.path(name, day, "parquet")
        if self._witness is None:
            return pl.read_parquet(path)
        return pl.read_parquet(self._content(name, day, path))

    def _content(self, name: str, day: date, path: Path) -> bytes:
        """The bytes of a file; what is told of them is told of these very bytes."""
        content = path.read_bytes()
        if self._witness is not None:
            self._witness.has_read(StoredFile(name, day, path, sha256(content)))
        return content

    def _put(self, name: str, day: date, path: Path, content: bytes, told: object) -> None:
        replace_file(path, content)
        if self._witness is not None:
            self._witness.has_written(StoredFile(name, day, path, sha256(content)), told)
