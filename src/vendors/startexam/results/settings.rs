//! How results are read from a `StartExam` account, as written, and its validation.

use jiff::Timestamp;
use serde::Deserialize;

use super::session::{ReaderSettings, time};
use crate::domain::results::{AttemptRule, FoldSettings, Regression, Repetition, ScoringRules, Unscored};
use crate::domain::units::ConfigDuration;
use crate::domain::validation::FieldErrors;
use crate::vendors::{SettingError, SettingErrors};

/// The shortest interval. The vendor advises ten minutes.
const MIN_EVERY: ConfigDuration = ConfigDuration(std::time::Duration::from_mins(1));
/// The longest overlap: a longer one would read the whole day again each time.
const MAX_OVERLAP: ConfigDuration = ConfigDuration(std::time::Duration::from_hours(24));

/// Whether results are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedMode {
    /// They are not.
    #[default]
    Off,
    /// From the vendor's feed.
    Feed,
}

/// When the report of a session is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionReport {
    /// If a finished entry of the feed lacks score or parts, or steps back.
    #[default]
    Auto,
    /// For every finished entry of the feed.
    Always,
    /// Never.
    Never,
}

/// How results are read, as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ResultsSettings {
    /// Whether results are read.
    pub mode: FeedMode,
    /// How often the feed is read.
    pub every: ConfigDuration,
    /// How far before the vendor's watermark the next question begins.
    pub overlap: ConfigDuration,
    /// Where the first question begins; empty: a day before the present by the vendor's clock.
    pub since: String,
    /// Centres to read besides the connection's own and those of known assignments.
    pub centers: Vec<String>,
    /// Name of the feed's list; empty for `sessions`, else the only list.
    pub list_member: String,
    /// When the report of a session is fetched.
    pub session_report: SessionReport,
    /// What a finished session without a score is.
    pub unscored: Unscored,
    /// What a second start under one participant is.
    pub restart: Repetition,
    /// What to do if a session steps back.
    pub regression: Regression,
    /// Whether a session that the vendor closed is finished.
    pub auto_closed_ends: bool,
    /// The field of `participantData` that holds the candidate's external id; empty for none.
    pub candidate_field: String,
    /// How long after the end of its window a booking without an attempt expires.
    pub expire_after: ConfigDuration,
    /// Maximum number of pages in one run.
    pub max_pages: u32,
    /// The tenant that owns what is matched with no tenant's candidate; empty for the only tenant there is.
    pub owner: String,
}

impl Default for ResultsSettings {
    fn default() -> Self {
        let minutes = |minutes| ConfigDuration(std::time::Duration::from_mins(minutes));
        Self {
            mode: FeedMode::default(),
            every: minutes(10),
            overlap: minutes(5),
            since: String::new(),
            centers: Vec::new(),
            list_member: String::new(),
            session_report: SessionReport::default(),
            unscored: Unscored::default(),
            restart: Repetition::default(),
            regression: Regression::default(),
            auto_closed_ends: false,
            candidate_field: String::new(),
            expire_after: minutes(24 * 60),
            max_pages: 1_000,
            owner: String::new(),
        }
    }
}

/// Validated settings of reading results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSettings {
    /// The settings as written.
    pub written: ResultsSettings,
    /// Where the first question begins.
    pub since: Option<Timestamp>,
    /// How reports are read.
    pub reader: ReaderSettings,
}

impl ResultsSettings {
    /// Validates the settings; `email_field` is the profile's field of the e-mail address. `None` if results are not read.
    ///
    /// # Errors
    /// Every invalid setting, with its key below `results`.
    pub fn checked(self, email_field: &str) -> Result<Option<FeedSettings>, Vec<SettingError>> {
        let mut errors = SettingErrors::default();
        if self.every < MIN_EVERY {
            errors.push("every", format!("must be at least {MIN_EVERY}"));
        }
        if self.overlap > MAX_OVERLAP {
            errors.push("overlap", format!("must be at most {MAX_OVERLAP}"));
        }
        let since = Some(self.since.as_str()).filter(|since| !since.is_empty());
        let since = since.and_then(|since| {
            errors.check("since", time(since).ok_or("must be a date-time such as \"2026-11-01T00:00:00Z\", or empty"))
        });
        for (index, center) in self.centers.iter().enumerate() {
            errors.check(&format!("centers.{index}"), line(center));
        }
        for (key, text) in [("list_member", &self.list_member), ("candidate_field", &self.candidate_field)] {
            if !text.is_empty() {
                errors.check(key, line(text));
            }
        }
        if self.max_pages == 0 {
            errors.push("max_pages", "must be at least 1");
        }
        if self.regression == Regression::Verify && self.session_report == SessionReport::Never {
            let detail = "\"verify\" fetches reports: allow them with session_report = \"auto\", or choose \"ignore\" or \
                          \"accept\"";
            errors.push("regression", detail);
        }
        let reader = ReaderSettings {
            list_member: self.list_member.clone(),
            candidate_field: self.candidate_field.clone(),
            email_field: email_field.to_owned(),
        };
        let on = self.mode == FeedMode::Feed;
        errors.finish(Some(on.then_some(FeedSettings { written: self, since, reader })))
    }
}

impl FeedSettings {
    /// Returns how the readings of a series are folded.
    #[must_use]
    pub fn fold(&self, scoring: ScoringRules) -> FoldSettings {
        FoldSettings {
            attempts: AttemptRule::ByStart(self.written.restart),
            unscored: self.written.unscored,
            regression: self.written.regression,
            auto_closed_ends: self.written.auto_closed_ends,
            scoring,
        }
    }
}

fn line(text: &str) -> Result<(), String> {
    let mut errors = FieldErrors::new();
    errors.check_line("", Some(text), 200);
    errors.into_result(()).map_err(|errors| errors.into_iter().map(|error| error.detail).collect())
}
