"""The mirror: what the event log says, brought into PostgreSQL exactly once.

The log is the outbox. The mirror reads the rows after its position and writes them in the
transaction that also writes its new position, so whatever dies, and whenever, no row is lost and
none is there twice. It reads the log's file only and is never in the way of an answer: PostgreSQL
may be away for as long as it likes, and is caught up with afterwards in bounded batches.

A row that PostgreSQL already has with another content is kept in its table `conflicts` and told;
nothing is ever overwritten there. One mirror at a time writes into one schema of one database.
"""

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from threading import Event

import psycopg2.errors
import psycopg2.extensions

from fraud_platform.adapters import log_pages, postgres_upgrade
from fraud_platform.adapters.log_pages import Behind, LogPage, LogPosition
from fraud_platform.adapters.mirror_status import (
    MirrorStatus,
    status_path,
    write_status,
)
from fraud_platform.adapters.postgres_link import Patience, PostgresAddress, deadline
from fraud_platform.adapters.postgres_rows import TABLES, as_json, encoded
from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.settings import Settings

LOGGER = logging.getLogger("fraud_platform.mirror")

BATCH_ROWS = 2_000
"""At most so many events, as many decisions and as many shadow scores in one transaction."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_WRITE_EVERY = 0.5
_LOCK_SECONDS = 3
_POSITION = "SELECT log, seq, mark, decision_id, shadow_row, step FROM mirror_position"
_MOVE = (
    "INSERT INTO mirror_position (step, log, seq, mark, decision_id, shadow_row, rows)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
_ALTERED = (
    "INSERT INTO conflicts (table_name, seq, item, kind, told) VALUES (%s, %s, %s, 'altered', %s)"
    " ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True)
class Mirrored:
    """What one run brought over.

    Attributes:
        rows: how many rows, of all tables.
        seq: the newest position PostgreSQL holds.
        behind_rows: rows that came into the log meanwhile, or could not be brought.
        conflicts: rows in the table `conflicts`, of this run and of earlier ones.
        seconds: how long it took.
    """

    rows: int
    seq: int
    behind_rows: int
    conflicts: int
    seconds: float


def run(settings: Settings, stop: Event, *, batch_rows: int = BATCH_ROWS) -> None:
    """Follow the log until told to stop, through any absence of PostgreSQL.

    Args:
        settings: of the installation; `postgres_url` must be set.
        stop: ends it between two batches.
        batch_rows: at most so many rows of each table in one transaction.

    Raises:
        PermanentError: there is nothing to mirror to, the database holds another log's mirror or a
            newer schema, this role may not write, or another mirror of this home runs.
    """
    mirror = _Mirror(settings, batch_rows)
    with mirror.alone():
        absences = 0
        while not stop.is_set():
            try:
                with mirror.session():
                    while not stop.is_set():
                        page = mirror.step()
                        absences = 0
                        if page is None or not page.rows:
                            stop.wait(settings.mirror_poll_seconds)
            except UnavailableError as error:
                mirror.tell_absence(error)
                stop.wait(_pause(absences))
                absences += 1


def run_once(
    settings: Settings, stop: Event | None = None, *, batch_rows: int = BATCH_ROWS
) -> Mirrored:
    """Bring over everything the log holds now, and come back.

    Raises:
        UnavailableError: PostgreSQL or the log is away, or another mirror has the database.
        PermanentError: as `run` says.
    """
    stop, started = stop or Event(), time.perf_counter()
    mirror = _Mirror(settings, batch_rows)
    with mirror.alone():
        try:
            with mirror.session():
                while not stop.is_set() and (page := mirror.step()) is not None and page.rows:
                    continue
        except UnavailableError as error:
            mirror.tell_absence(error)
            raise
    status = mirror.status
    return Mirrored(
        rows=status.mirrored_rows,
        seq=status.seq or 0,
        behind_rows=status.behind_rows or 0,
        conflicts=status.conflicts or 0,
        seconds=time.perf_counter() - started,
    )


class _Mirror:
    """One process's mirror: at most one session with PostgreSQL at a time."""

    def __init__(self, settings: Settings, batch_rows: int) -> None:
        if settings.postgres_url is None:
            raise PermanentError(
                "found no PostgreSQL to mirror the log into, expected its address",
                hint="set FRAUD_POSTGRES_URL=postgresql+psycopg2://user:password@host/database",
            )
        self._address = PostgresAddress.parse(settings.postgres_url.get_secret_value())
        self._schema = settings.postgres_schema
        self._log_path = settings.log_path
        self._limit = batch_rows
        self._patience = Patience()
        self._position: LogPosition | None = None
        self._step = 0
        self._connection: psycopg2.extensions.connection | None = None
        self._told_at = 0.0
        self.status = MirrorStatus(state="away", at=time.time(), pid=os.getpid())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse a second mirror of this home, and leave a last word at the end."""
        path = status_path(self._log_path).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PermanentError(
                    f"found another mirror of the log {self._log_path} at work",
                    hint="one is enough; stop that one first",
                ) from None
            try:
                yield
            except PermanentError as error:
                self._say(replace(self.status, state="refused", problem=error.message))
                LOGGER.error("mirror refused: %s", error.message)
                raise
            if self.status.state == "running":
                self._say(replace(self.status, state="stopped"))

    @contextmanager
    def session(self) -> Iterator[None]:
        """A connection that holds the mirror's lock, on an up-to-date schema, at its position."""
        with closing(self._address.connect(self._schema, self._patience)) as connection:
            self._connection = connection
            with self._exchange() as cursor:
                self._take_lock(cursor)
                found = postgres_upgrade.revision(connection)
            postgres_upgrade.refuse_unknown(found)
            if found != postgres_upgrade.REVISIONS[-1]:
                postgres_upgrade.upgrade(self._address, self._schema, self._patience)
                LOGGER.info("schema %s upgraded from %s", self._schema, found)
            with self._exchange() as cursor:
                self._prepare(cursor)
            LOGGER.info("mirror connected to %s at %s", self._address.place, self.status.seq)
            yield

    def step(self) -> LogPage | None:
        """Bring over one page; without rows, make sure that PostgreSQL is still there.

        Returns:
            What was brought; None when there is no log yet.
        """
        page = log_pages.read_page(self._log_path, self._position, self._limit)
        noticed = 0
        with self._exchange() as cursor:
            if page is None or not page.rows:
                cursor.execute("SELECT 1")
            else:
                noticed = self._write(cursor, page)
        moved = page is not None and page.rows > 0
        if page is not None:
            self._position, self._step = page.position, self._step + moved
        self._tell_progress(page, noticed)
        return page

    def tell_absence(self, error: UnavailableError) -> None:
        """Say that PostgreSQL, or the log, is away; the wait grows meanwhile."""
        if self.status.problem != error.message:
            LOGGER.warning("mirror waits: %s", error.message)
        try:
            behind = log_pages.behind(self._log_path, self._position) if self._position else None
        except UnavailableError:
            behind = None
        self._say(replace(self.status, state="away", problem=error.message), behind)

    @contextmanager
    def _exchange(self) -> Iterator[psycopg2.extensions.cursor]:
        """One transaction, which is over in bounded time, one way or the other."""
        connection = self._connection
        if connection is None:  # pragma: no cover -- a session always has one
            raise UnavailableError("found no connection to PostgreSQL")
        with (
            self._address.translated(),
            deadline(connection, self._patience.answer),
            connection.cursor() as cursor,
        ):
            try:
                yield cursor
                connection.commit()
            finally:
                if not connection.closed:  # rolling back a dead one would hide why it died
                    connection.rollback()

    def _take_lock(self, cursor: psycopg2.extensions.cursor) -> None:
        key = (postgres_upgrade.MIRROR_LOCK, postgres_upgrade.lock_key(self._schema))
        # A server takes its time to notice that an earlier mirror has gone.
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_SECONDS}s",))
        try:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", key)
        except psycopg2.errors.LockNotAvailable:
            raise UnavailableError(
                f"found another mirror at work on schema {self._schema} of {self._address.place}",
                hint="one is enough; a killed one's lock ends with its connection, within a minute",
            ) from None

    def _prepare(self, cursor: psycopg2.extensions.cursor) -> None:
        cursor.execute(f"{_POSITION} ORDER BY step DESC LIMIT 1")
        row = cursor.fetchone()
        self._position, self._step = (None, 0) if row is None else (LogPosition(*row[:5]), row[5])
        for table in TABLES.values():
            cursor.execute(table.stage)
        conflicts = self._count_conflicts(cursor)
        seq = self._position.seq if self._position else 0
        self._say(
            replace(
                self.status,
                state="running",
                contact_at=time.time(),
                seq=seq,
                problem=None,
                conflicts=conflicts,
            )
        )

    def _write(self, cursor: psycopg2.extensions.cursor, page: LogPage) -> int:
        """Rows and position; returns how many rows are conflicts."""
        noticed = 0
        for name, rows in page.tables.items():
            table = TABLES[name]
            content, altered = encoded(name, rows)
            cursor.copy_expert(table.copy, content)
            cursor.execute(table.insert)
            if cursor.rowcount < len(rows):
                cursor.execute(table.note_conflicts)
                noticed += cursor.rowcount
            for row in altered:
                item = row[3] if name == "shadow_scores" else ""
                cursor.execute(_ALTERED, (name, row[0], item, as_json(name, row)))
                noticed += cursor.rowcount
        at = page.position
        told = (at.log, at.seq, at.mark, at.decision_id, at.shadow_row)
        # Two mirrors that both believe to be alone would take the same step: one of them fails.
        cursor.execute(_MOVE, (self._step + 1, *told, page.rows))
        return noticed

    def _tell_progress(self, page: LogPage | None, noticed: int) -> None:
        if noticed:
            with self._exchange() as cursor:
                conflicts = self._count_conflicts(cursor)
            LOGGER.error(
                "mirror conflict: %d rows of the log up to %d are otherwise in PostgreSQL, see"
                " %s.conflicts (%d rows)",
                *(noticed, page.position.seq if page else 0, self._schema, conflicts),
            )
            self.status = replace(self.status, conflicts=conflicts)
        now = replace(
            self.status,
            state="running",
            contact_at=time.time(),
            seq=page.position.seq if page else 0,
            mirrored_rows=self.status.mirrored_rows + (page.rows if page else 0),
            problem=None,
        )
        left = page.behind if page else Behind(0, 0, None)
        self._say(now, left, every=_WRITE_EVERY if left.rows else 0.0)

    @staticmethod
    def _count_conflicts(cursor: psycopg2.extensions.cursor) -> int:
        cursor.execute("SELECT count(*) FROM conflicts")
        row = cursor.fetchone()
        return 0 if row is None else int(row[0])

    def _say(
        self, status: MirrorStatus, behind: Behind | None = None, *, every: float = 0.0
    ) -> None:
        """Keep the status, and write it: at most every so many seconds while much is to do."""
        now = time.time()
        if behind is not None:
            waits = 0.0 if behind.oldest_us is None else max(0.0, now - behind.oldest_us / 1e6)
            status = replace(
                status, log_seq=behind.log_seq, behind_rows=behind.rows, behind_seconds=waits
            )
        self.status = replace(status, at=now)
        if not 0 <= now - self._told_at < every:
            write_status(status_path(self._log_path), self.status)
            self._told_at = now


def _pause(absences: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to the next try: twice as long each time up to a bound, half of it by chance."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(absences, 16))
    return longest * (0.5 + 0.5 * chance())
