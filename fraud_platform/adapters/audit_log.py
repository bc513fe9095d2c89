"""The audit log of a home: what was done by whom, recorded before anything else may rely on it.

    with audit_log_of(settings).recording(act):
        promote()

The row "begun" is on the disk before the block runs; if it cannot be written, the block does not
run. Afterwards a second row says "done" or "failed". A row "begun" without a second one is an act
that was interrupted.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fraud_platform.adapters.audit_anchor import Anchor
from fraud_platform.adapters.audit_keys import AuditKeys
from fraud_platform.adapters.audit_sqlite import SqliteAudit
from fraud_platform.adapters.audit_store import AuditEnd, AuditStore, RowFilter
from fraud_platform.audit_log.acts import ROUTINE, Act, one_line
from fraud_platform.audit_log.heads import MOST_ROWS, MOST_US, Head, parse_head, signed_head
from fraud_platform.audit_log.merkle import root_of
from fraud_platform.audit_log.rows import Row, Tail, next_row
from fraud_platform.errors import AuditUnavailableError, PermanentError
from fraud_platform.settings import Settings

LOGGER = logging.getLogger("fraud_platform.audit")


def audit_log_of(settings: Settings) -> "AuditLog":
    """The audit log of a home; cheap, it opens on first use."""
    folder = settings.audit_dir
    anchor = Anchor(Path(settings.audit.anchor_dir)) if settings.audit.anchor_dir else None
    return AuditLog(_store(settings), AuditKeys(folder), anchor=anchor)


class AuditLog:
    """Rows and signed heads; safe for several threads and processes.

    Args:
        store: where rows are.
        keys: what makes them evident.
        anchor: where heads are copied; None: nowhere.
        now_us: the clock, microseconds UTC.
    """

    def __init__(
        self,
        store: AuditStore,
        keys: AuditKeys,
        *,
        anchor: Anchor | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self.store = store
        self.keys = keys
        self._anchor = anchor
        self._now_us = now_us

    def record(self, act: Act, outcome: str = "done") -> Row:
        """Record an act in one durable row.

        Args:
            act: what was done, or was refused.
            outcome: what became of it.

        Raises:
            AuditUnavailableError: it cannot be recorded: then it must not happen.
        """
        return self._append(act, outcome=outcome, begun=0)

    @contextmanager
    def recording(self, act: Act) -> Iterator[Row]:
        """Record that an act begins, let it happen, and record what became of it.

        Raises:
            AuditUnavailableError: its beginning cannot be recorded, and it did not happen; or its
                end cannot, and it did.
        """
        first = self._append(act, outcome="begun", begun=0)
        try:
            yield first
        except BaseException as error:
            with suppress(AuditUnavailableError):  # the act's own error is what the caller must see
                self._append(act, outcome=f"failed: {type(error).__name__}", begun=first.seq)
            raise
        self._append(act, outcome="done", begun=first.seq)

    def settle(self, begun: Row, outcome: str) -> Row:
        """Record what became of an act that was interrupted after its row "begun".

        Args:
            begun: that row.
            outcome: what whoever can tell found.

        Raises:
            AuditUnavailableError: it cannot be recorded.
        """
        act = Act(
            actor=one_line(begun.actor),
            role=one_line(begun.role),
            action=begun.action,
            object=one_line(begun.object),
            origin=one_line(begun.origin),
            reason=one_line(begun.reason),
            before=begun.before,
            after=begun.after,
            facts={one_line(name): one_line(value) for name, value in begun.told.items()},
        )
        return self._append(act, outcome=outcome, begun=begun.seq)

    def rows(
        self,
        which: RowFilter | None = None,
        *,
        limit: int | None = None,
        newest: bool = False,
    ) -> Iterator[Row]:
        """Rows in order, or the newest first.

        Args:
            which: only these; None: all.
            limit: at most so many.
            newest: whether to begin at the end.

        Raises:
            AuditUnavailableError: they cannot be read.
        """
        return self.store.rows(which or RowFilter(), limit=limit, newest=newest)

    def head(self) -> Head | None:
        """The signed head of all rows so far, made now if there is none yet; None without rows.

        Raises:
            AuditUnavailableError: it cannot be read or written.
        """
        with self._changing() as end:
            if end.tail.size > end.tail.head_size:
                self._sign(end)
        self._signed(end.tail)
        notes = self.store.heads(above=self.store.tail().head_size - 1)
        return parse_head(notes[-1]) if notes else None

    def require_writable(self) -> None:
        """Do all that recording an act takes, up to its row.

        Raises:
            AuditUnavailableError: an act could not be recorded now.
        """
        with self._changing() as end:
            self.keys.current(end.tail)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        self.store.close()

    def _append(self, act: Act, *, outcome: str, begun: int) -> Row:
        with self._changing() as end:
            row = next_row(
                end.tail,
                act,
                outcome=outcome,
                begun=begun,
                at_us=self._now_us(),
                key=self.keys.current(end.tail),
            )
            end.add(row)
            is_signed = _is_due(end.tail, row)
            if is_signed:
                self._sign(end)
        if is_signed:
            self._signed(end.tail)
        return row

    @contextmanager
    def _changing(self) -> Iterator[AuditEnd]:
        """The end of the log under its lock; a key that is gone is no less a reason not to act."""
        try:
            with self.store.appending() as end:
                yield end
        except (PermanentError, OSError) as error:
            told = error.message if isinstance(error, PermanentError) else str(error)
            hint = error.hint if isinstance(error, PermanentError) else None
            raise AuditUnavailableError(
                f"found no way to record an act ({told}); it did not happen", hint=hint
            ) from error

    def _sign(self, end: AuditEnd) -> None:
        tail = end.tail
        head = signed_head(
            tail.name,
            size=tail.size,
            root=root_of(tail.frontier),
            at_us=self._now_us(),
            previous=tail.head_digest,
            signer=self.keys.signer,
        )
        end.add_head(head)

    def _signed(self, tail: Tail) -> None:
        """What follows a head that is committed: its epoch's key is destroyed, a copy goes out."""
        # Another process may have gone on meanwhile, and destroyed this epoch's key and later ones.
        with suppress(ValueError):
            try:
                self.keys.use_up(tail.next_epoch)
            except (PermanentError, OSError) as error:
                LOGGER.error("a key of the audit log is not destroyed yet: %s", error)
        self._publish()

    def _publish(self) -> None:
        """Copy what the anchor lacks; an anchor that is away is told of, and catches up later."""
        if self._anchor is None:
            return
        try:
            name = self.store.tail().name
            self._anchor.add(
                name, self.store.heads(above=self._anchor.size(name)), self.keys.public
            )
        except OSError as error:
            LOGGER.error("heads of the audit log are not copied to the anchor: %s", error)


def _is_due(tail: Tail, row: Row) -> bool:
    """Whether a head is due behind this row."""
    if row.outcome != "begun" and row.action not in ROUTINE:
        return True
    return tail.size - tail.head_size >= MOST_ROWS or row.at_us - tail.head_us >= MOST_US


def _store(settings: Settings) -> AuditStore:
    if settings.audit.url:
        from fraud_platform.adapters.audit_postgres import PostgresAudit

        return PostgresAudit(settings.audit.url)
    return SqliteAudit(settings.audit_dir / "audit.db")
