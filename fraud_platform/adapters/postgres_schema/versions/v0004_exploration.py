"""What was let through or put up for audit at random, and how likely that was."""

from alembic import op

revision = "0004"
down_revision = "0003"

_COLUMNS = """
ALTER TABLE decisions
    ADD COLUMN pass_propensity double precision,
    ADD COLUMN audit_propensity double precision,
    ADD COLUMN explored text;
CREATE INDEX decisions_explored ON decisions (seq) WHERE explored IS NOT NULL;
"""


def upgrade() -> None:
    """Add the columns; of rows of before nothing was drawn."""
    op.execute(_COLUMNS)
