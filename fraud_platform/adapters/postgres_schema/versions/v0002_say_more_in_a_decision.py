"""What a decision and a label say since the second version of the log."""

from alembic import op

revision = "0002"
down_revision = "0001"

_COLUMNS = """
ALTER TABLE decisions
    ADD COLUMN probability double precision,
    ADD COLUMN expected_fpr double precision,
    ADD COLUMN missing text[] NOT NULL DEFAULT '{}',
    ADD COLUMN arm text NOT NULL DEFAULT 'none',
    ADD COLUMN expires_timestamp timestamptz NOT NULL DEFAULT 'epoch';
ALTER TABLE labels
    ADD COLUMN happened_timestamp timestamptz,
    ADD COLUMN reported_by text;
"""


def upgrade() -> None:
    """Add the columns; rows of before say what the log says of them."""
    op.execute(_COLUMNS)
