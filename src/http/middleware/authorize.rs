//! Guards every protected route, in this order and before the body is read: authentication, rate limit, scope,
//! `Accept`, query parameters, in-flight limit. Writes the audit entry afterwards.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::auth::{Authenticated, RateLimitState, challenge};
use crate::http::exchange_context::{ExchangeContext, UnkeptExchange};
use crate::http::extract::accept;
use crate::http::extract::content_coding::{ACCEPTED, ContentCoding};
use crate::http::middleware::access_log::RequestClient;
use crate::http::middleware::audit::{AuditGuard, should_audit};
use crate::http::middleware::in_flight_limit::InFlightPermit;
use crate::http::openapi::components;
use crate::http::problem::{ApiError, pending_error};
use crate::service::RequestContext;
use crate::telemetry::metrics;

/// Guards a read-only route and documents its scope and every problem it can return.
pub(in crate::http) fn guarded(
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(None, Some(scope), problems, routes)
}

/// Like [`guarded`], for a read whose requests with this query parameter return what each access to must be recorded:
/// their audit entries use `action` as the route's name.
pub(in crate::http) fn guarded_disclosure(
    (action, parameter): (&'static str, &'static str),
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(Some(Action { name: action, only_with: Some(parameter) }), Some(scope), problems, routes)
}

/// Like [`guarded`], for a route that every client may use, whatever its scopes.
pub(in crate::http) fn guarded_without_scope(
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(None, None, problems, routes)
}

/// Like [`guarded`], for a route that changes something or calls a vendor: audit entries use `action` as its name.
pub(in crate::http) fn guarded_action(
    action: &'static str,
    scope: Scope,
    problems: &[&[Code]],
    routes: UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    guarded_as(Some(Action { name: action, only_with: None }), Some(scope), problems, routes)
}

fn guarded_as(
    action: Option<Action>,
    scope: Option<Scope>,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    let mut route = Route { scope, action, reads_query: false, answers: ResponseFormat::Json, creates: false };
    for operation in paths.paths.values_mut().flat_map(components::of_item_mut) {
        components::protect(operation, scope);
        components::add_problems(operation, scope, problems);
        components::add_rate_headers(operation);
        route.reads_query |= components::reads_query(operation);
        route.creates |= operation.responses.responses.contains_key("201");
        if components::has_media_type(operation, accept::EVENTS) {
            route.answers = ResponseFormat::Events;
        } else if components::has_media_type(operation, accept::LINES) {
            route.answers = ResponseFormat::Lines;
        } else if components::has_media_type(operation, accept::TABLE) {
            route.answers = ResponseFormat::Table;
        }
    }
    (schemas, paths, methods)
        .map(|methods| methods.route_layer(from_fn(move |request, next| authorize(route, request, next))))
}

/// What the guard must know about a route; taken from the route's documentation so that the two agree.
#[derive(Clone, Copy)]
struct Route {
    /// The scope it requires; `None` if credentials are enough.
    scope: Option<Scope>,
    /// Whether the handler reads the query and rejects unknown parameters.
    reads_query: bool,
    /// Its audit entries, if it has any.
    action: Option<Action>,
    /// The media types it can return.
    answers: ResponseFormat,
    /// Whether it returns 201 for a new resource.
    creates: bool,
}

/// The audit entries of a route.
#[derive(Clone, Copy)]
struct Action {
    /// The route's name in them.
    name: &'static str,
    /// The query parameter without which a request has none; `None` if every request has one.
    only_with: Option<&'static str>,
}

impl Action {
    fn is_taken_by(self, request: &Request) -> bool {
        self.only_with.is_none_or(|parameter| {
            let query = request.uri().query().unwrap_or_default();
            url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == parameter)
        })
    }
}

/// The media types of a route's success responses.
#[derive(Clone, Copy)]
enum ResponseFormat {
    /// JSON only.
    Json,
    /// JSON, or one document per line.
    Lines,
    /// JSON, or CSV.
    Table,
    /// An event stream.
    Events,
}

/// Like [`guarded_action`], for writes, which take additional headers.
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

/// Documents that requests may leave out the body, as [`OptionalBody`](crate::http::extract::body::OptionalBody) lets them.
pub(in crate::http) fn with_optional_body(
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    paths.paths.values_mut().flat_map(components::of_item_mut).for_each(components::allow_no_body);
    (schemas, paths, methods)
}

/// Adds a route that needs no credentials.
pub(in crate::http) fn open(
    problems: &[Code],
    (schemas, mut paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    for operation in paths.paths.values_mut().flat_map(components::of_item_mut) {
        components::open(operation);
        components::add_responses(operation, problems.iter().copied().chain([Code::Internal]));
    }
    (schemas, paths, methods)
}

async fn authorize(route: Route, mut request: Request, next: Next) -> Response {
    let (Some(app), Some(context)) =
        (request.extensions().get::<AppState>().cloned(), request.extensions().get::<ExchangeContext>().cloned())
    else {
        return ApiError::new(Code::Internal, "Request context is missing; middleware not installed.").into_response();
    };
    let terms = app.terms.now();
    let known = match terms.clients.authenticate(request.headers()).await {
        Ok(known) => known,
        Err(error) => {
            let challenge = (error.code == Code::Unauthenticated)
                .then(|| challenge::unauthenticated(terms.clients.has_credentials(request.headers())));
            return with_header(ApiError::from(error).into_response(), WWW_AUTHENTICATE, challenge);
        }
    };
    let (client, spent) = (known.client, known.client.count());
    metrics::client_request(&client.name, known.key.as_deref());
    // Record the exchange only after authentication, so that unauthenticated traffic cannot flush the ring buffer.
    if request.extensions().get::<UnkeptExchange>().is_none() {
        app.gateway.keep_exchange(&context.exchange, exchange_owner(&app, &request, &known));
    }
    let has_unknown_coding = ContentCoding::of(request.headers()).is_err();
    let admitted = spent.as_ref().map_or(Ok(()), RateLimitState::is_admitted);
    let admitted = admitted.and_then(|()| admit(&app, &request, &known, route));
    let recorded = admitted.as_ref().err().is_none_or(should_audit);
    let record = route
        .action
        .filter(|action| recorded && action.is_taken_by(&request))
        .map(|action| AuditGuard::start(&app, client, (action.name, route.creates), &request, &context));
    let (mut response, permit) = match admitted {
        Err(error) => (ApiError::from(error).into_response(), None),
        Ok(permit) => {
            if route.scope.is_none() {
                request.extensions_mut().insert(known.permissions());
            }
            let audit_entry = record.as_ref().map(AuditGuard::entry);
            let caller = RequestContext { audit_entry, ..client.caller(context.exchange) };
            request.extensions_mut().insert(Arc::new(caller));
            (next.run(request).await, Some(permit))
        }
    };
    if let Some(spent) = spent {
        spent.write_headers(response.headers_mut());
    }
    // Write the audit entry before responding: a response the caller has seen has its entry, even if the process
    // dies.
    if let Some(writing) = record.map(|record| record.write_entry(&response)) {
        writing.await;
    }
    response.extensions_mut().insert(RequestClient { name: client.name.clone(), key: known.key.clone() });
    response = with_advice(response, route, has_unknown_coding);
    match permit {
        // An unsent response still uses memory. An event stream may last for hours, and has a limit of its own.
        Some(permit) if !matches!(route.answers, ResponseFormat::Events) => {
            response.map(|body| permit.attach_to_body(body))
        }
        _ => response,
    }
}

/// Adds the headers that tell the caller of a rejected request what it needs: the scope (RFC 6750 §3.1), or a content
/// coding. A 415 for any other reason must not name codings (RFC 7694 §3).
fn with_advice(response: Response, route: Route, has_unknown_coding: bool) -> Response {
    match (pending_error(&response).map(|error| error.code), route.scope) {
        (Some(Code::InsufficientScope), Some(scope)) => {
            with_header(response, WWW_AUTHENTICATE, Some(challenge::insufficient_scope(scope)))
        }
        (Some(Code::UnsupportedMediaType), _) => {
            let accepted = has_unknown_coding.then_some(HeaderValue::from_static(ACCEPTED));
            with_header(response, ACCEPT_ENCODING, accepted)
        }
        _ => response,
    }
}

fn with_header(mut response: Response, name: HeaderName, value: Option<HeaderValue>) -> Response {
    response.headers_mut().extend(value.map(|value| (name, value)));
    response
}

fn exchange_owner(app: &AppState, request: &Request, known: &Authenticated<'_>) -> ExchangeOwner {
    let route = request.extensions().get::<MatchedPath>().map_or("-", |path| app.route(path.as_str())).to_owned();
    let (client, key) = (known.client.name.clone(), known.key.clone());
    let cause = Cause::Request { client, key, method: request.method().to_string(), route };
    ExchangeOwner { tenant: known.client.tenant.clone(), cause }
}

fn admit(app: &AppState, request: &Request, known: &Authenticated<'_>, route: Route) -> Result<InFlightPermit, Error> {
    route.scope.map_or(Ok(()), |scope| known.authorize(scope))?;
    let (admitted, detail) = match route.answers {
        ResponseFormat::Json => (accept::admits_json(request.headers()), "This resource returns JSON only."),
        ResponseFormat::Lines => {
            let detail = "This resource returns JSON or NDJSON (application/x-ndjson) only.";
            (accept::admits_ndjson(request.headers()), detail)
        }
        ResponseFormat::Table => {
            (accept::admits_table(request.headers()), "This resource returns JSON or CSV (text/csv) only.")
        }
        ResponseFormat::Events => {
            let detail = "This resource returns events (text/event-stream) or JSON only.";
            (accept::admits_events(request.headers()), detail)
        }
    };
    if !admitted {
        return Err(Error::new(Code::NotAcceptable, detail));
    }
    if !route.reads_query {
        let names = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let unknown = |name: &str| FieldError::new(format!("?{name}"), FieldError::UNKNOWN, "unknown query parameter");
        let errors: Vec<FieldError> = names.map(|(name, _)| unknown(&name)).collect();
        if !errors.is_empty() {
            return Err(Error::from_fields(errors));
        }
    }
    if route.scope.is_some_and(needs_store) {
        app.gateway.ensure_store_available()?;
    }
    app.acquire_permit(&app.requests, &known.client.name)
}

/// Returns whether every request with this scope needs the store.
const fn needs_store(scope: Scope) -> bool {
    match scope {
        Scope::CandidatesRead
        | Scope::CandidatesWrite
        | Scope::AssignmentsRead
        | Scope::AssignmentsWrite
        | Scope::ProgramsWrite
        | Scope::OperationsRead
        | Scope::OperationsWrite
        | Scope::ResultsRead
        | Scope::ReportsRead
        | Scope::ReportsWrite
        | Scope::EventsRead
        | Scope::WebhooksRead
        | Scope::WebhooksWrite
        | Scope::AuditRead => true,
        Scope::CatalogueRead | Scope::ConnectionsCheck | Scope::ExchangesRead => false,
    }
}
