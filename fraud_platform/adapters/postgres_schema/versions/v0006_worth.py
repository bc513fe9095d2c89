"""What friction weighed where a payment was let go because disturbing it would not have paid."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; rows of before were decided by the cuts alone."""
    op.execute("ALTER TABLE decisions ADD COLUMN worth_multiplier double precision")
