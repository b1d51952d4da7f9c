//! Behaviour tests: black box over HTTP, the real program against the sandbox and scripted vendors.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot continue fails; the tests use the process's own clock and environment"
)]

mod accepted;
mod access;
mod access_log;
mod adversarial;
mod architecture;
mod assignments;
mod audit;
mod audit_record;
mod backup;
mod bulk;
mod bulk_calls;
mod bulk_formats;
mod bulk_tables;
mod candidate_fields;
mod candidates;
mod chaos;
mod clock_steps;
mod commands;
mod configuration;
mod conformance;
mod connections;
mod console;
mod demo;
mod deployment;
mod diagnostics;
mod draining;
mod erasure;
mod events;
mod exchanges;
mod existing;
mod fairness;
mod http;
mod idempotency;
mod import;
mod import_tables;
mod isolation;
mod jwt;
mod limits;
mod lists;
mod load;
mod mistakes;
mod module_cycles;
mod openapi;
mod operations;
mod outbound;
mod outcome_accuracy;
mod problem_bodies;
mod problems;
mod process_metrics;
mod programs;
mod readme;
mod redaction;
mod reload;
mod reload_connections;
mod replicas;
mod requests;
mod results;
mod results_commands;
mod retention;
mod rolling_restart;
mod routing;
mod sandbox;
mod settling;
mod settling_after_kill;
mod shares;
mod spellings;
mod store_failures;
mod suggestions;
mod support;
mod telemetry;
mod tenants;
mod tls;
mod upgrade;
mod vendor_requests;
mod webhooks;
