//! The console: pages at `/console/` for operators and support people. It is a client of the API like any other: each page
//! calls the API's own router within the process, with the credentials of the person who looks at it, so nothing is on a
//! page that the API does not give.
//!
//! `guard` admits only requests of a session and checks the token of every form; `session` seals the cookie; `api` calls the
//! API, as fast as `pace` permits, and `documents` has what it returns; `page` is the frame of all pages; `screens` has one
//! file for each screen. Pages work without a script, contain nothing inline and no address but relative ones. It must never
//! read service or store: the one thing it writes there is the audit entry of a sign-in or sign-out, which no route of the
//! API is about.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::LOCATION;

use crate::http::app_state::AppState;
use crate::http::console::api::ConsoleError;
use crate::http::console::state::Console;
use crate::http::console_parts::ConsoleParts;

mod api;
mod assets;
mod chart;
mod documents;
mod form;
mod format;
mod guard;
mod listing;
mod origin;
mod pace;
mod page;
mod screens;
mod session;
mod sign_in;
mod sign_in_limit;
mod state;
mod visit;

/// Builds the routes of the console over the API's own router.
pub(in crate::http) fn routes(app: &AppState, parts: &ConsoleParts, api: Router) -> Router<AppState> {
    let console = Console::new(app, parts, api);
    let sign_out = Router::new().route("/console/sign-out", post(sign_in::sign_out)).with_state(console.clone());
    let guarded = screens()
        .merge(sign_out)
        .route("/console/{*rest}", get(unknown_page))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(console.clone(), guard::guard));
    let open = Router::new()
        .route("/console/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/console/assets/{name}", get(assets::asset))
        .method_not_allowed_fallback(wrong_method)
        .with_state(console);
    Router::new()
        .route("/console", get(async || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "console/")])))
        .merge(open)
        .merge(guarded)
        .layer(from_fn(guard::headers))
}

/// Builds the routes of all screens.
fn screens() -> Router<AppState> {
    Router::new()
        .merge(screens::assessments::routes())
        .merge(screens::attention::routes())
        .merge(screens::audit::routes())
        .merge(screens::connections::routes())
        .merge(screens::exchanges::routes())
        .merge(screens::import::routes())
        .merge(screens::operations::routes())
        .merge(screens::people::routes())
        .merge(screens::person::routes())
        .merge(screens::reports::routes())
        .merge(screens::results::routes())
        .merge(screens::settle::routes())
        .merge(screens::webhooks::routes())
}

async fn unknown_page() -> ConsoleError {
    ConsoleError::Refused(StatusCode::NOT_FOUND, "The console has no such page.")
}

async fn wrong_method() -> ConsoleError {
    ConsoleError::Refused(StatusCode::METHOD_NOT_ALLOWED, "The address takes no request of this kind.")
}
