//! Parts that several documents share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::outcome;
use crate::domain::problem::FieldFault;
use crate::http::input::{Input, word};

/// What is known of a write at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor has done it.
    Applied,
    /// The vendor has not done it and will not.
    NotApplied,
    /// It may or may not have happened.
    Unknown,
}

/// The word for what is known.
pub(in crate::http) fn outcome(known: outcome::Outcome) -> Outcome {
    match known {
        outcome::Outcome::Applied => Outcome::Applied,
        outcome::Outcome::NotApplied => Outcome::NotApplied,
        outcome::Outcome::Unknown => Outcome::Unknown,
    }
}

/// Something to know about a write that did succeed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Warning {
    /// The word to act on: `field_ignored`, `existing_differs`, `launch_unknown`, … New ones may come.
    pub code: String,
    /// RFC 6901 pointer into the request, where the warning is about one member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// One sentence for people.
    pub detail: String,
}

impl From<outcome::Warning> for Warning {
    fn from(warning: outcome::Warning) -> Self {
        let outcome::Warning { code, pointer, detail } = warning;
        Self { code, pointer, detail }
    }
}

/// When the gateway's record was made and last changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// When the record was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub last_modified: Timestamp,
}

/// A person's word on what really happened at the vendor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "outcome": "applied" })))]
pub struct Settlement {
    /// What really happened.
    #[serde(default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    outcome: Option<SettledOutcome>,
}

/// What a person can have found out.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettledOutcome {
    /// The vendor has done it.
    Applied,
    /// The vendor has not done it.
    NotApplied,
}

impl Input for Settlement {
    type Checked = outcome::Outcome;

    fn checked(self) -> Result<outcome::Outcome, Vec<FieldFault>> {
        let Self { outcome } = self;
        match outcome {
            Some(SettledOutcome::Applied) => Ok(outcome::Outcome::Applied),
            Some(SettledOutcome::NotApplied) => Ok(outcome::Outcome::NotApplied),
            None => Err(vec![FieldFault::missing("/outcome", "is missing")]),
        }
    }
}

/// That the process can answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({ "status": "ok" })))]
pub struct Alive {
    /// Always `ok`.
    pub status: &'static str,
}

/// A kind of problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(problem_kind_example))]
pub struct ProblemKind {
    /// The word to act on.
    pub code: String,
    /// The kind in one sentence.
    pub title: String,
    /// The HTTP status it is answered with.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Who must act.
    pub origin: crate::http::problem::ProblemOrigin,
    /// Whether the same request can succeed later without anybody changing anything.
    pub retryable: bool,
    /// What it means.
    pub meaning: String,
    /// What whoever must act should do.
    pub action: String,
}

fn problem_kind_example() -> Value {
    let code = crate::domain::problem::Code::VendorTimeout;
    json!({
        "code": code.as_str(), "title": code.title(), "status": 504, "origin": "vendor", "retryable": code.retryable(),
        "meaning": code.meaning(), "action": code.action(),
    })
}
