-- Every process that ever served from this database; all but the newest have ended.
CREATE TABLE instances (
    id TEXT PRIMARY KEY NOT NULL,
    ended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `owner` is the instance that is sending the write now, `due` when the background settles it next. What an earlier version
-- left open is nobody's and due at once.
ALTER TABLE intents ADD COLUMN subject BLOB;
ALTER TABLE intents ADD COLUMN owner TEXT;
ALTER TABLE intents ADD COLUMN due INTEGER;
UPDATE intents SET due = settle_from;
CREATE INDEX intents_due ON intents (connection, due) WHERE owner IS NULL AND due IS NOT NULL;
CREATE INDEX intents_owned ON intents (owner) WHERE owner IS NOT NULL;
CREATE INDEX intents_of_subject ON intents (subject) WHERE subject IS NOT NULL;

-- `scope` and `fingerprint` are keyed values; `sealed` is the answer once there is one, `owner` who is working on it.
CREATE TABLE idempotency_keys (
    scope BLOB PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    owner TEXT,
    record TEXT,
    sealed BLOB,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires);

-- `owner` is the instance that receives the rows.
CREATE TABLE operations (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    client TEXT NOT NULL,
    kind TEXT NOT NULL,
    connection TEXT NOT NULL,
    strict INTEGER NOT NULL,
    fail_on_errors INTEGER,
    state TEXT NOT NULL,
    cancelling INTEGER NOT NULL,
    total INTEGER NOT NULL,
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    request_id TEXT NOT NULL,
    traceparent TEXT,
    owner TEXT
) STRICT;
CREATE INDEX operations_of_tenant ON operations (tenant, id);
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('receiving', 'queued', 'running');
CREATE INDEX operations_by_end ON operations (finished) WHERE finished IS NOT NULL;

-- `request`, `secret` (its password, gone first) and `ended` are sealed; `subjects` are keyed values of what the row is about.
CREATE TABLE operation_items (
    operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    state TEXT NOT NULL,
    record TEXT,
    request BLOB NOT NULL,
    secret BLOB,
    ended BLOB,
    subjects BLOB,
    PRIMARY KEY (operation, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_items_by_state ON operation_items (operation, state, position);
