-- How far the renewal of index entries has come: `after` is the last record renewed, `found` how many records have a spelling
-- that is not its own key. SQL cannot compute the entries, which are keyed. `early` runs while instances of an earlier version
-- add entries of their form; the others run once, after the last of those instances has ended.
CREATE TABLE upkeep (
    task text COLLATE "C" PRIMARY KEY,
    after text COLLATE "C" NOT NULL DEFAULT '',
    done boolean NOT NULL DEFAULT false,
    found bigint NOT NULL DEFAULT 0
);
INSERT INTO upkeep (task) VALUES ('early'), ('candidates'), ('assignments');

-- Which form of index entries an instance writes; an earlier version does not know the column.
ALTER TABLE instances ADD COLUMN identity_form integer NOT NULL DEFAULT 1;
