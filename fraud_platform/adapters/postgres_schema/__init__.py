"""The tables of the mirror in PostgreSQL, as alembic migrations; forward only."""
