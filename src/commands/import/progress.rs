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

pub(super) struct Screen {
    bar: Option<ProgressBar>,
    last: Cell<Option<(Instant, Progress)>>,
}

impl Screen {
    pub(super) fn new(rows: usize, process: &Process) -> Self {
        let bar = process.terminal.then(|| {
            let style = ProgressStyle::with_template("  {bar:40.green/black.bright} {pos}/{len} {wide_msg:.dim}");
            ProgressBar::new(rows as u64)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸━"))
        });
        Self { bar, last: Cell::new(None) }
    }

    /// Prints a line. Ignores errors: a closed stderr must not stop the import.
    pub(super) fn note(&self, line: &str) {
        let write = || drop(writeln!(std::io::stderr().lock(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Shows the operation's progress.
    pub(super) fn advance(&self, operation: &Operation) {
        let progress = operation.progress;
        let done = progress.total.saturating_sub(progress.pending);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total as u64);
            bar.set_position(done as u64);
            bar.set_message(counts(progress));
            return;
        }
        let fresh = self.last.get().is_none_or(|(when, what)| when.elapsed() >= MIN_LINE_INTERVAL && what != progress);
        if fresh {
            self.last.set(Some((Instant::now(), progress)));
            self.note(&format!("{done} of {} done: {}", rows(progress.total), counts(progress)));
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Formats a number of rows.
pub(super) fn rows(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// Lists the counts that are not zero.
fn counts(progress: Progress) -> String {
    let Progress { total: _, applied, not_applied, unknown, skipped, pending } = progress;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_counts_are_omitted() {
        let progress = Progress { total: 9, applied: 5, unknown: 1, pending: 3, ..Progress::default() };
        assert_eq!(counts(progress), "5 applied, 1 unknown, 3 pending");
        assert_eq!(counts(Progress::default()), "");
    }
}
