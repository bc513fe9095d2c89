"""What challengers would have said."""

from alembic import op

revision = "0003"
down_revision = "0002"

_TABLE = """
CREATE TABLE shadow_scores (
    seq bigint NOT NULL,
    transaction_id text NOT NULL,
    model_version text NOT NULL,
    model_digest text NOT NULL,
    score double precision,
    decision text NOT NULL,
    PRIMARY KEY (seq, model_digest)
);
CREATE INDEX shadow_scores_by_transaction ON shadow_scores (transaction_id);
CREATE INDEX shadow_scores_by_model ON shadow_scores (model_digest, seq);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_TABLE)
