"""The first tables: the log's rows, the mirror's position, and what did not fit."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE transactions (
    seq bigint PRIMARY KEY,
    transaction_id text NOT NULL UNIQUE,
    event_timestamp timestamptz NOT NULL,
    card_id text NOT NULL,
    terminal_id text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    merchant_category text,
    payment_method text,
    country text,
    device_id text,
    entry_mode text,
    latitude double precision,
    longitude double precision,
    received_timestamp timestamptz NOT NULL,
    source text NOT NULL
);
CREATE INDEX transactions_by_time ON transactions (event_timestamp);
CREATE INDEX transactions_by_card ON transactions (card_id, event_timestamp);
CREATE INDEX transactions_by_terminal ON transactions (terminal_id, event_timestamp);

CREATE TABLE labels (
    seq bigint PRIMARY KEY,
    transaction_id text NOT NULL,
    verdict text NOT NULL,
    label_source text NOT NULL,
    reason text,
    label_timestamp timestamptz NOT NULL,
    received_timestamp timestamptz NOT NULL,
    UNIQUE (transaction_id, verdict, label_source, label_timestamp)
);
CREATE INDEX labels_by_time ON labels (label_timestamp);

CREATE TABLE decisions (
    seq bigint PRIMARY KEY,
    transaction_id text NOT NULL UNIQUE,
    decision_id text NOT NULL UNIQUE,
    seen_seq bigint NOT NULL,
    event_timestamp timestamptz NOT NULL,
    decided_timestamp timestamptz NOT NULL,
    decision text NOT NULL,
    score double precision,
    reasons text[] NOT NULL,
    mode text NOT NULL,
    is_late boolean NOT NULL,
    model_version text,
    model_digest text,
    policy_digest text NOT NULL,
    feature_spec_digest text NOT NULL,
    features double precision[] NOT NULL,
    latency_us bigint NOT NULL
);
CREATE INDEX decisions_by_time ON decisions (event_timestamp);
CREATE INDEX decisions_by_decided_time ON decisions (decided_timestamp);
CREATE INDEX decisions_by_model ON decisions (model_digest, decided_timestamp);

CREATE TABLE mirror_position (
    step bigint PRIMARY KEY,
    log text NOT NULL,
    seq bigint NOT NULL,
    mark text NOT NULL,
    decision_id text,
    shadow_row bigint NOT NULL,
    rows bigint NOT NULL,
    mirrored_timestamp timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mirror_position IS
    'One row per batch, the newest is the position; written in the transaction of the batch.';

CREATE TABLE conflicts (
    table_name text NOT NULL,
    seq bigint NOT NULL,
    item text NOT NULL,
    kind text NOT NULL,
    told json NOT NULL,
    found json,
    noticed_timestamp timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, seq, item, kind)
);
COMMENT ON TABLE conflicts IS
    'Rows of the log (told) that PostgreSQL holds otherwise (found): kind different, or altered '
    'when a column cannot hold the value. Delete a row once it is dealt with.';

COMMENT ON COLUMN transactions.amount_minor IS 'Minor units of the currency.';
COMMENT ON COLUMN decisions.features IS
    'In the order of the feature specification; NULL where a feature has no value.';
"""


def upgrade() -> None:
    """Make the first tables."""
    op.execute(_TABLES)
