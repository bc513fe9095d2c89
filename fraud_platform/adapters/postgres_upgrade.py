"""Brings the mirror's schema to the revision that this code writes."""

from pathlib import Path
from zlib import crc32

import psycopg2.extensions

from fraud_platform.adapters.postgres_link import Patience, PostgresAddress
from fraud_platform.errors import PermanentError

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every revision this code knows, oldest first; it writes the last one."""

MIRROR_LOCK, UPGRADE_LOCK = 0x46504D31, 0x46504D32
"""First halves of advisory locks; the second is `lock_key`."""


def lock_key(schema: str) -> int:
    """Second half of an advisory lock: which schema of the database it is about."""
    return crc32(schema.encode()) - 2**31


def revision(connection: psycopg2.extensions.connection) -> str | None:
    """The revision of the schema in the search path; None when it has no tables yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
        (is_there,) = cursor.fetchone() or (False,)
        if not is_there:
            return None
        cursor.execute("SELECT version_num FROM alembic_version")
        row = cursor.fetchone()
        return None if row is None else str(row[0])


def refuse_unknown(found: str | None) -> None:
    """Refuse a schema that another version of this program made.

    Raises:
        PermanentError: the revision is none of this code's.
    """
    if found is not None and found not in REVISIONS:
        raise PermanentError(
            f"found the mirror's schema at revision {found}, expected at most {REVISIONS[-1]}",
            hint="a newer fraud-platform made it: run that version, or mirror into another schema",
        )


def upgrade(
    address: PostgresAddress, schema: str, patience: Patience, to: str = REVISIONS[-1]
) -> None:
    """Run the missing migrations in one transaction; nothing is done twice.

    Args:
        address: of a role that owns the schema, or may make it.
        schema: where the tables are; a plain identifier.
        patience: how long to wait for a connection; the migrations take as long as they take.
        to: the revision to reach.

    Raises:
        UnavailableError: PostgreSQL is away.
        PermanentError: the role may not change the schema.
    """
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    unlimited = Patience(connect=patience.connect, statement=0, answer=patience.answer, idle=0)
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=lambda: address.connect(schema, unlimited),
        poolclass=NullPool,
        hide_parameters=True,
    )
    place = Path(__file__).with_name("postgres_schema")
    with address.translated():
        try:
            with engine.connect() as connection:
                config = Config()
                config.set_main_option("script_location", str(place).replace("%", "%%"))
                config.attributes["connection"] = connection
                config.attributes["schema"] = schema
                config.attributes["lock"] = {"space": UPGRADE_LOCK, "key": lock_key(schema)}
                command.upgrade(config, to)
        except DBAPIError as error:
            if error.orig is None:
                raise
            raise error.orig from None
