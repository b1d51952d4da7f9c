-- How far the renewal of index entries has come: `after` is the last record renewed, `found` how many records have a spelling
-- that is not its own key. SQL cannot compute the entries, which are keyed.
CREATE TABLE upkeep (
    task TEXT PRIMARY KEY NOT NULL,
    after TEXT NOT NULL DEFAULT '',
    done INTEGER NOT NULL DEFAULT 0,
    found INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO upkeep (task) VALUES ('candidates'), ('assignments');
