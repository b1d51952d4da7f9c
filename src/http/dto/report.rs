//! Reports in responses, and what people say about them.

use std::borrow::Cow;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::{Moment, page_document, word_document};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::results as domain;
use crate::domain::results::{ParkReason, RejectionReason, ReportKind, ReportState};
use crate::domain::validation::FieldErrors;
use crate::http::extract::validate::{ApiInput, date_time};
use crate::service::{ReportTarget, ReportView};

/// What a vendor said about an attempt, as it came. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(report_example))]
pub struct Report {
    /// The gateway's identifier.
    pub id: String,
    /// The connection.
    pub connection: String,
    /// How it reached the gateway.
    pub kind: ReportKind,
    /// What became of it.
    pub state: ReportState,
    /// Why it is not known whose it is, if it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_for: Option<ParkReason>,
    /// Why it cannot be read, if it is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// When it first arrived, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Moment,
    /// Until when the vendor's state is known by it: the end of the feed that was read, the time it was fetched (both by
    /// the vendor's clock), or its first arrival.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Moment,
    /// How often the same report came again.
    pub repeats: u64,
    /// What is known of it besides its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ReportContext>,
    /// Present and true if a person has said whose it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub by_hand: bool,
    /// The id of the candidate it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// The id of the assignment it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// The id of the result that is made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Its body as it came, if the request asks for it and the body is still kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<ReportBody>,
}

/// Why a report cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectionReason,
    /// The vendor's name of the field concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What is known of a report besides its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportContext {
    /// The centre whose feed it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// The vendor's id of the registration that the gateway asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// The vendor's id of the assessment that the receiver's address names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assessment: Option<String>,
}

/// The body of a report. It holds personal data.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportBody {
    /// How `content` encodes the bytes.
    pub encoding: BodyEncoding,
    /// The content.
    pub content: String,
}

word_document! {
    /// How a body is represented.
    #[derive(Debug, Clone, Copy, Serialize)]
    pub enum BodyEncoding {
        /// As the text that it is, in UTF-8.
        Text,
        /// In Base64 (RFC 4648 §4), because it is no text in UTF-8.
        Base64,
    }
}

page_document!(ReportList, Report, report_list_example, "Reports, newest first.");

impl From<domain::Report> for Report {
    fn from(report: domain::Report) -> Self {
        let domain::Report {
            id,
            tenant: _,
            connection,
            kind,
            state,
            parked_for,
            rejection,
            received,
            as_of,
            digest: _,
            repeats,
            context,
            by_hand,
            candidate,
            assignment,
            result,
        } = report;
        Self {
            id: id.into(),
            connection,
            kind,
            state,
            parked_for,
            rejection: rejection
                .map(|domain::Rejection { reason, field }| Rejection { reason, field: field.map(Cow::into_owned) }),
            received_at: received.into(),
            as_of: as_of.into(),
            repeats,
            context: ReportContext::of(context),
            by_hand,
            candidate: candidate.map(Into::into),
            assignment: assignment.map(Into::into),
            result: result.map(Into::into),
            body: None,
        }
    }
}

impl From<ReportView> for Report {
    fn from(ReportView { report, body }: ReportView) -> Self {
        Self { body: body.map(Into::into), ..report.into() }
    }
}

impl ReportContext {
    fn of(context: domain::ReportContext) -> Option<Self> {
        let is_empty = context == domain::ReportContext::default();
        let domain::ReportContext { center, participant, assessment } = context;
        (!is_empty).then_some(Self { center, participant, assessment })
    }
}

impl From<Vec<u8>> for ReportBody {
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(content) => Self { encoding: BodyEncoding::Text, content },
            Err(error) => Self { encoding: BodyEncoding::Base64, content: BASE64.encode(error.as_bytes()) },
        }
    }
}

/// Whose a report is: one of an assignment and a candidate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "assignment": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70" })))]
pub struct ReportMatch {
    /// The id of the assignment it belongs to.
    assignment: Option<String>,
    /// The id of the candidate it is about, if the gateway has no booking for the attempt.
    candidate: Option<String>,
}

impl ApiInput for ReportMatch {
    type Checked = ReportTarget;

    fn checked(self) -> Result<ReportTarget, Vec<FieldError>> {
        let unknown = |pointer, what: &str| {
            vec![FieldError::new(pointer, Code::InvalidReference.as_str(), format!("there is no such {what}"))]
        };
        match (self.assignment, self.candidate) {
            (Some(id), None) => {
                AssignmentId::parse(&id).map(ReportTarget::Assignment).map_err(|_| unknown("/assignment", "assignment"))
            }
            (None, Some(id)) => {
                CandidateId::parse(&id).map(ReportTarget::Candidate).map_err(|_| unknown("/candidate", "candidate"))
            }
            (None, None) => {
                let detail = "is missing; or name the candidate, if the gateway has no booking for the attempt";
                Err(vec![FieldError::missing("/assignment", detail)])
            }
            (Some(_), Some(_)) => {
                let detail = "omit it: the assignment says whose the report is";
                Err(vec![FieldError::invalid("/candidate", detail)])
            }
        }
    }
}

/// Which kept reports to read again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "since": "2026-11-01T00:00:00Z" })))]
pub struct RereadRequest {
    /// Read those that arrived at or after this time. Default: all that are kept.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl ApiInput for RereadRequest {
    type Checked = Option<Timestamp>;

    fn checked(self) -> Result<Option<Timestamp>, Vec<FieldError>> {
        FieldErrors::new().into_result(self.since)
    }
}

/// Builds the example of a report.
fn report_example() -> Value {
    json!({
        "id": "rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74",
        "connection": "thinkexam-main",
        "kind": "webhook",
        "state": "parked",
        "parkedFor": "several_open_bookings",
        "receivedAt": "2026-11-22T09:30:21.024Z",
        "asOf": "2026-11-22T09:30:21.024Z",
        "repeats": 0,
    })
}

fn report_list_example() -> Value {
    json!({ "items": [report_example()], "nextCursor": null })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ReportId, ResultId};
    use crate::domain::results::ReportDigest;
    use crate::http::extract::validate::parse;

    fn parked() -> domain::Report {
        let time: Timestamp = "2026-11-22T09:30:21.024Z".parse().unwrap();
        domain::Report {
            id: ReportId::parse("rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74").unwrap(),
            tenant: Some("lms".to_owned()),
            connection: "thinkexam-main".to_owned(),
            kind: ReportKind::Webhook,
            state: ReportState::Parked,
            parked_for: Some(ParkReason::SeveralOpenBookings),
            rejection: None,
            received: time,
            as_of: time,
            digest: ReportDigest([7; 32]),
            repeats: 0,
            context: domain::ReportContext::default(),
            by_hand: false,
            candidate: None,
            assignment: None,
            result: None,
        }
    }

    #[test]
    fn a_report_is_shown_as_its_example() {
        assert_eq!(serde_json::to_value(Report::from(parked())).unwrap(), report_example());
    }

    #[test]
    fn a_report_names_what_it_is_about() {
        let report = domain::Report {
            state: ReportState::Applied,
            parked_for: None,
            rejection: Some(domain::Rejection::field(RejectionReason::MissingField, "email")),
            context: domain::ReportContext { center: Some("mycenter".to_owned()), ..Default::default() },
            candidate: CandidateId::parse("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").ok(),
            result: ResultId::parse("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73").ok(),
            ..parked()
        };
        let shown = serde_json::to_value(Report::from(report)).unwrap();
        assert_eq!(shown["rejection"], json!({ "reason": "missing_field", "field": "email" }));
        assert_eq!(shown["context"], json!({ "center": "mycenter" }));
        assert_eq!(shown["candidate"], "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f");
        assert_eq!(shown["result"], "res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73");
        for absent in ["parkedFor", "assignment", "body", "byHand", "tenant", "digest"] {
            assert!(shown.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_body_that_is_no_text_is_encoded() {
        let body = |bytes: &[u8]| {
            let view = ReportView { report: parked(), body: Some(bytes.to_vec()) };
            serde_json::to_value(Report::from(view)).unwrap()["body"].clone()
        };
        assert_eq!(body(b"{\"a\":1}"), json!({ "encoding": "text", "content": "{\"a\":1}" }));
        assert_eq!(body(b"\xff\x00"), json!({ "encoding": "base64", "content": "/wA=" }));
    }

    #[test]
    fn a_match_names_exactly_one_target() {
        let (assignment, candidate) = ("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70", "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f");
        let target = |tree: Value| parse::<ReportMatch>(&tree);
        assert_eq!(
            target(json!({ "assignment": assignment })),
            Ok(ReportTarget::Assignment(AssignmentId::parse(assignment).unwrap()))
        );
        assert_eq!(
            target(json!({ "candidate": candidate })),
            Ok(ReportTarget::Candidate(CandidateId::parse(candidate).unwrap()))
        );
        for (tree, code, pointer) in [
            (json!({}), Code::ValidationFailed, "/assignment"),
            (json!({ "assignment": assignment, "candidate": candidate }), Code::ValidationFailed, "/candidate"),
            (json!({ "assignment": candidate }), Code::InvalidReference, "/assignment"),
            (json!({ "candidate": "emp-1" }), Code::InvalidReference, "/candidate"),
            (json!({ "candidate": candidate, "test": "x" }), Code::ValidationFailed, "/test"),
            (json!({ "assignment": 7 }), Code::ValidationFailed, "/assignment"),
        ] {
            let error = target(tree.clone()).unwrap_err();
            assert_eq!((error.code, error.errors[0].pointer.as_str()), (code, pointer), "{tree}");
        }
    }

    #[test]
    fn rereading_takes_a_date_time_or_nothing() {
        assert_eq!(parse::<RereadRequest>(&json!({})), Ok(None));
        let since = "2026-11-01T00:00:00Z";
        assert_eq!(parse::<RereadRequest>(&json!({ "since": since })), Ok(Some(since.parse().unwrap())));
        let error = parse::<RereadRequest>(&json!({ "since": "2026-11-01" })).unwrap_err();
        assert_eq!(error.errors[0].pointer, "/since");
    }
}
