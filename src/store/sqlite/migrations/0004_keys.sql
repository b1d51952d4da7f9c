-- Keys in the order in which they came, so that what is used together lies together. Before, a row lay where its `scope` fell,
-- with its answer: each use of a key, and each answer, wrote a page (and its neighbours) of its own.
ALTER TABLE idempotency_keys RENAME TO idempotency_keys_by_scope;
DROP INDEX idempotency_keys_by_end;
CREATE TABLE idempotency_keys (
    scope BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    owner TEXT,
    record TEXT,
    sealed BLOB,
    expires INTEGER NOT NULL
) STRICT;
-- As they lie: to sort them, all would have to be in memory.
INSERT INTO idempotency_keys SELECT * FROM idempotency_keys_by_scope;
DROP TABLE idempotency_keys_by_scope;
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires);
