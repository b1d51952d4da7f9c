-- The number of changes of a delivery, the connection of its event, and why it has failed without a last attempt.
ALTER TABLE deliveries ADD COLUMN version bigint NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN connection text COLLATE "C";
ALTER TABLE deliveries ADD COLUMN reason text COLLATE "C";
-- Where the event is gone, its connection is not known: the empty name is at no client's list of connections.
UPDATE deliveries SET connection = CASE
    WHEN EXISTS (SELECT 1 FROM events e WHERE e.tenant = deliveries.tenant AND e.sequence = deliveries.sequence)
    THEN (SELECT e.connection FROM events e WHERE e.tenant = deliveries.tenant AND e.sequence = deliveries.sequence)
    ELSE '' END;
-- What a replica of an earlier version adds while this one is taken over says nothing of its connection.
ALTER TABLE deliveries ALTER COLUMN connection SET DEFAULT '';
