//! The HTTP API: parses requests strictly, authenticates callers, and turns every failure into a problem document. It
//! decides nothing about outcomes; that is the service's task.
//!
//! The way of a request: `server` (connection limit, TLS, timeouts) → `middleware::exchange` (request id, access log) →
//! `middleware::authorize` (authentication, rate limit, scope, in-flight limit) → the extractors in `extract` → the
//! resource's function in `handlers` → `service`. On the way back `authorize` writes the audit entry and `exchange`
//! renders an error as a problem document. `routes` lists every route, `openapi` documents them, and `dto` holds the
//! documents of requests and responses.

mod app_state;
mod audit_info;
mod auth;
mod console;
mod console_parts;
mod dto;
mod exchange_context;
mod extract;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handlers;
mod middleware;
mod openapi;
mod pagination;
pub mod preview;
mod problem;
mod progress;
mod response;
mod router;
mod routes;
mod server;
mod webhook_owners;

pub use crate::http::app_state::{ApiParts, JwksFetcher, Limits, LiveSettings, LoadGauges};
pub use crate::http::console_parts::{ConsoleParts, SessionKeys};
pub use crate::http::openapi::v3_0::converted as document_3_0;
pub use crate::http::server::connection_limit::ListenerOptions;
pub use crate::http::server::listener::serve;
pub use crate::http::server::shutdown::ShutdownHandle;
pub use crate::http::server::tls::Tls;
pub use crate::http::webhook_owners::ClientWebhookOwners;
pub use openapi::{document, printed};
pub use problem::status;
pub use router::{admin_router, console_router, receiver_router, router, router_with_settings};
