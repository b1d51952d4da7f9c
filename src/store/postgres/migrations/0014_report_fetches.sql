-- Reports that are still to be fetched from the vendor, one for a registration; committed with the report that makes it
-- necessary. `token` is what the registration is sealed for. `requests` counts how often it was asked for, `failures` how often
-- the vendor did not answer.
CREATE TABLE report_fetches (
    series bigint PRIMARY KEY REFERENCES series (number) ON DELETE CASCADE,
    token text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    failures bigint NOT NULL,
    due bigint NOT NULL,
    sealed bytea NOT NULL
);
CREATE INDEX report_fetches_due ON report_fetches (connection, due);
