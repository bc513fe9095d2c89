"""One number for a whole table: equal digests mean equal values, to the bit.

A table too large for memory is digested piece by piece; how it was cut does not show.
"""

import hashlib
from typing import Protocol

import polars as pl

from fraud_platform.errors import PermanentError


class _Hash(Protocol):
    """What `hashlib` makes; its own name for it is private."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class TableDigest:
    """SHA-256 of a table whose pieces come one after the other.

    Names, types, order of columns, order of rows, nulls and every bit of every value count; where
    one piece ends and the next begins does not.

    Examples:
        >>> table = pl.DataFrame({"a": [1.5, None, 0.0]})
        >>> pieces = TableDigest()
        >>> pieces.update(table[:1])
        >>> pieces.update(table[1:])
        >>> pieces.hexdigest() == digest(table)
        True
        >>> digest(pl.DataFrame({"a": [1.5, None, -0.0]})) == digest(table)
        False
    """

    def __init__(self) -> None:
        self._schema: pl.Schema | None = None
        self._columns: dict[str, tuple[_Hash, _Hash]] = {}

    def update(self, rows: pl.DataFrame) -> None:
        """Take the next rows in.

        Raises:
            PermanentError: they have other columns than the rows before.
        """
        if self._schema is None:
            self._schema = rows.schema
            self._columns = {name: (hashlib.sha256(), hashlib.sha256()) for name in rows.columns}
        if rows.schema != self._schema:
            raise PermanentError(
                f"found a piece with the columns {_told(rows.schema)}, expected "
                f"{_told(self._schema)}",
                hint="digest pieces of one table, all written by the same version",
            )
        for column in rows:
            _take(column, *self._columns[column.name])

    def hexdigest(self) -> str:
        """The digest of all rows so far, hex."""
        whole = hashlib.sha256()
        for name, dtype in (self._schema or {}).items():
            whole.update(f"{name}\0{dtype}\0".encode())
            for part in self._columns[name]:
                whole.update(part.digest())
        return whole.hexdigest()


def digest(table: pl.DataFrame) -> str:
    """SHA-256 (hex) of a table, rows in the order given."""
    whole = TableDigest()
    whole.update(table)
    return whole.hexdigest()


def _told(schema: pl.Schema) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in schema.items())


def _take(column: pl.Series, values: _Hash, shape: _Hash) -> None:
    """Hash the values, and beside them which are null (of texts: how long they are)."""
    # Most columns have no null, and each expression on a short one costs more than its hash.
    has_nulls = column.null_count() > 0
    if column.dtype == pl.String:
        filled = column.fill_null("") if has_nulls else column
        lengths = filled.str.len_bytes().cast(pl.Int64)
        if has_nulls:
            lengths = pl.select(pl.when(column.is_null()).then(-1).otherwise(lengths)).to_series()
        shape.update(lengths.to_numpy().tobytes())
        values.update("".join(filled).encode())
        return
    empty = (
        column.is_null().cast(pl.UInt8).to_numpy().tobytes() if has_nulls else bytes(len(column))
    )
    shape.update(empty)
    physical = column.cast(pl.UInt8) if column.dtype == pl.Boolean else column.to_physical()
    values.update((physical.fill_null(0) if has_nulls else physical).to_numpy().tobytes())
