"""The graph of lineage of one home: records, the log's origins, and what the disk holds now.

What belongs here: who is whose neighbour, and what has become of a content. How a walk goes is
`lineage`.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.journal import name_of
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.adapters.log_origins import received_us
from fraud_platform.adapters.log_purges import Claims, claims_of
from fraud_platform.adapters.model_bundle import read_manifest
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.adapters.tables import Tables
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import BundleIntegrityError, NotReadyError
from fraud_platform.events import microseconds
from fraud_platform.features.spec import LOOKBACK
from fraud_platform.lineage import (
    DECISION,
    MODEL,
    OPEN_JOURNAL,
    SEGMENT,
    SOURCE_FILE,
    Graph,
    Node,
    State,
    downstream,
    state_of,
    upstream,
)
from fraud_platform.settings import Settings

PAYMENTS = {"raw_transactions", "validated_transactions", "transaction_features"}
"""Tables whose day is that of the payments in them, at which windows look."""
_DAY = timedelta(days=1)
_CLOCKS_US = 60_000_000
"""By so much rows of the audit log may be out of the order of time: their writers wait in line."""


class LineageGraph:
    """What rests on what in one home.

    Args:
        settings: of the home.
        log: its event log.
    """

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self._home, self._log = settings.home, log
        self._log_path, self._models_dir = settings.log_path, settings.models_dir
        self._audit = audit_log_of(settings)
        self._tables = Tables(settings.tables_dir)
        self.store = LineageStore(settings.lineage_path)

    def upstream(self, start: Node, inputs: Iterable[Node] = ()) -> Graph:
        """All that a content rests on, down to source files and segments of the journal.

        Args:
            start: the content; a decision, for instance.
            inputs: what it was made of, if no record says that.
        """
        told = list(inputs)
        return upstream(start, lambda node: told if told and node == start else self._inputs(node))

    def downstream(self, kind: str, part: str) -> Graph:
        """All that was made of a table's day, a file or a segment, in whatever state it was.

        Raises:
            NotReadyError: nothing of this name was ever made or read.
        """
        starts = self.store.contents(kind, part)
        if not starts:
            raise NotReadyError(
                f"found no record of {kind} {part}, expected one",
                hint="days are written 2026-01-07; what was made before lineage was kept is "
                "recorded when it is materialized again",
            )
        return downstream(starts, self.store.outputs_of)

    def state(self, node: Node) -> State:
        """What has become of a content: read again and digested now."""
        found = self._found(node)
        return State.PURGED if found == State.GONE and self._purge_of(node) else found

    def _found(self, node: Node) -> State:
        if node.kind == SOURCE_FILE:
            return self._source_file(node)
        if node.kind in (OPEN_JOURNAL, DECISION):
            return State.OPEN
        if node.kind in (SEGMENT, MODEL):
            found = self._segment(node) if node.kind == SEGMENT else self._model(node)
            return state_of(node.digest, found, ())
        records = self.store.records(node.kind, node.part)
        mine = [one for one in records if one.node == node]
        path = mine[-1].path if mine else f"tables/{node.kind}/{node.part}.parquet"
        later = [one.node.digest for one in records if not mine or one.seq > mine[-1].seq]
        return state_of(node.digest, _digest(self._home / path), later)

    def seen_from(self, kind: str, part: str) -> dict[str, object] | None:
        """The decisions whose windows could see a day of payments; None for what is no such day.

        Those of payments that happened on the day or within the longest look-back after it; and of
        them those on a card or at a terminal that paid on that day, and were in the log by then.
        None, too, for a day of which payments were purged.
        """
        if kind not in PAYMENTS:
            return None
        first = datetime.combine(date.fromisoformat(part), datetime.min.time(), UTC)
        bounds = {
            "start": microseconds(first),
            "end": microseconds(first + _DAY),
            "reach": microseconds(first + _DAY + LOOKBACK),
        }
        horizon = self._log.horizon()
        if horizon is not None and bounds["start"] <= horizon.newest_us:
            return None
        within = "d.event_us >= :start AND d.event_us < :reach"
        that_day = "event_us >= :start AND event_us < :end"
        shares = " OR ".join(
            f"t.{name} IN (SELECT {name} FROM transactions WHERE {that_day})"  # noqa: S608 -- ours
            for name in ("card_id", "terminal_id")
        )
        count = f"SELECT COUNT(*) FROM decisions d WHERE {within}"  # noqa: S608 -- ours
        query = (
            "SELECT COUNT(*), MIN(d.event_us), MAX(d.event_us) FROM decisions d"  # noqa: S608 -- ours
            f" JOIN transactions t USING (transaction_id) WHERE {within} AND ({shares})"
            f" AND d.seen_seq >= (SELECT MIN(seq) FROM transactions WHERE {that_day})"
        )
        with closing(LogFile(self._log_path)) as file, file.snapshot() as connection:
            (all_of_them,) = connection.execute(count, bounds).fetchone()
            touching, oldest, newest = connection.execute(query, bounds).fetchone()
        return {
            "within_the_longest_window": all_of_them,
            "on_a_card_or_terminal_of_that_day": touching,
            "first_event_us": oldest,
            "last_event_us": newest,
        }

    def decided_by(self, models: Iterable[Node]) -> list[dict[str, object]]:
        """How many decisions each model took, and when, by the log."""
        query = (
            "SELECT COUNT(*), MIN(decided_us), MAX(decided_us), MIN(decision_id) FROM decisions"
            " WHERE model_version = ? AND model_digest = ?"
        )
        found = []
        with closing(LogFile(self._log_path)) as file, file.snapshot() as connection:
            for model in models:
                told = connection.execute(query, (model.part, model.digest)).fetchone()
                names = ("decisions", "first_us", "last_us", "one_of_them")
                found.append({"model": model.part, **dict(zip(names, told, strict=True))})
        return found

    def purged(self, kind: str, part: str) -> list[str]:
        """What retention deleted that an answer about a content therefore lacks, as sentences."""
        told = []
        horizon = self._log.horizon()
        if horizon is not None:
            told.append(
                f"not counted: decisions up to position {horizon.last_seq:,}, purged by row"
                f" {horizon.audit_row:,} of the audit log"
            )
        row = self._purge_of(Node(kind, part, ""))
        if row is not None:
            told.append(f"{kind} {part} itself was purged by row {row.seq:,} of the audit log")
        return told

    def _inputs(self, node: Node) -> list[Node]:
        if node.kind == OPEN_JOURNAL:  # it may be sealed by now
            first, last = map(int, node.part.split("-"))
            return [one.node for one in self._log.origins(first, last)]
        return self.store.inputs_of(node)

    def _source_file(self, node: Node) -> State:
        """Outside, unless it came in when the audit log was there, and that tells otherwise."""
        with closing(LogFile(self._log_path)) as file, file.snapshot() as connection:
            received = received_us(connection, node)
        if self._audited is None or received is None or received < self._audited[0]:
            return State.OUTSIDE
        # Its last row follows what it brought; only of one that was interrupted it is the first.
        near = self._row_before(received - _CLOCKS_US)
        is_recorded = self._tells_of(node, near) or self._tells_of(node, 0)
        return State.OUTSIDE if is_recorded else State.UNRECORDED

    @cached_property
    def _audited(self) -> tuple[int, int] | None:
        """When the audit log's first row was written, and the place of its last."""
        first = next(self._audit.rows(limit=1), None)
        last = next(self._audit.rows(limit=1, newest=True), None)
        return None if first is None or last is None else (first.at_us, last.seq)

    def _row_before(self, moment_us: int) -> int:
        """The place of the last row of the audit log that was written before a moment."""
        places = range(1, self._audited[1] + 1 if self._audited else 1)
        return bisect_left(places, moment_us, key=self._written_us)

    def _written_us(self, place: int) -> int:
        return next(self._audit.rows(RowFilter(after=place - 1), limit=1)).at_us

    def _tells_of(self, file: Node, after: int) -> bool:
        """Whether the audit log has this file's digest behind a place; it reads up to there."""
        which = RowFilter(action="log.ingest", object=f"file:{file.part}", after=after)
        while row := next(self._audit.rows(which, limit=1), None):
            if row.after == file.digest:
                return True
            which = replace(which, after=row.seq)
        return False

    def _purge_of(self, node: Node) -> Row | None:
        """The row of the audit log by which retention deleted a day of a table, or a segment."""
        if node.kind == SEGMENT:
            spans = [(row, row.told) for row in self._claims.begun("journal")]
            found = [r for r, s in spans if int(s["first"]) <= int(node.part) <= int(s["last"])]
        elif (kept := self._tables.kept_from(node.kind)) is None or node.part >= str(kept):
            return None
        else:
            rows = self._claims.begun("tables")
            found = [row for row in rows if node.part < row.told["until"]]
        return found[0] if found else None

    @cached_property
    def _claims(self) -> Claims:
        return claims_of(self._audit)

    def _segment(self, node: Node) -> str | None:
        """Digest of the real bytes of a segment; behind them stand zeros until it is sealed."""
        path = self._log_path.with_name(JOURNAL_FOLDER) / name_of(int(node.part))
        with closing(LogFile(self._log_path)) as file:
            length = {str(seal.number): seal.bytes for seal in file.seals()}.get(node.part)
        return sha256(path.read_bytes()[:length]) if path.is_file() else None

    def _model(self, node: Node) -> str | None:
        """Digest of the model file that a sealed bundle holds now."""
        folder = self._models_dir / node.part
        try:
            named = read_manifest(folder).files
        except BundleIntegrityError:
            return "" if folder.is_dir() else None
        files = [name for name in named if name.startswith("model.")]
        return _digest(folder / files[0]) if files else ""


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
