-- Events, webhooks and their deliveries. In clear stand ids, names of the operator, words and times, and an event's data, which
-- has nothing else. What a client chose about a webhook, its secrets and the attempts of a delivery are sealed.

-- Committed events that have no number yet. Their own number is the order of insertion and has gaps; it is no order of commits,
-- but an event whose transaction began after the commit of another has a greater one.
CREATE TABLE unnumbered_events (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    timestamp bigint NOT NULL,
    connection text COLLATE "C",
    assignment text COLLATE "C",
    assessment_ref text COLLATE "C",
    data text NOT NULL
);

-- One row. A transaction that numbers events holds it, so that one does at a time.
CREATE TABLE event_numbering (
    one boolean PRIMARY KEY CHECK (one)
);
INSERT INTO event_numbering (one) VALUES (true);

-- The number of each tenant's latest event, and of the latest that retention has removed: all events between are there.
CREATE TABLE event_heads (
    tenant text COLLATE "C" PRIMARY KEY,
    latest bigint NOT NULL,
    removed bigint NOT NULL
) WITH (fillfactor = 50);

-- `sequence` is the order in which committed events were numbered, without gaps.
CREATE TABLE events (
    tenant text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    timestamp bigint NOT NULL,
    connection text COLLATE "C",
    assignment text COLLATE "C",
    assessment_ref text COLLATE "C",
    data text NOT NULL,
    PRIMARY KEY (tenant, sequence)
);
CREATE INDEX events_of_type ON events (tenant, type, sequence);
CREATE INDEX events_of_assignment ON events (assignment, sequence) WHERE assignment IS NOT NULL;

-- The last reported state of each connection.
CREATE TABLE connection_states (
    connection text COLLATE "C" PRIMARY KEY,
    state text COLLATE "C" NOT NULL
);

-- What changes with deliveries stands in columns beside the sealed webhook, which has the values of its first version.
CREATE TABLE webhooks (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    scanned bigint NOT NULL,
    failures bigint NOT NULL,
    failing_since bigint,
    resume_at bigint,
    sealed bytea NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id);

-- Webhooks that are gone and may have deliveries left, which are removed in portions.
CREATE TABLE removed_webhooks (
    id text COLLATE "C" PRIMARY KEY
);

-- `ended` is the time of the last attempt of a delivery that is not pending.
CREATE TABLE deliveries (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    webhook text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    assignment text COLLATE "C",
    state text COLLATE "C" NOT NULL,
    step bigint NOT NULL,
    due bigint,
    created bigint NOT NULL,
    ended bigint,
    attempts bytea NOT NULL
);
CREATE INDEX deliveries_of_webhook ON deliveries (webhook, id, state);
CREATE INDEX deliveries_of_event ON deliveries (event, webhook, id);
CREATE INDEX deliveries_pending ON deliveries (webhook, sequence, id) WHERE state = 'pending';
CREATE INDEX deliveries_ended ON deliveries (ended) WHERE ended IS NOT NULL;

-- Which events an operation delivers to a webhook again, as JSON.
ALTER TABLE operations ADD COLUMN replay text;
