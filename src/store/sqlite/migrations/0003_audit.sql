-- The audit record. Each tenant's lines are a chain; `audit_heads` has the number and the hash of its last one.
CREATE TABLE audit_heads (
    tenant TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    tenant TEXT NOT NULL,
    seq INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;

-- Against mistakes. Whoever can write to the file can drop a trigger; what they cannot do is write a line under the store's
-- key, or take one out of the middle of the chain unseen.
CREATE TRIGGER audit_lines_stay BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER audit_lines_stand BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER audit_heads_grow BEFORE UPDATE ON audit_heads WHEN NEW.seq <= OLD.seq OR NEW.tenant <> OLD.tenant
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
