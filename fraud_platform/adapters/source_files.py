"""Foreign CSV and Parquet files as batches of raw rows; nothing in a file can crash the reader.

What the rows mean is `mapping`; where they go is `adapters.ingest`.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from polars.exceptions import PanicException, PolarsError

from fraud_platform.card_number import mask
from fraud_platform.errors import DataContractError
from fraud_platform.mapping import Mapping
from fraud_platform.rejections import REJECTION

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH = 100_000
_PARQUET_MAGIC = b"PAR1"
_KNOWN_STARTS = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PK\x03\x04": "a zip archive or an Excel workbook: export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: export the sheet as CSV",
    b"\xff\xfe": "UTF-16 text: set csv.encoding to utf-16, or save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: set csv.encoding to utf-16, or save it as UTF-8",
}
_BROKEN_FILE = (
    *(OSError, ValueError, TypeError, KeyError, NotImplementedError),  # Python's and pyarrow's
    *(PolarsError, PanicException),  # Polars panics on a column description that is no UTF-8
)


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of a file.

    Attributes:
        rows: the mapping's source columns, as text (CSV) or native types (Parquet).
        numbers: the row number of each of them in the file, from 1; the header is not counted.
        ragged: `rejections.REJECTION`: rows that have not the header's number of cells.
        done: how far the file is read, in units of `total`.
        total: the file's size, rows or bytes; at least 1.
    """

    rows: pl.DataFrame
    numbers: pl.Series
    ragged: pl.DataFrame
    done: int
    total: int


def read_batches(path: Path, mapping: Mapping) -> Iterator[Batch]:
    """The rows of a CSV or Parquet file, told apart by the first bytes.

    Raises:
        DataContractError: no such file, a folder, an empty, unreadable or damaged file, or one
            without the columns that the mapping names.
    """
    start = _first_bytes(path)
    if start.startswith(_PARQUET_MAGIC):
        yield from _parquet(path, mapping)
        return
    if path.suffix.lower() in {".parquet", ".pq"}:
        raise DataContractError(
            f"found no Parquet data in {_shown(path)}, expected it because of the name",
            hint="was the file cut or converted? a CSV file may have any other ending",
        )
    yield from _csv(path, mapping, start)


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise DataContractError(
            f"found no file at {_shown(path)}", hint="check the path and the folder you are in"
        )
    if not path.is_file():
        raise DataContractError(
            f"found a folder at {_shown(path)}, expected one CSV or Parquet file",
            hint="ingest the files one after the other",
        )
    with _translated(path), path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise DataContractError(
            f"found an empty file at {_shown(path)}, expected a header and rows",
            hint="was the export interrupted?",
        )
    return start


def _parquet(path: Path, mapping: Mapping) -> Iterator[Batch]:
    from pyarrow.parquet import ParquetFile

    with _translated(path), ParquetFile(path) as file:
        mapping.check_columns(list(file.schema_arrow.names))
        yield from _parquet_batches(file, mapping)


def _parquet_batches(file: "ParquetFile", mapping: Mapping) -> Iterator[Batch]:
    total, done = max(file.metadata.num_rows, 1), 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=mapping.source_columns):
        batch.validate(full=True)  # Polars trusts Arrow's text; a damaged page may be no UTF-8
        rows = pl.from_arrow(batch)
        if not isinstance(rows, pl.DataFrame):
            raise TypeError(f"a record batch became {type(rows).__name__}")
        numbers = pl.int_range(done + 1, done + rows.height + 1, dtype=pl.Int64, eager=True)
        done += rows.height
        yield Batch(rows, numbers, pl.DataFrame(schema=REJECTION), done, total)


def _csv(path: Path, mapping: Mapping, start: bytes) -> Iterator[Batch]:
    with _translated(path), path.open("rb") as binary:
        encoding = mapping.csv.encoding
        text = io.TextIOWrapper(
            binary,
            encoding="utf-8-sig" if encoding.lower() in {"utf-8", "utf8"} else encoding,
            errors="replace",
            newline="",
        )
        records = _Records(csv.reader(text, delimiter=mapping.csv.delimiter))
        header = [name.strip() for name in records.header()]
        _check_header(path, mapping, header, start)
        total = max(path.stat().st_size, 1)
        while chunk := records.take(_BATCH):
            yield _batch(chunk, header, mapping, min(binary.tell(), total), total)


def _check_header(path: Path, mapping: Mapping, header: list[str], start: bytes) -> None:
    try:
        mapping.check_columns(header)
    except DataContractError as error:
        known = [what for magic, what in _KNOWN_STARTS.items() if start.startswith(magic)]
        if known and mapping.csv.encoding.lower() in {"utf-8", "utf8"}:
            raise DataContractError(
                f"found no CSV or Parquet data in {_shown(path)}",
                hint=f"the file looks like {known[0]}",
            ) from error
        if "\0" in "".join(header) or "\ufffd" in "".join(header):
            raise DataContractError(
                f"found no text in {_shown(path)}, expected CSV in {mapping.csv.encoding} or"
                " Parquet",
                hint="set csv.encoding if the file is text in another encoding",
            ) from error
        raise
    named = mapping.source_columns
    if twice := [name for name in named if header.count(name) > 1]:
        raise DataContractError(
            f"found column {mask(twice[0])!r} more than once in {_shown(path)}",
            hint="rename one of them",
        )


@dataclass
class _Records:
    """A CSV reader that survives what the csv module refuses, and counts records."""

    reader: Iterator[list[str]]
    count: int = 0

    def header(self) -> list[str]:
        """The first record that is not an empty line."""
        for _, cells in self.take(1):
            return cells
        return []

    def take(self, limit: int) -> list[tuple[int, list[str]]]:
        """Up to `limit` records with their number; the header is number 0. Blank lines are none."""
        records: list[tuple[int, list[str]]] = []
        while len(records) < limit:
            try:
                cells = next(self.reader)
            except StopIteration:
                break
            except csv.Error:  # a cell beyond the module's limit, usually an unclosed quote
                cells = ["\ufffd"]
            if cells:
                records.append((self.count, cells))
                self.count += 1
        return records


def _batch(
    chunk: list[tuple[int, list[str]]], header: list[str], mapping: Mapping, *read: int
) -> Batch:
    width = len(header)
    whole = [record for record in chunk if len(record[1]) == width]
    columns = {
        name: pl.Series(name, [cells[place] for _, cells in whole], dtype=pl.String)
        for name in mapping.source_columns
        for place in [header.index(name)]
    }
    numbers = pl.Series("row_number", [number for number, _ in whole], dtype=pl.Int64)
    ragged = [record for record in chunk if len(record[1]) != width]
    return Batch(pl.DataFrame(columns), numbers, _rejected(ragged, width), *read)


def _rejected(ragged: list[tuple[int, list[str]]], width: int) -> pl.DataFrame:
    rows = [
        {
            "row_number": number,
            "broken_rule": "row_has_the_header_columns",
            "detail": f"found {len(cells)} cells, expected {width} as in the header",
            "payload": json.dumps([mask(cell)[:200] for cell in cells[:50]], ensure_ascii=False),
        }
        for number, cells in ragged
    ]
    return pl.DataFrame(rows, schema=REJECTION)


def _shown(path: Path) -> str:
    return mask(str(path))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What a broken file makes Python, pyarrow and Polars raise, as one error with a hint."""
    try:
        yield
    except _BROKEN_FILE as error:
        raise DataContractError(
            f"found {_shown(path)} unreadable: {mask(str(error))[:200]}",
            hint="check the file's permissions, and whether it was copied or exported completely",
        ) from error
