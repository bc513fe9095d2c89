"""Tables and documents on disk: one folder per asset, one file per day.

Frames are Parquet, everything else is JSON (bytes as base64); no pickle. A file appears whole or
not at all: it is written beside its place, synced and renamed.
"""

import io
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from fraud_platform.adapters.sealed_folder import replace_file
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
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd", compression_level=1)
        replace_file(path, content.getvalue())
        return path

    def read(self, name: str, days: Sequence[date]) -> pl.DataFrame:
        """The rows of some days of a table, in day order.

        Days before the table's first are before history and hold nothing; a day that is missing
        later is a gap, and reading over it would be silently wrong.

        Raises:
            NotReadyError: no day of the table exists, there is a gap in the days asked for, or some
                of them were stored with other columns than the newest.
        """
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
        frames = [pl.read_parquet(self.path(name, day, "parquet")) for day in wanted]
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
        replace_file(path, msgspec.json.format(msgspec.json.encode(document), indent=1))
        return path

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
