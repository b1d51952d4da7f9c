-- Reports that are still to be fetched from the vendor, one for a registration; committed with the report that makes it
-- necessary. `token` is what the registration is sealed for. `requests` counts how often it was asked for, `failures` how often
-- the vendor did not answer.
CREATE TABLE report_fetches (
    series INTEGER PRIMARY KEY NOT NULL REFERENCES series (number) ON DELETE CASCADE,
    token TEXT NOT NULL,
    connection TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    due INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX report_fetches_due ON report_fetches (connection, due);
