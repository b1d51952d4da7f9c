//! The public face: HTTP in, the gateway's words out. It decides nothing about outcomes; it reads requests strictly,
//! knows who asks, and answers every failure as a problem.
//!
//! A request's way: `edge` (id, log) → `guard` (who, how often, may they) → extractors (`request`; `writing` for a write with
//! its key and body, `bulk` for one of many rows) → the handler of the resource → `dispatch` → back out, where `edge` writes
//! the problem if there is one.

mod app_state;
mod auth;
mod dto;
mod extract;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handlers;
mod middleware;
mod openapi;
mod problem;
mod response;
mod routes;
mod server;

pub use crate::http::app_state::{ApiParts, JwksFetcher, Limits, LiveSettings, LoadGauges};
pub use crate::http::openapi::v3_0::converted as document_3_0;
pub use crate::http::server::connection_limit::ListenerOptions;
pub use crate::http::server::listener::serve;
pub use crate::http::server::shutdown::ShutdownHandle;
pub use crate::http::server::tls::Tls;
pub use openapi::{document, printed};
pub use problem::status;
pub use routes::{admin_router, router, router_under};
