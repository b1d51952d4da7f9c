//! Reads what `StartExam` reports of sessions: a page of its feed, an entry of it, a report. Pure functions of bytes and
//! settings.
//!
//! It keeps no questions, no personal data but what matching needs, and nothing about proctoring. Whatever has a form that
//! the vendor does not document is rejected, with a reason that holds nothing of the report.

mod elapsed_time;
mod feed;
mod session;
mod settings;
#[cfg(test)]
mod tests;

pub use elapsed_time::parse_elapsed_time;
pub use feed::{continuation, read_page};
pub use session::{ReaderSettings, read_item, read_report};
pub use settings::{FeedMode, FeedSettings, ResultsSettings, SessionReport};
