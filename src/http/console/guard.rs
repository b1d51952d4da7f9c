//! The middleware around every page: a session, the token of every form, and pages for errors. What it admits is still
//! authenticated by the API, call by call.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::domain::scope::Scope;
use crate::http::auth::Credentials;
use crate::http::console::api::{Api, ConsoleError, PendingError};
use crate::http::console::assets::address;
use crate::http::console::form::{self, MAX_FORM, MAX_PLAIN_FORM};
use crate::http::console::origin;
use crate::http::console::page::{Page, ProblemPage, ProblemView, Viewer};
use crate::http::console::session::{Presented, Session, Sessions};
use crate::http::console::state::Console;
use crate::http::console::visit::{Form, Visit, rendered, root_of, see_other};
use crate::http::exchange_context::ExchangeContext;
use crate::http::middleware::access_log::RequestClient;

/// Forbids anything from other hosts, anything inline, framing, and forms to other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Keeps other sites' windows from reaching those of the console.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The document of `GET /client`.
#[derive(Deserialize)]
pub(in crate::http::console) struct ClientDocument {
    pub(in crate::http::console) client: String,
    pub(in crate::http::console) tenant: String,
    scopes: Vec<String>,
    pub(in crate::http::console) key: Option<String>,
}

/// An admitted request.
struct Admitted {
    visit: Visit,
    client: RequestClient,
    cookie: Option<HeaderValue>,
    session: Session,
}

/// Why a request is not admitted.
enum Refusal {
    /// There is no session, or it has ended.
    SignIn {
        ended: bool,
    },
    Error(ConsoleError),
}

impl From<ConsoleError> for Refusal {
    fn from(error: ConsoleError) -> Self {
        Self::Error(error)
    }
}

/// Sets the headers of every answer of the console, and renders the errors of pages that need no session.
pub(in crate::http::console) async fn headers(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(PendingError(error)) = response.extensions_mut().remove::<PendingError>() {
        response = in_place_of(&response, failed(&path, error, None));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Not `no-referrer`: it hides the origin of our own forms too, which is all that some browsers say of where they are from.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Admits requests of sessions only, and renders the pages of errors.
pub(in crate::http::console) async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let context = parts.extensions.get::<ExchangeContext>().cloned();
    let request_id = context.as_ref().map(|context| context.exchange.request_id()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let to = path.split_once("/console/").map_or("", |(_, below)| below);
    // The address of a form is no page.
    let to = if parts.method == Method::GET { to } else { "" };
    let admitted = match admit(&console, &parts, body, request_id).await {
        Ok(admitted) => admitted,
        Err(Refusal::SignIn { ended }) => return to_sign_in(&path, to, ended),
        Err(Refusal::Error(error)) => return failed(&path, error, None),
    };
    let Admitted { visit, client, cookie, session } = admitted;
    parts.extensions.insert(visit.clone());
    parts.extensions.insert(session);
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    if let Some(PendingError(error)) = response.extensions_mut().remove::<PendingError>() {
        response = match error {
            // The key was revoked between two calls of the page.
            ConsoleError::Ended if cookie_is_key(&console) => to_sign_in(&path, to, true),
            error => in_place_of(&response, failed(&path, visit.api.after_write(error), Some(&visit))),
        };
    }
    let has_cookie = response.headers().contains_key(SET_COOKIE);
    response.headers_mut().extend(cookie.filter(|_| !has_cookie).map(|cookie| (SET_COOKIE, cookie)));
    response.extensions_mut().insert(client);
    response
}

fn cookie_is_key(console: &Console) -> bool {
    console.app.terms.now().clients.credentials() == Credentials::Key
}

async fn admit(console: &Console, parts: &Parts, body: Body, request_id: &str) -> Result<Admitted, Refusal> {
    let (session, credentials, cookie) = session(console, parts)?;
    let is_form = !matches!(parts.method, Method::GET | Method::HEAD);
    if is_form && !origin::is_ours(parts, console.app.terms.now().server.public_url.as_ref()) {
        return Err(ConsoleError::Refused(StatusCode::FORBIDDEN, "It was sent by a page of another site.").into());
    }
    let api = Api::new(&console.api, credentials, parts, request_id);
    let known = api.get::<ClientDocument>("/client").await;
    let ClientDocument { client, tenant, scopes, key } = match known {
        Ok(known) => known,
        Err(ConsoleError::Ended) if session.key.is_some() => return Err(Refusal::SignIn { ended: true }),
        Err(error) => return Err(error.into()),
    };
    // Before the credentials are known to be valid, no body is read.
    let form = if is_form { checked_form(console, parts, body, (&session, &client)).await? } else { Form::default() };
    let scopes = Scope::ALL.iter().copied().filter(|scope| scopes.iter().any(|word| word == scope.as_str())).collect();
    let csrf = session.csrf.clone();
    let request_client = RequestClient { name: client.clone(), key };
    let viewer = Viewer { client, tenant, scopes, can_sign_out: session.key.is_some(), csrf };
    let visit = Visit::new(api, parts, viewer, form, (assets(), console.app.environment.now()));
    Ok(Admitted { visit, client: request_client, cookie, session })
}

/// Returns the session of a request, its credentials for the API, and the cookie to set.
fn session(console: &Console, parts: &Parts) -> Result<(Session, Option<HeaderValue>, Option<HeaderValue>), Refusal> {
    let sessions = &console.sessions;
    let kind = console.app.terms.now().clients.credentials();
    if kind == Credentials::Key {
        return match sessions.presented(&parts.headers) {
            Presented::Nothing => Err(Refusal::SignIn { ended: false }),
            Presented::Ended => Err(Refusal::SignIn { ended: true }),
            Presented::Valid(session) => {
                let cookie = sessions.renewed(&session);
                let credentials = session.key.as_ref().and_then(|key| bearer(key.expose()));
                Ok((session, credentials, cookie))
            }
        };
    }
    let credentials = match kind {
        Credentials::Token => Some(parts.headers.get(AUTHORIZATION).cloned().ok_or(ConsoleError::Ended)?),
        Credentials::Key | Credentials::None => None,
    };
    let (session, cookie) = visitor(sessions, parts);
    Ok((session, credentials, cookie))
}

/// Returns the session without a key of a request, begun if there is none, and the cookie to set.
pub(in crate::http::console) fn visitor(sessions: &Sessions, parts: &Parts) -> (Session, Option<HeaderValue>) {
    if let Presented::Valid(session) = sessions.visitor(&parts.headers) {
        let cookie = sessions.renewed(&session);
        return (session, cookie);
    }
    let session = sessions.begin(None);
    let cookie = sessions.cookie(&session);
    (session, cookie)
}

/// Returns the value of `Authorization` for this key.
pub(in crate::http::console) fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads a client's form and checks that it is of a page of this session. Forms that may hold a file are received like bulk
/// requests: few at a time.
async fn checked_form(
    console: &Console,
    parts: &Parts,
    body: Body,
    (session, client): (&Session, &str),
) -> Result<Form, ConsoleError> {
    let has_file = parts.uri.path().split('/').any(|part| part == "import");
    let busy = || ConsoleError::Refused(StatusCode::SERVICE_UNAVAILABLE, "Too many files arrive now. Try again.");
    let app = &console.app;
    let _permit = has_file.then(|| app.acquire_permit(&app.receptions, client)).transpose().map_err(|_| busy())?;
    let form = form::read(parts, body, if has_file { MAX_FORM } else { MAX_PLAIN_FORM }).await?;
    if !session.has_token(form.field("csrf")) {
        return Err(ConsoleError::Refused(StatusCode::FORBIDDEN, "It is not of a page of this session."));
    }
    Ok(form)
}

/// Leads to the page to sign in, which leads back to this page below `console/`.
fn to_sign_in(path: &str, to: &str, ended: bool) -> Response {
    let to = url::form_urlencoded::byte_serialize(to.as_bytes()).collect::<String>();
    let word = if ended { "&ended=1" } else { "" };
    let location = format!("{}sign-in?to={to}{word}", root_of(path));
    let mut response = see_other(&location).into_response();
    if ended {
        response.headers_mut().extend(Sessions::removal().map(|cookie| (SET_COOKIE, cookie)));
    }
    response
}

/// Gives the page of an error what the layers above the handler have said.
fn in_place_of(response: &Response, mut page: Response) -> Response {
    page.headers_mut().extend(response.headers().get(ALLOW).map(|methods| (ALLOW, methods.clone())));
    page
}

/// Renders the page of an error.
pub(in crate::http::console) fn failed(path: &str, error: ConsoleError, visit: Option<&Visit>) -> Response {
    if let ConsoleError::Internal(detail) = &error {
        tracing::error!(detail, "a page of the console failed");
    }
    let retry_after = match &error {
        ConsoleError::Problem(problem) => problem.retry_after.clone(),
        _ => None,
    };
    let problem = ProblemView::of_error(error);
    let status = problem.status;
    let page = match visit {
        Some(visit) => visit.error_page(&problem.title),
        None => Page::new(&root_of(path), &problem.title, None, Viewer::default(), assets()),
    };
    let mut response = rendered(status, &ProblemPage { page, problem }).unwrap_or_else(|_| {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let retry_after = retry_after.and_then(|seconds| HeaderValue::from_str(&seconds).ok());
    response.headers_mut().extend(retry_after.map(|seconds| (RETRY_AFTER, seconds)));
    response
}

/// Returns the addresses of stylesheet and script.
pub(in crate::http::console) fn assets() -> (&'static str, &'static str) {
    (address("console.css"), address("console.js"))
}
