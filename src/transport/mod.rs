//! The way out to the vendors, shared by all of them: one [`Client`] a connection.
//!
//! The layers, from the outside in, and why each stands where it does:
//!
//! 1. trace: sees everything that happens to a call, the waiting included, and keeps what may be shown of it (`shown`);
//! 2. deadline: all waiting before an attempt together takes no longer than one attempt may. A caller's `Prefer: wait` is
//!    no deadline of a call: it ends the caller's waiting, while a write that was cut off half-way would be unknown;
//! 3. breaker: a failing vendor is not even waited for;
//! 4. concurrency limit: counts what is at the vendor, or about to leave for it; single requests go before operations;
//! 5. connect retry: repeats only what never left this machine, each time through the layers below, with full jitter and
//!    within an allowance that all calls of the connection share;
//! 6. rate: paces every try, a repeat too, right before it leaves, and keeps the pauses the vendor asks for;
//! 7. attempt time-out: one attempt, its signing and the reading of its answer included;
//! 8. sign: innermost, so that every attempt carries a fresh date;
//! 9. reqwest: no redirects, no retries of its own, no proxy; its pool is renewed now and then, so that names are resolved
//!    anew (`pool`).
//!
//! None of these is a tower layer but the allowance: they decide by what is known of the wire (was a byte of the body read?)
//! and tell it upwards, which a `Service`'s error has no room for (`docs/decisions/0005`).
//!
//! It must never repeat a request that may have reached the vendor: every other repeat is `dispatch`'s, journalled.

mod attempt;
mod circuit_breaker;
mod client;
mod concurrency_limit;
mod fetch;
mod http_client;
mod pacer;
mod probe;
mod redaction;
mod request;
mod response_error;
mod root_certificates;
mod settings;
mod shared_state;
#[cfg(test)]
mod tests;

pub use crate::transport::fetch::fetch_document;
pub use crate::transport::probe::{NoGreeting, ProbeReport, ProbeResponse};
pub use crate::transport::redaction::RedactionPolicy;
pub use crate::transport::request::{NoSignature, Request, Response, Signer, SigningRequest, Target};
pub use crate::transport::response_error::general_error;
pub use crate::transport::root_certificates::RootCertificates;
pub use attempt::TlsFailure;
pub use circuit_breaker::CircuitState;
pub use client::{Client, ClientError};
pub use settings::{BreakerSettings, ConnectionSettings, RetrySettings, is_loopback};
pub use shared_state::ConnectionStats;
