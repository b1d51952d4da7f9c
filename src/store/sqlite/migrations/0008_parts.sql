-- What is long lies apart from what lists tell: `photo` is a candidate's sealed picture, `mark` the sealed mark a caller gave a
-- row. In rows of earlier versions both stand in `sealed` and `request` still.
ALTER TABLE candidates ADD COLUMN photo BLOB;
ALTER TABLE operation_items ADD COLUMN mark BLOB;

-- Written to where the last write failed, to see whether there is room again.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY NOT NULL,
    filler BLOB NOT NULL
) STRICT;
