//! Types that several documents share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::error::FieldError;
use crate::domain::outcome;
use crate::http::extract::validate::{ApiInput, word};

/// What is known about a write at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor has applied it.
    Applied,
    /// The vendor has not applied it and will not.
    NotApplied,
    /// It may or may not have been applied.
    Unknown,
}

/// Converts an outcome to its API value.
pub(in crate::http) fn outcome(known: outcome::Outcome) -> Outcome {
    match known {
        outcome::Outcome::Applied => Outcome::Applied,
        outcome::Outcome::NotApplied => Outcome::NotApplied,
        outcome::Outcome::Unknown => Outcome::Unknown,
    }
}

/// A remark on a write that succeeded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Warning {
    /// The code to act on: `field_ignored`, `existing_differs`, `launch_unknown`, … New ones may be added.
    pub code: String,
    /// RFC 6901 pointer into the request, if the warning concerns one field.
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

/// When the gateway's record was created and last changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// When the record was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Moment,
    /// When the record was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub last_modified: Moment,
}

impl Meta {
    pub(super) fn of(created: Timestamp, last_modified: Timestamp) -> Self {
        Self { created: created.into(), last_modified: last_modified.into() }
    }
}

/// A point in time by the gateway's clock: RFC 3339 in UTC with three decimals, truncated, so that it is never later
/// than the event. Times the caller gave are returned unchanged.
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

/// The true outcome of an unknown write, as a person verified it at the vendor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "outcome": "applied" })))]
pub struct Settlement {
    /// The verified outcome.
    #[serde(default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    outcome: Option<SettledOutcome>,
}

/// An outcome a person can record.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettledOutcome {
    /// The vendor has applied it.
    Applied,
    /// The vendor has not applied it.
    NotApplied,
}

impl SettledOutcome {
    /// Converts to the domain's outcome.
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

/// A statement that the process responds.
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
    /// The code to act on.
    pub code: String,
    /// The kind of problem in one sentence.
    pub title: String,
    /// The HTTP status of a response with this code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Who must act.
    pub origin: crate::http::problem::ProblemOrigin,
    /// Whether the same request can succeed later without any change.
    pub retryable: bool,
    /// What the code means.
    pub meaning: String,
    /// What the responsible party should do.
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
    fn moments_are_truncated_to_three_decimals() {
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
