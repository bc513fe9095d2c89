"""Purging the event log: whole sealed ranges from its start, in short transactions.

A range goes when all of it is older than the limit and nothing needs it any more: no feature window
or label of a payment to come, no segment of the journal that still holds it, no mirror that has not
got it.
Deleted content is overwritten with zeros and its pages are given back; digests of ids stay, so that
nobody takes what was purged for what never was.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime

from fraud_platform.adapters import log_horizon
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal import name_of, numbers
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.adapters.log_horizon import Horizon
from fraud_platform.adapters.log_seals import Seal, seals_of
from fraud_platform.adapters.mirror_status import read_status, status_path
from fraud_platform.adapters.retention_class import Due, Kept
from fraud_platform.adapters.sealed_records import reading
from fraud_platform.adapters.sqlite_commit import committing
from fraud_platform.audit_log.merkle import root
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import HistoryChangedError, HistoryDamagedError, LogUnavailableError
from fraud_platform.retention import Range, before_us, due_ranges, least_days
from fraud_platform.settings import Settings

_BATCH = 1_000
"""Positions, or rejected rows, that go in one transaction: some 20 milliseconds of its lock."""
_PAGES = 500
"""Of the file, given back in one transaction."""
_TAIL = 200
"""Newest positions that always stay: what stands there tells this log from others."""
_BUSY_SECONDS = 60.0
_COUNTS = {
    "transactions": "SELECT COUNT(*) FROM transactions WHERE seq",
    "labels": "SELECT COUNT(*) FROM labels WHERE seq",
    "decisions": "SELECT COUNT(*) FROM transactions t CROSS JOIN decisions d"
    " USING (transaction_id) WHERE t.seq",
    "shadow_scores": "SELECT COUNT(*) FROM shadow_scores WHERE seq",
}
_IDS = (
    "SELECT t.transaction_id, t.seq FROM transactions t WHERE t.seq BETWEEN :first AND :last"
    " UNION ALL SELECT d.decision_id, t.seq FROM transactions t"
    " JOIN decisions d USING (transaction_id) WHERE t.seq BETWEEN :first AND :last"
)
_DELETE = (
    "DELETE FROM decisions WHERE transaction_id IN"
    " (SELECT transaction_id FROM transactions WHERE seq BETWEEN :first AND :last)",
    # The newest stays: a mirror goes on by its row number, which would be given out again.
    "DELETE FROM shadow_scores WHERE seq BETWEEN :first AND :last"
    " AND rowid < (SELECT MAX(rowid) FROM shadow_scores)",
    "DELETE FROM labels WHERE seq BETWEEN :first AND :last",
    "DELETE FROM transactions WHERE seq BETWEEN :first AND :last",
)
_REJECTED = (
    "DELETE FROM rejections WHERE rowid IN"
    " (SELECT rowid FROM rejections WHERE partition_us < ? LIMIT ?)"
)
_NEWEST = (
    "SELECT MAX(COALESCE((SELECT MAX(event_us) FROM transactions WHERE seq BETWEEN :first AND"
    " :last), 0), COALESCE((SELECT MAX(known_us) FROM labels WHERE seq BETWEEN :first AND :last),"
    " 0))"
)
_FIRST = (
    "SELECT MIN(seq) FROM (SELECT MIN(seq) AS seq FROM transactions UNION ALL"
    " SELECT MIN(seq) FROM labels)"
)
_REJECTED_NOW = "SELECT COUNT(*) FROM rejections WHERE partition_us < ?"
_OLDEST = "SELECT MIN(event_us) FROM transactions WHERE seq BETWEEN :first AND :last"


class KeptLog(Kept):
    """The class `log` of one home.

    Args:
        settings: of the home.
    """

    name, unit = "log", "positions"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.log_path
        self._seals = seals_of(settings)

    @property
    def days(self) -> int | None:
        """Its limit."""
        return self._settings.retention.log_days

    def oldest(self) -> datetime | None:
        """Time of the oldest payment."""
        if not self._path.exists():
            return None
        with closing(EventLog(self._path)) as log:
            return log.oldest_event_timestamp()

    def prepare(self) -> None:
        """Seal what is drained: nothing goes that was not sealed."""
        if self._path.exists():
            with closing(EventLog(self._path)) as log:
                log.drain()
            self._seals.seal()

    def due(self, now_us: int) -> Due | None:
        """The ranges, and the rejected rows, that are past the limit and that nothing needs."""
        if self.days is None or not self._path.exists():
            return None
        limit_us = before_us(now_us, self.days)
        roots: list[bytes] = []
        with reading(self._path) as connection:
            name = str(connection.execute("SELECT log FROM identity").fetchone()[0])
            needed_us, upto = self._needed(connection)
            going = due_ranges(
                self._kept(connection, name, roots), before_us=min(limit_us, needed_us), upto=upto
            )
            rejected = connection.execute(_REJECTED_NOW, (limit_us,)).fetchone()[0]
            if not going and not rejected:
                return None
            facts = _facts(connection, going, limit_us, rejected)
        return Due(
            object=f"log:{name}",
            digest=root(roots[: len(going)]).hex() if going else "",
            count=going[-1].last - going[0].first + 1 if going else 0,
            facts={"days": str(self.days), **facts},
        )

    def require_intact(self, facts: Mapping[str, str]) -> None:
        """Refuse to delete what is not what was sealed: it is evidence.

        Raises:
            HistoryDamagedError: somebody changed a range that is to go.
        """
        first, last = int(facts["first"]), int(facts["last"])
        bad = self._seals.differing(first, last) if first else ()
        if bad:
            raise HistoryDamagedError(
                f"{bad[0].to_text()}; expected what was sealed: nothing was purged",
                hint="somebody changed events.db: keep it as evidence; fraud-platform audit verify",
            )

    def carry_out(self, row: Row, require_free: Callable[[], None]) -> None:
        """Delete what a row announces; what is deleted already stays so."""
        self._require_believed(row)
        told = row.told
        first, last = int(told["first"]), int(told["last"])
        limit_us = int(told["before_us"])
        if self._settings.postgres_url is not None and first:
            from fraud_platform.adapters.postgres_purge import purge_mirror

            purge_mirror(self._settings, row.object.removeprefix("log:"), last, require_free)
        with self._writing() as connection:
            horizon = Horizon(row.seq, last, int(told["newest_us"]), limit_us)
            with committing(connection):
                log_horizon.begin(connection, horizon)
            for start in range(first, last + 1, _BATCH) if first else ():
                require_free()
                _delete(connection, start, min(start + _BATCH - 1, last))
            while _delete_rejected(connection, limit_us):
                continue
            _give_back(connection)

    def _require_believed(self, row: Row) -> None:
        """Delete nothing that verification would not take for purged by this row."""
        with closing(LogFile(self._path)) as file:
            name = file.identity()
        is_mine = row.object == f"log:{name}"
        if int(row.told["first"]) and is_mine:
            is_mine = row.seq in {one.row.seq for one in self._seals.purges(name)}
        if not is_mine:
            raise HistoryChangedError(
                f"found a purge announced by row {row.seq} of the audit log that does not fit the"
                f" seals of {self._path}, expected ranges of this log as they were sealed",
                hint="was another log put in this place? fraud-platform audit verify",
            )

    def _needed(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """The moment from which on events are needed, and the last position that may go."""
        (newest,) = connection.execute("SELECT MAX(event_us) FROM transactions").fetchone()
        least, _ = least_days(self._settings.labels, self._settings.training)[self.name]
        with closing(LogFile(self._path)) as file:
            upto = file.drained().last_seq - _TAIL
            disk = FolderDisk(self._path.with_name(JOURNAL_FOLDER))
            here = {number for number in numbers(disk) if disk.size(name_of(number))}
            open_ = [s.first_seq for s in file.seals() if s.number in here and s.first_seq]
        if open_:
            upto = min(upto, min(open_) - 1)
        if self._settings.postgres_url is not None:
            status = read_status(status_path(self._path))
            upto = min(upto, (status.seq or 0) - _TAIL if status else 0)
        return before_us(newest or 0, least), upto

    def _kept(
        self, connection: sqlite3.Connection, name: str, roots: list[bytes]
    ) -> Iterator[Range]:
        """The sealed ranges that no purge has settled; their roots are told meanwhile.

        Those that one emptied before it failed are announced again, and those that are back.
        """
        (oldest,) = connection.execute(_FIRST).fetchone()
        settled = max((one.last for one in self._seals.purges(name) if one.is_done), default=0)
        for seal in self._seals.all(name) if oldest else ():
            if seal.last >= min(oldest, settled + 1):
                roots.append(seal.root)
                yield _range(connection, seal)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA secure_delete=ON")
                yield connection
        except sqlite3.Error as error:
            raise LogUnavailableError(
                f"found the event log {self._path} unusable ({error}), expected to purge it",
                hint="check that the disk has room; the next purge goes on where this one ended",
            ) from error


def _range(connection: sqlite3.Connection, seal: Seal) -> Range:
    (newest,) = connection.execute(_NEWEST, {"first": seal.first, "last": seal.last}).fetchone()
    return Range(seal.first, seal.last, int(newest))


def _facts(
    connection: sqlite3.Connection, going: list[Range], limit_us: int, rejected: int
) -> dict[str, str]:
    """What a row says of what goes, as texts."""
    first, last = (going[0].first, going[-1].last) if going else (0, 0)
    span = {"first": first, "last": last}
    counts = {
        table: connection.execute(f"{query} BETWEEN :first AND :last", span).fetchone()[0]
        for table, query in _COUNTS.items()
    }
    (oldest_us,) = connection.execute(_OLDEST, span).fetchone()
    newest_us = max((one.newest_us for one in going), default=0)
    times = {"oldest_us": oldest_us or 0, "newest_us": newest_us, "before_us": limit_us}
    told = {**span, "ranges": len(going), **counts, "rejections": rejected, **times}
    return {name: str(value) for name, value in told.items()}


def _delete(connection: sqlite3.Connection, first: int, last: int) -> None:
    """One short transaction, and as long a pause: whoever else writes comes in between."""
    started, span = time.monotonic(), {"first": first, "last": last}
    with committing(connection):
        log_horizon.remember(connection, connection.execute(_IDS, span).fetchall())
        for statement in _DELETE:
            connection.execute(statement, span)
    time.sleep(time.monotonic() - started)


def _delete_rejected(connection: sqlite3.Connection, limit_us: int) -> int:
    with committing(connection):
        return connection.execute(_REJECTED, (limit_us, _BATCH)).rowcount


def _give_back(connection: sqlite3.Connection) -> None:
    """Free pages go back to the disk, a few at a time, where the file was made to do so."""
    (kind,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    while kind and connection.execute("PRAGMA freelist_count").fetchone()[0]:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    connection.execute("PRAGMA busy_timeout=1000")  # a reader may hold it up: then it is left so
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
