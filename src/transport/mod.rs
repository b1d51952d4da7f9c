//! The outbound HTTP stack shared by all vendors: one [`Client`] per connection.
//!
//! The layers, from the outside in, with the reason for each position:
//!
//! 1. trace: sees the whole call, including its waits, and keeps what may be shown of it (`redaction`);
//! 2. deadline: limits the total waiting time before an attempt to the duration of one attempt. A caller's
//!    `Prefer: wait` is no deadline of a call: it ends only the caller's wait, as an aborted write would be unknown;
//! 3. circuit breaker: no call waits for a failing vendor;
//! 4. concurrency limit: counts calls at the vendor or about to leave for it; single requests go before operations;
//! 5. connect retry: retries only requests that never left this machine, each time through the layers below, with full
//!    jitter and within a budget shared by all calls of the connection;
//! 6. rate limit: paces every attempt, retries included, just before it leaves, and observes the pauses that the vendor
//!    asks for;
//! 7. attempt timeout: one attempt, including signing and reading the response;
//! 8. sign: innermost, so that every attempt has a fresh date;
//! 9. reqwest: no redirects, no retries of its own, no proxy; its pool is replaced periodically, so that names are
//!    resolved again (`http_client`).
//!
//! Only the retry budget is a tower component. The other layers decide by what is known of the wire (was a byte of the
//! body read?) and pass that knowledge upwards, which a `Service`'s error type cannot express (`docs/decisions/0005`).
//!
//! Deliveries to webhooks have a client of their own (`delivery`).
//!
//! This module must never retry a request that may have reached the vendor: every other retry belongs to `service`,
//! which records a write intent first.

mod attempt;
mod call_history;
mod circuit_breaker;
mod client;
mod concurrency_limit;
pub mod delivery;
mod fetch;
mod http_client;
mod pacer;
mod probe;
mod redaction;
mod request;
mod response;
mod response_error;
mod root_certificates;
mod settings;
mod shared_state;
#[cfg(test)]
mod tests;

pub use crate::transport::fetch::fetch_document;
pub use crate::transport::probe::{ProbeError, ProbeReport, ProbeResponse};
pub use crate::transport::redaction::RedactionPolicy;
pub use crate::transport::request::{NoSignature, Request, Signer, SigningRequest, Target};
pub use crate::transport::response::Response;
pub use crate::transport::response_error::general_error;
pub use crate::transport::root_certificates::RootCertificates;
pub use attempt::TlsFailure;
pub use call_history::{CallCounts, CallHistory};
pub use circuit_breaker::CircuitState;
pub use client::Client;
pub use settings::{BreakerSettings, ConnectionSettings, RetrySettings, is_loopback};
pub use shared_state::ConnectionStats;
