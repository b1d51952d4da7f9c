//! Progress on stderr: a bar on a terminal, elsewhere an occasional line. It shows counts and file names, never
//! content.

use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::Process;
use crate::commands::import::api_types::{Operation, Progress};

/// Minimum time between two lines without a terminal.
const MIN_LINE_INTERVAL: Duration = Duration::from_secs(10);
/// A rate measured over less time says little.
const MIN_MEASUREMENT: Duration = Duration::from_secs(2);

/// What the user sees while the import runs.
pub(in crate::commands) struct Screen {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    /// The first progress seen; rows finished before are not this run's rate.
    first: Cell<Option<(Instant, usize)>>,
    last: Cell<Option<(Instant, Progress)>>,
}

impl Screen {
    pub(super) fn new(rows: usize, is_quiet: bool, process: &Process) -> Self {
        let bar = (process.terminal && !is_quiet).then(|| {
            let style = ProgressStyle::with_template("  {bar:24.green/black.bright} {pos}/{len} {wide_msg:.dim}");
            ProgressBar::new(rows as u64)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸━"))
        });
        Self { bar, is_quiet, first: Cell::new(None), last: Cell::new(None) }
    }

    /// Creates a screen without a bar, for a command whose own output may be on the terminal.
    pub(in crate::commands) fn of_lines() -> Self {
        Self { bar: None, is_quiet: false, first: Cell::new(None), last: Cell::new(None) }
    }

    /// Prints a line unless the screen is quiet.
    pub(super) fn note(&self, line: &str) {
        if !self.is_quiet {
            self.warn(line);
        }
    }

    /// Prints a line, also on a quiet screen.
    pub(in crate::commands) fn warn(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }

    /// Shows the operation's progress.
    pub(super) fn advance(&self, operation: &Operation) {
        let (now, progress) = (Instant::now(), operation.progress);
        let done = progress.total.saturating_sub(progress.pending);
        let (start, at_start) = self.first.get().unwrap_or((now, done));
        self.first.set(Some((start, at_start)));
        let pace = pace(done.saturating_sub(at_start), progress.pending, now - start);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total as u64);
            bar.set_position(done as u64);
            // A narrow terminal cuts the end off; the pending rows are the rest of the bar.
            bar.set_message(join(&[pace, settling(progress), counts(Progress { pending: 0, ..progress })]));
            return;
        }
        let is_due = self.last.get().is_none_or(|(when, what)| now - when >= MIN_LINE_INTERVAL && what != progress);
        if is_due {
            self.last.set(Some((now, progress)));
            let state = join(&[counts(progress), settling(progress), pace]);
            self.note(&format!("{done} of {} done: {state}", rows(progress.total)));
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to stderr. Ignores errors: a closed stderr must not stop the import.
pub(super) fn write_line(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Formats a number of rows.
pub(super) fn rows(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// Joins the parts that are not empty.
fn join(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ")
}

fn settling(progress: Progress) -> String {
    match progress.settling {
        0 => String::new(),
        settling => format!("settling {} after a restart", rows(settling)),
    }
}

/// Lists the counts that are not zero.
fn counts(progress: Progress) -> String {
    let Progress { total: _, applied, not_applied, unknown, skipped, pending, settling: _ } = progress;
    let named = [
        (applied, "applied"),
        (not_applied, "not applied"),
        (unknown, "unknown"),
        (skipped, "skipped"),
        (pending, "pending"),
    ];
    let named: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    named.join(", ")
}

/// Formats the rate of this run and the time left; empty as long as there is nothing to measure.
fn pace(done: usize, pending: usize, elapsed: Duration) -> String {
    if done == 0 || pending == 0 || elapsed < MIN_MEASUREMENT {
        return String::new();
    }
    let (done_rows, pending_rows) =
        (u32::try_from(done).unwrap_or(u32::MAX), u32::try_from(pending).unwrap_or(u32::MAX));
    let rate = f64::from(done_rows) / elapsed.as_secs_f64();
    let left = Duration::from_secs_f64((f64::from(pending_rows) / rate).min(1e9)).as_secs();
    let left = match (left / 3600, left / 60 % 60, left % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    };
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    format!("{rate} rows/s, about {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_counts_are_omitted() {
        let progress = Progress { total: 9, applied: 5, unknown: 1, pending: 3, ..Progress::default() };
        assert_eq!(counts(progress), "5 applied, 1 unknown, 3 pending");
        assert_eq!(counts(Progress::default()), "");
    }

    #[test]
    fn rows_left_by_a_restart_are_named() {
        let text = |settling_rows| settling(Progress { settling: settling_rows, ..Progress::default() });
        assert_eq!(
            [text(0), text(1), text(3)].join("|"),
            "|settling 1 row after a restart|settling 3 rows after a restart"
        );
        assert_eq!(
            join(&["5 applied".to_owned(), String::new(), text(1)]),
            "5 applied; settling 1 row after a restart"
        );
    }

    #[test]
    fn the_pace_is_of_this_run() {
        for (done, pending, seconds, text) in [
            (0, 10, 60, ""),
            (10, 0, 60, ""),
            (10, 10, 1, ""),
            (5, 10, 2, "2.5 rows/s, about 4 s left"),
            (2400, 24_000, 10, "240 rows/s, about 1 min 40 s left"),
            (10, 72_000, 10, "1.0 rows/s, about 20 h 0 min left"),
        ] {
            assert_eq!(pace(done, pending, Duration::from_secs(seconds)), text);
        }
    }
}
