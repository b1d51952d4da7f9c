//! examgate: one vendor-neutral REST API in front of several exam vendors, with a true answer about every write.
//!
//! The rooms, each naming only those before it:
//! `secret` < `meter` < `trace` < `domain` < `transport` < `vendors` < `store` < `dispatch` < `config` < `http` < `commands` < `main`;
//! `sandbox` stands apart, and `fuzzing` is there for the fuzzer only. See `docs/ARCHITECTURE.md`.

pub mod commands;
pub mod config;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod sandbox;
pub mod secret;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod vendors;
