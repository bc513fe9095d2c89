"""Rows of the event log as PostgreSQL takes them: binary COPY, so that every bit arrives.

What belongs here: which column becomes what, the bytes, and the statements that put staged rows
into their table. When and where to is `postgres_mirror`.
"""

import json
import math
import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO

from fraud_platform.adapters.log_pages import COLUMNS, Row

_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, where PostgreSQL counts from, in microseconds since 1970."""
_FIRST_US, _LAST_US = -210_866_803_200_000_000, 9_223_371_331_199_999_999
"""What a timestamptz can hold, microseconds since 1970."""
_QUIET_NAN = array("q", array("d", [math.nan]).tobytes())[0]
"""How the log writes a feature that has no value."""
_NULL = struct.pack(">i", -1)
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_INT8, _FLOAT8, _BOOL = (struct.Struct(f">i{kind}") for kind in "qd?")
_LENGTH, _ARRAY, _FIELDS = struct.Struct(">i"), struct.Struct(">iiIii"), struct.Struct(">h")
_TEXT_OID, _FLOAT8_OID = 25, 701
_NUL_SIGN = "\u2400"

_TIMES = {
    "event_us": "event_timestamp",
    "received_us": "received_timestamp",
    "known_us": "label_timestamp",
    "happened_us": "happened_timestamp",
    "decided_us": "decided_timestamp",
    "expires_us": "expires_timestamp",
}
_INTEGERS = {"seq", "seen_seq", "amount_minor", "latency_us"}
_FLOATS = {
    *("latitude", "longitude", "score", "probability", "expected_fpr"),
    *("pass_propensity", "audit_propensity"),
    *("review_cut", "decline_cut", "fpr_bound", "budget", "price_minor", "worth_multiplier"),
}


class UnstorableError(ValueError):
    """PostgreSQL cannot hold a value: a text with a NUL, or a time out of its range."""


@dataclass(frozen=True)
class MirroredTable:
    """One table of the log on the other side.

    Attributes:
        name: the same in the log and in PostgreSQL.
        columns: names in PostgreSQL, in the order of `log_pages.COLUMNS`.
        item: SQL for what tells its rows at one seq apart.
        rivals: SQL that finds the rows `t` that may keep the row `s` out.
    """

    name: str
    columns: tuple[str, ...]
    item: str = "''"
    rivals: str = "t.seq = s.seq OR t.transaction_id = s.transaction_id"

    @property
    def stage(self) -> str:
        """A temporary table of the same columns, emptied at each commit."""
        return (
            f"CREATE TEMPORARY TABLE incoming_{self.name} (LIKE {self.name}) ON COMMIT DELETE ROWS"
        )

    @property
    def copy(self) -> str:
        """Takes `encoded` rows into the temporary table."""
        columns = ", ".join(self.columns)
        return f"COPY incoming_{self.name} ({columns}) FROM STDIN (FORMAT binary)"

    @property
    def insert(self) -> str:
        """Puts staged rows where they belong; a row that something keeps out stays staged."""
        columns = ", ".join(self.columns)
        return (
            f"INSERT INTO {self.name} ({columns}) SELECT {columns} FROM incoming_{self.name}"  # noqa: S608 -- names are ours
            " ON CONFLICT DO NOTHING"
        )

    @property
    def note_conflicts(self) -> str:
        """Keeps staged rows that are not in the table, bit for bit, beside what stands there.

        `*=` compares the stored images: -0.0 is not 0.0, and one NaN is not another.
        """
        return (
            "INSERT INTO conflicts (table_name, seq, item, kind, told, found)"  # noqa: S608 -- names are ours
            f" SELECT '{self.name}', s.seq, {self.item}, 'different', to_json(s),"
            f" (SELECT json_agg(t) FROM {self.name} t WHERE {self.rivals})"
            f" FROM incoming_{self.name} s WHERE NOT EXISTS ("
            f"SELECT 1 FROM {self.name} t WHERE t.seq = s.seq AND t *= s)"
            " ON CONFLICT DO NOTHING"
        )


def _named(table: str) -> tuple[str, ...]:
    return tuple(_TIMES.get(column, column) for column in COLUMNS[table])


TABLES = {
    "transactions": MirroredTable("transactions", _named("transactions")),
    "labels": MirroredTable(
        "labels",
        _named("labels"),
        rivals="t.seq = s.seq OR (t.transaction_id, t.verdict, t.label_source, t.label_timestamp)"
        " = (s.transaction_id, s.verdict, s.label_source, s.label_timestamp)",
    ),
    "decisions": MirroredTable(
        "decisions",
        _named("decisions"),
        rivals="t.seq = s.seq OR t.transaction_id = s.transaction_id"
        " OR t.decision_id = s.decision_id",
    ),
    "shadow_scores": MirroredTable(
        "shadow_scores",
        _named("shadow_scores"),
        item="s.model_digest",
        rivals="t.seq = s.seq AND t.model_digest = s.model_digest",
    ),
}


def encoded(table: str, rows: Iterable[Row]) -> tuple[BytesIO, list[Row]]:
    """Rows as one binary COPY.

    Args:
        table: a name in `TABLES`.
        rows: in the order of `log_pages.COLUMNS`.

    Returns:
        The bytes, and the rows that hold what PostgreSQL cannot: they go with the nearest it can.
    """
    fields = [_ENCODERS[_kind(column)] for column in COLUMNS[table]]
    count, parts, altered = _FIELDS.pack(len(fields)), [_SIGNATURE], []
    for row in rows:
        try:
            cells = [encode(value) for encode, value in zip(fields, row, strict=True)]
        except UnstorableError:
            altered.append(row)
            cells = [e(v) for e, v in zip(fields, _storable(table, row), strict=True)]
        parts += [count, *cells]
    return BytesIO(b"".join([*parts, _FIELDS.pack(-1)])), altered


def as_json(table: str, row: Row) -> str:
    """A row of the log as JSON, with everything that PostgreSQL's columns cannot hold."""
    cells = [value.hex() if isinstance(value, bytes) else value for value in row]
    return json.dumps(dict(zip(COLUMNS[table], cells, strict=True)))


def _kind(column: str) -> str:
    if column in _TIMES:
        return "time"
    kinds = {"is_late": "bool", "reasons": "texts", "missing": "texts", "features": "floats"}
    if column in _INTEGERS:
        return "integer"
    return "float" if column in _FLOATS else kinds.get(column, "text")


def _storable(table: str, row: Row) -> Row:
    cells: list[object] = []
    for column, value in zip(COLUMNS[table], row, strict=True):
        if isinstance(value, str):
            # In a list of texts, the NUL is written as JSON does.
            cells.append(value.replace("\0", _NUL_SIGN).replace("\\u0000", _NUL_SIGN))
        elif column in _TIMES and isinstance(value, int):
            cells.append(min(max(value, _FIRST_US), _LAST_US))
        else:
            cells.append(value)
    return tuple(cells)


def _integer(value: object) -> bytes:
    return _NULL if value is None else _INT8.pack(8, value)


def _float(value: object) -> bytes:
    return _NULL if value is None else _FLOAT8.pack(8, value)


def _flag(value: object) -> bytes:
    return _BOOL.pack(1, bool(value))


def _time(value: object) -> bytes:
    if value is None:
        return _NULL
    us = int(value)  # type: ignore[call-overload]  # SQLite returns objects; columns are typed
    if not _FIRST_US <= us <= _LAST_US:
        raise UnstorableError
    return _INT8.pack(8, us - _EPOCH_US)


def _text(value: object) -> bytes:
    if value is None:
        return _NULL
    content = str(value).encode()
    if b"\0" in content:
        raise UnstorableError
    return _LENGTH.pack(len(content)) + content


def _texts(value: object) -> bytes:
    return _array([_text(part) for part in json.loads(str(value))], _TEXT_OID)


def _floats(value: object) -> bytes:
    """Words of the log as an array: its quiet NaN means none, any other word keeps its bits."""
    words = array("q", bytes(value))  # type: ignore[call-overload]  # stored as a blob
    cells = [_NULL if word == _QUIET_NAN else _INT8.pack(8, word) for word in words]
    return _array(cells, _FLOAT8_OID)


def _array(cells: list[bytes], oid: int) -> bytes:
    if not cells:
        return _LENGTH.pack(12) + struct.pack(">iiI", 0, 0, oid)
    has_null = int(_NULL in cells)
    content = _ARRAY.pack(1, has_null, oid, len(cells), 1) + b"".join(cells)
    return _LENGTH.pack(len(content)) + content


_ENCODERS: dict[str, Callable[[object], bytes]] = {
    "integer": _integer,
    "float": _float,
    "bool": _flag,
    "time": _time,
    "text": _text,
    "texts": _texts,
    "floats": _floats,
}
