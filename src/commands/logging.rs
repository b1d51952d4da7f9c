//! Where logs go: to stderr, for people on a terminal, else as JSON, one object a line. Secrets never reach a log: they
//! have no text form (`secret`).

use tracing_subscriber::EnvFilter;

use super::{Failure, Process};

const VARIABLE: &str = "RUST_LOG";

/// Sets logging up for the whole process.
pub(super) fn start(process: &Process) -> Result<(), Failure> {
    start_at("info", process)
}

/// The same with another level where the environment does not say.
pub(super) fn start_at(level: &'static str, process: &Process) -> Result<(), Failure> {
    let wanted = process.variable(VARIABLE).map_or(level.into(), |value| value.to_string_lossy());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| Failure::Usage(vec![format!("environment variable {VARIABLE}: {error}")]))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if process.terminal { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    started.map_err(|error| Failure::other("logging cannot start", error))
}
