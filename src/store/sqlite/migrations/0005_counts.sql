-- How many rows of an operation are in which state, so that nobody who looks at its progress has to count them. Rows are
-- added by the program, many at once, and counted by it; they go with their operation.
CREATE TABLE operation_counts (
    operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    items INTEGER NOT NULL,
    PRIMARY KEY (operation, state)
) STRICT, WITHOUT ROWID;
INSERT INTO operation_counts (operation, state, items)
SELECT operation, state, count(*) FROM operation_items GROUP BY operation, state;

CREATE TRIGGER operation_items_move AFTER UPDATE OF state ON operation_items WHEN OLD.state <> NEW.state
BEGIN
    UPDATE operation_counts SET items = items - 1 WHERE operation = OLD.operation AND state = OLD.state;
    INSERT INTO operation_counts (operation, state, items) VALUES (NEW.operation, NEW.state, 1)
    ON CONFLICT (operation, state) DO UPDATE SET items = items + 1;
END;
