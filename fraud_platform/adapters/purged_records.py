"""What to say of a payment or a decision that retention deleted: when, by whom, by which row."""

from contextlib import closing
from pathlib import Path
from typing import NoReturn

from fraud_platform.adapters import log_horizon
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.adapters.log_purges import LogPurge, purge_of
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.adapters.sealed_records import reading
from fraud_platform.errors import HistoryDamagedError, PurgedError
from fraud_platform.events import moment_of
from fraud_platform.settings import Settings

_HINT = "what goes with it: fraud-platform audit log --action 'retention.*'"


def refuse_purged(settings: Settings, name: str) -> None:
    """Say of an id that the log does not have that it was purged, if it was.

    Args:
        settings: of the home.
        name: a transaction_id or decision_id.

    Raises:
        PurgedError: it was; the message names the row of the audit log.
        HistoryDamagedError: it was deleted, and no row of the audit log may be believed that says
            so.
        AuditUnavailableError: the audit log cannot be read.
    """
    with closing(LogFile(settings.log_path)) as file, file.snapshot() as connection:
        position = log_horizon.purged_position(connection, name)
    if position is not None:
        _refuse(position, purge_of(purges_of(settings), position))


def is_purged(log_path: Path, name: str) -> bool:
    """Whether the log says of an id that it was purged; by which row, only `refuse_purged` says.

    Args:
        log_path: the log's SQLite file.
        name: a transaction_id or decision_id.

    Raises:
        LogUnavailableError: the file cannot be read.
    """
    with reading(log_path) as connection:
        return log_horizon.purged_position(connection, name) is not None


def purges_of(settings: Settings) -> list[LogPurge]:
    """What retention purged of a home's event log, as far as the audit log proves it."""
    if not settings.log_path.exists():
        return []
    with closing(LogFile(settings.log_path)) as file:
        name = file.identity()
    return seals_of(settings).purges(name)


def _refuse(position: int, purge: LogPurge | None) -> NoReturn:
    if purge is None:
        raise HistoryDamagedError(
            f"found position {position:,} deleted, expected it, or a purge in the audit log",
            hint="somebody deleted it: keep events.db as evidence; fraud-platform audit verify",
        )
    raise PurgedError(
        f"found position {position:,}, where this stood, purged on"
        f" {moment_of(purge.row.at_us):%Y-%m-%d} by row {purge.row.seq:,} of the audit log,"
        " expected it to be kept",
        hint=_HINT,
    )
