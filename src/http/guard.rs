//! What stands before every protected route, in this order and before the body is read: who is asking, how often, whether
//! they may, whether they can read the answer, and whether there is room.

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use super::accept;
use super::edge::{AskedBy, Context};
use super::operations;
use super::problem::Refused;
use super::state::App;
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::scope::Scope;

/// Protects the routes and says so in their documentation: the scope, and every problem they can answer.
pub(super) fn guarded(
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    let mut reads_query = false;
    for operation in paths.paths.values_mut().flat_map(operations::of_item_mut) {
        operations::protect(operation, scope);
        operations::add_problems(operation, problems);
        reads_query |= operations::reads_query(operation);
    }
    (schemas, paths, methods)
        .map(|methods| methods.route_layer(from_fn(move |request, next| guard(scope, reads_query, request, next))))
}

/// As [`guarded`], for writes, which take headers of their own.
pub(super) fn guarded_write(
    scope: Scope,
    problems: &[&[Code]],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    paths.paths.values_mut().flat_map(operations::of_item_mut).for_each(operations::add_write_headers);
    guarded(scope, problems, (schemas, paths, methods))
}

/// A route that needs no credentials.
pub(super) fn open(
    problems: &[Code],
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    for operation in paths.paths.values_mut().flat_map(operations::of_item_mut) {
        operations::add_responses(operation, problems.iter().copied().chain([Code::Internal]));
    }
    (schemas, paths, methods)
}

async fn guard(scope: Scope, reads_query: bool, mut request: Request, next: Next) -> Response {
    let (Some(app), Some(context)) =
        (request.extensions().get::<App>().cloned(), request.extensions().get::<Context>().cloned())
    else {
        return Refused::new(Code::Internal, "The request came past the edge.").into_response();
    };
    let client = match app.clients.recognise(request.headers()) {
        Ok(client) => client,
        Err(fault) => return Refused::from(fault).into_response(),
    };
    let admitted = admitted(&app, &request, client, scope, reads_query);
    let mut response = match admitted {
        Err(fault) => Refused::from(fault).into_response(),
        Ok(_permit) => {
            let Context { request_id, exchange: _, traceparent } = context;
            request.extensions_mut().insert(client.caller(request_id, traceparent));
            next.run(request).await
        }
    };
    response.extensions_mut().insert(AskedBy(client.name.clone()));
    response
}

fn admitted(
    app: &App,
    request: &Request,
    client: &super::auth::Client,
    scope: Scope,
    reads_query: bool,
) -> Result<tokio::sync::OwnedSemaphorePermit, Fault> {
    client.count()?;
    client.allow(scope)?;
    if !accept::admits_json(request.headers()) {
        return Err(Fault::new(Code::NotAcceptable, "This resource answers JSON only."));
    }
    if !reads_query {
        let names = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let unknown = |name: &str| FieldFault::new(format!("?{name}"), FieldFault::UNKNOWN, "unknown query parameter");
        let faults: Vec<FieldFault> = names.map(|(name, _)| unknown(&name)).collect();
        if !faults.is_empty() {
            return Err(Fault::of_fields(faults));
        }
    }
    let room = app.in_flight.clone().try_acquire_owned();
    room.map_err(|_| Fault::new(Code::Overloaded, "Too many requests are being served."))
}
