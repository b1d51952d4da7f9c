//! A result and its versions, as pages show them.

use jiff::Timestamp;
use serde::Deserialize;

use super::record::{Meta, Warning};
use crate::http::console::format::{shortened, spaced};

/// What is known of one attempt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ExamResult {
    pub(in crate::http::console) id: String,
    /// The number of the latest version.
    pub(in crate::http::console) version: u32,
    pub(in crate::http::console) connection: String,
    /// Whether the attempt is the one that counts.
    pub(in crate::http::console) counts: bool,
    /// Until when the vendor's state is known.
    pub(in crate::http::console) as_of: Timestamp,
    /// How the latest report came.
    pub(in crate::http::console) source: String,
    pub(in crate::http::console) meta: Meta,
    #[serde(flatten)]
    pub(in crate::http::console) content: ResultContent,
}

/// A version of a result.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ResultVersion {
    #[serde(rename = "version")]
    pub(in crate::http::console) number: u32,
    pub(in crate::http::console) changed: Vec<String>,
    pub(in crate::http::console) recorded_at: Timestamp,
    #[serde(flatten)]
    pub(in crate::http::console) content: ResultContent,
}

/// What a version of a result says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ResultContent {
    /// The assessment.
    pub(in crate::http::console) assessment: String,
    /// The candidate.
    pub(in crate::http::console) candidate: ResultCandidate,
    /// The booking.
    pub(in crate::http::console) assignment: Option<ResultAssignment>,
    /// The attempt.
    pub(in crate::http::console) attempt: Attempt,
    /// How far it has got.
    pub(in crate::http::console) activity: String,
    /// What is known of its score.
    pub(in crate::http::console) grading: String,
    /// The score.
    pub(in crate::http::console) score: Option<Score>,
    /// The vendor's word for it.
    pub(in crate::http::console) level: Option<String>,
    /// Whether it passed.
    pub(in crate::http::console) passed: Option<bool>,
    /// The parts of the score.
    #[serde(default)]
    pub(in crate::http::console) parts: Vec<ResultPart>,
    /// Whether another result now holds the attempt.
    #[serde(default)]
    pub(in crate::http::console) superseded: bool,
    /// What is odd about it.
    #[serde(default)]
    pub(in crate::http::console) warnings: Vec<Warning>,
}

/// The candidate of a result.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ResultCandidate {
    /// The gateway's id.
    pub(in crate::http::console) id: String,
    /// The caller's id.
    pub(in crate::http::console) external_id: Option<String>,
}

/// The booking of a result.
#[derive(Deserialize)]
pub(in crate::http::console) struct ResultAssignment {
    /// The gateway's id.
    pub(in crate::http::console) id: String,
    /// The caller's order id.
    pub(in crate::http::console) reference: Option<String>,
}

/// An attempt.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Attempt {
    /// Its number.
    pub(in crate::http::console) number: u32,
    /// When it started.
    pub(in crate::http::console) started_at: Option<Timestamp>,
    /// When it ended.
    pub(in crate::http::console) completed_at: Option<Timestamp>,
    /// How long the candidate worked.
    pub(in crate::http::console) elapsed_seconds: Option<u64>,
    /// Who ended it.
    pub(in crate::http::console) closed_by: Option<String>,
    /// The times that the vendor does not say exactly.
    #[serde(default)]
    approximate: Vec<String>,
}

/// Points.
#[derive(Deserialize, PartialEq)]
pub(in crate::http::console) struct Score {
    /// The points given.
    pub(in crate::http::console) given: f64,
    /// The points that can be had.
    pub(in crate::http::console) maximum: Option<f64>,
    /// The vendor's percentage.
    pub(in crate::http::console) percent: Option<f64>,
}

/// A part of a score.
#[derive(Deserialize)]
pub(in crate::http::console) struct ResultPart {
    /// The kind of part.
    pub(in crate::http::console) kind: String,
    /// The vendor's title.
    label: String,
    /// Its points.
    pub(in crate::http::console) score: Option<Score>,
    /// The vendor's word for them.
    pub(in crate::http::console) level: Option<String>,
}

impl Attempt {
    /// Returns how long the candidate worked, in milliseconds.
    pub(in crate::http::console) fn elapsed_millis(&self) -> Option<u64> {
        self.elapsed_seconds.map(|seconds| seconds.saturating_mul(1_000))
    }

    /// Returns whether a time is only near.
    pub(in crate::http::console) fn is_approximate(&self, time: &str) -> bool {
        self.approximate.iter().any(|name| name == time)
    }
}

impl Score {
    /// Returns the points: "41 / 50".
    pub(in crate::http::console) fn points(&self) -> String {
        let Self { given, maximum, percent: _ } = self;
        maximum.map_or_else(|| given.to_string(), |maximum| format!("{given} / {maximum}"))
    }
}

impl ResultPart {
    /// Returns its title, or its kind if it has none.
    pub(in crate::http::console) fn title(&self) -> &str {
        if self.label.is_empty() { &self.kind } else { &self.label }
    }
}

impl ResultContent {
    /// Returns the headline of a result.
    pub(in crate::http::console) fn headline(&self) -> String {
        match &self.score {
            Some(Score { given, maximum: Some(maximum), .. }) => format!("{given} of {maximum} points"),
            Some(Score { given, maximum: None, .. }) => format!("{given} points"),
            None => "No score".to_owned(),
        }
    }

    /// Returns whether it passed, in words.
    pub(in crate::http::console) fn passed_word(&self) -> Option<&'static str> {
        self.passed.map(yes_no)
    }

    /// Returns a field in words; `None` for those that words would not fit.
    pub(in crate::http::console) fn shown(&self, field: &str) -> Option<String> {
        let missing = || "none".to_owned();
        Some(match field {
            "assessment" => self.assessment.clone(),
            "candidate" => shortened(&self.candidate.id),
            "assignment" => self.assignment.as_ref().map_or_else(missing, |it| shortened(&it.id)),
            "activity" => spaced(&self.activity),
            "grading" => spaced(&self.grading),
            "score" => self.score.as_ref().map_or_else(missing, Score::points),
            "level" => self.level.clone().unwrap_or_else(missing),
            "passed" => self.passed_word().map_or_else(missing, str::to_owned),
            "superseded" => yes_no(self.superseded).to_owned(),
            _ => return None,
        })
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
