//! Statements about webhooks and deliveries that both engines run; see [`super::sql`].

use crate::store::sql::{Sql, part, sql, statements};

/// Builds a statement that reads webhooks.
macro_rules! webhooks {
    ($($rest:tt)*) => {
        sql!("SELECT id, tenant, version, scanned, failures, failing_since, resume_at, sealed FROM webhooks " $($rest)*)
    };
}

/// The columns of a delivery.
macro_rules! delivery_columns {
    () => {
        "d.id, d.tenant, d.webhook, d.event, d.sequence, d.type, d.assignment, d.state, d.step, d.due, d.created, d.attempts, \
         d.connection, d.reason, d.version"
    };
}

/// Builds a statement that reads deliveries whose webhook is not gone.
macro_rules! deliveries {
    ($($rest:tt)*) => {
        Sql {
            sqlite: concat!("SELECT ", delivery_columns!(), " FROM deliveries d WHERE ", $(part!(sqlite $rest)),*),
            postgres: concat!("SELECT ", delivery_columns!(), " FROM deliveries d WHERE ", $(part!(postgres $rest)),*),
        }
    };
}

/// Builds the statement for the first pending delivery of each assignment.
macro_rules! first_pending {
    ($dialect:ident $index:literal) => {
        concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM deliveries d",
            $index,
            " WHERE d.webhook = $1 AND d.state = 'pending' AND d.assignment IS NOT NULL AND d.assignment ",
            part!($dialect [in "$2"]),
            " AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
               AND (d.assignment IS NULL OR d.sequence = (
                 SELECT min(e.sequence) FROM deliveries e
                 WHERE e.webhook = d.webhook AND e.state = 'pending' AND e.assignment = d.assignment))
             ORDER BY d.sequence, d.id"
        )
    };
}

statements! {
    WEBHOOK = webhooks!("WHERE id = $1 AND tenant = $2");
    WEBHOOKS = webhooks!("WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
    /// The versions of those of all tenants.
    WEBHOOK_VERSIONS = sql!("SELECT id, tenant, version FROM webhooks WHERE id > '' ORDER BY id");
    /// Those of all tenants.
    ALL_WEBHOOKS = webhooks!("WHERE id > '' ORDER BY id");

    DELIVERY = deliveries!(
        "d.id = $1 AND d.tenant = $2 AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)"
    );
    /// A delivery that is pending in a version, if its webhook has a version.
    ATTEMPTABLE_DELIVERY = sql!(
        "SELECT d.sequence FROM deliveries d JOIN webhooks w ON w.id = d.webhook
         WHERE d.id = $1 AND d.version = $2 AND d.state = 'pending' AND w.version = $3"
    );
    DELIVERIES = deliveries!(
        "d.webhook = $1 AND d.id < $2 AND d.tenant = $3 AND (CAST($4 AS text) IS NULL OR d.state = $4)
           AND (CAST($5 AS text) IS NULL OR d.connection IS NULL OR " ["d.connection" among "$5"] ")
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
         ORDER BY d.id DESC LIMIT $6"
    );
    DELIVERIES_OF_EVENT = deliveries!(
        "d.webhook = $1 AND d.id < $2 AND d.tenant = $3 AND (CAST($4 AS text) IS NULL OR d.state = $4)
           AND (CAST($5 AS text) IS NULL OR d.connection IS NULL OR " ["d.connection" among "$5"] ") AND d.event = $6
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
         ORDER BY d.id DESC LIMIT $7"
    );
    PENDING_DELIVERIES = deliveries!(
        "d.webhook = $1 AND d.state = 'pending' AND d.sequence > $2
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
         ORDER BY d.sequence, d.id LIMIT $3"
    );
    /// The number of an event up to which so many of the pending deliveries after another one are.
    PENDING_UNTIL = sql!(
        "SELECT d.sequence FROM deliveries d WHERE d.webhook = $1 AND d.state = 'pending' AND d.sequence > $2
         ORDER BY d.sequence LIMIT 1 OFFSET $3"
    );
    /// The pending deliveries of events between two that may be sent until a time.
    SENDABLE_DELIVERIES = deliveries!(
        "d.webhook = $1 AND d.state = 'pending' AND d.sequence > $2 AND d.sequence <= $3 AND d.due <= $4
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
         ORDER BY d.sequence, d.id LIMIT $5"
    );
    /// As [`SENDABLE_DELIVERIES`], of each assignment only its first pending one.
    SENDABLE_DELIVERIES_IN_ORDER = deliveries!(
        "d.webhook = $1 AND d.state = 'pending' AND d.sequence > $2 AND d.sequence <= $3 AND d.due <= $4
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)
           AND (d.assignment IS NULL OR d.sequence = (
                 SELECT min(e.sequence) FROM deliveries e
                 WHERE e.webhook = d.webhook AND e.state = 'pending' AND e.assignment = d.assignment))
         ORDER BY d.sequence, d.id LIMIT $5"
    );
    /// The first pending delivery of each of these assignments.
    FIRST_PENDING_DELIVERIES = Sql {
        // Without statistics `SQLite` reads all pending deliveries of the webhook.
        sqlite: first_pending!(sqlite " INDEXED BY deliveries_in_order"),
        postgres: first_pending!(postgres ""),
    };
    /// The number of pending deliveries of each webhook that has any.
    WEBHOOK_BACKLOGS = Sql {
        // Without statistics `SQLite` reads all deliveries.
        sqlite: "SELECT webhook, count(*) FROM deliveries INDEXED BY deliveries_pending
                 WHERE state = 'pending' AND webhook > '' GROUP BY webhook",
        postgres: "SELECT webhook, count(*) FROM deliveries WHERE state = 'pending' AND webhook > '' GROUP BY webhook",
    };
    /// The number of a webhook's pending deliveries, and of the first event among them.
    WEBHOOK_BACKLOG = sql!(
        "SELECT count(*), min(d.sequence) FROM deliveries d WHERE d.webhook = $1 AND d.state = 'pending'"
    );
}
