//! Assignments in responses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::common::{Meta, Moment, page_document};
use crate::domain::assignment as domain;
use crate::domain::assignment::{AssignmentState, Notify};
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::results::{Grading, Progress, ProgressActivity};
use crate::http::problem::LastProblem;

/// The candidate of an assignment, as far as the gateway knows them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentCandidate {
    /// The gateway's identifier, if the gateway has the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The caller's own id, if the order used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The e-mail address, if the order used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl AssignmentCandidate {
    fn of(key: domain::CandidateKey, known: Option<CandidateId>) -> Self {
        let known = known.map(String::from);
        match key {
            domain::CandidateKey::Id(id) => Self { id: Some(id.into()), external_id: None, email: None },
            domain::CandidateKey::ExternalId(id) => Self { id: known, external_id: Some(id.into()), email: None },
            domain::CandidateKey::Email(email) => Self { id: known, external_id: None, email: Some(email.into()) },
        }
    }
}

/// Supervision of the attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proctoring {
    /// Whether the attempt is supervised.
    pub enabled: bool,
    /// Parameter names and values that the vendor defines.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Access to the assessment. Anyone with the URL can enter: keep it out of logs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The URL to open.
    #[schema(format = "uri")]
    pub url: String,
    /// When it stops working, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// How far an assignment has got, computed from its results when it is read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentProgress {
    /// How far it has got.
    pub activity: ProgressActivity,
    /// What is known of the score of the attempt that counts.
    pub grading: Grading,
    /// The number of attempts.
    pub attempts: usize,
    /// The id of the result that counts; absent while no attempt is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Until when the vendor's state is known, by the vendor's clock: what is not there had not happened by then. Absent if
    /// the vendor never says that nothing happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<Moment>,
}

impl From<Progress> for AssignmentProgress {
    fn from(progress: Progress) -> Self {
        let Progress { activity, grading, attempts, result, as_of } = progress;
        Self { activity, grading, attempts, result: result.map(Into::into), as_of: as_of.map(Into::into) }
    }
}

/// A booking of one candidate for one assessment. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(assignment_example))]
pub struct Assignment {
    /// The gateway's identifier.
    #[schema(read_only)]
    pub id: String,
    /// The connection that holds the booking.
    pub connection: String,
    /// What the gateway knows about the assignment.
    #[schema(read_only)]
    pub state: AssignmentState,
    /// What is known about the last write.
    #[schema(read_only)]
    pub outcome: Outcome,
    /// The candidate the booking is for.
    pub candidate: AssignmentCandidate,
    /// The assessment, as the order named it.
    pub assessment: String,
    /// Start of the period in which it may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_from: Option<Timestamp>,
    /// End of the period in which it may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
    /// The centre at the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// Who notifies the candidate.
    pub notify: Notify,
    /// Whether the candidate can enter without a password.
    pub passwordless: bool,
    /// Supervision of the attempt.
    pub proctoring: Proctoring,
    /// The caller's order id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The vendor's identifiers of the booking, as far as the vendor has returned them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = BTreeMap<String, Value>, read_only)]
    pub vendor_ref: Map<String, Value>,
    /// Access to the assessment, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub launch: Option<Launch>,
    /// How far the candidate has got; `state` is about the booking only. Absent if the gateway reads no results of this
    /// connection, or cannot read them at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub progress: Option<AssignmentProgress>,
    /// Why the last write failed or has an unknown outcome; kept until the next write.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub problem: Option<LastProblem>,
    /// Remarks on the last write.
    #[schema(read_only)]
    pub warnings: Vec<Warning>,
    /// When the record was created and last changed.
    #[schema(read_only)]
    pub meta: Meta,
}

impl Assignment {
    /// Describes an assignment with its progress.
    pub(in crate::http) fn of(assignment: domain::Assignment, progress: Option<Progress>) -> Self {
        let domain::Assignment {
            id,
            tenant: _,
            connection,
            candidate_id,
            order,
            vendor_key: _,
            identity: _,
            assessment_ref: _,
            subject: _,
            state,
            outcome,
            vendor_ref,
            launch,
            problem,
            warnings,
            created,
            last_modified,
            expiry_reported: _,
        } = assignment;
        let domain::NewAssignment {
            candidate,
            assessment,
            valid_from,
            valid_until,
            center,
            notify,
            passwordless,
            proctoring: domain::Proctoring { enabled, parameters },
            if_exists: _,
            reference,
        } = order;
        Self {
            id: id.into(),
            connection,
            state,
            outcome,
            candidate: AssignmentCandidate::of(candidate, candidate_id),
            assessment,
            valid_from,
            valid_until,
            center,
            notify,
            passwordless,
            proctoring: Proctoring { enabled, parameters },
            reference,
            vendor_ref,
            launch: launch.map(|domain::Launch { url, expires_at }| Launch { url, expires_at }),
            progress: progress.map(Into::into),
            problem: problem.as_deref().map(Into::into),
            warnings,
            meta: Meta::of(created, last_modified),
        }
    }
}

page_document!(AssignmentList, Assignment, assignment_list_example, "Assignments, newest first.");

/// Builds the example of an assignment, also used in lists and bulk results.
pub(super) fn assignment_example() -> Value {
    json!({
        "id": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70",
        "connection": "startexam-main",
        "state": "assigned",
        "outcome": "applied",
        "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "externalId": "emp-1001" },
        "assessment": "safety-at-work",
        "validFrom": "2035-03-01T08:00:00Z",
        "validUntil": "2035-03-15T18:00:00Z",
        "center": "mycenter",
        "notify": "none",
        "passwordless": false,
        "proctoring": { "enabled": false },
        "reference": "order-7781",
        "vendorRef": { "id": "7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f" },
        "launch": { "url": "https://go.startexam.com/mycenter#participant/7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f",
                    "expiresAt": "2035-03-15T18:00:00Z" },
        "progress": { "activity": "not_started", "grading": "not_ready", "attempts": 0,
                      "asOf": "2035-03-01T09:20:00.000Z" },
        "warnings": [],
        "meta": { "created": "2026-11-22T09:31:07.112Z", "lastModified": "2026-11-22T09:31:07.498Z" },
    })
}

fn assignment_list_example() -> Value {
    json!({ "items": [assignment_example()], "nextCursor": null })
}
