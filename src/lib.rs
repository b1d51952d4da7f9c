//! examgate: one vendor-neutral REST API in front of several exam vendors that reports the true outcome of every write.
//!
//! Modules, each using only those before it:
//! `secret` < `telemetry` < `domain` < `sheet` < `transport` < `vendors` < `store` < `service` < `config` < `http` <
//! `commands` < `main`;
//! `sandbox` is independent, and `fuzz` exists only for the fuzzer and tests. See `docs/ARCHITECTURE.md`.

pub mod commands;
pub mod config;
pub mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod http;
pub mod sandbox;
pub mod secret;
pub mod service;
mod sheet;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod vendors;
