"""Runs the migrations on the connection and in the schema that `postgres_upgrade` hands over."""

from alembic import context
from sqlalchemy import Connection, text


def run() -> None:
    """Bring the schema to the asked revision, in one transaction, one program at a time."""
    attributes = context.config.attributes
    connection: Connection = attributes["connection"]
    schema: str = attributes["schema"]
    with connection.begin():
        # One that waits here finds everything done.
        connection.execute(text("SELECT pg_advisory_xact_lock(:space, :key)"), attributes["lock"])
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        connection.execute(text(f'SET LOCAL search_path TO "{schema}"'))
        context.configure(connection=connection, version_table_schema=schema)
        context.run_migrations()


if __name__ == "env_py":  # alembic's name for it; a plain import does nothing
    run()
