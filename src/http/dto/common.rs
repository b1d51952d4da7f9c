//! Parts that several documents share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::error::FieldError;
use crate::domain::outcome;
use crate::http::extract::validate::{ApiInput, word};

/// What is known of a write at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
        Self { code: code.as_str().to_owned(), pointer, detail }
    }
}

/// When the gateway's record was made and last changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// When the record was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Moment,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub last_modified: Moment,
}

impl Meta {
    pub(super) fn of(created: Timestamp, last_modified: Timestamp) -> Self {
        Self { created: created.into(), last_modified: last_modified.into() }
    }
}

/// When the gateway saw or did something: RFC 3339 in UTC with three decimals, cut off, so that it is never later than it
/// was. Times of the caller's own are answered as given.
#[derive(Debug, Clone, Copy)]
pub struct Moment(Timestamp);

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(time) = self;
        serializer.collect_str(&format_args!("{time:.3}"))
    }
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

impl SettledOutcome {
    /// The same for the gateway.
    pub(super) const fn outcome(self) -> outcome::Outcome {
        match self {
            Self::Applied => outcome::Outcome::Applied,
            Self::NotApplied => outcome::Outcome::NotApplied,
        }
    }
}

impl ApiInput for Settlement {
    type Checked = outcome::Outcome;

    fn checked(self) -> Result<outcome::Outcome, Vec<FieldError>> {
        let Self { outcome } = self;
        let missing = || vec![FieldError::missing("/outcome", "is missing")];
        outcome.map(SettledOutcome::outcome).ok_or_else(missing)
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
    let code = crate::domain::error::Code::VendorTimeout;
    json!({
        "code": code.as_str(), "title": code.title(), "status": 504, "origin": "vendor", "retryable": code.retryable(),
        "meaning": code.meaning(), "action": code.action(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_three_decimals_and_are_never_later_than_they_were() {
        for (time, shown) in [
            ("2026-11-22T13:42:21.024999999Z", "2026-11-22T13:42:21.024Z"),
            ("2026-11-22T13:42:21.999999999Z", "2026-11-22T13:42:21.999Z"),
            ("2026-11-22T13:42:21Z", "2026-11-22T13:42:21.000Z"),
            ("2026-11-22T13:42:21.5+02:00", "2026-11-22T11:42:21.500Z"),
        ] {
            assert_eq!(json!(Moment::from(time.parse::<Timestamp>().unwrap())), shown);
        }
    }
}
