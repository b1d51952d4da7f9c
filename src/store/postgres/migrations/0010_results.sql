-- What vendors report of attempts, and the results made of it. In clear stand ids, names of the operator, centres, words for
-- states and times; `blind` and `digest` are keyed values; everything else is sealed.

-- Webhooks that were acknowledged and are not yet read. `token` is what they are sealed for.
CREATE TABLE received (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    sealed bytea NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX received_of_connection ON received (connection, number);

-- What the reports of a connection are collected by; `candidate` is whom the latest of them is about.
CREATE TABLE series (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    blind bytea NOT NULL UNIQUE,
    candidate text COLLATE "C"
);
CREATE INDEX series_of_candidate ON series (candidate) WHERE candidate IS NOT NULL;

-- `number` is the order of arrival: the reports of a connection are written by one instance at a time. `tenant` is empty while
-- the owner is not known. `as_of` and `repeats` count beside the sealed report, which has those of its first arrival.
-- `rechecks` is how often it has become due.
CREATE TABLE reports (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    tenant text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    series bigint,
    candidate text COLLATE "C",
    digest bytea NOT NULL UNIQUE,
    received bigint NOT NULL,
    as_of bigint NOT NULL,
    repeats bigint NOT NULL,
    due boolean NOT NULL,
    rechecks bigint NOT NULL,
    sealed bytea NOT NULL,
    reading bytea,
    body bytea
);
CREATE INDEX reports_of_series ON reports (series, number) WHERE series IS NOT NULL;
CREATE INDEX reports_of_candidate ON reports (candidate) WHERE candidate IS NOT NULL AND series IS NULL;
CREATE INDEX reports_of_tenant ON reports (tenant, id, connection);
CREATE INDEX reports_of_connection ON reports (connection, number);
-- Nearly all reports are applied. Those that are not have indices of their own, and so have the bodies that are kept.
CREATE INDEX reports_by_state ON reports (tenant, state, id) WHERE state <> 'applied';
CREATE INDEX reports_not_applied ON reports (received) WHERE state <> 'applied';
CREATE INDEX reports_parked ON reports (connection, number) WHERE state = 'parked';
CREATE INDEX reports_due ON reports (connection, number) WHERE due;
CREATE INDEX reports_with_body ON reports (received) WHERE state = 'applied' AND body IS NOT NULL;

-- By which a report that waits is found when a person, a registration or a booking becomes known.
CREATE TABLE report_hints (
    blind bytea NOT NULL,
    report bigint NOT NULL REFERENCES reports (number) ON DELETE CASCADE,
    PRIMARY KEY (blind, report)
);
CREATE INDEX report_hints_of_report ON report_hints (report);

-- The hints of people who were erased.
CREATE TABLE erased_hints (
    blind bytea PRIMARY KEY
);

-- How many reports of a connection are in which state, summed over the lanes; as `repeated` the repeats of those that are kept.
-- As `operation_counts`: in one lane a count may be below zero.
CREATE TABLE report_counts (
    connection text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    lane integer NOT NULL,
    items bigint NOT NULL,
    PRIMARY KEY (connection, state, lane)
) WITH (fillfactor = 50);

CREATE FUNCTION count_added_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO report_counts AS c (connection, state, lane, items)
    SELECT connection, state, coalesce(nullif(current_setting('examgate.lane', true), '')::integer, 0), count(*)
    FROM added GROUP BY connection, state ORDER BY connection, state
    ON CONFLICT (connection, state, lane) DO UPDATE SET items = c.items + excluded.items;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_changed_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO report_counts AS c (connection, state, lane, items)
    SELECT connection, state, coalesce(nullif(current_setting('examgate.lane', true), '')::integer, 0), sum(items)
    FROM (SELECT connection, state, 1 AS items FROM after_it
          UNION ALL SELECT connection, state, -1 FROM before_it
          UNION ALL SELECT connection, 'repeated', repeats FROM after_it
          UNION ALL SELECT connection, 'repeated', -repeats FROM before_it) AS changed
    GROUP BY connection, state HAVING sum(items) <> 0 ORDER BY connection, state
    ON CONFLICT (connection, state, lane) DO UPDATE SET items = c.items + excluded.items;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_removed_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO report_counts AS c (connection, state, lane, items)
    SELECT connection, state, coalesce(nullif(current_setting('examgate.lane', true), '')::integer, 0), sum(items)
    FROM (SELECT connection, state, -1 AS items FROM before_it
          UNION ALL SELECT connection, 'repeated', -repeats FROM before_it) AS removed
    GROUP BY connection, state HAVING sum(items) <> 0 ORDER BY connection, state
    ON CONFLICT (connection, state, lane) DO UPDATE SET items = c.items + excluded.items;
    RETURN NULL;
END
$$;
CREATE TRIGGER reports_added AFTER INSERT ON reports
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_added_reports();
CREATE TRIGGER reports_changed AFTER UPDATE ON reports
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION count_changed_reports();
CREATE TRIGGER reports_removed AFTER DELETE ON reports
    REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION count_removed_reports();

-- The index of lists has what they are filtered by, so that other results are passed without being read.
CREATE TABLE results (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    series bigint NOT NULL,
    candidate text COLLATE "C" NOT NULL,
    assignment text COLLATE "C",
    assessment_ref text COLLATE "C" NOT NULL,
    activity text COLLATE "C" NOT NULL,
    grading text COLLATE "C" NOT NULL,
    modified bigint NOT NULL,
    version bigint NOT NULL,
    sealed bytea NOT NULL,
    UNIQUE (tenant, id)
);
CREATE INDEX results_of_tenant ON results (tenant, id, modified, connection, assessment_ref, activity, grading);
CREATE INDEX results_of_series ON results (series);
CREATE INDEX results_of_candidate ON results (candidate, assessment_ref);
CREATE INDEX results_of_assignment ON results (assignment) WHERE assignment IS NOT NULL;

CREATE TABLE result_versions (
    result bigint NOT NULL REFERENCES results (number) ON DELETE CASCADE,
    version bigint NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (result, version)
);

-- How far each feed was read, by the vendor's clock.
CREATE TABLE feeds (
    connection text COLLATE "C" NOT NULL,
    center text COLLATE "C" NOT NULL,
    watermark bigint NOT NULL,
    PRIMARY KEY (connection, center)
);

-- The keyed value of a booking's registration at the vendor, empty without one. None in bookings of an earlier version: the
-- background adds it.
ALTER TABLE assignments ADD COLUMN participant bytea;
CREATE INDEX assignments_of_participant ON assignments (participant) WHERE octet_length(participant) > 0;
CREATE INDEX assignments_without_participant ON assignments (id) WHERE participant IS NULL;
CREATE INDEX assignments_booked ON assignments (connection, id) WHERE state IN ('assigned', 'unknown');
