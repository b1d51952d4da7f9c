-- The latest moment (microseconds since 1970) at which a process served from this database: a wall clock that is far from it
-- at the next start is not believed at once.
CREATE TABLE clock (
    one integer PRIMARY KEY CHECK (one = 1),
    seen bigint NOT NULL
);
