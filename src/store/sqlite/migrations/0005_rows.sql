-- Rows that only grow at the end of their table, in the order in which they come: a page is written when it is filled and
-- then left alone. Before, an answer was written into its key's row, which moved the rows beside it, and the lines of the
-- audit record lay in an index, whose last pages were balanced against each other as it grew.
CREATE TABLE idempotency_answers (
    id INTEGER PRIMARY KEY NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
ALTER TABLE idempotency_keys ADD COLUMN answer INTEGER;
INSERT INTO idempotency_answers (id, sealed) SELECT rowid, sealed FROM idempotency_keys WHERE sealed IS NOT NULL;
UPDATE idempotency_keys SET answer = rowid WHERE sealed IS NOT NULL;
ALTER TABLE idempotency_keys DROP COLUMN sealed;
CREATE TRIGGER idempotency_answers_go AFTER DELETE ON idempotency_keys WHEN OLD.answer IS NOT NULL
BEGIN DELETE FROM idempotency_answers WHERE id = OLD.answer; END;

DROP TRIGGER audit_lines_stay;
DROP TRIGGER audit_lines_stand;
ALTER TABLE audit RENAME TO audit_by_tenant;
CREATE TABLE audit (
    tenant TEXT NOT NULL,
    seq INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (tenant, seq)
) STRICT;
INSERT INTO audit (tenant, seq, sealed) SELECT tenant, seq, sealed FROM audit_by_tenant;
DROP TABLE audit_by_tenant;
CREATE TRIGGER audit_lines_stay BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER audit_lines_stand BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
