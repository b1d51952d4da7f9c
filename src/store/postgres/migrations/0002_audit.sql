-- The audit record. Each tenant's lines are a chain; `audit_heads` has the number and the hash of its last one, and whoever
-- appends holds its row, so that the lines of several instances are one chain.
CREATE TABLE audit_heads (
    tenant text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL,
    hash text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE audit (
    tenant text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (tenant, seq)
);

-- Against mistakes. Whoever may alter the schema can drop a trigger; what they cannot do is write a line under the store's
-- key, or take one out of the middle of the chain unseen.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit record is append-only';
END
$$;
CREATE TRIGGER audit_lines_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_heads_grow BEFORE UPDATE ON audit_heads
    FOR EACH ROW WHEN (NEW.seq < OLD.seq OR NEW.tenant <> OLD.tenant) EXECUTE FUNCTION audit_is_append_only();
