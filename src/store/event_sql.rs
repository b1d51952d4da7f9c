//! Statements about events that both engines run; see [`super::sql`].

use crate::store::sql::{Sql, part, sql, statements};

/// Builds a statement that reads events.
macro_rules! events {
    ($($rest:tt)*) => {
        sql!(
            "SELECT sequence, id, type, timestamp, connection, assignment, assessment_ref, data FROM events WHERE "
            $($rest)*
        )
    };
}

/// Builds the statement for the last event about an assessment.
macro_rules! of_assessment {
    ($dialect:ident $index:literal) => {
        concat!(
            "SELECT sequence FROM events",
            $index,
            " WHERE tenant = $1 AND sequence > $2 AND sequence <= $3
               AND (CAST($4 AS text) IS NULL OR ",
            part!($dialect ["type" among "$4"]),
            ") AND (CAST($5 AS text) IS NULL OR connection IS NULL OR ",
            part!($dialect ["connection" among "$5"]),
            ") AND connection = $6 AND assessment_ref = $7 ORDER BY sequence DESC LIMIT 1"
        )
    };
}

statements! {
    /// The tenant's events between two numbers that pass a filter.
    EVENTS = events!(
        "tenant = $1 AND sequence > $2 AND sequence <= $3
           AND (CAST($4 AS text) IS NULL OR " ["type" among "$4"] ")
           AND (CAST($5 AS text) IS NULL OR connection IS NULL OR " ["connection" among "$5"] ")
           AND (CAST($6 AS text) IS NULL OR " ["connection || ' ' || assessment_ref" among "$6"] ")
         ORDER BY sequence LIMIT $7"
    );
    /// As [`EVENTS`], about one assignment.
    EVENTS_OF_ASSIGNMENT = events!(
        [tenant "$1"] " AND sequence > $2 AND sequence <= $3
           AND (CAST($4 AS text) IS NULL OR " ["type" among "$4"] ")
           AND (CAST($5 AS text) IS NULL OR connection IS NULL OR " ["connection" among "$5"] ")
           AND (CAST($6 AS text) IS NULL OR " ["connection || ' ' || assessment_ref" among "$6"] ")
           AND assignment = $7
         ORDER BY sequence LIMIT $8"
    );
    EVENTS_BY_SEQUENCE = events!("tenant = $1 AND sequence " [in "$2"] " ORDER BY sequence");
    /// The last event between two numbers that passes a filter.
    LAST_EVENT = sql!(
        "SELECT sequence FROM events WHERE tenant = $1 AND sequence > $2 AND sequence <= $3
           AND (CAST($4 AS text) IS NULL OR " ["type" among "$4"] ")
           AND (CAST($5 AS text) IS NULL OR connection IS NULL OR " ["connection" among "$5"] ")
           AND (CAST($6 AS text) IS NULL OR " ["connection || ' ' || assessment_ref" among "$6"] ")
         ORDER BY sequence DESC LIMIT 1"
    );
    /// The last event of a type between two numbers.
    LAST_EVENT_OF_TYPE = sql!(
        "SELECT sequence FROM events WHERE tenant = $1 AND type = $2 AND sequence > $3 AND sequence <= $4
         ORDER BY sequence DESC LIMIT 1"
    );
    /// As [`LAST_EVENT_OF_TYPE`], at a connection.
    LAST_EVENT_AT_CONNECTION = sql!(
        "SELECT sequence FROM events WHERE tenant = $1 AND type = $2 AND connection = $3 AND sequence > $4
           AND sequence <= $5 ORDER BY sequence DESC LIMIT 1"
    );
    /// As [`LAST_EVENT_OF_TYPE`], of those without a connection.
    LAST_EVENT_AT_NO_CONNECTION = sql!(
        "SELECT sequence FROM events WHERE tenant = $1 AND type = $2 AND connection IS NULL AND sequence > $3
           AND sequence <= $4 ORDER BY sequence DESC LIMIT 1"
    );
    /// As [`LAST_EVENT`], about one assessment. The filter of assessments is left to the caller.
    LAST_EVENT_OF_ASSESSMENT = Sql {
        // Without statistics `SQLite` walks back through all events.
        sqlite: of_assessment!(sqlite " INDEXED BY events_of_assessment"),
        postgres: of_assessment!(postgres ""),
    };
    /// As [`LAST_EVENT`], about one assignment.
    LAST_EVENT_OF_ASSIGNMENT = sql!(
        "SELECT sequence FROM events WHERE " [tenant "$1"] " AND sequence > $2 AND sequence <= $3
           AND (CAST($4 AS text) IS NULL OR " ["type" among "$4"] ")
           AND (CAST($5 AS text) IS NULL OR connection IS NULL OR " ["connection" among "$5"] ")
           AND (CAST($6 AS text) IS NULL OR " ["connection || ' ' || assessment_ref" among "$6"] ")
           AND assignment = $7
         ORDER BY sequence DESC LIMIT 1"
    );
    /// The numbers of the tenant's latest event, and of the latest that was removed.
    EVENT_HEAD = sql!("SELECT latest, removed FROM event_heads WHERE tenant = $1");
    /// The number of each tenant's latest event.
    EVENT_HEADS = sql!("SELECT tenant, latest FROM event_heads");
    /// The tenants with events that are kept.
    EVENT_TENANTS = sql!("SELECT tenant FROM event_heads WHERE latest > removed ORDER BY tenant");
    /// The first of the tenant's events between two numbers that was made at this time or later.
    FIRST_EVENT_SINCE = sql!(
        "SELECT sequence FROM events WHERE tenant = $1 AND sequence > $2 AND sequence <= $3 AND timestamp >= $4
         ORDER BY sequence LIMIT 1"
    );
    /// When an event was made.
    EVENT_TIME = sql!("SELECT timestamp FROM events WHERE tenant = $1 AND sequence = $2");

    /// A committed event without a number. Only in PostgreSQL; the other engine has none.
    UNNUMBERED_EVENT = Sql {
        sqlite: "SELECT latest FROM event_heads WHERE false",
        postgres: "SELECT number FROM unnumbered_events ORDER BY number LIMIT 1",
    };

    CONNECTION_STATES = sql!("SELECT connection, state FROM connection_states ORDER BY connection");
}
