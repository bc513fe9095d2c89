"""Purging the mirror in PostgreSQL of what is about to leave the event log."""

from collections.abc import Callable
from contextlib import closing

from fraud_platform.adapters import postgres_upgrade
from fraud_platform.adapters.postgres_link import Patience, PostgresAddress, deadline
from fraud_platform.errors import UnavailableError
from fraud_platform.settings import Settings

_TABLES = ("decisions", "shadow_scores", "labels", "transactions", "conflicts")
_BATCH = 5_000
_POSITION = "SELECT log, seq FROM mirror_position ORDER BY step DESC LIMIT 1"


def purge_mirror(settings: Settings, log: str, last: int, require_free: Callable[[], None]) -> int:
    """Delete all rows up to a position, in short transactions.

    Args:
        settings: of the installation; `postgres_url` is set.
        log: the event log's name.
        last: the last position that goes.
        require_free: raises once a hold was recorded; asked before each batch.

    Returns:
        How many rows were deleted.

    Raises:
        UnavailableError: PostgreSQL is away, or has not got all of this log up to there; nothing
            may be deleted from the log then.
        PermanentError: the role may not delete there.
    """
    url = settings.postgres_url.get_secret_value() if settings.postgres_url else ""
    address, patience, count = PostgresAddress.parse(url), Patience(), 0
    with closing(address.connect(settings.postgres_schema, patience)) as connection:
        with address.translated(), connection.cursor() as cursor:
            is_made = postgres_upgrade.revision(connection) is not None
            cursor.execute(_POSITION if is_made else "SELECT NULL, 0")
            held = cursor.fetchone() or (None, 0)
            connection.commit()
        if held[0] != log or held[1] < last:
            # What the mirror said in the home may be of another schema, or of before a restore.
            raise UnavailableError(
                f"found the mirror of log {held[0]} at {held[1]} in {settings.postgres_schema},"
                f" expected log {log} up to {last} at least",
                hint="let the mirror catch up; the next purge goes on",
            )
        for table in _TABLES:
            statement = (
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608 -- names are ours
                f"SELECT ctid FROM {table} WHERE seq <= %s LIMIT %s))"
            )
            while True:
                require_free()
                with (
                    address.translated(),
                    deadline(connection, patience.answer),
                    connection.cursor() as cursor,
                ):
                    cursor.execute(statement, (last, _BATCH))
                    gone = cursor.rowcount
                    connection.commit()
                count += gone
                if gone < _BATCH:
                    break
    return count
