//! Statements about webhooks and deliveries that both engines run; see [`super::sql`].

use crate::store::sql::{Sql, part, sql, statements};

/// Builds a statement that reads webhooks.
macro_rules! webhooks {
    ($($rest:tt)*) => {
        sql!("SELECT id, tenant, version, scanned, failures, failing_since, resume_at, sealed FROM webhooks " $($rest)*)
    };
}

/// Builds a statement that reads deliveries whose webhook is not gone.
macro_rules! deliveries {
    ($($rest:tt)*) => {
        sql!(
            "SELECT d.id, d.tenant, d.webhook, d.event, d.sequence, d.type, d.assignment, d.state, d.step, d.due, d.created,
                    d.attempts, d.connection, d.reason, d.version
             FROM deliveries d WHERE "
            $($rest)*
        )
    };
}

statements! {
    WEBHOOK = webhooks!("WHERE id = $1 AND tenant = $2");
    WEBHOOKS = webhooks!("WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
    /// Those of all tenants.
    ALL_WEBHOOKS = webhooks!("WHERE id > '' ORDER BY id");

    DELIVERY = deliveries!(
        "d.id = $1 AND d.tenant = $2 AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook)"
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
    /// The number of a webhook's pending deliveries, and of the first event among them.
    WEBHOOK_BACKLOG = sql!(
        "SELECT count(*), min(d.sequence) FROM deliveries d WHERE d.webhook = $1 AND d.state = 'pending'"
    );
}
