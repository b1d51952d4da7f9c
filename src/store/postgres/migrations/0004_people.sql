-- Open changes of programs' employees, which are ordered by employee and looked for by connection.
CREATE INDEX intents_of_programs ON intents (connection, started, record) WHERE operation = 'programs.employees';

-- Who a booking is for where no candidate was known when it was made: the same keyed value as in `identities`.
ALTER TABLE assignments ADD COLUMN person bytea;
CREATE INDEX assignments_of_person ON assignments (connection, person) WHERE person IS NOT NULL;
