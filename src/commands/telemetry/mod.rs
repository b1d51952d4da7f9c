//! What the process tells of itself while it runs: the log, and traces where a collector is named. (Figures are `meter`'s.)

mod collector;
mod logs;
mod panics;
mod traces;

use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub(super) use self::logs::Format;
use self::traces::Traces;
use super::{Failure, Process};

/// A layer of the process's subscriber.
type Layered = Box<dyn Layer<Registry> + Send + Sync>;

/// What has to be ended in order when the process ends.
pub(super) struct Telemetry(Option<Traces>);

/// Log only, at this level where the environment does not say.
pub(super) fn log_at(level: &'static str, process: &Process) -> Result<(), Failure> {
    begin(vec![logs::layer(level, None, process)?])
}

/// Log and traces for a gateway; traces are sent by this runtime.
pub(super) fn start(format: Option<Format>, process: &Process, runtime: &Handle) -> Result<Telemetry, Failure> {
    let mut layers = vec![logs::layer("info", format, process)?];
    let traces = Traces::tracing_env(process, runtime)?;
    layers.extend(traces.as_ref().map(Traces::layer));
    begin(layers)?;
    if let Some(traces) = &traces {
        traces.announce();
    }
    Ok(Telemetry(traces))
}

fn begin(layers: Vec<Layered>) -> Result<(), Failure> {
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| Failure::other("logging cannot start", error))?;
    panics::log_places();
    Ok(())
}

impl Telemetry {
    /// Sends what is left, for a bounded time.
    pub(super) fn end(self) {
        if let Some(traces) = self.0 {
            traces.end();
        }
    }
}

/// An error with its sources, which neither `Display` nor the JSON of `tracing` shows.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Many say what their source says already.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
