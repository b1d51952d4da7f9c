//! An operation, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::operation::OperationKind;
use crate::http::console::api::segment;
use crate::http::console::chart::{Ratio, counted};

/// A durable job of many rows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Operation {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) kind: String,
    pub(in crate::http::console) connection: Option<String>,
    pub(in crate::http::console) state: String,
    #[serde(default)]
    pub(in crate::http::console) cancelling: bool,
    pub(in crate::http::console) progress: OperationProgress,
    pub(in crate::http::console) created_at: Timestamp,
    pub(in crate::http::console) started_at: Option<Timestamp>,
    pub(in crate::http::console) finished_at: Option<Timestamp>,
    pub(in crate::http::console) expires_at: Option<Timestamp>,
}

/// The number of rows by state.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct OperationProgress {
    pub(in crate::http::console) total: u64,
    pub(in crate::http::console) applied: u64,
    pub(in crate::http::console) not_applied: u64,
    pub(in crate::http::console) unknown: u64,
    pub(in crate::http::console) skipped: u64,
    pub(in crate::http::console) pending: u64,
    pub(in crate::http::console) settling: u64,
}

impl OperationProgress {
    /// Returns the rows by outcome as a bar.
    pub(in crate::http::console) fn ratio(&self) -> Ratio {
        let Self { total, applied, not_applied, unknown, skipped, .. } = *self;
        let parts = [
            ("applied", "good", applied),
            ("notApplied", "bad", not_applied),
            ("unknown", "warn", unknown),
            ("skipped", "idle", skipped),
        ];
        Ratio::of(format!("{}: {}", counted(total, "row", "rows"), self.words()), &parts, total)
    }

    /// Returns the numbers that are not zero, in words.
    pub(in crate::http::console) fn words(&self) -> String {
        let Self { total: _, applied, not_applied, unknown, skipped, pending, settling: _ } = *self;
        let counts = [
            (applied, "applied"),
            (not_applied, "not applied"),
            (unknown, "unknown"),
            (skipped, "skipped"),
            (pending, "pending"),
        ];
        let given = counts.iter().filter(|(number, _)| *number > 0);
        let words: Vec<String> = given.map(|(number, word)| counted(*number, word, word)).collect();
        if words.is_empty() { "no rows".to_owned() } else { words.join(" · ") }
    }
}

impl Operation {
    /// Returns the number of rows that a retry concerns.
    pub(in crate::http::console) fn to_retry(&self) -> u64 {
        let OperationProgress { not_applied, unknown, skipped, .. } = self.progress;
        not_applied + unknown + skipped
    }

    /// Returns the path of its page below `console/`.
    pub(in crate::http::console) fn path(&self) -> String {
        format!("operations/{}", segment(&self.id))
    }

    /// Returns whether all its rows have ended.
    pub(in crate::http::console) fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Returns whether its unknown rows are settled at the operation: those of bulks are settled one by one.
    pub(in crate::http::console) fn is_enrolment(&self) -> bool {
        self.kind == OperationKind::ProgramEmployees.as_str()
    }
}
