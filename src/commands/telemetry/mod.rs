//! Set-up of the process's log and, where a collector is configured, of its traces. (Metrics are in
//! `telemetry::metrics`.)

mod collector;
mod log_buffer;
mod logs;
mod panics;
mod traces;

use std::sync::Arc;

use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use self::log_buffer::LogBuffer;
pub(super) use self::log_buffer::flush as flush_log;
pub(super) use self::logs::Format;
use self::traces::Traces;
use super::{Failure, Process};

/// A layer of the process's `tracing` subscriber.
type Layered = Box<dyn Layer<Registry> + Send + Sync>;

/// Telemetry to flush when the process ends.
pub(super) struct Telemetry {
    log: Arc<LogBuffer>,
    traces: Option<Traces>,
}

/// Starts logging only, at this level unless the environment sets one; each line is written as it comes.
pub(super) fn log_at(level: &'static str, process: &Process) -> Result<(), Failure> {
    begin(vec![logs::layer(level, None, process, std::io::stderr)?])
}

/// Starts logging and tracing for a gateway; this runtime sends the traces.
pub(super) fn start(format: Option<Format>, process: &Process, runtime: &Handle) -> Result<Telemetry, Failure> {
    let log = LogBuffer::start()?;
    let mut layers = vec![logs::layer("info", format, process, Arc::clone(&log))?];
    let traces = Traces::tracing_env(process, runtime)?;
    layers.extend(traces.as_ref().map(Traces::layer));
    begin(layers)?;
    if let Some(traces) = &traces {
        traces.announce();
    }
    Ok(Telemetry { log, traces })
}

fn begin(layers: Vec<Layered>) -> Result<(), Failure> {
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| Failure::other("logging cannot start", error))?;
    panics::install_hook();
    Ok(())
}

impl Telemetry {
    /// Sends the remaining spans, within a time limit, and writes the remaining log lines.
    pub(super) fn end(mut self) {
        if let Some(traces) = self.traces.take() {
            traces.end();
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.log.end();
    }
}

/// Formats an error with its sources, which neither `Display` nor the JSON of `tracing` shows.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Many errors already include the text of their source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
