-- When the last complete sweep of a connection began, by the gateway's clock.
CREATE TABLE sweeps (
    connection text COLLATE "C" PRIMARY KEY,
    begun bigint NOT NULL
);
