-- Nothing personal stands in clear: `sealed` is a record under the store's key, `blind` and `subject` are keyed index
-- values. In clear are ids, names the operator gave, assessments, states and times (microseconds since 1970).

-- Every key that was ever written with. A database is refused when one of them is missing: what it sealed could not be
-- read, and whom it indexed would not be found and be registered twice.
CREATE TABLE keys (
    id BLOB PRIMARY KEY NOT NULL,
    first_used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE candidates (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

-- By which a person is the same one; unique over all tenants of a connection.
CREATE TABLE identities (
    connection TEXT NOT NULL,
    kind TEXT NOT NULL,
    blind BLOB NOT NULL,
    tenant TEXT NOT NULL,
    candidate_id TEXT NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
    PRIMARY KEY (connection, kind, blind)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_of_candidate ON identities (candidate_id);

-- By which a person can be found; several may share one (an e-mail address where it is no identity).
CREATE TABLE lookups (
    candidate_id TEXT NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    blind BLOB NOT NULL,
    tenant TEXT NOT NULL,
    PRIMARY KEY (candidate_id, kind, blind)
) STRICT, WITHOUT ROWID;
CREATE INDEX lookups_by_blind ON lookups (tenant, kind, blind);

-- `candidate_id` is no foreign key: bookings stay on record when the candidate is erased.
CREATE TABLE assignments (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    candidate_id TEXT,
    subject BLOB NOT NULL,
    assessment_ref TEXT NOT NULL,
    assessment TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX assignments_of_tenant ON assignments (tenant, id);
CREATE INDEX assignments_of_candidate ON assignments (candidate_id, id) WHERE candidate_id IS NOT NULL;
CREATE INDEX assignments_of_subject ON assignments (connection, subject);

CREATE TABLE intents (
    record TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    operation TEXT NOT NULL,
    started INTEGER NOT NULL,
    settle_from INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
