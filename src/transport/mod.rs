//! The way out to the vendors, shared by all of them: one [`Client`] a connection.
//!
//! The layers, from the outside in, and why each stands where it does:
//!
//! 1. trace: sees everything that happens to a call, the waiting included;
//! 2. breaker: a failing vendor is not even waited for;
//! 3. concurrency limit: counts what is at the vendor, or about to leave for it;
//! 4. connect retry: repeats only what never left this machine, each time through the layers below;
//! 5. rate: paces every try, a repeat too, right before it leaves, and keeps the pauses the vendor asks for;
//! 6. attempt time-out: one attempt, its signing and the reading of its answer included;
//! 7. sign: innermost, so that every attempt carries a fresh date;
//! 8. reqwest: no redirects, no retries of its own, no proxy.
//!
//! It must never repeat a request that may have reached the vendor: every other repeat is `dispatch`'s, journalled.

mod attempt;
mod breaker;
mod client;
mod flow;
mod limit;
mod message;
mod pool;
mod quoted;
mod settings;
mod shown;
mod slots;
mod status;
#[cfg(test)]
mod tests;

pub use breaker::Circuit;
pub use client::{Client, ClientError};
pub use flow::Condition;
pub use message::{Answer, Draft, Request, Sign, Target, Unsigned};
pub use settings::{BreakerSettings, ConnectionSettings, RetrySettings};
pub use shown::Shown;
pub use status::general_fault;
