-- What is long lies apart from what lists tell: `photo` is a candidate's sealed picture, `mark` the sealed mark a caller gave a
-- row. In rows of earlier versions both stand in `sealed` and `request` still.
ALTER TABLE candidates ADD COLUMN photo bytea;
ALTER TABLE operation_items ADD COLUMN mark bytea;

-- How many rows of an operation are in which state, so that nobody who looks at its progress has to count them: the sum over
-- the lanes. Each transaction counts in the row of its own lane, so that the calls of one operation do not wait for each other;
-- in one lane the count of a state may be below zero.
CREATE TABLE operation_counts (
    operation text COLLATE "C" NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    state text COLLATE "C" NOT NULL,
    lane integer NOT NULL,
    items bigint NOT NULL,
    PRIMARY KEY (operation, state, lane)
) WITH (fillfactor = 50);

-- `examgate.lane` is set where a transaction enters its lane (`lanes.rs`). In order, so that two transactions that share a lane
-- (of two instances, or of a version that sets none) do not wait for each other.
CREATE FUNCTION count_added_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO operation_counts AS c (operation, state, lane, items)
    SELECT operation, state, coalesce(nullif(current_setting('examgate.lane', true), '')::integer, 0), count(*)
    FROM added GROUP BY operation, state ORDER BY operation, state
    ON CONFLICT (operation, state, lane) DO UPDATE SET items = c.items + excluded.items;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_moved_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO operation_counts AS c (operation, state, lane, items)
    SELECT operation, state, coalesce(nullif(current_setting('examgate.lane', true), '')::integer, 0), sum(items)
    FROM (SELECT operation, state, 1 AS items FROM after_it
          UNION ALL SELECT operation, state, -1 FROM before_it) AS moved
    GROUP BY operation, state HAVING sum(items) <> 0 ORDER BY operation, state
    ON CONFLICT (operation, state, lane) DO UPDATE SET items = c.items + excluded.items;
    RETURN NULL;
END
$$;
CREATE TRIGGER operation_items_added AFTER INSERT ON operation_items
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_added_items();
CREATE TRIGGER operation_items_moved AFTER UPDATE ON operation_items
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION count_moved_items();

-- After the triggers: whoever writes rows waits until these are counted.
INSERT INTO operation_counts (operation, state, lane, items)
SELECT operation, state, 0, count(*) FROM operation_items GROUP BY operation, state;

-- Written to where the last write failed, to see whether there is room again.
CREATE TABLE probe (
    id integer PRIMARY KEY,
    filler text NOT NULL
);
