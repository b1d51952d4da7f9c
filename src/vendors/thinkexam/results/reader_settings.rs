//! How webhooks are read.

use serde::Deserialize;

use super::exam_date::DateFormat;

/// A way to find the test that a webhook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchStep {
    /// The address names it.
    Path,
    /// The body names it.
    TestId,
    /// It is that of the candidate's only open booking.
    OnlyOpen,
}

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// The current one if there is a `result`, else the older one.
    #[default]
    Auto,
    /// The current one.
    Current,
    /// The older one.
    Older,
}

/// How webhooks are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSettings {
    /// The form of the body.
    pub form: BodyForm,
    /// The sources of the test's id, the first one first.
    pub test_from: Vec<MatchStep>,
    /// The values of `status` that mean that the test is finished.
    pub completes: Vec<String>,
    /// The field of the older form that holds the points; empty for none.
    pub older_score_member: String,
    /// The form of `EXAM_DATE`, if it is to be read.
    pub exam_date: Option<DateFormat>,
}
