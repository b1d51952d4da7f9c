//! The one list of routes, each with its scope and the problems it can return.

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::domain::error::Code;
use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::handlers::{
    assignments, audit, bulk, candidates, catalogue, client, deliveries, events, exchanges, health, operation_events,
    operations, programs, receivers, reports, results, webhooks,
};
use crate::http::middleware::authorize::{
    guarded, guarded_action, guarded_disclosure, guarded_without_scope, guarded_write, open, with_optional_body,
};
use crate::http::openapi::components::{BOOKING, BULK, CONNECTION, ENROLMENT, PEOPLE, SETTLE, STORE, WRITE};

/// Problems of operations that name a connection.
const NAMED: &[Code] = &[Code::ConnectionForbidden, Code::ConnectionNotFound];

/// Problems of what a person says about a report.
const MATCH: &[Code] = &[Code::Draining, Code::InvalidReference, Code::ReportMatched];
/// Problems of operations that have reports read.
const READ: &[Code] = &[Code::CapabilityUnsupported, Code::Draining];
/// Problems of changes to a webhook that the operator may have configured.
const OWN_HOOK: &[Code] = &[Code::Draining, Code::WebhookConfigured];
/// Problems of receivers.
const RECEIVE: &[Code] = &[
    Code::Draining,
    Code::MalformedJson,
    Code::NotFound,
    Code::Overloaded,
    Code::PayloadTooLarge,
    Code::StoreUnavailable,
    Code::Unauthenticated,
    Code::UnsupportedMediaType,
];

/// Builds one route with its documentation. One at a time: the schemas of all of them take megabytes.
type Entry = fn() -> UtoipaMethodRouter<AppState>;

/// Builds every route, one at a time.
pub(super) fn route_entries() -> impl Iterator<Item = UtoipaMethodRouter<AppState>> {
    caller_entries().chain(receiver_entries())
}

/// Builds the routes that callers need.
pub(super) fn caller_entries() -> impl Iterator<Item = UtoipaMethodRouter<AppState>> {
    let groups = [
        candidate_routes(),
        assignment_routes(),
        result_routes(),
        report_routes(),
        event_routes(),
        webhook_routes(),
        operation_routes(),
        catalogue_routes(),
        service_routes(),
    ];
    groups.into_iter().flatten().map(|entry| entry())
}

/// Builds the routes that vendors need.
pub(super) fn receiver_entries() -> impl Iterator<Item = UtoipaMethodRouter<AppState>> {
    receiver_routes().iter().map(|entry| entry())
}

fn candidate_routes() -> &'static [Entry] {
    use Scope::{CandidatesRead, CandidatesWrite};
    &[
        || {
            guarded_write(
                "candidates.create",
                CandidatesWrite,
                &[CONNECTION, WRITE, PEOPLE],
                routes!(candidates::create),
            )
        },
        || guarded(CandidatesRead, &[CONNECTION, STORE], routes!(candidates::list)),
        || guarded(CandidatesRead, &[CONNECTION, STORE], routes!(candidates::search)),
        || guarded_write("candidates.bulk", CandidatesWrite, &[CONNECTION, BULK], routes!(bulk::candidates)),
        || guarded(CandidatesRead, &[STORE], routes!(candidates::read)),
        || guarded_write("candidates.update", CandidatesWrite, &[WRITE, PEOPLE], routes!(candidates::update)),
        || guarded_write("candidates.delete", CandidatesWrite, &[WRITE, PEOPLE], routes!(candidates::delete)),
        || {
            guarded_action(
                "candidates.initial_password",
                CandidatesWrite,
                &[STORE, &[Code::SubjectUnsettled]],
                routes!(candidates::initial_password),
            )
        },
        || guarded_write("candidates.settle", CandidatesWrite, &[SETTLE], routes!(candidates::settle)),
    ]
}

fn assignment_routes() -> &'static [Entry] {
    use Scope::{AssignmentsRead, AssignmentsWrite, ProgramsWrite};
    &[
        || {
            guarded_write(
                "assignments.create",
                AssignmentsWrite,
                &[CONNECTION, WRITE, BOOKING],
                routes!(assignments::create),
            )
        },
        || guarded(AssignmentsRead, &[CONNECTION, STORE], routes!(assignments::list)),
        || guarded_write("assignments.bulk", AssignmentsWrite, &[CONNECTION, BULK], routes!(bulk::assignments)),
        || guarded(AssignmentsRead, &[STORE], routes!(assignments::read)),
        || {
            guarded_write(
                "assignments.update",
                AssignmentsWrite,
                &[STORE, &[Code::CapabilityUnsupported, Code::ConnectionNotFound, Code::Draining]],
                routes!(assignments::update),
            )
        },
        || guarded_write("assignments.cancel", AssignmentsWrite, &[WRITE, BOOKING], routes!(assignments::cancel)),
        || guarded_write("assignments.settle", AssignmentsWrite, &[SETTLE], routes!(assignments::settle)),
        || {
            guarded_write(
                "programs.employees",
                ProgramsWrite,
                &[CONNECTION, WRITE, ENROLMENT],
                routes!(programs::employees),
            )
        },
    ]
}

fn result_routes() -> &'static [Entry] {
    use Scope::ResultsRead;
    &[
        || guarded(ResultsRead, &[NAMED, STORE], routes!(results::list)),
        || guarded(ResultsRead, &[NAMED, STORE], routes!(results::summary)),
        || guarded(ResultsRead, &[STORE], routes!(results::read)),
        || guarded(ResultsRead, &[STORE], routes!(results::versions)),
        || {
            guarded_action(
                "assignments.refresh",
                ResultsRead,
                &[WRITE, &[Code::ConnectionNotFound, Code::InvalidReference]],
                routes!(assignments::refresh),
            )
        },
    ]
}

fn report_routes() -> &'static [Entry] {
    use Scope::{ConnectionsCheck, ReportsRead, ReportsWrite};
    &[
        || guarded(ReportsRead, &[NAMED, STORE], routes!(reports::list)),
        || guarded_disclosure(("reports.read_body", "include"), ReportsRead, &[STORE], routes!(reports::read)),
        || guarded_action("reports.match", ReportsWrite, &[STORE, MATCH], routes!(reports::match_target)),
        || guarded_action("reports.dismiss", ReportsWrite, &[STORE, MATCH], routes!(reports::dismiss)),
        || {
            let route = with_optional_body(routes!(reports::reread));
            guarded_write("connections.reread", ReportsWrite, &[NAMED, STORE, READ], route)
        },
        || guarded_action("connections.read", ConnectionsCheck, &[NAMED, READ], routes!(reports::read_feed)),
    ]
}

fn event_routes() -> &'static [Entry] {
    &[|| guarded(Scope::EventsRead, &[STORE, &[Code::CursorExpired]], routes!(events::list))]
}

fn webhook_routes() -> &'static [Entry] {
    use Scope::{WebhooksRead, WebhooksWrite};
    &[
        || {
            let problems: &[&[Code]] = &[STORE, &[Code::Draining, Code::WebhookNotAllowed]];
            guarded_write("webhooks.create", WebhooksWrite, problems, routes!(webhooks::create))
        },
        || guarded(WebhooksRead, &[STORE], routes!(webhooks::list)),
        || guarded(WebhooksRead, &[STORE], routes!(webhooks::read)),
        || {
            let problems: &[&[Code]] = &[STORE, OWN_HOOK, &[Code::WebhookNotAllowed]];
            guarded_write("webhooks.update", WebhooksWrite, problems, routes!(webhooks::update))
        },
        || guarded_write("webhooks.delete", WebhooksWrite, &[STORE, OWN_HOOK], routes!(webhooks::delete)),
        || guarded_write("webhooks.ping", WebhooksWrite, &[STORE, &[Code::Draining]], routes!(webhooks::ping)),
        || guarded_write("webhooks.rotate", WebhooksWrite, &[STORE, OWN_HOOK], routes!(webhooks::rotate)),
        || guarded_write("webhooks.pause", WebhooksWrite, &[STORE, OWN_HOOK], routes!(webhooks::pause)),
        || guarded_write("webhooks.resume", WebhooksWrite, &[STORE, &[Code::Draining]], routes!(webhooks::resume)),
        || guarded_write("webhooks.replay", WebhooksWrite, &[STORE, &[Code::Draining]], routes!(webhooks::replay)),
        || guarded(WebhooksRead, &[STORE], routes!(deliveries::list)),
        || guarded(WebhooksRead, &[STORE], routes!(deliveries::read)),
        || {
            let problems: &[&[Code]] = &[STORE, &[Code::DeliveryDelivered, Code::DeliveryExcluded, Code::Draining]];
            guarded_write("deliveries.retry", WebhooksWrite, problems, routes!(deliveries::retry))
        },
    ]
}

fn operation_routes() -> &'static [Entry] {
    use Scope::{OperationsRead, OperationsWrite};
    &[
        || guarded(OperationsRead, &[NAMED, STORE], routes!(operations::list)),
        || guarded(OperationsRead, &[STORE], routes!(operations::read)),
        || guarded(OperationsRead, &[STORE], routes!(operations::items)),
        || guarded(OperationsRead, &[STORE], routes!(operation_events::follow)),
        || guarded_action("operations.cancel", OperationsWrite, &[STORE], routes!(operations::cancel)),
        || guarded_action("operations.retry", OperationsWrite, &[STORE, &[Code::Draining]], routes!(operations::retry)),
        || guarded_action("operations.settle", OperationsWrite, &[SETTLE], routes!(operations::settle)),
    ]
}

fn catalogue_routes() -> &'static [Entry] {
    use Scope::{AuditRead, CatalogueRead, ConnectionsCheck, ExchangesRead};
    &[
        || guarded(CatalogueRead, &[], routes!(catalogue::assessments)),
        || guarded(CatalogueRead, &[], routes!(catalogue::programs)),
        || guarded(CatalogueRead, &[], routes!(catalogue::vendors)),
        || guarded(CatalogueRead, &[], routes!(catalogue::vendor)),
        || guarded(CatalogueRead, &[], routes!(catalogue::connections)),
        || guarded(CatalogueRead, &[NAMED], routes!(catalogue::connection)),
        || guarded(CatalogueRead, &[NAMED], routes!(catalogue::calls)),
        || guarded_action("connections.check", ConnectionsCheck, &[NAMED], routes!(catalogue::check)),
        || guarded(ExchangesRead, &[], routes!(exchanges::list)),
        || guarded(ExchangesRead, &[&[Code::NotFound]], routes!(exchanges::read)),
        || guarded(AuditRead, &[STORE], routes!(audit::read)),
    ]
}

fn receiver_routes() -> &'static [Entry] {
    &[|| open(RECEIVE, routes!(receivers::receive)), || open(RECEIVE, routes!(receivers::receive_for_assessment))]
}

fn service_routes() -> &'static [Entry] {
    &[
        || guarded_without_scope(&[], routes!(client::current)),
        || open(&[], routes!(health::livez)),
        || open(&[Code::StoreUnavailable, Code::Draining], routes!(health::readyz)),
        || open(&[Code::NotFound], routes!(health::problem)),
    ]
}
