-- `accepted` is when the rows were accepted: at the operation's creation, or at its last retry. None in operations of an
-- earlier version: created then. `refused` marks rows that could not be read: there is nothing to send again.
ALTER TABLE operations ADD COLUMN accepted INTEGER;
ALTER TABLE operation_items ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
