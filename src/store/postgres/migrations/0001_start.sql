-- Nothing personal stands in clear: `sealed` is a record under the store's key, `blind`, `subject` and `scope` are keyed
-- values. In clear are ids, names the operator gave, assessments, states and times (microseconds since 1970). Texts that
-- are compared or sorted do so byte by byte (COLLATE "C"), whatever the database's own order is.

-- Every key that was ever written with. A database is refused when one of them is missing: what it sealed could not be
-- read, and whom it indexed would not be found and be registered twice.
CREATE TABLE keys (
    id bytea PRIMARY KEY,
    first_used bigint NOT NULL
);

-- Every process that serves from this database or did so. One lives as long as its beats move on; no clock is asked.
-- `keys` are the ids of its ring: nobody may write under a key that a living instance lacks.
CREATE TABLE instances (
    id text COLLATE "C" PRIMARY KEY,
    beats bigint NOT NULL,
    ended boolean NOT NULL,
    keys bytea[] NOT NULL
) WITH (fillfactor = 50);

-- The fence. Every transaction of an instance updates one of its lanes first, and no two of its transactions share one;
-- whoever ends the instance updates all of them. So a transaction is over before its instance has ended, or it finds
-- the lane ended and writes nothing. `receipt` numbers the lane's transactions: after a lost COMMIT it tells whether it
-- was done. Nothing here is indexed but the key, and there is room on the page, so that an update stays cheap.
CREATE TABLE lanes (
    instance text COLLATE "C" NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    lane integer NOT NULL,
    receipt bigint NOT NULL,
    ended boolean NOT NULL,
    PRIMARY KEY (instance, lane)
) WITH (fillfactor = 50);

-- Who may write about a subject at the moment; `take` numbers the times one instance took it.
CREATE TABLE turns (
    subject bytea PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    take bigint NOT NULL
);
CREATE INDEX turns_of_owner ON turns (owner);

CREATE TABLE candidates (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    state text NOT NULL,
    created bigint NOT NULL,
    modified bigint NOT NULL,
    sealed bytea NOT NULL
);

-- By which a person is the same one; unique over all tenants of a connection. Written under every key of the ring, so
-- that the primary key alone decides between replicas that write under different ones (see `candidates.rs`). Checked
-- late, because a claim takes the identities before it writes the candidate.
CREATE TABLE identities (
    connection text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    blind bytea NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    candidate_id text COLLATE "C" NOT NULL REFERENCES candidates (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (connection, kind, blind)
);
CREATE INDEX identities_of_candidate ON identities (candidate_id);

-- By which a person can be found; several may share one (an e-mail address where it is no identity).
CREATE TABLE lookups (
    candidate_id text COLLATE "C" NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
    kind text COLLATE "C" NOT NULL,
    blind bytea NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    PRIMARY KEY (candidate_id, kind, blind)
);
CREATE INDEX lookups_by_blind ON lookups (tenant, kind, blind);

-- `candidate_id` is no foreign key: bookings stay on record when the candidate is erased.
CREATE TABLE assignments (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    candidate_id text COLLATE "C",
    subject bytea NOT NULL,
    assessment_ref text COLLATE "C" NOT NULL,
    assessment text COLLATE "C" NOT NULL,
    state text NOT NULL,
    created bigint NOT NULL,
    sealed bytea NOT NULL
);
CREATE INDEX assignments_of_tenant ON assignments (tenant, id);
CREATE INDEX assignments_of_candidate ON assignments (candidate_id, id) WHERE candidate_id IS NOT NULL;
CREATE INDEX assignments_of_subject ON assignments (connection, subject);

-- `owner` is the instance that is sending the write now, `due` when the background settles it next.
CREATE TABLE intents (
    record text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    operation text NOT NULL,
    subject bytea NOT NULL,
    started bigint NOT NULL,
    settle_from bigint NOT NULL,
    due bigint,
    attempts bigint NOT NULL,
    owner text COLLATE "C",
    sealed bytea NOT NULL
);
CREATE INDEX intents_due ON intents (connection, due) WHERE owner IS NULL AND due IS NOT NULL;
CREATE INDEX intents_owned ON intents (owner) WHERE owner IS NOT NULL;
CREATE INDEX intents_of_subject ON intents (subject);

-- `sealed` is the answer once there is one, `owner` who is working on it; `take` numbers the times one instance took a
-- key.
CREATE TABLE idempotency_keys (
    scope bytea PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    token text COLLATE "C" NOT NULL UNIQUE,
    fingerprint bytea NOT NULL,
    owner text COLLATE "C",
    take bigint NOT NULL,
    record text COLLATE "C",
    sealed bytea,
    expires bigint NOT NULL
);
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires);
CREATE INDEX idempotency_keys_owned ON idempotency_keys (owner) WHERE owner IS NOT NULL;

-- `owner` is the instance that receives the rows.
CREATE TABLE operations (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    connection text COLLATE "C" NOT NULL,
    strict boolean NOT NULL,
    fail_on_errors bigint,
    state text NOT NULL,
    cancelling boolean NOT NULL,
    total bigint NOT NULL,
    created bigint NOT NULL,
    started bigint,
    finished bigint,
    request_id text NOT NULL,
    traceparent text,
    owner text COLLATE "C" NOT NULL
);
CREATE INDEX operations_of_tenant ON operations (tenant, id);
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('receiving', 'queued', 'running');
CREATE INDEX operations_by_end ON operations (finished) WHERE finished IS NOT NULL;

-- `request`, `secret` (its password, gone first) and `ended` are sealed; `subjects` are keyed values of what the row is
-- about.
CREATE TABLE operation_items (
    operation text COLLATE "C" NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    state text NOT NULL,
    record text COLLATE "C",
    request bytea NOT NULL,
    secret bytea,
    ended bytea,
    subjects bytea,
    PRIMARY KEY (operation, position)
);
CREATE INDEX operation_items_by_state ON operation_items (operation, state, position);
