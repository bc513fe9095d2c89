"""The third net against card numbers: every file of a home, read for what the guards let through.

The guards stand at the edge, at ingest and in validation. This looks whether they held: at the text
of every file, at every value of every SQLite table and Parquet column, inside archives, and at the
bytes of everything else. A find tells file and place, never the value.

What is not seen: text that is encrypted, base64, or compressed otherwise than by gzip and zip.
"""

import gzip
import io
import os
import re
import sqlite3
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.control_runs import note_run
from fraud_platform.adapters.scan_memory import (
    Mark,
    Memory,
    mark_of,
    read_memory,
    write_memory,
)
from fraud_platform.audit_log.acts import Act
from fraud_platform.card_number import (
    are_card_numbers,
    hold_card_numbers,
    holds_card_number,
    looks_like_a_card,
    mask,
)
from fraud_platform.controls import Control
from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings

_CARD_ID = "card_id"
"""The column where cards are also looked for behind letters."""
_SMALLEST = 10**12
"""No integer below this has the 13 digits of a card number."""
_CHUNK = 10_000
"""Rows of a table that are read in one state."""
_HEAD = 8_192
_OF_THE_VOLUME = "lost+found"
"""A folder of its administrator at the root of every volume: it says nothing of a home there."""
_PART, _OVERLAP = 1 << 24, 256
"""Bytes of a file that are read at once, and that are looked at again with the next."""
_LARGEST_PACKED = 1 << 28
"""Bytes of one member of an archive; a larger one is told as unread."""
_BARE = re.compile(rb"(?<![0-9A-Za-z])(?<![0-9]\.)[0-9]{13,19}(?![0-9A-Za-z])")
_SPELT = re.compile(rb"(?<![0-9A-Za-z])[0-9][0-9 ./_-]{11,}[0-9](?![0-9A-Za-z])")
"""The same in groups."""
_PACKED = re.compile(rb"[\xad-\xb3](?=([0-9]{13,19}))")
"""A short text of msgpack, as the journal has it: the byte before it tells its length."""
_FRACTION = re.compile(r"(?<=[-=(,<>*+:?])\.[0-9]{13,}")
"""A number below one as short scripts write it, such as those in pages of charts."""
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|.)")

Tally = Counter[str]
"""Place -> card numbers there."""


class _UnreadableError(Exception):
    """A file is not what its head says, or larger than is read."""


@dataclass(frozen=True)
class Find:
    """Card numbers at one place.

    Attributes:
        file: within the scanned folder, masked.
        place: table and column, first line, or first byte; masked.
        count: values there.
    """

    file: str
    place: str
    count: int


@dataclass(frozen=True)
class CardScan:
    """What a scan found.

    Attributes:
        files: read whole.
        size: their bytes.
        finds: where card numbers are.
        unread: files that could not be read whole, masked; nothing is known of them.
        known: files that a scan of this week found clean, and that are as they were then.
        clean: those that need not be read tomorrow, by their paths.
    """

    files: int
    size: int
    finds: tuple[Find, ...]
    unread: tuple[str, ...]
    known: int = 0
    clean: Mapping[str, Mark] = field(default_factory=dict, repr=False)

    @property
    def is_clean(self) -> bool:
        """Whether every file was read and none holds a card number."""
        return not self.finds and not self.unread

    @property
    def fault(self) -> str | None:
        """What is wrong, one sentence without places; None: nothing."""
        if self.is_clean:
            return None
        counted = sum(find.count for find in self.finds)
        return f"{counted:,} card numbers were found, {len(self.unread):,} files could not be read"

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "clean": self.is_clean}

    def facts(self) -> dict[str, str]:
        """For the audit log: counts, and the files of the first finds."""
        told = sorted({find.file for find in self.finds})
        return {
            "files": str(self.files),
            "known": str(self.known),
            "bytes": str(self.size),
            "finds": str(sum(find.count for find in self.finds)),
            "unread": str(len(self.unread)),
            "found_in": ", ".join(told)[:1_000],
        }

    def to_text(self) -> str:
        """For people."""
        counted = sum(find.count for find in self.finds)
        lines = [f"{find.file}: {find.place}: {find.count:,}" for find in self.finds]
        lines += [f"{name}: could not be read" for name in self.unread]
        lines.append(
            f"{self.files:,} files, {self.size / 1e6:,.1f} MB: {counted:,} card numbers,"
            f" {len(self.unread):,} files unread"
        )
        return "\n".join(lines)


def scan(*roots: Path, known: Mapping[str, Mark] = MappingProxyType({})) -> CardScan:
    """Look for card numbers in files, and in all files of folders; links are not followed.

    A file that goes away meanwhile is left out: whoever writes replaces files all the time.

    Args:
        roots: files and folders.
        known: files that were clean, as they were then; they are not read again.
    """
    tried = _Tried(known)
    for root, path in _files(roots):
        name = mask(str(path.relative_to(root)) if path != root else path.name)
        try:
            tried.look(path, name)
        except FileNotFoundError:
            continue
        except (OSError, _UnreadableError):
            tried.unread.append(name)
    return CardScan(
        tried.files, tried.size, tuple(tried.finds), tuple(tried.unread), tried.known, tried.clean
    )


@dataclass
class _Tried:
    """What was read so far; `known` counts files that are as they were when they were clean."""

    before: Mapping[str, Mark]
    files: int = 0
    size: int = 0
    known: int = 0
    finds: list[Find] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    clean: dict[str, Mark] = field(default_factory=dict)

    def look(self, path: Path, name: str) -> None:
        """Read a file, unless it is known."""
        place, mark = str(path.absolute()), mark_of(path, time.time_ns())
        if mark is not None and self.before.get(place) == mark:
            self.known += 1
            self.clean[place] = mark
            return
        size, found = path.stat().st_size, _look(path)
        self.files += 1
        self.size += size
        if holds_card_number(path.name):
            found["the name of the file"] += 1
        self.finds += [Find(name, mask(place), count) for place, count in found.items()]
        if mark is not None and not found and mark == mark_of(path, time.time_ns()):
            self.clean[place] = mark


def recorded_scan(
    settings: Settings, act: Callable[..., Act], also: Sequence[Path], *, is_whole: bool = True
) -> CardScan:
    """Scan a home and what else is named; the audit log says by whom and with what outcome.

    A find calls a person.

    Args:
        settings: of the home.
        act: makes the act of an action and an object, with `facts`: `Operator.act` does.
        also: further files and folders, such as logs that lie elsewhere.
        is_whole: whether to read what a scan of this week found clean, too.

    Raises:
        AuditUnavailableError: the outcome cannot be recorded.
        PermanentError: a file or folder that is named is not there.
    """
    if missing := [path for path in also if not path.exists()]:
        raise PermanentError(f"found no {mask(str(missing[0]))}, expected a file or a folder")
    now_us = time.time_ns() // 1_000
    memory = Memory(whole_us=now_us, clean={}) if is_whole else read_memory(settings, now_us)
    found = scan(settings.home, *also, known=memory.clean)
    write_memory(settings, Memory(whole_us=memory.whole_us, clean=found.clean))
    note_run(settings, Control.CARD_SCAN, found.fault, now_us)
    told = act(action="audit.scan", object="home", facts=found.facts())
    audit_log_of(settings).record(told, outcome="clean" if found.is_clean else "found")
    return found


def _files(roots: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Every file, and what cannot be listed: a folder that nobody can read, or a root that is none.

    No glob: it passes over a folder that it may not list.
    """
    for root in roots:
        untold: list[OSError] = []
        walked = os.walk(root, onerror=untold.append)
        paths = [Path(folder, name) for folder, _, names in walked for name in names]
        paths += [Path(error.filename) for error in untold]
        for path in sorted(paths):
            is_there = path.is_file() or (path.is_dir() and path.name != _OF_THE_VOLUME)
            if is_there and not path.is_symlink():
                yield root, path


def _look(path: Path) -> Tally:
    """What one file holds, by what kind of file it is."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for start, reader in _READERS.items():
        if head.startswith(start):
            return reader(path)
    if b"\0" in head:
        return _of_file(path)
    with path.open("rb") as file:
        return _of_lines(file)


def _of_lines(lines: Iterable[bytes]) -> Tally:
    """Of a text: how many lines hold card numbers, and which is the first."""
    found = first = 0
    for number, line in enumerate(lines, start=1):
        if _holds(line.decode("utf-8", "replace")):
            found, first = found + 1, first or number
    return Counter({f"line {first}": found}) if found else Counter()


def _of_bytes(data: bytes) -> Tally:
    """Of anything: card numbers that stand there in plain digits, and where the first is."""
    return _tally(_places(data, _SPELT))


def _of_file(path: Path, written: re.Pattern[bytes] = _SPELT) -> Tally:
    """The same of a file, part by part; parts overlap, so that none cuts a number."""
    at, window, begin = set[int](), b"", 0
    with path.open("rb") as file:
        while data := file.read(_PART):
            begin += len(window[:-_OVERLAP])
            window = window[-_OVERLAP:] + data
            at |= {begin + place for place in _places(window, written) if place or not begin}
    return _tally(at)


def _tally(at: set[int]) -> Tally:
    return Counter({f"byte {min(at)}": len(at)}) if at else Counter()


def _places(data: bytes, written: re.Pattern[bytes]) -> set[int]:
    at = {m.start() for m in written.finditer(data) if holds_card_number(m[0].decode())}
    for packed in _PACKED.finditer(data):
        text = packed[1][: packed[0][0] - 0xA0].decode()
        if len(text) == packed[0][0] - 0xA0 and holds_card_number(text):
            at.add(packed.end())
    return at


def _of_database(path: Path) -> Tally:
    """Of SQLite: every value of every table, its write-ahead log included; then its bytes."""
    found = _of_file(path)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            database.text_factory = lambda data: data.decode("utf-8", "replace")
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            for (table,) in database.execute(query).fetchall():
                quoted = table.replace('"', '""')
                nothing = database.execute(f'SELECT * FROM "{quoted}" LIMIT 0')  # noqa: S608 -- its own name
                names = [column[0] for column in nothing.description]
                found.update(_of_rows(_rows_of(database, quoted), table, names))
    except sqlite3.Error as error:
        raise _UnreadableError from error
    return found


def _rows_of(database: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table; between two chunks nothing is held, so that its log can be cut back."""
    every = f'FROM "{table}"'
    try:
        rows = database.execute(f"SELECT _rowid_, * {every} ORDER BY _rowid_ LIMIT {_CHUNK}")
    except sqlite3.OperationalError:  # it has no such number: it is small, or none of ours
        yield from database.execute(f"SELECT * {every}")
        return
    following = f"SELECT _rowid_, * {every} WHERE _rowid_ > ? ORDER BY _rowid_ LIMIT {_CHUNK}"
    while chunk := rows.fetchall():
        yield from (row[1:] for row in chunk)
        rows = database.execute(following, (chunk[-1][0],))


def _of_rows(rows: Iterable[tuple[Any, ...]], table: str, names: list[str]) -> Tally:
    found = Tally()
    for row in rows:
        for name, value in zip(names, row, strict=True):
            if _is_found(value, name):
                found[f"table {table}, column {name}"] += 1
    return found


def _is_found(value: object, column: str) -> bool:
    """Whether a value of a table holds a card number."""
    match value:
        case str() if len(value) >= 13:
            return _holds(value) or (column == _CARD_ID and looks_like_a_card(value))
        case bytes() if len(value) >= 13:
            return bool(_of_bytes(value)) or (b"\0" not in value and bool(_of_lines([value])))
        case int() | float() if value >= _SMALLEST and value < 1e19 and value == int(value):
            return holds_card_number(str(int(value)))
    return False


def _holds(text: str) -> bool:
    """Whether a text holds a card number, also behind the escapes of JSON."""
    forms = (text, _unescaped(text)) if "\\" in text else (text,)
    return any(
        holds_card_number(form) and holds_card_number(_FRACTION.sub(" ", form)) for form in forms
    )


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else " ", text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _of_table(path: Path) -> Tally:
    """Of Parquet: every value of every column, those within lists and structs too."""
    found = Tally()
    try:
        for name in pl.read_parquet_schema(path):
            column = pl.read_parquet(path, columns=[name], hive_partitioning=False)[name]
            found[f"column {name}"] = sum(_count(leaf, name) for leaf in _leaves(column))
    except pl.exceptions.PolarsError as error:
        raise _UnreadableError from error
    return +found


def _leaves(values: pl.Series) -> Iterator[pl.Series]:
    if isinstance(values.dtype, pl.List | pl.Array):
        yield from _leaves(values.explode())
    elif isinstance(values.dtype, pl.Struct):
        for field in values.struct.fields:
            yield from _leaves(values.struct.field(field))
    else:
        yield values


def _count(values: pl.Series, column: str) -> int:
    if values.dtype == pl.Binary:
        return sum(_is_found(value, column) for value in values)
    if values.dtype.is_numeric():
        large = values.filter((values >= _SMALLEST) & (values < 1e19))
        return sum(_is_found(value, column) for value in large.unique() if value is not None)
    if values.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return 0
    texts = values.cast(pl.String)
    rule = are_card_numbers if column == _CARD_ID else hold_card_numbers
    # Texts of JSON are columns of ours as well: those with an escape are looked at one by one.
    escaped = texts.filter(texts.str.contains("\\", literal=True)).drop_nulls()
    return int(rule(texts).sum()) + sum(_holds(text) for text in escaped.unique())


def _of_archive(path: Path) -> Tally:
    found = Tally()
    try:
        for name, data in _members(path):
            looked = _of_bytes(data) if b"\0" in data[:_HEAD] else _of_lines(io.BytesIO(data))
            found.update({f"{name} {place}".strip(): n for place, n in looked.items()})
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _UnreadableError from error
    return found


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if not zipfile.is_zipfile(path):
        with gzip.open(path) as file:
            yield "", _bounded(file.read(_LARGEST_PACKED + 1))
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                yield name, _bounded(file.read(_LARGEST_PACKED + 1))


def _bounded(data: bytes) -> bytes:
    if len(data) > _LARGEST_PACKED:
        raise _UnreadableError
    return data


_READERS: Mapping[bytes, Callable[[Path], Tally]] = {
    b"SQLite format 3\0": _of_database,
    b"PAR1": _of_table,
    b"\x1f\x8b": _of_archive,
    b"PK\x03\x04": _of_archive,
    b"tree\nversion=": lambda path: _of_file(path, _BARE),
}
"""First bytes of a file -> how it is read. The last is a LightGBM model, with rows of counts in
which any four of four digits would look like a card in groups."""
