"""Tables on their way between the tasks of `sharded_features`: many small files, each written once.

Under the work folder: `{side}-{what}/{shard or part}/{writer}.arrow`. A task that is run again
writes the same files again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from fraud_platform.errors import DataContractError


@dataclass(frozen=True)
class Stretch:
    """Consecutive row groups of one Parquet file.

    Attributes:
        number: its place among all stretches of the input.
        path: the file.
        columns: what to read of it.
        row_groups: which of its row groups.
    """

    number: int
    path: Path
    columns: tuple[str, ...]
    row_groups: tuple[int, ...]

    def read(self, rows: int) -> Iterator[pl.DataFrame]:
        """Its rows, so many at a time."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.path) as file:
            yield from (
                pl.DataFrame(pl.from_arrow(batch))
                for batch in file.iter_batches(
                    rows, row_groups=list(self.row_groups), columns=list(self.columns)
                )
            )


def stretches(source: Path, columns: dict[str, pl.DataType], rows: int) -> list[Stretch]:
    """Cut a Parquet file, or every Parquet file of a folder, into stretches of about so many rows.

    Args:
        source: the file or folder.
        columns: name and type of every column needed.
        rows: a stretch ends when it has this many; a row group is never divided.

    Raises:
        DataContractError: there is no such file, or it lacks a column.
    """
    paths = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not paths:
        raise DataContractError(
            f"found no Parquet file in {source}", hint="name a file, or a folder of *.parquet files"
        )
    found: list[Stretch] = []
    for path in paths:
        _check(path, columns)
        for groups in _groups(path, rows):
            found.append(Stretch(len(found), path, tuple(columns), groups))
    return found


def _groups(path: Path, rows: int) -> Iterator[tuple[int, ...]]:
    from pyarrow.parquet import read_metadata

    metadata = read_metadata(path)
    groups: list[int] = []
    height = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        height += metadata.row_group(group).num_rows
        if height >= rows:
            yield tuple(groups)
            groups, height = [], 0
    if groups:
        yield tuple(groups)


def _check(path: Path, columns: dict[str, pl.DataType]) -> None:
    try:
        schema = pl.read_parquet_schema(path)
    except (OSError, PolarsError) as error:
        raise DataContractError(
            f"found no readable Parquet file at {path}: {error}", hint="check the path"
        ) from error
    wrong = {name: schema.get(name) for name, dtype in columns.items() if schema.get(name) != dtype}
    if wrong:
        name, found = next(iter(wrong.items()))
        raise DataContractError(
            f"found column {name!r} {'missing' if found is None else f'of type {found}'} in"
            f" {path}, expected {columns[name]}",
            hint="the columns are those of the event log, with seq: `TRANSACTIONS` and `LABELS` in"
            " fraud_platform/schemas.py",
        )


def put(work: Path, what: str, place: int, writer: str, rows: pl.DataFrame) -> None:
    """Hand some rows to a later task; none are not worth a file."""
    if rows.is_empty():
        return
    folder = work / what / f"{place:06}"
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_ipc(folder / f"{writer}.arrow", compression="lz4")


def take(work: Path, what: str, place: int) -> list[pl.DataFrame]:
    """All that was handed to a task, in the order of its writers' names."""
    paths: Sequence[Path] = sorted((work / what / f"{place:06}").glob("*.arrow"))
    return [pl.read_ipc(path) for path in paths]
