-- Events, webhooks and their deliveries. In clear stand ids, names of the operator, words and times, and an event's data, which
-- has nothing else. What a client chose about a webhook, its secrets and the attempts of a delivery are sealed.

-- The number of each tenant's latest event, and of the latest that retention has removed: all events between are there.
CREATE TABLE event_heads (
    tenant TEXT PRIMARY KEY NOT NULL,
    latest INTEGER NOT NULL,
    removed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `sequence` is the order of commits, without gaps.
CREATE TABLE events (
    tenant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    connection TEXT,
    assignment TEXT,
    assessment_ref TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_of_type ON events (tenant, type, sequence);
CREATE INDEX events_of_assignment ON events (assignment, sequence) WHERE assignment IS NOT NULL;

-- The last reported state of each connection.
CREATE TABLE connection_states (
    connection TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What changes with deliveries stands in columns beside the sealed webhook, which has the values of its first version.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    scanned INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    failing_since INTEGER,
    resume_at INTEGER,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id);

-- Webhooks that are gone and may have deliveries left, which are removed in portions.
CREATE TABLE removed_webhooks (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- `ended` is the time of the last attempt of a delivery that is not pending.
CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY NOT NULL,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    webhook TEXT NOT NULL,
    event TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    assignment TEXT,
    state TEXT NOT NULL,
    step INTEGER NOT NULL,
    due INTEGER,
    created INTEGER NOT NULL,
    ended INTEGER,
    attempts BLOB NOT NULL
) STRICT;
CREATE INDEX deliveries_of_webhook ON deliveries (webhook, id, state);
CREATE INDEX deliveries_of_event ON deliveries (event, webhook, id);
CREATE INDEX deliveries_pending ON deliveries (webhook, sequence, id) WHERE state = 'pending';
CREATE INDEX deliveries_ended ON deliveries (ended) WHERE ended IS NOT NULL;

-- Which events an operation delivers to a webhook again, as JSON.
ALTER TABLE operations ADD COLUMN replay TEXT;
