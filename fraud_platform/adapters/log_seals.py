"""Seals of the event log: roots over ranges of it, kept in the audit log.

Every range of positions, at most `MOST_POSITIONS` of them, enters the audit log as a row `log.seal`
with its RFC 6962 root. So one decision is provable with a path of a dozen hashes, and a row that is
changed in the event log afterwards is found. The leaves are kept beside the audit log, to say at
which position: lost, a change is placed only within its range.
"""

import fcntl
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.adapters.audit_store import RowFilter, packed, unpacked
from fraud_platform.adapters.log_purges import LogPurge, claims_of, purge_of
from fraud_platform.adapters.sealed_records import leaf_of, leaves, reading
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.merkle import root
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import AuditUnavailableError
from fraud_platform.settings import Settings

MOST_POSITIONS = 4_096
"""Positions in one seal: a proof has at most twelve hashes of its range."""

TURNS = 24
"""A check of every hour reads so small a part of the older ranges: all of them within a day."""

ACTION = "log.seal"

_LEAVES = (
    "CREATE TABLE IF NOT EXISTS leaves (log TEXT NOT NULL, first INTEGER NOT NULL,"
    " hashes BLOB NOT NULL, PRIMARY KEY (log, first)) STRICT, WITHOUT ROWID"
)
_LAST = (
    "SELECT MAX(COALESCE((SELECT MAX(seq) FROM transactions), 0),"
    " COALESCE((SELECT MAX(seq) FROM labels), 0))"
)
_BELOW = (
    "SELECT MIN(seq), MAX(seq) FROM (SELECT seq FROM transactions WHERE seq < 1"
    " UNION ALL SELECT seq FROM labels WHERE seq < 1)"
)


class Seal(NamedTuple):
    """One sealed range.

    Attributes:
        log: the event log's name.
        first: first position.
        last: last position.
        root: of the tree over its leaves.
        row: the audit log's row that says so.
    """

    log: str
    first: int
    last: int
    root: bytes
    row: Row

    @classmethod
    def read(cls, row: Row) -> "Seal":
        """The range that a row `log.seal` is about.

        Raises:
            AuditUnavailableError: the row was changed so that it says none.
        """
        try:
            told, log = row.told, row.object.removeprefix("log:")
            return cls(log, int(told["first"]), int(told["last"]), bytes.fromhex(row.after), row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AuditUnavailableError(
                f"found row {row.seq} of the audit log without the range that it seals, expected"
                " first, last and a root",
                hint="somebody changed it: keep it as evidence; fraud-platform audit verify",
            ) from error


class BadRange(NamedTuple):
    """A sealed range that the event log does not hold any more.

    Attributes:
        first: the change is here or later.
        last: and here or earlier; the same where the leaves are still known.
        kind: `changed`, `deleted`, `unsealed` for positions that no seal covers, `renamed` for
            those that were sealed under another name of the log, or `put back` for those that
            retention had purged.
    """

    first: int
    last: int
    kind: str

    def to_text(self) -> str:
        """One sentence for people."""
        place = f"{self.first:,}..{self.last:,}" if self.first < self.last else f"{self.first:,}"
        return f"event log, position {place}: {self.kind} since it was sealed"


class Compared(NamedTuple):
    """What a comparison of the event log with its seals found.

    Attributes:
        ranges: so many were read and hashed anew.
        bad: those that are not what was sealed; each at its first position, if it is known.
        purged: so many stand there no more because retention deleted them, as announced.
    """

    ranges: int
    bad: tuple[BadRange, ...]
    purged: int = 0


def seals_of(settings: Settings) -> "LogSeals":
    """The seals of a home's event log."""
    return LogSeals(settings.log_path, audit_log_of(settings), settings.audit_dir)


class LogSeals:
    """The seals of one event log.

    Args:
        log_path: the event log's file. Its journal is not read: drain it before.
        audit: where seals are recorded.
        folder: for the leaves and a lock.
    """

    def __init__(self, log_path: Path, audit: AuditLog, folder: Path) -> None:
        self._log_path = log_path
        self._audit = audit
        self._folder = folder

    def seal(self, *, most: int | None = None, partial: bool = True, wait: bool = True) -> int:
        """Seal what is not sealed yet, from the start of the log on.

        Others may seal between two ranges.

        Args:
            most: at most so many ranges; None: all.
            partial: whether a range that is not full is sealed, too.
            wait: whether to wait while somebody else seals; else it is left to them.

        Returns:
            How many positions were sealed.

        Raises:
            LogUnavailableError: the event log cannot be read.
            AuditUnavailableError: the audit log cannot be written.
        """
        if not self._log_path.exists():
            return 0
        sealed = 0
        while most is None or most > 0:
            with self._alone(wait=wait) as is_alone:
                found = self._seal_next(partial=partial) if is_alone else 0
            sealed, most = sealed + found, None if most is None else most - 1
            if found < MOST_POSITIONS:  # nothing is left, or what came since
                break
        return sealed

    def _seal_next(self, *, partial: bool) -> int:
        """Seal the next range; gives its length, 0 when there is none."""
        with reading(self._log_path) as connection:
            log, end = _identity(connection), _last(connection)
            newest = self.newest(log)
            first = newest.last + 1 if newest else 1
            last = min(first + MOST_POSITIONS - 1, end)
            many = last - first + 1
            if many <= 0 or (many < MOST_POSITIONS and not partial):
                return 0
            self._seal(log, first, last, leaves(connection, first, last))
        return many

    def newest(self, log: str) -> Seal | None:
        """The newest seal of an event log."""
        rows = self._audit.rows(_seals(log), limit=1, newest=True)
        return next(map(Seal.read, rows), None)

    def all(self, log: str, *, upto: int | None = None) -> Iterator[Seal]:
        """The seals of an event log, oldest first.

        Args:
            log: its name.
            upto: none that was recorded behind this row of the audit log.
        """
        before = None if upto is None else upto + 1
        return map(Seal.read, self._audit.rows(replace(_seals(log), before=before)))

    def compare(self, *, after: int = 0, turn: int | None = None) -> Compared:
        """Whether the ranges still are what was sealed.

        Args:
            after: ranges that were sealed behind this row of the audit log are read.
            turn: of the others every 24th, by this hour of the day; None: all.

        Raises:
            LogUnavailableError: the event log cannot be read.
        """
        newest = next(self._audit.rows(RowFilter(action=ACTION), limit=1, newest=True), None)
        if newest is None:
            return Compared(0, ())
        if not self._log_path.exists():
            lasts = [seal.last for seal in self._readable(newest.seq)]
            return Compared(0, (BadRange(1, max(lasts, default=1), "deleted"),))
        # The newest seal before the log's state: what is sealed meanwhile is not in that state.
        ended = claims_of(self._audit).ends
        with reading(self._log_path) as connection:
            log, end, read = _identity(connection), _last(connection), 0
            bad, sealed, gone = list(_below(connection)), 0, 0
            purges = self.purges(log, ended)
            for number, seal in enumerate(self._readable(newest.seq)):
                if seal.log != log:
                    bad.append(BadRange(seal.first, seal.last, "renamed"))
                    continue
                if seal.first != sealed + 1:
                    bad.append(BadRange(sealed + 1, seal.first - 1, "unsealed"))
                sealed = seal.last
                is_new = seal.row.seq > after or seal.last > end
                if purge := purge_of(purges, seal.first):
                    gone += 1
                    bad += self._left(connection, seal, purge)
                elif is_new or turn is None or number % TURNS == turn % TURNS:
                    read += 1
                    bad += self._differing(connection, seal, end)
        return Compared(read, tuple(bad), gone)

    def purges(self, log: str, ended: Mapping[int, str] | None = None) -> list[LogPurge]:
        """What retention purged of an event log, as far as it may be believed, oldest first.

        Args:
            log: its name.
            ended: what became of purges, as of a moment before the log was read; None: as of now.
        """
        # After the log's state: who deletes says so before. What ended meanwhile may stand there.
        claims = claims_of(self._audit)
        found = claims.of(log, self.all(log))
        told = claims.ends if ended is None else ended
        return [one._replace(is_done=told.get(one.row.seq) == "done") for one in found]

    def differing(self, first: int, last: int) -> list[BadRange]:
        """Which of the ranges from one position to another hold what was not sealed there.

        What was purged may be there again, as a backup from before puts it back.
        """
        with reading(self._log_path) as connection:
            log, end = _identity(connection), _last(connection)
            purges = self.purges(log, {})
            found: list[BadRange] = []
            for seal in self.all(log):
                if first <= seal.first and seal.last <= last:
                    purge = purge_of(purges, seal.first)
                    found += (
                        self._left(connection, seal, purge)
                        if purge
                        else self._differing(connection, seal, end)
                    )
            return found

    def _differing(
        self, connection: sqlite3.Connection, seal: Seal, end: int
    ) -> Iterator[BadRange]:
        found = leaves(connection, seal.first, seal.last)
        if root(found) != seal.root:
            yield self._placed(seal, found, end)

    def _left(
        self, connection: sqlite3.Connection, seal: Seal, purge: LogPurge
    ) -> Iterator[BadRange]:
        """What stands in a range that was purged: nothing, or before its end what was sealed."""
        empty, found = leaf_of({}), leaves(connection, seal.first, seal.last)
        if purge.is_done:
            kept: list[bytes] | None = [empty] * len(found)
        else:
            kept = found if root(found) == seal.root else self.leaves(seal)
        if kept is None and {*found} != {empty}:
            yield BadRange(seal.first, seal.last, "changed")
        for seq, (was, now) in enumerate(zip(kept or found, found, strict=True), seal.first):
            if now not in (was, empty):
                yield BadRange(seq, seq, "put back" if purge.is_done else "changed")
                return

    def _readable(self, upto: int) -> Iterator[Seal]:
        """All seals, of whatever log. What is missing for one that was changed is `unsealed`."""
        for row in self._audit.rows(RowFilter(action=ACTION, before=upto + 1)):
            with suppress(AuditUnavailableError):
                yield Seal.read(row)

    def leaves(self, seal: Seal) -> list[bytes] | None:
        """The leaves as they were sealed; None where they are lost or changed."""
        with suppress(sqlite3.Error), closing(self._open()) as connection:
            row = connection.execute(
                "SELECT hashes FROM leaves WHERE log = ? AND first = ?", (seal.log, seal.first)
            ).fetchone()
            kept = list(unpacked(row[0])) if row else []
            return kept if kept and root(kept) == seal.root else None
        return None

    def _placed(self, seal: Seal, found: list[bytes], end: int) -> BadRange:
        """Where the first change of a range is."""
        kept = self.leaves(seal)
        if kept is None:
            return BadRange(seal.first, seal.last, "changed")
        pairs = enumerate(zip(kept, found, strict=True), seal.first)
        position = next(seq for seq, (was, now) in pairs if was != now)
        is_gone = position > end or found[position - seal.first] == leaf_of({})
        return BadRange(position, position, "deleted" if is_gone else "changed")

    def _seal(self, log: str, first: int, last: int, hashes: list[bytes]) -> None:
        # The leaves before the row: a row without leaves would place a change less exactly.
        try:
            with closing(self._open()) as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)",
                    (log, first, packed(tuple(hashes))),
                )
        except sqlite3.Error as error:
            raise AuditUnavailableError(f"found no way to keep leaves ({error})") from error
        self._audit.record(
            Act(
                actor="platform",
                role="",
                action=ACTION,
                object=f"log:{log}",
                origin="platform",
                after=root(hashes).hex(),
                facts={"first": str(first), "last": str(last)},
            )
        )

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._folder / "leaves.db", timeout=10.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(_LEAVES)
        return connection

    @contextmanager
    def _alone(self, *, wait: bool) -> Iterator[bool]:
        """Nobody else seals meanwhile; False: somebody does, and nobody is to wait for them."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self._folder / "seal.lock").open("w")
        except OSError as error:
            raise AuditUnavailableError(
                f"found no way to use {self._folder} ({error}), expected a folder to write into"
            ) from error
        with file:
            is_alone = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                is_alone = False
            yield is_alone


def _seals(log: str) -> RowFilter:
    return RowFilter(action=ACTION, object=f"log:{log}")


def _identity(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT log FROM identity").fetchone()[0])


def _below(connection: sqlite3.Connection) -> Iterator[BadRange]:
    """Rows at positions that the log never gives out: no seal would ever cover them."""
    first, last = connection.execute(_BELOW).fetchone()
    if first is not None:
        yield BadRange(first, last, "unsealed")


def _last(connection: sqlite3.Connection) -> int:
    return int(connection.execute(_LAST).fetchone()[0])
