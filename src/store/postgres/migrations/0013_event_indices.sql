-- The last event of a type at a connection, and of an assessment, without a walk over the others.
CREATE INDEX events_at_connection ON events (tenant, type, connection, sequence);
CREATE INDEX events_of_assessment ON events (tenant, assessment_ref, sequence) WHERE assessment_ref IS NOT NULL;

-- The first pending delivery of an assignment, behind which its others wait.
CREATE INDEX deliveries_in_order ON deliveries (webhook, assignment, sequence)
    WHERE state = 'pending' AND assignment IS NOT NULL;
