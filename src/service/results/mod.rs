//! Results: reads reports from the vendors' feeds and receivers, matches them with candidates and assignments, folds them
//! into results, and answers requests about results and reports.
//!
//! * `chunk`, `drafts`, `admission`, `recording`, `ingest`: a chunk of reports on its way to results, in that order.
//! * `turn`: how large a chunk is, and the pauses between chunks beside single writes.
//! * `directory`, `matching`, `evidence`: whose a report is, and what it proves about a booking.
//! * `revision`: folds series and gives results their versions.
//! * `expiry`: reports bookings whose windows ended without an attempt.
//! * `feed_reader`, `fetching`, `receiver`, `look_again`, `sweep`, `reader_tasks`: where reports come from, and when they are
//!   looked at.
//! * `reread`, `rereading`: kept reports are read again under other settings.
//! * `queries`, `summary`, `progress`, `requests`: what callers ask.

mod admission;
mod chunk;
mod directory;
mod drafts;
mod evidence;
mod expiry;
mod feed_reader;
mod fetching;
pub(in crate::service) mod hints;
mod ingest;
mod look_again;
mod matching;
mod progress;
mod queries;
mod reader_tasks;
mod receiver;
mod receiver_addresses;
mod receiver_limit;
mod recording;
mod requests;
mod reread;
mod rereading;
mod revision;
mod state;
mod summary;
mod sweep;
#[cfg(test)]
mod tests;
mod turn;
mod upkeep;

pub use self::queries::{ReportQuery, ReportView, ResultQuery, ResultView};
pub use self::receiver::{Receiver, Refusal};
pub use self::receiver_addresses::{ReceiverAddress, receiver_addresses};
pub use self::requests::ReportTarget;
pub(in crate::service) use self::state::ResultsState;
pub use self::summary::{ResultSummary, ScoreDistribution};
