//! Behaviour tests: black box over HTTP, the real program against the sandbox and against scripted vendors.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so; the process's own clock and environment are what is tested"
)]

mod accepted;
mod access;
mod architecture;
mod assignments;
mod audit;
mod bulk;
mod candidates;
mod clock_steps;
mod commands;
mod configuration;
mod conformance;
mod connections;
mod demo;
mod deployment;
mod doctor;
mod draining;
mod erasure;
mod exchanges;
mod existing;
mod forms;
mod hostile;
mod http;
mod idempotency;
mod import;
mod isolation;
mod jwt;
mod limits;
mod openapi;
mod operations;
mod outbound;
mod pressure;
mod problems;
mod programs;
mod redaction;
mod reload;
mod replicas;
mod requests;
mod retention;
mod rolling;
mod sandbox;
mod settling;
mod shares;
mod sharing;
mod store_failures;
mod storm;
mod support;
mod telemetry;
mod tenants;
mod tls;
mod truth;
mod wire;
