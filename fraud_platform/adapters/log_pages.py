"""The event log as pages of rows, for whoever copies it: read-only, bounded, and sure of its place.

A page is read in one SQLite read transaction on a connection of its own (mode=ro), so a copier
never blocks a writer, never keeps the write-ahead log from being trimmed, and notices at the next
page that somebody put another file in its place.

Transactions and labels are followed by their gapless `seq`. Decisions hang on the seq of their
transaction and are followed in the order in which they were written, by the decision last seen;
shadow scores, which may come later than their transaction, by the row number.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraud_platform.adapters import log_horizon
from fraud_platform.errors import LogUnavailableError, PermanentError

Row = tuple[object, ...]

TRANSACTION_COLUMNS = (
    *("seq", "transaction_id", "event_us", "card_id", "terminal_id", "amount_minor", "currency"),
    *("merchant_category", "payment_method", "country", "device_id", "entry_mode"),
    *("latitude", "longitude", "received_us", "source"),
)
LABEL_COLUMNS = (
    *("seq", "transaction_id", "verdict", "label_source", "reason", "known_us", "received_us"),
    *("happened_us", "reported_by"),
)
DECISION_COLUMNS = (
    *("seq", "transaction_id", "decision_id", "seen_seq", "event_us", "decided_us", "decision"),
    *("score", "reasons", "probability", "expected_fpr", "mode", "missing", "arm", "is_late"),
    *("model_version", "model_digest", "policy_digest", "feature_spec_digest", "features"),
    *("latency_us", "expires_us", "pass_propensity", "audit_propensity", "explored"),
    *("governed", "review_cut", "decline_cut", "fpr_bound", "budget", "price_minor"),
    "worth_multiplier",
)
SHADOW_COLUMNS = ("seq", "transaction_id", "model_version", "model_digest", "score", "decision")
COLUMNS = {
    "transactions": TRANSACTION_COLUMNS,
    "labels": LABEL_COLUMNS,
    "decisions": DECISION_COLUMNS,
    "shadow_scores": SHADOW_COLUMNS,
}
"""What a page holds of each table, in this order."""

_UNTOLD = {"missing": "'[]'", "arm": "'none'", "expires_us": "0"}
"""What a column says that an older log lacks; any other says NULL."""
_MARKED = 100
_MARK = (
    "SELECT seq, transaction_id, event_us, card_id, terminal_id, amount_minor, currency,"
    " received_us FROM transactions WHERE seq > :after AND seq <= :seq UNION ALL"
    " SELECT seq, transaction_id, known_us, verdict, label_source, 0, '', received_us"
    " FROM labels WHERE seq > :after AND seq <= :seq ORDER BY seq"
)
"""The events whose digest marks a position. Never change it: stored marks would match no log."""


@dataclass(frozen=True)
class LogPosition:
    """How far a copy of one log has come, and what tells that place from others.

    Attributes:
        log: the log's name.
        seq: every transaction and label up to here is in the copy.
        mark: digest of the newest events up to `seq`.
        decision_id: the last decision copied; None before the first.
        shadow_row: row number of the last shadow score copied; 0 before the first.
    """

    log: str
    seq: int
    mark: str
    decision_id: str | None
    shadow_row: int


@dataclass(frozen=True)
class Behind:
    """What stands in the log after a position.

    Attributes:
        log_seq: the newest position of the log.
        rows: how many rows are not copied, of all tables.
        oldest_us: when the platform took the oldest of them, microseconds UTC; None without any.
    """

    log_seq: int
    rows: int
    oldest_us: int | None


@dataclass(frozen=True)
class LogPage:
    """Rows after a position, and where the copy stands once it holds them.

    Attributes:
        position: the place after these rows.
        tables: table -> rows in the order of `COLUMNS`; tables without rows are left out.
        behind: what is left after this page.
    """

    position: LogPosition
    tables: dict[str, list[Row]]
    behind: Behind

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(map(len, self.tables.values()))


def read_page(path: Path, after: LogPosition | None, limit: int) -> LogPage | None:
    """The rows after a position.

    Args:
        path: the log's SQLite file.
        after: where the copy stands; None: at the beginning.
        limit: at most so many rows of the sequence, as many decisions and as many shadow scores.

    Returns:
        The page, maybe without rows; None when there is no log yet.

    Raises:
        LogUnavailableError: the file cannot be read now.
        PermanentError: the position is not of this log, or the log lacks rows it once had.
    """
    if after is None and not path.exists():
        return None
    with _reading(path) as connection:
        (name,) = connection.execute("SELECT log FROM identity").fetchone()
        start = after or _beginning(connection, str(name))
        _refuse_another_log(connection, str(name), start)
        return _page(connection, start, limit)


def behind(path: Path, after: LogPosition) -> Behind:
    """What stands in the log after a position, without the rows.

    Raises:
        LogUnavailableError: the file cannot be read now.
    """
    with _reading(path) as connection:
        row = _row_of(connection, after.decision_id)
        return _behind(connection, after.seq, row, after.shadow_row)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(
            sqlite3.connect(address, uri=True, timeout=5.0, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise LogUnavailableError(
            f"found the event log {path} unreadable ({error}), expected to read it",
            hint="check that the file exists and that this user may read its folder",
        ) from error


def _refuse_another_log(connection: sqlite3.Connection, name: str, start: LogPosition) -> None:
    hint = (
        "was another log put in this place, or an older copy restored? A copy cannot follow a log "
        "that forgot; keep it as evidence and start a new one in another schema"
    )
    if name != start.log:
        raise PermanentError(
            f"found a copy of the log {start.log}, expected one of the log {name}", hint=hint
        )
    last = _last_seq(connection)
    if last < start.seq:
        raise PermanentError(
            f"found a log that ends at {last}, expected at least {start.seq}, which the copy holds",
            hint=hint,
        )
    lost_decision = (
        start.decision_id
        and _row_of(connection, start.decision_id) == 0
        and log_horizon.purged_position(connection, start.decision_id) is None
    )
    if lost_decision or _mark(connection, start.seq) != start.mark:
        raise PermanentError(
            f"found other events at {start.seq} than the copy took from there,"
            " expected a log that only grows",
            hint=hint,
        )
    if _newest_row(connection, "shadow_scores") < start.shadow_row:
        raise PermanentError(
            "found fewer shadow scores than the copy holds, expected a log that only grows",
            hint=hint,
        )


def _beginning(connection: sqlite3.Connection, name: str) -> LogPosition:
    """Where a copy begins that has nothing yet: behind what retention deleted."""
    horizon = log_horizon.horizon(connection)
    seq = 0 if horizon is None else horizon.last_seq
    return LogPosition(name, seq, _mark(connection, seq), None, 0)


def _page(connection: sqlite3.Connection, start: LogPosition, limit: int) -> LogPage:
    upto = min(start.seq + limit, _last_seq(connection))
    tables: dict[str, list[Row]] = {}
    for table in ("transactions", "labels"):
        query = f"{_select(connection, table)} WHERE seq > ? AND seq <= ? ORDER BY seq"
        tables[table] = connection.execute(query, (start.seq, upto)).fetchall()
    found = sum(map(len, tables.values()))
    if found != upto - start.seq:
        raise PermanentError(
            f"found {found} events after {start.seq} up to {upto}, expected {upto - start.seq}",
            hint="the log has lost rows: restore it from a backup",
        )
    row = _row_of(connection, start.decision_id)
    tables["decisions"], row = _written(connection, "decisions", row, upto, limit)
    tables["shadow_scores"], shadow_row = _written(
        connection, "shadow_scores", start.shadow_row, upto, limit
    )
    told = tables["decisions"]
    newest = str(told[-1][DECISION_COLUMNS.index("decision_id")]) if told else start.decision_id
    return LogPage(
        LogPosition(start.log, upto, _mark(connection, upto), newest, shadow_row),
        {name: rows for name, rows in tables.items() if rows},
        _behind(connection, upto, row, shadow_row),
    )


def _written(
    connection: sqlite3.Connection, table: str, after: int, upto: int, limit: int
) -> tuple[list[Row], int]:
    """Rows in the order they were written, up to the first whose transaction comes later."""
    if not _columns(connection, table):
        return [], after
    query = f"{_select(connection, table, 'rowid')} WHERE rowid > ? ORDER BY rowid LIMIT ?"
    rows: list[Row] = []
    for number, *row in connection.execute(query, (after, limit)):
        if row[0] > upto:
            break
        rows.append(tuple(row))
        after = number
    return rows, after


def _select(connection: sqlite3.Connection, table: str, *more: str) -> str:
    known = _columns(connection, table)
    told = [c if c in known else _UNTOLD.get(c, "NULL") for c in COLUMNS[table]]
    return f"SELECT {', '.join([*more, *told])} FROM {table}"  # noqa: S608 -- names are ours


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _behind(connection: sqlite3.Connection, seq: int, row: int, shadow_row: int) -> Behind:
    last = _last_seq(connection)
    rows = last - seq + _newest_row(connection, "decisions") - row
    rows += _newest_row(connection, "shadow_scores") - shadow_row
    oldest = connection.execute(
        "SELECT received_us FROM transactions WHERE seq = :next UNION ALL"
        " SELECT received_us FROM labels WHERE seq = :next UNION ALL"
        " SELECT MIN(decided_us) FROM decisions WHERE rowid = :row LIMIT 1",
        {"next": seq + 1, "row": row + 1},
    ).fetchone()
    return Behind(last, rows, oldest[0] if oldest else None)


def _row_of(connection: sqlite3.Connection, decision_id: str | None) -> int:
    """The row number of a decision; 0 when there is none. VACUUM may give it another one."""
    found = connection.execute(
        "SELECT rowid FROM decisions WHERE decision_id = ?", (decision_id,)
    ).fetchone()
    return int(found[0]) if found else 0


def _newest_row(connection: sqlite3.Connection, table: str) -> int:
    if not _columns(connection, table):
        return 0
    query = f"SELECT COALESCE(MAX(rowid), 0) FROM {table}"  # noqa: S608 -- the name is ours
    return int(connection.execute(query).fetchone()[0])


def _last_seq(connection: sqlite3.Connection) -> int:
    query = (
        "SELECT MAX(COALESCE((SELECT MAX(seq) FROM transactions), 0),"
        " COALESCE((SELECT MAX(seq) FROM labels), 0))"
    )
    return int(connection.execute(query).fetchone()[0])


def _mark(connection: sqlite3.Connection, seq: int) -> str:
    events = connection.execute(_MARK, {"after": max(0, seq - _MARKED), "seq": seq}).fetchall()
    return hashlib.sha256(repr(events).encode()).hexdigest()
