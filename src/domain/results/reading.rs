//! What one report says of one attempt, in the gateway's words. It never holds questions, answers or personal data beyond
//! what matching needs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::scoring::{PartScore, ReportedScore};
use crate::domain::identity::{EmailAddress, ExternalId};
use crate::domain::ids::CandidateId;
use crate::domain::outcome::Warning;
use crate::domain::words::words;

/// What a vendor identifies, and therefore what its reports are collected by. A connection's own; personal data at vendors
/// that know people by e-mail address, so a store seals it and finds it by a blind index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesKey {
    /// A registration at the vendor: `StartExam`'s participant.
    Participant(String),
    /// A candidate at a test.
    CandidateAtTest {
        /// The key by which the person is compared: of the e-mail address, else of the enrolment number; after matching,
        /// the gateway's id.
        candidate: String,
        /// The vendor's id of the test; `None` where the report names none, until it has been matched.
        test: Option<String>,
    },
}

impl SeriesKey {
    /// Returns the series to which a report belongs once it is known whose it is and at which test. What identifies a
    /// registration stays as it is.
    #[must_use]
    pub fn matched(self, id: &CandidateId, assessment_ref: &str) -> Self {
        match self {
            Self::Participant(_) => self,
            Self::CandidateAtTest { .. } => {
                Self::CandidateAtTest { candidate: id.to_string(), test: Some(assessment_ref.to_owned()) }
            }
        }
    }

    /// Returns the text to compute a blind index of; different for different series.
    #[must_use]
    pub fn index_text(&self) -> String {
        match self {
            Self::Participant(id) => format!("participant\n{id}"),
            Self::CandidateAtTest { candidate, test } => {
                let length = candidate.len();
                format!("candidate\n{length}\n{candidate}\n{}", test.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Whose attempt it may be, from exact to weak. Used for matching and never shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MatchHints {
    /// The vendor's id of the registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// The vendor's id of the test, in the vendor's own form. A test that is named is never guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// The centre whose feed was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// The caller's id of the person, or the enrolment number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<ExternalId>,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailAddress>,
}

words! {
    /// Who ended an attempt.
    pub enum ClosedBy {
        /// The candidate finished it.
        Candidate "candidate",
        /// The vendor closed it, because its time was over or the candidate had left.
        Timeout "timeout",
    }
}

words! {
    /// A time of an attempt, as named in `approximate`.
    #[derive(PartialOrd, Ord)]
    pub enum TimeName {
        /// The start.
        StartedAt "startedAt",
        /// The end.
        CompletedAt "completedAt",
    }
}

/// When an attempt took place, as far as the vendor says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptTimes {
    /// The start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// How long the candidate worked, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<u64>,
    /// The times that the vendor does not say and that were taken from something near, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approximate: Vec<TimeName>,
}

words! {
    /// The kind of a part of a result.
    pub enum PartKind {
        /// A section of the test.
        Section "section",
        /// A subject.
        Subject "subject",
        /// A scale of a psychological test.
        Scale "scale",
    }
}

/// A part of a result: never a question or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The kind of part.
    pub kind: PartKind,
    /// The vendor's title of it; may be empty.
    pub label: String,
    /// Its score; absent where the vendor reports none or one that cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<PartScore>,
    /// The vendor's word for the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// What one report says of one attempt. Kept as long as the result that is made from it, also after the report's body is
/// gone: a later report is folded with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the report is about.
    pub series: SeriesKey,
    /// Whose attempt it may be.
    pub hints: MatchHints,
    /// When it took place.
    pub times: AttemptTimes,
    /// Whether the vendor says that it is finished.
    pub finished: bool,
    /// Who ended it, if the vendor says so. Whether a time-out alone ends an attempt is a setting of the fold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The figures.
    #[serde(default)]
    pub score: ReportedScore,
    /// The vendor's word for the score, verbatim but for control characters and length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Its parts, at most [`Reading::MAX_PARTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What could not be taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

impl Reading {
    /// Maximum number of parts.
    pub const MAX_PARTS: usize = 200;
    /// Maximum length of a label and of a level, in characters.
    pub const MAX_TEXT: usize = 200;
}
