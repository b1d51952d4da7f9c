//! Results and their versions in responses.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::common::{Meta, Moment, page_document};
use crate::domain::outcome::Warning;
use crate::domain::results as domain;
use crate::domain::results::{Activity, ClosedBy, Grading, PartKind, ReportKind, ResultMember, TimeName};
use crate::service::ResultView;

/// What is known of one attempt of a candidate at an assessment. It is made from the vendor's reports and from nothing
/// else: what no report says is absent, and absent is never zero. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(result_example))]
pub struct ExamResult {
    /// The gateway's identifier.
    pub id: String,
    /// The number of the latest version, from 1. A report that changes nothing makes none.
    #[schema(minimum = 1)]
    pub version: u32,
    /// The connection.
    pub connection: String,
    /// What the latest version says.
    #[serde(flatten)]
    pub content: ResultContent,
    /// Whether this attempt is the one that counts, as the catalogue says (`latest`, `best` or `first`), among the finished
    /// attempts of the assignment; without an assignment, of the candidate at the assessment.
    pub counts: bool,
    /// Until when the vendor's state is known: the end of the feed that was read, the time a report was fetched (both by
    /// the vendor's clock), or the arrival of a webhook.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Moment,
    /// How the latest report reached the gateway.
    pub source: ReportKind,
    /// When the record was created and last changed.
    pub meta: Meta,
}

/// What a version of a result says. A change of any of these fields makes a version.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultContent {
    /// The assessment: its catalogue id, else the vendor's own id.
    pub assessment: String,
    /// The candidate.
    pub candidate: ResultCandidate,
    /// The assignment that the attempt belongs to; absent if the gateway has no booking for it, such as after an enrolment
    /// in a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<ResultAssignment>,
    /// The attempt.
    pub attempt: Attempt,
    /// How far the attempt has got.
    pub activity: Activity,
    /// What is known of its score.
    pub grading: Grading,
    /// The score; only of a finished attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The vendor's word for the score, verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Whether the attempt has passed. Absent if the catalogue does not say what passes, or the vendor does not report what
    /// would decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// The parts of the score; never questions or answers.
    #[schema(max_items = 200)]
    pub parts: Vec<ResultPart>,
    /// Present and true if another result now holds this attempt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub superseded: bool,
    /// The vendor's identifiers of the attempt.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub vendor_ref: Map<String, Value>,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
}

/// The candidate of a result.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultCandidate {
    /// The gateway's identifier.
    pub id: String,
    /// The caller's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// The assignment of a result.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResultAssignment {
    /// The gateway's identifier.
    pub id: String,
    /// The caller's order id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// One sitting of a candidate at an assessment, as far as the vendor says.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number within the assignment, else of the candidate at the assessment; from 1.
    #[schema(minimum = 1)]
    pub number: u32,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Moment>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Moment>,
    /// How long the candidate worked, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<u64>,
    /// Who ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The times that the vendor does not say and that were taken from something near.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub approximate: Vec<TimeName>,
}

/// The score of a finished attempt, as the vendor reports it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Score {
    /// The points given; may be negative, and may exceed the maximum.
    pub given: f64,
    /// The points that can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The vendor's own percentage; a warning `percent_differs` says if it is not that of the points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// A part of a result.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResultPart {
    /// The kind of part.
    pub kind: PartKind,
    /// The vendor's title of it; may be empty.
    pub label: String,
    /// Its score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<PartScore>,
    /// The vendor's word for the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// The score of a part.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartScore {
    /// The points given.
    pub given: f64,
    /// The points that can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
}

/// A version of a result.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(version_example))]
pub struct ResultVersion {
    /// The number, from 1, without gaps.
    #[schema(minimum = 1)]
    pub version: u32,
    /// The fields in which it differs from the version before; of the first version, those it has.
    pub changed: Vec<ResultMember>,
    /// When it was made, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Moment,
    /// What it says.
    #[serde(flatten)]
    pub content: ResultContent,
}

page_document!(ExamResultList, ExamResult, result_list_example, "Results, newest first.");
page_document!(ResultVersionList, ResultVersion, version_list_example, "The versions of a result, oldest first.");

impl From<ResultView> for ExamResult {
    fn from(view: ResultView) -> Self {
        let ResultView { result, assessment, external_id, reference, counts } = view;
        let domain::ExamResult {
            id,
            tenant: _,
            connection,
            series: _,
            key: _,
            version,
            state,
            published: _,
            as_of,
            source,
            created,
            last_modified,
        } = result;
        let names = Names { assessment, external_id: external_id.map(String::from), reference };
        Self {
            id: id.into(),
            version,
            connection,
            content: ResultContent::of(state, names),
            counts,
            as_of: as_of.into(),
            source,
            meta: Meta::of(created, last_modified),
        }
    }
}

impl ResultVersion {
    /// Describes the versions of a result. An earlier version may be about another assessment, candidate or assignment, of
    /// which only the id is known here.
    pub(in crate::http) fn all(view: &ResultView, versions: Vec<domain::ResultVersion>) -> Vec<Self> {
        let now = &view.result.state;
        let described = |version: domain::ResultVersion| {
            let domain::ResultVersion { version, state, changed, recorded } = version;
            let of_now = |same: bool, name: Option<String>| name.filter(|_| same);
            let listed = of_now(state.assessment_ref == now.assessment_ref, Some(view.assessment.clone()));
            let names = Names {
                assessment: listed.unwrap_or_else(|| state.assessment_ref.clone()),
                external_id: of_now(state.candidate == now.candidate, view.external_id.clone().map(String::from)),
                reference: of_now(state.assignment == now.assignment, view.reference.clone()),
            };
            Self { version, changed, recorded_at: recorded.into(), content: ResultContent::of(state, names) }
        };
        versions.into_iter().map(described).collect()
    }
}

/// The names under which callers know what a state refers to.
struct Names {
    assessment: String,
    external_id: Option<String>,
    reference: Option<String>,
}

impl ResultContent {
    fn of(state: domain::ResultState, names: Names) -> Self {
        let domain::ResultState {
            assessment_ref: _,
            candidate,
            assignment,
            attempt,
            activity,
            grading,
            score,
            level,
            passed,
            parts,
            superseded,
            warnings,
            vendor_ref,
        } = state;
        let Names { assessment, external_id, reference } = names;
        Self {
            assessment,
            candidate: ResultCandidate { id: candidate.into(), external_id },
            assignment: assignment.map(|id| ResultAssignment { id: id.into(), reference }),
            attempt: attempt.into(),
            activity,
            grading,
            score: score.map(Into::into),
            level,
            passed,
            parts: parts.into_iter().map(Into::into).collect(),
            superseded,
            vendor_ref,
            warnings,
        }
    }
}

impl From<domain::NumberedAttempt> for Attempt {
    fn from(attempt: domain::NumberedAttempt) -> Self {
        let domain::NumberedAttempt { number, times, closed_by } = attempt;
        let domain::AttemptTimes { started, completed, elapsed_seconds, approximate } = times;
        let (started_at, completed_at) = (started.map(Into::into), completed.map(Into::into));
        Self { number, started_at, completed_at, elapsed_seconds, closed_by, approximate }
    }
}

impl From<domain::Score> for Score {
    fn from(score: domain::Score) -> Self {
        let domain::Score { given, maximum, percent } = score;
        Self { given: given.get(), maximum: maximum.map(f64::from), percent: percent.map(f64::from) }
    }
}

impl From<domain::Part> for ResultPart {
    fn from(part: domain::Part) -> Self {
        let domain::Part { kind, label, score, level } = part;
        let score = score.map(|domain::PartScore { given, maximum }| PartScore {
            given: given.get(),
            maximum: maximum.map(f64::from),
        });
        Self { kind, label, score, level }
    }
}

fn content_example() -> Value {
    json!({
        "assessment": "rust-101",
        "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "externalId": "emp-1001" },
        "assignment": { "id": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70", "reference": "order-7781" },
        "attempt": { "number": 1, "startedAt": "2035-03-02T09:00:00.000Z", "completedAt": "2035-03-02T09:12:34.000Z",
                     "elapsedSeconds": 754, "closedBy": "candidate", "approximate": ["completedAt"] },
        "activity": "completed",
        "grading": "fully_graded",
        "score": { "given": 4.0, "maximum": 7.0, "percent": 57.14 },
        "level": "Medium",
        "passed": true,
        "parts": [
            { "kind": "section", "label": "Section #1", "score": { "given": 2.0, "maximum": 2.0 }, "level": "passed" },
        ],
        "vendorRef": { "participantId": "7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f" },
        "warnings": [],
    })
}

/// Merges what a version says into the fields around it.
fn with_content(around: Value) -> Value {
    let mut members = around;
    if let (Value::Object(members), Value::Object(content)) = (&mut members, content_example()) {
        members.extend(content);
    }
    members
}

fn result_example() -> Value {
    with_content(json!({
        "id": "res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73",
        "version": 2,
        "connection": "startexam-main",
        "counts": true,
        "asOf": "2035-03-02T09:20:00.000Z",
        "source": "report",
        "meta": { "created": "2035-03-02T09:10:02.114Z", "lastModified": "2035-03-02T09:20:03.871Z" },
    }))
}

fn result_list_example() -> Value {
    json!({ "items": [result_example()], "nextCursor": null })
}

fn version_example() -> Value {
    with_content(json!({
        "version": 2,
        "changed": ["attempt", "activity", "grading", "score", "level", "passed", "parts"],
        "recordedAt": "2035-03-02T09:20:03.871Z",
    }))
}

fn version_list_example() -> Value {
    json!({ "items": [version_example()], "nextCursor": null })
}

#[cfg(test)]
pub(in crate::http) mod tests;
