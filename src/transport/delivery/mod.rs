//! Sends deliveries to webhooks' addresses. Unlike vendors' addresses, a client may have named them, so that each is judged
//! before anything connects to it: `target` judges the URL, `address` every address it resolves to (`resolver`), and the
//! connection goes to an address that was judged, with the name kept for TLS.
//!
//! This module must never follow a redirect, use a proxy of the environment, or connect to an address that was not judged.

mod address;
mod client;
mod resolver;
mod target;
#[cfg(test)]
mod tests;

pub use address::{AddressRefusal, InvalidNetwork, Network, judge_address};
pub use client::{DeliveryClient, DeliveryClientSettings, DeliveryError, DeliveryResponse};
pub use resolver::{HostResolver, SystemResolver};
pub use target::{HostPattern, InvalidHost, TargetPolicy, TargetRefusal};
