//! Statements about reports and results that both engines run; see [`super::sql`].

use crate::store::sql::{Sql, part, sql, statements};

/// Builds a statement that reads reports; `$reading` is the column of the reading, or `NULL`.
macro_rules! reports {
    ($reading:literal, $($rest:tt)*) => {
        sql!(
            "SELECT r.number, r.id, r.tenant, r.connection, r.state, r.as_of, r.repeats, r.rechecks, r.sealed, " $reading
            $($rest)*
        )
    };
}

/// Builds a statement that reads a page of the tenant's results, newest first; `$tenant` compares the tenant.
macro_rules! listed_results {
    ([$($tenant:tt)*], [$($condition:tt)*], $limit:literal) => {
        sql!(
            "SELECT id, tenant, connection, sealed FROM results WHERE " $($tenant)* " AND id < $2
               AND (CAST($3 AS text) IS NULL OR " ["connection" among "$3"] ")
               AND (CAST($4 AS text) IS NULL OR " ["assessment_ref" among "$4"] ")
               AND (CAST($5 AS text) IS NULL OR activity = $5) AND (CAST($6 AS text) IS NULL OR grading = $6)
               AND modified >= $7"
            $($condition)*
            " ORDER BY id DESC LIMIT " $limit
        )
    };
}

statements! {
    /// The webhooks of a connection, in the order of arrival.
    RECEIVED = sql!(
        "SELECT number, token, connection, sealed, body FROM received WHERE connection = $1 ORDER BY number LIMIT $2"
    );

    REPORTS_BY_DIGEST = reports!("NULL", " FROM reports r WHERE digest " [in "$1"] " AND connection = $2");
    REPORT = reports!("r.reading", " FROM reports r WHERE id = $1");
    REPORT_BODY = sql!("SELECT id, body FROM reports WHERE id = $1 AND body IS NOT NULL");
    LISTED_REPORTS = reports!(
        "NULL",
        " FROM reports r WHERE tenant = $1 AND id < $2 AND (CAST($3 AS text) IS NULL OR " ["connection" among "$3"] ")
            AND (CAST($4 AS text) IS NULL OR state = $4)
          ORDER BY id DESC LIMIT $5"
    );
    /// As [`LISTED_REPORTS`], for a state other than `applied`: the index that has these states is used only if its own
    /// condition is in the statement.
    LISTED_REPORTS_OF_STATE = reports!(
        "NULL",
        " FROM reports r WHERE tenant = $1 AND id < $2 AND (CAST($3 AS text) IS NULL OR " ["connection" among "$3"] ")
            AND state <> 'applied' AND state = $4
          ORDER BY id DESC LIMIT $5"
    );
    DUE_REPORTS = Sql {
        sqlite: "SELECT r.number, r.id, r.tenant, r.connection, r.state, r.as_of, r.repeats, r.rechecks, r.sealed, r.reading
                 FROM reports r WHERE connection = $1 AND due = 1 ORDER BY number LIMIT $2",
        postgres: "SELECT r.number, r.id, r.tenant, r.connection, r.state, r.as_of, r.repeats, r.rechecks, r.sealed, r.reading
                   FROM reports r WHERE connection = $1 AND due ORDER BY number LIMIT $2",
    };
    PARKED_REPORTS = reports!(
        "r.reading",
        " FROM reports r WHERE connection = $1 AND state = 'parked' AND number > $2 ORDER BY number LIMIT $3"
    );
    REPORTS_SINCE = reports!(
        "r.reading",
        " FROM reports r WHERE connection = $1 AND number > $2 AND received >= $3 ORDER BY number LIMIT $4"
    );
    /// The number of reports by connection and state.
    REPORT_COUNTS = sql!(
        "SELECT connection, state, CAST(sum(items) AS bigint) FROM report_counts GROUP BY connection, state
         HAVING sum(items) > 0 ORDER BY connection, state"
    );
    ERASED_HINTS = sql!("SELECT blind FROM erased_hints WHERE blind " [in "$1"]);

    /// The applied reports of series in any of their forms, in the order of arrival, each with the form. A cross join fixes
    /// the order in which `SQLite` joins.
    SERIES_REPORTS = reports!(
        "r.reading",
        ", s.blind FROM series s CROSS JOIN reports r
         WHERE s.blind " [in "$1"] " AND r.series = s.number AND r.state = 'applied' ORDER BY r.number"
    );
    SERIES_RESULTS = sql!(
        "SELECT r.id, r.tenant, r.connection, r.sealed, s.blind FROM series s CROSS JOIN results r
         WHERE s.blind " [in "$1"] " AND r.series = s.number ORDER BY r.number"
    );

    RESULT = sql!("SELECT id, tenant, connection, sealed FROM results WHERE tenant = $1 AND id = $2");
    LISTED_RESULTS = listed_results!(["tenant = $1"], [], "$8");
    LISTED_RESULTS_OF_CANDIDATES = listed_results!([[tenant "$1"]], [" AND candidate " [in "$8"]], "$9");
    LISTED_RESULTS_OF_ASSIGNMENT = listed_results!(
        [[tenant "$1"]],
        [" AND assignment = $8 AND (CAST($9 AS text) IS NULL OR " ["candidate" among "$9"] ")"], "$10"
    );
    RESULT_VERSIONS = sql!(
        "SELECT v.version, v.sealed FROM results r CROSS JOIN result_versions v
         WHERE r.tenant = $1 AND r.id = $2 AND v.result = r.number ORDER BY v.version"
    );
    RESULTS_OF_ASSIGNMENTS = sql!(
        "SELECT id, tenant, connection, sealed FROM results WHERE assignment IS NOT NULL AND assignment " [in "$1"]
    );
    RESULTS_OF_CANDIDATE = sql!(
        "SELECT id, tenant, connection, sealed FROM results WHERE candidate = $1 AND assessment_ref = $2 ORDER BY number"
    );

    /// When the last complete sweep of the connection began.
    LAST_SWEEP = sql!("SELECT begun FROM sweeps WHERE connection = $1");
    RECORD_SWEEP = sql!(
        "INSERT INTO sweeps (connection, begun) VALUES ($1, $2) ON CONFLICT (connection) DO UPDATE SET begun = excluded.begun"
    );
    WATERMARKS = sql!("SELECT center, watermark, read_at FROM feeds WHERE connection = $1 ORDER BY center");

    DUE_FETCHES = sql!(
        "SELECT series, token, connection, requests, failures, sealed FROM report_fetches
         WHERE connection = $1 AND due <= $2 ORDER BY due, series LIMIT $3"
    );
    /// The number of reports to be fetched by connection, and of those that have failed.
    FETCH_COUNTS = sql!(
        "SELECT connection, CAST(count(*) AS bigint), CAST(sum(CASE WHEN failures > 0 THEN 1 ELSE 0 END) AS bigint)
         FROM report_fetches GROUP BY connection ORDER BY connection"
    );

    ASSIGNMENTS_OF_PARTICIPANTS = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE octet_length(participant) > 0 AND participant " [in "$1"] " ORDER BY id"
    );
    IS_A_PARTICIPANT_MISSING = sql!(
        "SELECT EXISTS (SELECT 1 FROM assignments WHERE participant IS NULL AND id > '')"
    );
    ASSIGNMENTS_WITHOUT_PARTICIPANT = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments WHERE participant IS NULL AND id > $1 ORDER BY id LIMIT $2"
    );
    ASSIGNMENTS_OF_CANDIDATES = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE candidate_id IS NOT NULL AND candidate_id " [in "$1"] " AND connection = $2 ORDER BY id"
    );
    ASSIGNMENTS_OF_PERSONS = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE connection = $1 AND person IS NOT NULL AND person " [in "$2"] " ORDER BY id"
    );
    BOOKED_ASSIGNMENTS = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE connection = $1 AND state IN ('assigned', 'unknown') AND id > $2 ORDER BY id LIMIT $3"
    );
}
