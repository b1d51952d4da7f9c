-- When the last complete sweep of a connection began, by the gateway's clock.
CREATE TABLE sweeps (
    connection TEXT PRIMARY KEY NOT NULL,
    begun INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
