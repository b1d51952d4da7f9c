//! The public face: HTTP in, the gateway's words out. It decides nothing about outcomes; it reads requests strictly,
//! knows who asks, and answers every failure as a problem.
//!
//! A request's way: `edge` (id, log) → `guard` (who, how often, may they) → extractors (`request`; `writing` for a write with
//! its key and body, `bulk` for one of many rows) → the handler of the resource → `dispatch` → back out, where `edge` writes
//! the problem if there is one.

mod accept;
mod access;
mod answer;
mod assignments;
mod audit;
mod auth;
mod body;
mod bulk;
mod candidates;
mod canonical;
mod catalogue;
mod docs;
mod dto;
mod edge;
mod events;
mod exchanges;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod guard;
mod house;
mod idempotency;
mod input;
mod json;
mod listen;
mod meta;
mod openapi;
mod openapi_3_0;
mod openapi_parts;
mod operations;
mod patch;
mod places;
mod prefer;
mod problem;
mod programs;
mod pulse;
mod request;
mod routes;
mod state;
mod stopping;
mod stream;
mod tls;
mod writing;

pub use house::Keeping;
pub use listen::serve;
pub use openapi::{document, printed};
pub use openapi_3_0::converted as document_3_0;
pub use problem::status;
pub use routes::{admin_router, router, router_under};
pub use state::{AskForKeys, Busy, Face, Limits, Terms};
pub use stopping::Ending;
pub use tls::Tls;
