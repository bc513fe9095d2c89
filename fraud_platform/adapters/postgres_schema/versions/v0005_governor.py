"""The cuts that the governor held, and what the model alone would have answered."""

from alembic import op

revision = "0005"
down_revision = "0004"

_COLUMNS = """
ALTER TABLE decisions
    ADD COLUMN governed text,
    ADD COLUMN review_cut double precision,
    ADD COLUMN decline_cut double precision,
    ADD COLUMN fpr_bound double precision,
    ADD COLUMN budget double precision,
    ADD COLUMN price_minor double precision;
"""


def upgrade() -> None:
    """Add the columns; rows of before had no governor."""
    op.execute(_COLUMNS)
