//! Logs go to stderr: readable text on a terminal, else JSON, one object per line. Secrets never reach a log: they have
//! no text form (`secret`), and libraries may not log below [`LIBRARIES`].

use clap::ValueEnum;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::Layered;
use crate::commands::{Failure, Process};

const LEVELS: &str = "RUST_LOG";
const FORMAT: &str = "EXAMGATE_LOG_FORMAT";

/// The most verbose level that libraries may log at, whatever `RUST_LOG` asks for: below it hyper, h2, rustls, reqwest
/// and tower write headers and bodies.
const LIBRARIES: LevelFilter = LevelFilter::INFO;
/// Stricter limits for libraries that log statements or server messages at higher levels.
const CLOSER: [(&str, LevelFilter); 1] = [("sqlx", LevelFilter::WARN)];

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum Format {
    /// Pretty on a terminal, else JSON
    Auto,
    /// One JSON object per line
    Json,
    /// Readable text
    Pretty,
}

/// Builds the layer that writes the log to this writer, by the command line (`asked`) and the environment.
pub(super) fn layer<W>(
    level: &'static str,
    asked: Option<Format>,
    process: &Process,
    writer: W,
) -> Result<Layered, Failure>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wanted = process.variable(LEVELS).map_or(level.into(), |value| value.to_string_lossy());
    let wanted = EnvFilter::try_new(&wanted).map_err(|error| fault(LEVELS, &error))?;
    let fit = filter_fn(may_be_written).with_max_level_hint(LevelFilter::TRACE);
    let filter = wanted.and(fit);
    // Without a reader of stderr, reporting that to stderr would panic.
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(writer).log_internal_errors(false);
    Ok(if is_pretty(asked, process)? {
        lines.with_ansi(process.terminal).with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    })
}

fn is_pretty(asked: Option<Format>, process: &Process) -> Result<bool, Failure> {
    let format = match (asked, process.variable(FORMAT)) {
        (Some(format), _) => format,
        (None, Some(text)) => Format::from_str(&text.to_string_lossy(), true)
            .map_err(|_| fault(FORMAT, &"expected auto, json or pretty"))?,
        (None, None) => Format::Auto,
    };
    Ok(match format {
        Format::Auto => process.terminal,
        Format::Json => false,
        Format::Pretty => true,
    })
}

fn fault(variable: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(vec![format!("environment variable {variable}: {why}")])
}

fn may_be_written(about: &Metadata<'_>) -> bool {
    let level = about.level();
    ours(about.target())
        || *level <= CLOSER.iter().find(|(name, _)| of(about.target(), name)).map_or(LIBRARIES, |(_, most)| *most)
}

/// Returns whether a log target belongs to this program.
pub(super) fn ours(target: &str) -> bool {
    of(target, "examgate")
}

fn of(target: &str, name: &str) -> bool {
    target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_matched_by_its_whole_crate_name() {
        assert!(ours("examgate") && ours("examgate::http::edge"));
        assert!(!ours("examgate_client") && !ours("hyper::examgate") && !ours(""));
    }
}
