//! Telemetry of the process: metrics and spans. Nothing here knows where they are exported.

pub mod metrics;
pub mod process;
pub mod spans;
