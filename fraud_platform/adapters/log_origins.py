"""Where the events of the log come from: which file or segment brought which positions.

What a file brought is written in the very commit that appends it, so neither is ever without the
other. Positions of a scorer are those of its journal's segments.
"""

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from fraud_platform.card_number import mask
from fraud_platform.lineage import SEGMENT, SOURCE_FILE, Node
from fraud_platform.mapping import Mapping

INGESTED = """
CREATE TABLE IF NOT EXISTS ingested (
    first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, file TEXT NOT NULL,
    sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, mapping_sha256 TEXT NOT NULL) STRICT;
"""


class SourceFile(NamedTuple):
    """A file that was ingested.

    Attributes:
        file: its name, card numbers masked.
        sha256: of its bytes, hex.
        bytes: how long it is.
        mapping_sha256: names what its columns were told to mean.
    """

    file: str
    sha256: str
    bytes: int
    mapping_sha256: str

    @property
    def node(self) -> Node:
        """The file in the graph of lineage."""
        return Node(SOURCE_FILE, self.file, self.sha256)


class Origin(NamedTuple):
    """A stretch of the log and what it came from.

    Attributes:
        node: a source file, or a finished segment of the scorer's journal.
        first_seq: its first position.
        last_seq: its last one.
    """

    node: Node
    first_seq: int
    last_seq: int


def described(path: Path, mapping: Mapping) -> SourceFile:
    """A file that is about to be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    told = hashlib.sha256(repr(mapping).encode()).hexdigest()
    return SourceFile(mask(path.name), digest, size, told)


def note(connection: sqlite3.Connection, file: SourceFile, first_seq: int, last_seq: int) -> None:
    """Say in the commit that appends them whose these positions are."""
    connection.execute(
        "INSERT INTO ingested VALUES (?, ?, ?, ?, ?, ?)", (first_seq, last_seq, *file)
    )


def origins(connection: sqlite3.Connection, first_seq: int, last_seq: int) -> list[Origin]:
    """What the positions from the first to the last came from, in order, where it is known."""
    bounds = {"first": first_seq, "last": last_seq}
    files = connection.execute(
        "SELECT file, sha256, first_seq, last_seq FROM ingested"
        " WHERE first_seq <= :last AND last_seq >= :first",
        bounds,
    )
    found = [Origin(Node(SOURCE_FILE, name, digest), *span) for name, digest, *span in files]
    segments = connection.execute(
        "SELECT number, sha256, first_seq, last_seq FROM segments"
        " WHERE first_seq <= :last AND last_seq >= :first",
        bounds,
    )
    found += [Origin(Node(SEGMENT, str(n), digest), *span) for n, digest, *span in segments]
    return sorted(found, key=lambda origin: (origin.first_seq, origin.node))


def received_us(connection: sqlite3.Connection, file: Node) -> int | None:
    """When a source file came in, microseconds UTC, by what it brought; None: it brought nothing.

    The latest time where it came in several times.
    """
    first = " UNION ALL ".join(
        f"SELECT (SELECT received_us FROM {table} WHERE seq BETWEEN i.first_seq AND i.last_seq"  # noqa: S608 -- ours
        " LIMIT 1) AS received_us FROM ingested i WHERE i.file = :file AND i.sha256 = :sha256"
        for table in ("transactions", "labels")
    )
    row = connection.execute(
        f"SELECT MAX(received_us) FROM ({first})",  # noqa: S608 -- ours
        {"file": file.part, "sha256": file.digest},
    ).fetchone()
    return None if row[0] is None else int(row[0])
