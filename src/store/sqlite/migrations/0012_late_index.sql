-- What is found by a blind value: a key by its scope, a candidate by its identities and look-ups. Entries fall where
-- their values fall, each on a page of its own, so they are not written with their rows: the rows, in order of arrival,
-- are the truth, and entries are merged into `late_index` later, many at once (docs/decisions/0013).

-- `short` is the first 8 bytes of the blind value; `source` is the table of the row: 0 idempotency_keys, 1 identities,
-- 2 lookups.
CREATE TABLE late_index (
    short BLOB NOT NULL,
    source INTEGER NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (short, source, row_id)
) STRICT, WITHOUT ROWID;

-- Every row up to `row_id` has its entry. The program numbers later rows from here, also when rows before were removed.
-- 0: the program adds the entries of what an earlier version left.
CREATE TABLE late_index_watermarks (
    source INTEGER PRIMARY KEY NOT NULL,
    row_id INTEGER NOT NULL
) STRICT;
INSERT INTO late_index_watermarks (source, row_id) VALUES (0, 0), (1, 0), (2, 0);

-- `id` is named because VACUUM renumbers rows whose number has no name.
ALTER TABLE idempotency_keys RENAME TO idempotency_keys_by_scope;
DROP INDEX idempotency_keys_by_end;
CREATE TABLE idempotency_keys (
    id INTEGER PRIMARY KEY NOT NULL,
    scope BLOB NOT NULL,
    tenant TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    owner TEXT,
    record TEXT,
    sealed BLOB,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires);
INSERT INTO idempotency_keys (scope, tenant, token, fingerprint, owner, record, sealed, expires)
SELECT scope, tenant, token, fingerprint, owner, record, sealed, expires FROM idempotency_keys_by_scope ORDER BY rowid;

-- The connections of all identities, for a search at every connection.
CREATE TABLE identity_connections (
    name TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO identity_connections (name) SELECT DISTINCT connection FROM identities;

-- In the order of their candidates, so that nothing has to be sorted: that would take memory for all of it.
ALTER TABLE identities RENAME TO identities_by_blind;
CREATE TABLE identities (
    id INTEGER PRIMARY KEY NOT NULL,
    candidate_id TEXT NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    kind TEXT NOT NULL,
    blind BLOB NOT NULL
) STRICT;
CREATE INDEX identities_by_candidate ON identities (candidate_id);
INSERT INTO identities (candidate_id, tenant, connection, kind, blind)
SELECT candidate_id, tenant, connection, kind, blind FROM identities_by_blind INDEXED BY identities_of_candidate
WHERE candidate_id > '' ORDER BY candidate_id;

ALTER TABLE lookups RENAME TO lookups_by_person;
CREATE TABLE lookups (
    id INTEGER PRIMARY KEY NOT NULL,
    candidate_id TEXT NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    blind BLOB NOT NULL
) STRICT;
CREATE INDEX lookups_by_candidate ON lookups (candidate_id);
INSERT INTO lookups (candidate_id, tenant, kind, blind)
SELECT candidate_id, tenant, kind, blind FROM lookups_by_person ORDER BY candidate_id, kind, blind;

-- An intent is always reached by its record: one tree less to write for each. What is long is last.
ALTER TABLE intents RENAME TO intents_by_number;
DROP INDEX intents_due;
DROP INDEX intents_owned;
DROP INDEX intents_of_subject;
DROP INDEX intents_of_programs;
CREATE TABLE intents (
    record TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    operation TEXT NOT NULL,
    started INTEGER NOT NULL,
    settle_from INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    subject BLOB,
    owner TEXT,
    due INTEGER,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX intents_due ON intents (connection, due) WHERE owner IS NULL AND due IS NOT NULL;
CREATE INDEX intents_owned ON intents (owner) WHERE owner IS NOT NULL;
CREATE INDEX intents_of_subject ON intents (subject) WHERE subject IS NOT NULL;
CREATE INDEX intents_of_programs ON intents (connection, started, record) WHERE operation = 'programs.employees';
INSERT INTO intents (record, tenant, connection, operation, started, settle_from, attempts, subject, owner, due, sealed)
SELECT record, tenant, connection, operation, started, settle_from, attempts, subject, owner, due, sealed
FROM intents_by_number ORDER BY record;

-- Last: SQLite keeps a copy of a page in memory that was freed and is used again in one transaction. Emptied first: DROP
-- keeps copies of all pages it frees, because it has to be able to undo itself; DELETE of every row keeps none.
DELETE FROM idempotency_keys_by_scope;
DELETE FROM identities_by_blind;
DELETE FROM lookups_by_person;
DELETE FROM intents_by_number;
DROP TABLE idempotency_keys_by_scope;
DROP TABLE identities_by_blind;
DROP TABLE lookups_by_person;
DROP TABLE intents_by_number;
