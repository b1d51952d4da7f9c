//! Logs go to stderr: readable text on a terminal, else JSON, one object per line. Secrets never reach a log: they have
//! no text form (`secret`), and libraries may not log below [`LIBRARIES`].

use std::fmt;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format::{Format as EventFormat, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
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
        let format = OneLine(EventFormat::default().with_ansi(process.terminal));
        lines.with_ansi(process.terminal).event_format(format).with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    })
}

/// The readable format, with each event on one line as in JSON: an error's text of several lines would be torn where
/// processes share the output, and could pass for events of its own.
struct OneLine(EventFormat);

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        writeln!(writer, "{}", line.replace('\r', "\\r").replace('\n', "\\n"))
    }
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
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// An output that keeps each write.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl io::Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_event_is_one_write_of_one_line() {
        for (format, quoted) in [(Format::Pretty, r"a\r\nb\nc"), (Format::Json, r"a\r\nb\nc")] {
            let writes = Writes::default();
            let output = writes.clone();
            let layer = layer("info", Some(format), &Process::current(), move || output.clone()).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(vec![layer]), || {
                let span = tracing::info_span!("span", text = %"x\ny");
                let _within = span.enter();
                tracing::info!(error = %"a\r\nb\nc", "said");
            });
            let writes = writes.0.lock().unwrap();
            let [line] = &writes[..] else { panic!("{writes:?}") };
            assert!(line.find('\n') == Some(line.len() - 1) && line.contains(quoted), "{format:?}: {line:?}");
        }
    }

    #[test]
    fn a_target_is_matched_by_its_whole_crate_name() {
        assert!(ours("examgate") && ours("examgate::http::edge"));
        assert!(!ours("examgate_client") && !ours("hyper::examgate") && !ours(""));
    }
}
