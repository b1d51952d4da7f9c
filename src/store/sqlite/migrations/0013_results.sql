-- What vendors report of attempts, and the results made of it. In clear stand ids, names of the operator, centres, words for
-- states and times; `blind` and `digest` are keyed values; everything else is sealed.

-- Webhooks that were acknowledged and are not yet read. `token` is what they are sealed for.
CREATE TABLE received (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL,
    connection TEXT NOT NULL,
    sealed BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX received_of_connection ON received (connection, number);

-- What the reports of a connection are collected by; `candidate` is whom the latest of them is about.
CREATE TABLE series (
    number INTEGER PRIMARY KEY NOT NULL,
    blind BLOB NOT NULL UNIQUE,
    candidate TEXT
) STRICT;
CREATE INDEX series_of_candidate ON series (candidate) WHERE candidate IS NOT NULL;

-- `number` is the order of arrival. `tenant` is empty while the owner is not known. `as_of` and `repeats` count beside the
-- sealed report, which has those of its first arrival. `rechecks` is how often it has become due. What is long is last.
CREATE TABLE reports (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    state TEXT NOT NULL,
    series INTEGER,
    candidate TEXT,
    digest BLOB NOT NULL UNIQUE,
    received INTEGER NOT NULL,
    as_of INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    due INTEGER NOT NULL,
    rechecks INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    reading BLOB,
    body BLOB
) STRICT;
CREATE INDEX reports_of_series ON reports (series, number) WHERE series IS NOT NULL;
CREATE INDEX reports_of_candidate ON reports (candidate) WHERE candidate IS NOT NULL AND series IS NULL;
CREATE INDEX reports_of_tenant ON reports (tenant, id, connection);
CREATE INDEX reports_of_connection ON reports (connection, number);
-- Nearly all reports are applied. Those that are not have indices of their own, and so have the bodies that are kept.
CREATE INDEX reports_by_state ON reports (tenant, state, id) WHERE state <> 'applied';
CREATE INDEX reports_not_applied ON reports (received) WHERE state <> 'applied';
CREATE INDEX reports_parked ON reports (connection, number) WHERE state = 'parked';
CREATE INDEX reports_due ON reports (connection, number) WHERE due = 1;
CREATE INDEX reports_with_body ON reports (received) WHERE state = 'applied' AND body IS NOT NULL;

-- By which a report that waits is found when a person, a registration or a booking becomes known.
CREATE TABLE report_hints (
    blind BLOB NOT NULL,
    report INTEGER NOT NULL REFERENCES reports (number) ON DELETE CASCADE,
    PRIMARY KEY (blind, report)
) STRICT, WITHOUT ROWID;
CREATE INDEX report_hints_of_report ON report_hints (report);

-- The hints of people who were erased.
CREATE TABLE erased_hints (
    blind BLOB PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- How many reports of a connection are in which state; as `repeated` the repeats of those that are kept.
CREATE TABLE report_counts (
    connection TEXT NOT NULL,
    state TEXT NOT NULL,
    items INTEGER NOT NULL,
    PRIMARY KEY (connection, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER reports_added AFTER INSERT ON reports
BEGIN
    INSERT INTO report_counts (connection, state, items) VALUES (NEW.connection, NEW.state, 1)
    ON CONFLICT (connection, state) DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER reports_moved AFTER UPDATE OF state ON reports WHEN OLD.state <> NEW.state
BEGIN
    UPDATE report_counts SET items = items - 1 WHERE connection = OLD.connection AND state = OLD.state;
    INSERT INTO report_counts (connection, state, items) VALUES (NEW.connection, NEW.state, 1)
    ON CONFLICT (connection, state) DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER reports_repeated AFTER UPDATE OF repeats ON reports WHEN OLD.repeats <> NEW.repeats
BEGIN
    INSERT INTO report_counts (connection, state, items) VALUES (NEW.connection, 'repeated', NEW.repeats - OLD.repeats)
    ON CONFLICT (connection, state) DO UPDATE SET items = items + excluded.items;
END;
CREATE TRIGGER reports_removed AFTER DELETE ON reports
BEGIN
    UPDATE report_counts SET items = items - 1 WHERE connection = OLD.connection AND state = OLD.state;
    UPDATE report_counts SET items = items - OLD.repeats WHERE connection = OLD.connection AND state = 'repeated';
END;

-- The index of lists has what they are filtered by, so that other results are passed without being read. A result is found by
-- its tenant and its id.
CREATE TABLE results (
    number INTEGER PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    series INTEGER NOT NULL,
    candidate TEXT NOT NULL,
    assignment TEXT,
    assessment_ref TEXT NOT NULL,
    activity TEXT NOT NULL,
    grading TEXT NOT NULL,
    modified INTEGER NOT NULL,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX results_of_tenant ON results (tenant, id, modified, connection, assessment_ref, activity, grading);
CREATE INDEX results_of_series ON results (series);
CREATE INDEX results_of_candidate ON results (candidate, assessment_ref);
CREATE INDEX results_of_assignment ON results (assignment) WHERE assignment IS NOT NULL;

-- `number` is named because VACUUM renumbers rows whose number has no name.
CREATE TABLE result_versions (
    number INTEGER PRIMARY KEY NOT NULL,
    result INTEGER NOT NULL REFERENCES results (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (result, version)
) STRICT;

-- How far each feed was read, by the vendor's clock.
CREATE TABLE feeds (
    connection TEXT NOT NULL,
    center TEXT NOT NULL,
    watermark INTEGER NOT NULL,
    PRIMARY KEY (connection, center)
) STRICT, WITHOUT ROWID;

-- The keyed value of a booking's registration at the vendor, empty without one. None in bookings of an earlier version: the
-- background adds it.
ALTER TABLE assignments ADD COLUMN participant BLOB;
CREATE INDEX assignments_of_participant ON assignments (participant) WHERE octet_length(participant) > 0;
CREATE INDEX assignments_without_participant ON assignments (id) WHERE participant IS NULL;
CREATE INDEX assignments_booked ON assignments (connection, id) WHERE state IN ('assigned', 'unknown');
