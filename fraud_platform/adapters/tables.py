"""Tables and documents on disk: one folder per asset, one file per day.

Frames are Parquet, everything else is JSON (bytes as base64); no pickle. A file appears whole or
not at all: it is written beside its place, synced and renamed.
"""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from fraud_platform.errors import NotReadyError

Document = TypeVar("Document")


class Tables:
    """Everything the asset graph materialized, by asset name and day.

    Args:
        root: the folder of all tables; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, day: date, frame: pl.DataFrame) -> Path:
        """Replace one day of a table."""
        path = self.path(name, day, "parquet")
        part = _beside(path)
        frame.write_parquet(part, compression="zstd", compression_level=1)
        return _publish(part, path)

    def read(self, name: str, days: Sequence[date]) -> pl.DataFrame:
        """The rows of some days of a table, in day order.

        Days before the table's first are before history and hold nothing; a day that is missing
        later is a gap, and reading over it would be silently wrong.

        Raises:
            NotReadyError: no day of the table exists, or there is a gap in the days asked for.
        """
        present = self.days(name)
        if not present:
            raise NotReadyError(
                f"found no day of {name}, expected {days[0]} to {days[-1]}",
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
        return pl.concat([pl.read_parquet(self.path(name, day, "parquet")) for day in wanted])

    def days(self, name: str) -> list[date]:
        """The days of a table that exist, oldest first."""
        return sorted(date.fromisoformat(p.stem) for p in (self._root / name).glob("????-??-??.*"))

    def write_document(self, name: str, day: date, document: object) -> Path:
        """Replace one day's document."""
        path = self.path(name, day, "json")
        part = _beside(path)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
        return _publish(part, path)

    def read_document(self, name: str, day: date, kind: type[Document]) -> Document:
        """One day's document, checked against its type.

        Raises:
            NotReadyError: there is none for this day.
        """
        path = self.path(name, day, "json")
        if not path.exists():
            raise NotReadyError(
                f"found no {name} for {day}", hint=f"materialize {name} for {day} first"
            )
        return msgspec.json.decode(path.read_bytes(), type=kind)

    def path(self, name: str, day: date, suffix: str) -> Path:
        """Where one day of a table or document is kept."""
        return self._root / name / f"{day.isoformat()}.{suffix}"


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _publish(part: Path, path: Path) -> Path:
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    return path
