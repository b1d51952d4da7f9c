//! Plans of the statements about events and deliveries that run again and again, or whose table is long.

use super::*;
use crate::store::{event_sql, webhook_sql};

#[test]
fn events_and_deliveries_are_found_by_their_indices() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    for (sql, index) in [
        (event_sql::LAST_EVENT_OF_TYPE, "events_of_type (tenant=? AND type=? AND sequence>? AND sequence<?)"),
        (
            event_sql::LAST_EVENT_AT_CONNECTION,
            "events_at_connection (tenant=? AND type=? AND connection=? AND sequence>? AND sequence<?)",
        ),
        (
            event_sql::LAST_EVENT_AT_NO_CONNECTION,
            "events_at_connection (tenant=? AND type=? AND connection=? AND sequence>? AND sequence<?)",
        ),
        (
            event_sql::LAST_EVENT_OF_ASSESSMENT,
            "events_of_assessment (tenant=? AND assessment_ref=? AND sequence>? AND sequence<?)",
        ),
        (event_sql::EVENT_HEAD, "PRIMARY KEY (tenant=?)"),
        (event_sql::FIRST_EVENT_SINCE, "SEARCH events USING PRIMARY KEY (tenant=? AND sequence>? AND sequence<?)"),
        (event_sql::EVENT_TIME, "SEARCH events USING PRIMARY KEY (tenant=? AND sequence=?)"),
        (webhook_sql::ATTEMPTABLE_DELIVERY, "SEARCH d USING INDEX sqlite_autoindex_deliveries_1 (id=?)"),
        (webhook_sql::ATTEMPTABLE_DELIVERY, "SEARCH w USING PRIMARY KEY (id=?)"),
        (webhook_sql::PENDING_DELIVERIES, "deliveries_pending (webhook=? AND sequence>?)"),
        (webhook_sql::PENDING_UNTIL, "deliveries_pending (webhook=? AND sequence>?)"),
        (webhook_sql::SENDABLE_DELIVERIES, "deliveries_pending (webhook=? AND sequence>? AND sequence<?)"),
        (webhook_sql::SENDABLE_DELIVERIES_IN_ORDER, "deliveries_pending (webhook=? AND sequence>? AND sequence<?)"),
        (webhook_sql::SENDABLE_DELIVERIES_IN_ORDER, "deliveries_in_order (webhook=? AND assignment=?)"),
        (
            webhook_sql::FIRST_PENDING_DELIVERIES,
            "SEARCH d USING INDEX deliveries_in_order (webhook=? AND assignment=?)",
        ),
        (webhook_sql::WEBHOOK_BACKLOGS, "deliveries_pending"),
    ] {
        let text = sql.sqlite.replace(sql::LIST, "?, ?");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get::<_, String>("detail"));
        let steps = steps.map(Result::unwrap).collect::<Vec<_>>();
        assert!(steps.iter().any(|step| step.contains(index)), "{index}: {steps:?}");
        let is_page = text.contains("LIMIT");
        assert!(!is_page || steps.iter().all(|step| !step.contains("TEMP B-TREE")), "a page is sorted: {steps:?}");
    }
}
