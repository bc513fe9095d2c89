-- The audit log in PostgreSQL 13 or newer. A database administrator runs this once, in the database
-- that keeps the log:   psql -d DATABASE -v ON_ERROR_STOP=1 -f audit.sql
-- and lets the platform's login write into it:   GRANT fraud_audit_app TO the_login;
-- The platform then needs only FRAUD_AUDIT__URL. Its login can read everything here and append
-- through two functions; it can change and remove nothing. Nobody logs in as the owner.

DO $$ BEGIN
    CREATE ROLE fraud_audit_owner NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    CREATE ROLE fraud_audit_app NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE SCHEMA fraud_audit;
REVOKE ALL ON SCHEMA fraud_audit FROM PUBLIC;

CREATE TABLE fraud_audit.acts (
    seq bigint PRIMARY KEY, at_us bigint NOT NULL, actor text NOT NULL, role text NOT NULL,
    action text NOT NULL, object text NOT NULL, origin text NOT NULL, outcome text NOT NULL,
    reason text NOT NULL, before text NOT NULL, after text NOT NULL, facts text NOT NULL,
    begun bigint NOT NULL, epoch bigint NOT NULL, chain bytea NOT NULL, mac bytea NOT NULL,
    CHECK (length(chain) = 32 AND length(mac) = 32));
CREATE INDEX acts_by_action ON fraud_audit.acts (action, seq);
CREATE INDEX acts_by_object ON fraud_audit.acts (object, seq);
CREATE TABLE fraud_audit.heads (size bigint PRIMARY KEY, note text NOT NULL);
CREATE TABLE fraud_audit.tail (
    one integer PRIMARY KEY CHECK (one = 1), name text NOT NULL, size bigint NOT NULL,
    chain bytea NOT NULL, frontier bytea NOT NULL, epoch bigint NOT NULL, head_size bigint NOT NULL,
    head_us bigint NOT NULL, head_digest text NOT NULL);
INSERT INTO fraud_audit.tail
SELECT 1, name, 0, sha256(convert_to(name, 'UTF8')), '', 0, 0, 0, ''
FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS name) AS new;

-- Numbers and texts as MessagePack, in its shortest forms: what a row's leaf is made of.
CREATE FUNCTION fraud_audit.packed(told bigint) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE
        WHEN told < 128 THEN substring(int8send(told) FROM 8)
        WHEN told < 256 THEN '\xcc'::bytea || substring(int8send(told) FROM 8)
        WHEN told < 65536 THEN '\xcd'::bytea || substring(int8send(told) FROM 7)
        WHEN told < 4294967296 THEN '\xce'::bytea || substring(int8send(told) FROM 5)
        ELSE '\xcf'::bytea || int8send(told) END $$;
CREATE FUNCTION fraud_audit.packed(told text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE
        WHEN length(b) < 32 THEN substring(int8send(160 + length(b)) FROM 8)
        WHEN length(b) < 256 THEN '\xd9'::bytea || substring(int8send(length(b)) FROM 8)
        WHEN length(b) < 65536 THEN '\xda'::bytea || substring(int8send(length(b)) FROM 7)
        ELSE '\xdb'::bytea || substring(int8send(length(b)) FROM 5) END || b
    FROM (SELECT convert_to(told, 'UTF8') AS b) AS bytes $$;

-- The end of the log, locked until the caller's transaction ends.
CREATE FUNCTION fraud_audit.audit_end() RETURNS SETOF fraud_audit.tail
LANGUAGE sql SECURITY DEFINER SET search_path = fraud_audit, pg_temp AS $$
    SELECT * FROM tail FOR UPDATE $$;

-- The only way in: a row that has the next number and epoch, and stands on the row before. A head of
-- all rows ends an epoch, and nothing else does.
CREATE OR REPLACE FUNCTION fraud_audit.audit_append(told fraud_audit.acts) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fraud_audit, pg_temp AS $$
DECLARE
    last tail; leaf bytea; node bytea; rest bytea; size bigint;
BEGIN
    SELECT * INTO STRICT last FROM tail FOR UPDATE;
    leaf := sha256('\x009e'::bytea || packed(told.seq) || packed(told.at_us) || packed(told.actor)
        || packed(told.role) || packed(told.action) || packed(told.object) || packed(told.origin)
        || packed(told.outcome) || packed(told.reason) || packed(told.before) || packed(told.after)
        || packed(told.facts) || packed(told.begun) || packed(told.epoch));
    IF told.seq IS DISTINCT FROM last.size + 1
        OR told.epoch IS DISTINCT FROM
            last.epoch + (last.size > 0 AND last.head_size = last.size)::integer
        OR told.chain IS DISTINCT FROM sha256(last.chain || leaf) THEN
        RAISE EXCEPTION 'the row does not stand on the row before' USING ERRCODE = 'FA001';
    END IF;
    INSERT INTO acts SELECT (told).*;
    node := leaf; rest := last.frontier; size := last.size;
    WHILE size & 1 = 1 LOOP
        node := sha256('\x01'::bytea || substring(rest FROM length(rest) - 31) || node);
        rest := substring(rest FROM 1 FOR length(rest) - 32);
        size := size >> 1;
    END LOOP;
    UPDATE tail SET size = told.seq, chain = told.chain, frontier = rest || node, epoch = told.epoch;
END $$;

-- A signed head of all rows so far; whoever checks the log checks its signature.
CREATE FUNCTION fraud_audit.audit_add_head(told_us bigint, told text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fraud_audit, pg_temp AS $$
DECLARE
    last tail;
BEGIN
    SELECT * INTO STRICT last FROM tail FOR UPDATE;
    INSERT INTO heads VALUES (last.size, told);
    UPDATE tail SET head_size = last.size, head_us = told_us,
        head_digest = encode(sha256(convert_to(told, 'UTF8')), 'hex');
END $$;

-- Against the owner's own mistakes: not even the owner changes a row.
CREATE FUNCTION fraud_audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'FA002'; END $$;
CREATE TRIGGER acts_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON fraud_audit.acts
    FOR EACH STATEMENT EXECUTE FUNCTION fraud_audit.refuse();
CREATE TRIGGER heads_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON fraud_audit.heads
    FOR EACH STATEMENT EXECUTE FUNCTION fraud_audit.refuse();
CREATE TRIGGER tail_kept BEFORE DELETE OR TRUNCATE ON fraud_audit.tail
    FOR EACH STATEMENT EXECUTE FUNCTION fraud_audit.refuse();

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fraud_audit FROM PUBLIC;
GRANT USAGE ON SCHEMA fraud_audit TO fraud_audit_app;
GRANT SELECT ON fraud_audit.acts, fraud_audit.heads, fraud_audit.tail TO fraud_audit_app;
GRANT EXECUTE ON FUNCTION fraud_audit.audit_end(), fraud_audit.audit_append(fraud_audit.acts),
    fraud_audit.audit_add_head(bigint, text) TO fraud_audit_app;

ALTER SCHEMA fraud_audit OWNER TO fraud_audit_owner;
ALTER TABLE fraud_audit.acts OWNER TO fraud_audit_owner;
ALTER TABLE fraud_audit.heads OWNER TO fraud_audit_owner;
ALTER TABLE fraud_audit.tail OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.packed(bigint) OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.packed(text) OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.audit_end() OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.audit_append(fraud_audit.acts) OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.audit_add_head(bigint, text) OWNER TO fraud_audit_owner;
ALTER FUNCTION fraud_audit.refuse() OWNER TO fraud_audit_owner;
