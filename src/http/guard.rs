//! What stands before every protected route, in this order and before the body is read: who is asking, how often, whether
//! they may, whether they can read the answer, and whether there is room.

use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use super::accept;
use super::audit::{Record, worth_a_line};
use super::auth::{Known, Spent};
use super::edge::{AskedBy, Context};
use super::openapi_parts;
use super::places::Place;
use super::problem::Refused;
use super::state::App;
use crate::dispatch::Caller;
use crate::domain::exchange::{About, Cause};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::scope::Scope;

/// Protects a route that only reads, and says so in its documentation: the scope, and every problem it can answer.
pub(super) fn guarded(scope: Scope, problems: &[&[Code]], routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    guarded_as(None, scope, problems, routes)
}

/// As [`guarded`], for what changes something or makes a vendor be asked: the audit record names it by this word.
pub(super) fn guarded_action(
    action: &'static str,
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    guarded_as(Some(action), scope, problems, routes)
}

fn guarded_as(
    action: Option<&'static str>,
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    let mut route = Route { scope, action, reads_query: false, answers: Answers::Json, creates: false };
    for operation in paths.paths.values_mut().flat_map(openapi_parts::of_item_mut) {
        openapi_parts::protect(operation, scope);
        openapi_parts::add_problems(operation, problems);
        openapi_parts::add_rate_headers(operation);
        route.reads_query |= openapi_parts::reads_query(operation);
        route.creates |= operation.responses.responses.contains_key("201");
        if openapi_parts::answers(operation, accept::EVENTS) {
            route.answers = Answers::Events;
        } else if openapi_parts::answers(operation, accept::LINES) {
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
pub(super) fn guarded_write(
    action: &'static str,
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    paths.paths.values_mut().flat_map(openapi_parts::of_item_mut).for_each(openapi_parts::add_write_headers);
    let problems: Vec<&[Code]> = problems.iter().copied().chain([openapi_parts::KEYED]).collect();
    guarded_action(action, scope, &problems, (schemas, paths, methods))
}

/// A route that needs no credentials.
pub(super) fn open(
    problems: &[Code],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    for operation in paths.paths.values_mut().flat_map(openapi_parts::of_item_mut) {
        openapi_parts::add_responses(operation, problems.iter().copied().chain([Code::Internal]));
    }
    (schemas, paths, methods)
}

async fn guard(route: Route, mut request: Request, next: Next) -> Response {
    let (Some(app), Some(context)) =
        (request.extensions().get::<App>().cloned(), request.extensions().get::<Context>().cloned())
    else {
        return Refused::new(Code::Internal, "The request came past the edge.").into_response();
    };
    let terms = app.terms.now();
    let known = match terms.clients.recognise(request.headers()).await {
        Ok(known) => known,
        Err(fault) => return Refused::from(fault).into_response(),
    };
    let (client, spent) = (known.client, known.client.count());
    // From here on somebody may look at it: whoever has not said who they are leaves no trace that could crowd others out.
    app.gateway.keep_exchange(&context.exchange, asked(&request, client));
    let admitted = spent.as_ref().map_or(Ok(()), Spent::admitted);
    let admitted = admitted.and_then(|()| admitted_to(&app, &request, &known, route));
    let recorded = admitted.as_ref().err().is_none_or(worth_a_line);
    let record = route
        .action
        .filter(|_| recorded)
        .map(|action| Record::begun(&app, client, (action, route.creates), &request, &context));
    let (mut response, place) = match admitted {
        Err(fault) => (Refused::from(fault).into_response(), None),
        Ok(place) => {
            let line = record.as_ref().map(Record::line);
            request.extensions_mut().insert(Caller { line, ..client.caller(context.exchange) });
            (next.run(request).await, Some(place))
        }
    };
    if let Some(spent) = spent {
        spent.tell(response.headers_mut());
    }
    // Written before it is answered: what a caller was told has its line, whenever the process dies.
    if let Some(writing) = record.map(|record| record.answered(&response)) {
        writing.await;
    }
    response.extensions_mut().insert(AskedBy(client.name.clone()));
    match place {
        // What is not sent yet takes memory still. A stream of events may last for hours, and has a room of its own.
        Some(place) if !matches!(route.answers, Answers::Events) => response.map(|body| place.keep_for(body)),
        _ => response,
    }
}

fn asked(request: &Request, client: &super::auth::Client) -> About {
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let cause = Cause::Request { client: client.name.clone(), method: request.method().to_string(), route };
    About { tenant: client.tenant.clone(), cause }
}

fn admitted_to(app: &App, request: &Request, known: &Known<'_>, route: Route) -> Result<Place, Fault> {
    known.allow(route.scope)?;
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
        return Err(Fault::new(Code::NotAcceptable, detail));
    }
    if !route.reads_query {
        let names = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let unknown = |name: &str| FieldFault::new(format!("?{name}"), FieldFault::UNKNOWN, "unknown query parameter");
        let faults: Vec<FieldFault> = names.map(|(name, _)| unknown(&name)).collect();
        if !faults.is_empty() {
            return Err(Fault::of_fields(faults));
        }
    }
    if needs_store(route.scope) {
        app.gateway.store_at_hand()?;
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
