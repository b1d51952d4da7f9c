//! What stands before every protected route, in this order and before the body is read: who is asking, how often, whether
//! they may, whether they can read the answer, and whether there is room.

use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::auth::{Authenticated, RateLimitState};
use crate::http::extract::accept;
use crate::http::middleware::audit::{AuditGuard, should_audit};
use crate::http::middleware::in_flight_limit::InFlightPermit;
use crate::http::middleware::request_context::{ClientName, ExchangeContext};
use crate::http::openapi::components;
use crate::http::problem::ApiError;
use crate::service::RequestContext;

/// Protects a route that only reads, and says so in its documentation: the scope, and every problem it can answer.
pub(in crate::http) fn guarded(
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(None, scope, problems, routes)
}

/// As [`guarded`], for what changes something or makes a vendor be asked: the audit record names it by this word.
pub(in crate::http) fn guarded_action(
    action: &'static str,
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(Some(action), scope, problems, routes)
}

fn guarded_as(
    action: Option<&'static str>,
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    let mut route = Route { scope, action, reads_query: false, answers: Answers::Json, creates: false };
    for operation in paths.paths.values_mut().flat_map(components::of_item_mut) {
        components::protect(operation, scope);
        components::add_problems(operation, problems);
        components::add_rate_headers(operation);
        route.reads_query |= components::reads_query(operation);
        route.creates |= operation.responses.responses.contains_key("201");
        if components::answers(operation, accept::EVENTS) {
            route.answers = Answers::Events;
        } else if components::answers(operation, accept::LINES) {
            route.answers = Answers::Lines;
        }
    }
    (schemas, paths, methods)
        .map(|methods| methods.route_layer(from_fn(move |request, next| guard(route, request, next))))
}

/// What the guard has to know of a route; read from its documentation, so that the two agree.
#[derive(Clone, Copy)]
struct Route {
    scope: Scope,
    /// Whether the handler looks at the query, and refuses what it does not know.
    reads_query: bool,
    /// The audit record's word for it, where it has lines there.
    action: Option<&'static str>,
    /// What it can answer.
    answers: Answers,
    /// Whether it tells of what is new with 201.
    creates: bool,
}

/// What a route can answer besides a problem.
#[derive(Clone, Copy)]
enum Answers {
    /// JSON only.
    Json,
    /// JSON, or a document a line.
    Lines,
    /// A stream of events.
    Events,
}

/// As [`guarded_action`], for writes, which take headers of their own.
pub(in crate::http) fn guarded_write(
    action: &'static str,
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    paths.paths.values_mut().flat_map(components::of_item_mut).for_each(components::add_write_headers);
    let problems: Vec<&[Code]> = problems.iter().copied().chain([components::KEYED]).collect();
    guarded_action(action, scope, &problems, (schemas, paths, methods))
}

/// A route that needs no credentials.
pub(in crate::http) fn open(
    problems: &[Code],
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    for operation in paths.paths.values_mut().flat_map(components::of_item_mut) {
        components::add_responses(operation, problems.iter().copied().chain([Code::Internal]));
    }
    (schemas, paths, methods)
}

async fn guard(route: Route, mut request: Request, next: Next) -> Response {
    let (Some(app), Some(context)) =
        (request.extensions().get::<AppState>().cloned(), request.extensions().get::<ExchangeContext>().cloned())
    else {
        return ApiError::new(Code::Internal, "The request came past the edge.").into_response();
    };
    let terms = app.terms.now();
    let known = match terms.clients.authenticate(request.headers()).await {
        Ok(known) => known,
        Err(fault) => return ApiError::from(fault).into_response(),
    };
    let (client, spent) = (known.client, known.client.count());
    // From here on somebody may look at it: whoever has not said who they are leaves no trace that could crowd others out.
    app.gateway.keep_exchange(&context.exchange, asked(&request, client));
    let admitted = spent.as_ref().map_or(Ok(()), RateLimitState::is_admitted);
    let admitted = admitted.and_then(|()| admitted_to(&app, &request, &known, route));
    let recorded = admitted.as_ref().err().is_none_or(should_audit);
    let record = route
        .action
        .filter(|_| recorded)
        .map(|action| AuditGuard::begun(&app, client, (action, route.creates), &request, &context));
    let (mut response, place) = match admitted {
        Err(fault) => (ApiError::from(fault).into_response(), None),
        Ok(place) => {
            let line = record.as_ref().map(AuditGuard::line);
            request.extensions_mut().insert(RequestContext { line, ..client.caller(context.exchange) });
            (next.run(request).await, Some(place))
        }
    };
    if let Some(spent) = spent {
        spent.write_headers(response.headers_mut());
    }
    // Written before it is answered: what a caller was told has its line, whenever the process dies.
    if let Some(writing) = record.map(|record| record.answered(&response)) {
        writing.await;
    }
    response.extensions_mut().insert(ClientName(client.name.clone()));
    match place {
        // What is not sent yet takes memory still. A stream of events may last for hours, and has a room of its own.
        Some(place) if !matches!(route.answers, Answers::Events) => response.map(|body| place.attach_to_body(body)),
        _ => response,
    }
}

fn asked(request: &Request, client: &crate::http::auth::Client) -> ExchangeOwner {
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let cause = Cause::Request { client: client.name.clone(), method: request.method().to_string(), route };
    ExchangeOwner { tenant: client.tenant.clone(), cause }
}

fn admitted_to(
    app: &AppState,
    request: &Request,
    known: &Authenticated<'_>,
    route: Route,
) -> Result<InFlightPermit, Error> {
    known.authorize(route.scope)?;
    let (admitted, detail) = match route.answers {
        Answers::Json => (accept::admits_json(request.headers()), "This resource answers JSON only."),
        Answers::Lines => {
            let detail = "This resource answers JSON or lines (application/x-ndjson) only.";
            (accept::admits_lines(request.headers()), detail)
        }
        Answers::Events => {
            let detail = "This resource answers events (text/event-stream) or JSON only.";
            (accept::admits_events(request.headers()), detail)
        }
    };
    if !admitted {
        return Err(Error::new(Code::NotAcceptable, detail));
    }
    if !route.reads_query {
        let names = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let unknown = |name: &str| FieldError::new(format!("?{name}"), FieldError::UNKNOWN, "unknown query parameter");
        let faults: Vec<FieldError> = names.map(|(name, _)| unknown(&name)).collect();
        if !faults.is_empty() {
            return Err(Error::from_fields(faults));
        }
    }
    if needs_store(route.scope) {
        app.gateway.is_store_available()?;
    }
    app.place(&app.places, &known.client.name)
}

/// Whether nothing can be answered without the store.
const fn needs_store(scope: Scope) -> bool {
    match scope {
        Scope::CandidatesRead
        | Scope::CandidatesWrite
        | Scope::AssignmentsRead
        | Scope::AssignmentsWrite
        | Scope::ProgramsWrite
        | Scope::OperationsRead
        | Scope::OperationsWrite
        | Scope::AuditRead => true,
        Scope::CatalogueRead | Scope::ConnectionsCheck | Scope::ExchangesRead => false,
    }
}
