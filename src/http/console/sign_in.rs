//! Signing in with an API key and signing out. The key is verified by the API itself; what a browser keeps is a session.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::domain::audit::Entry;
use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::http::auth::Credentials;
use crate::http::console::api::{Api, ConsoleError};
use crate::http::console::form;
use crate::http::console::format as filters;
use crate::http::console::guard::{ClientDocument, assets, bearer, visitor};
use crate::http::console::listing::with_query;
use crate::http::console::origin;
use crate::http::console::page::{Page, Viewer};
use crate::http::console::session::{Presented, Session, Sessions};
use crate::http::console::state::Console;
use crate::http::console::visit::{Visit, below_console, rendered, root_of, see_other};
use crate::http::exchange_context::ExchangeContext;
use crate::http::middleware::access_log::RequestClient;
use crate::http::server::peer::PeerAddress;
use crate::secret::Secret;

/// Maximum size of the form, in bytes.
const MAX_SIGN_IN: usize = 16 << 10;
/// The parameter of a request that a page of ours has led to, so that none asks for ever.
const AGAIN: &str = "again";

/// The page to sign in.
#[derive(Template)]
#[template(path = "sign-in.html", config = "src/http/console/askama.toml")]
struct SignInPage {
    page: Page,
    /// Where to go afterwards, below `console/`.
    to: String,
    /// Whether an earlier session has ended.
    ended: bool,
    /// Why the sign-in failed.
    error: Option<String>,
}

/// The page that asks again for the session, for a browser that another site has led here.
#[derive(Template)]
#[template(path = "sign-in-again.html", config = "src/http/console/askama.toml")]
struct AskAgainPage {
    page: Page,
    /// The page to sign in, once more.
    again: String,
}

/// Shows the page to sign in.
pub(in crate::http::console) async fn show(State(console): State<Console>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let to = below_console(&parameter(&parts, "to").unwrap_or_default()).to_owned();
    let presented = console.sessions.presented(&parts.headers);
    if matches!(presented, Presented::Valid(_)) || needs_no_key(&console) {
        return see_other(&format!("{}{to}", here(&parts))).into_response();
    }
    if matches!(presented, Presented::Nothing)
        && origin::is_of_another_site(&parts)
        && parameter(&parts, AGAIN).is_none()
    {
        return ask_again(&parts, &to);
    }
    let ended = parameter(&parts, "ended").is_some();
    answer(&console, &parts, (StatusCode::OK, to), ended, None)
}

/// Signs in.
pub(in crate::http::console) async fn sign_in(
    State(console): State<Console>,
    Extension(context): Extension<ExchangeContext>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if needs_no_key(&console) {
        return see_other(&here(&parts)).into_response();
    }
    let (key, to) = match submitted(&console, &parts, body).await {
        Ok(submitted) => submitted,
        Err((status, detail)) => return answer(&console, &parts, (status, String::new()), false, Some(detail)),
    };
    let refused = |status, detail: &str| answer(&console, &parts, (status, to.clone()), false, Some(detail.to_owned()));
    let (address, now) = (parts.extensions.get::<PeerAddress>().map(|peer| peer.0), console.app.environment.now());
    // Only refusals count: those who guess do not keep out a person with a valid key.
    let invalid = async || {
        if let Err(wait) = console.sign_ins.acquire(address, now) {
            let mut response =
                refused(StatusCode::TOO_MANY_REQUESTS, "Too many sign-ins. Wait a minute and try again.");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
            return response;
        }
        not_valid(&console, &context, refused(StatusCode::UNAUTHORIZED, "This key is not valid.")).await
    };
    let Some(credentials) = bearer(key.expose()) else { return invalid().await };
    let api = Api::new(&console.api, Some(credentials), &parts, context.exchange.request_id());
    match api.get::<ClientDocument>("/client").await {
        Ok(client) => {
            let entry = Entry::about(&context.exchange, &client.tenant, &client.client, now);
            record(&console, entry, "console.sign_in", StatusCode::SEE_OTHER, None).await;
            let session = console.sessions.begin(Some(key));
            let mut response = see_other(&format!("{}{to}", here(&parts))).into_response();
            response.headers_mut().extend(console.sessions.cookie(&session).map(|cookie| (SET_COOKIE, cookie)));
            response.extensions_mut().insert(RequestClient { name: client.client, key: client.key });
            response
        }
        Err(ConsoleError::Ended) => invalid().await,
        Err(ConsoleError::Problem(problem)) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            refused(status, &format!("{}. {}", problem.title, problem.detail))
        }
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "The gateway had an internal error."),
    }
}

/// Signs out.
pub(in crate::http::console) async fn sign_out(
    State(console): State<Console>,
    Extension(context): Extension<ExchangeContext>,
    Extension(session): Extension<Session>,
    visit: Visit,
) -> Result<Response, ConsoleError> {
    if session.key.is_none() {
        return visit.redirect("", "");
    }
    console.sessions.end(&session);
    let viewer = visit.viewer();
    let entry = Entry::about(&context.exchange, &viewer.tenant, &viewer.client, console.app.environment.now());
    record(&console, entry, "console.sign_out", StatusCode::SEE_OTHER, None).await;
    let mut response = visit.redirect("sign-in", "")?;
    response.headers_mut().extend(Sessions::removal().map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}

/// Reads the key and the destination of the form.
async fn submitted(console: &Console, parts: &Parts, body: Body) -> Result<(Secret, String), (StatusCode, String)> {
    let refused = |detail: &str| Err((StatusCode::FORBIDDEN, detail.to_owned()));
    if !origin::is_ours(parts, console.app.terms.now().server.public_url.as_ref()) {
        return refused("The form was sent by a page of another site.");
    }
    let form = match form::read(parts, body, MAX_SIGN_IN).await {
        Ok(form) => form,
        Err(ConsoleError::Refused(status, _)) => return Err((status, "The form could not be read.".to_owned())),
        Err(_) => return Err((StatusCode::BAD_REQUEST, "The form could not be read.".to_owned())),
    };
    match console.sessions.visitor(&parts.headers) {
        Presented::Valid(session) if session.has_token(form.field("csrf")) => {}
        Presented::Valid(_) | Presented::Ended => return refused("The page was too old. Try again."),
        Presented::Nothing => {
            return refused(
                "The browser did not send the cookie of this page. The console needs HTTPS, or an address on this machine \
                 such as http://localhost.",
            );
        }
    }
    Ok((Secret::new(form.field("apiKey").trim()), below_console(form.field("to")).to_owned()))
}

/// Records that a key was refused: in the log and, if there is only one tenant whose it can be, in its audit record.
async fn not_valid(console: &Console, context: &ExchangeContext, response: Response) -> Response {
    tracing::warn!(request_id = context.exchange.request_id(), "a sign-in to the console was refused");
    let tenant = console.app.terms.now().clients.only_tenant().map(str::to_owned);
    if let Some(tenant) = tenant {
        let about = Entry::about(&context.exchange, &tenant, "", console.app.environment.now());
        let entry = Entry { client: None, ..about };
        record(console, entry, "console.sign_in", response.status(), Some(Code::Unauthenticated)).await;
    }
    response
}

async fn record(console: &Console, entry: Entry, action: &'static str, status: StatusCode, code: Option<Code>) {
    let outcome = Some(if code.is_some() { Outcome::NotApplied } else { Outcome::Applied });
    let (status, code) = (Some(status.as_u16()), code.map(Code::as_str));
    console.app.gateway.record(Entry { action, status, outcome, code, ..entry }).await;
}

fn needs_no_key(console: &Console) -> bool {
    console.app.terms.now().clients.credentials() != Credentials::Key
}

/// Has the browser ask for the page to sign in once more, by itself. It sends the cookie of a session, which is
/// `SameSite=Strict`, with no request that another site has led to, such as a link in a mail; with the next one, which a page
/// of ours has led to, it does.
fn ask_again(parts: &Parts, to: &str) -> Response {
    let again = with_query("sign-in", &[("to", to), (AGAIN, "1")]);
    let page = Page::new(&here(parts), "Sign in", None, Viewer::default(), assets());
    rendered(StatusCode::OK, &AskAgainPage { page, again }).into_response()
}

fn answer(
    console: &Console,
    parts: &Parts,
    (status, to): (StatusCode, String),
    ended: bool,
    error: Option<String>,
) -> Response {
    let (session, cookie) = visitor(&console.sessions, parts);
    let viewer = Viewer { csrf: session.csrf, ..Viewer::default() };
    let page = Page::new(&here(parts), "Sign in", None, viewer, assets());
    let mut response = rendered(status, &SignInPage { page, to, ended, error }).into_response();
    response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}

fn here(parts: &Parts) -> String {
    root_of(parts.uri.path())
}

fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
}
