//! Assignments as they are sent and answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::common::{Meta, Outcome, Warning, outcome};
use crate::domain::assignment as domain;
use crate::domain::ids::CandidateId;
use crate::domain::problem::{Code, FieldFault};
use crate::domain::text::Faults;
use crate::http::input::{Input, Object, word};

/// Declares a document with the members of an order and some before them.
macro_rules! with_order {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)* .. }) => {
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$extra_meta])* $extra: $extra_type,)*
            /// The connection to book at; that of the assessment's catalogue entry, the client's default or the only one
            /// when absent.
            #[schema(min_length = 1, max_length = 200)]
            connection: Option<String>,
            /// For whom.
            #[schema(value_type = CandidateReference, required = true, nullable = false)]
            candidate: Option<Object<CandidateReference>>,
            /// A catalogue id (`GET /assessments`), or the vendor's own id.
            #[schema(required = true, nullable = false, min_length = 1, max_length = 250)]
            assessment: Option<String>,
            /// From when it may be taken.
            #[schema(value_type = Option<String>, format = DateTime)]
            valid_from: Option<Timestamp>,
            /// Until when it may be taken; later than `validFrom`.
            #[schema(value_type = Option<String>, format = DateTime)]
            valid_until: Option<Timestamp>,
            /// The vendor-side centre.
            #[schema(min_length = 1, max_length = 200)]
            center: Option<String>,
            /// Who tells the candidate; `none` when absent.
            #[serde(default, deserialize_with = "word")]
            notify: Option<Notify>,
            /// Whether the candidate need not enter a password; false when absent.
            passwordless: Option<bool>,
            /// Supervision of the attempt.
            #[schema(value_type = Option<ProctoringInput>)]
            proctoring: Option<Object<ProctoringInput>>,
            /// What to do when the gateway already knows a booking of this candidate for this assessment; `reuse` when
            /// absent.
            #[serde(default, deserialize_with = "word")]
            #[schema(write_only)]
            if_exists: Option<IfAssignmentExists>,
            /// The caller's order id.
            #[schema(min_length = 1, max_length = 200)]
            reference: Option<String>,
        }
    };
}

with_order! {
    /// A booking to make.
    #[schema(examples(new_assignment_example))]
    pub struct NewAssignment { .. }
}

with_order! {
    /// A row of a bulk: a booking to make.
    pub struct AssignmentItem {
        /// The caller's mark for the row, repeated in its result.
        #[schema(min_length = 1, max_length = 200)]
        item_id: Option<String>,
        ..
    }
}

/// The candidate meant, named in exactly one way.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateReference {
    /// By the gateway's identifier.
    id: Option<String>,
    /// By the caller's own id.
    #[schema(min_length = 1, max_length = 250)]
    external_id: Option<String>,
    /// By e-mail address.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
}

/// Who tells the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Notify {
    /// Nobody.
    None,
    /// The vendor, by e-mail.
    VendorEmail,
}

/// Supervision of the attempt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProctoringInput {
    /// Whether the attempt is supervised; false when absent.
    enabled: Option<bool>,
    /// Names and values the vendor defines.
    parameters: Option<BTreeMap<String, String>>,
}

/// What to do when the gateway already knows a booking of this candidate for this assessment.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfAssignmentExists {
    /// Answer the one there is.
    Reuse,
    /// Book once more.
    CreateNew,
    /// Refuse with `assignment_already_exists`.
    Fail,
}

/// A booking to make and where.
pub(in crate::http) struct Order {
    pub(in crate::http) connection: Option<String>,
    pub(in crate::http) order: domain::NewAssignment,
}

impl Input for NewAssignment {
    type Checked = Order;

    fn checked(self) -> Result<Order, Vec<FieldFault>> {
        let Self {
            connection,
            candidate,
            assessment,
            valid_from,
            valid_until,
            center,
            notify,
            passwordless,
            proctoring,
            if_exists,
            reference,
        } = self;
        let mut faults = Faults::new();
        faults.line("/connection", connection.as_deref(), 200);
        let candidate = candidate_key(&mut faults, candidate);
        if assessment.is_none() {
            faults.push(FieldFault::missing("/assessment", "is missing"));
        }
        let order = domain::NewAssignment {
            // A stand-in lets the other members be checked when one of these is at fault already.
            candidate: candidate.unwrap_or_else(|| domain::CandidateKey::ExternalId("-".to_owned())),
            assessment: assessment.unwrap_or_else(|| "-".to_owned()),
            valid_from,
            valid_until,
            center,
            notify: notify.map(Into::into).unwrap_or_default(),
            passwordless: passwordless.unwrap_or(false),
            proctoring: proctoring.map(|Object(proctoring)| proctoring.into()).unwrap_or_default(),
            if_exists: if_exists.map(Into::into).unwrap_or_default(),
            reference,
        };
        match order.checked() {
            Ok(order) => faults.or(Order { connection, order }),
            Err(more) => {
                faults.extend(more);
                Err(faults.or(()).err().unwrap_or_default())
            }
        }
    }
}

impl Input for AssignmentItem {
    type Checked = Order;

    fn checked(self) -> Result<Order, Vec<FieldFault>> {
        let Self {
            item_id,
            connection,
            candidate,
            assessment,
            valid_from,
            valid_until,
            center,
            notify,
            passwordless,
            proctoring,
            if_exists,
            reference,
        } = self;
        let mut faults = Faults::new();
        faults.line("/itemId", item_id.as_deref(), 200);
        let single = NewAssignment {
            connection,
            candidate,
            assessment,
            valid_from,
            valid_until,
            center,
            notify,
            passwordless,
            proctoring,
            if_exists,
            reference,
        };
        match single.checked() {
            Ok(order) => faults.or(order),
            Err(more) => {
                faults.extend(more);
                Err(faults.or(()).err().unwrap_or_default())
            }
        }
    }
}

fn candidate_key(faults: &mut Faults, candidate: Option<Object<CandidateReference>>) -> Option<domain::CandidateKey> {
    let Some(Object(CandidateReference { id, external_id, email })) = candidate else {
        faults.push(FieldFault::missing("/candidate", "is missing"));
        return None;
    };
    match (id, external_id, email) {
        (Some(id), None, None) => {
            let id = CandidateId::parse(&id);
            if id.is_err() {
                let detail = "there is no such candidate";
                faults.push(FieldFault::new("/candidate/id", Code::InvalidReference.as_str(), detail));
            }
            id.ok().map(domain::CandidateKey::Id)
        }
        (None, Some(id), None) => Some(domain::CandidateKey::ExternalId(id)),
        (None, None, Some(email)) => Some(domain::CandidateKey::Email(email)),
        _ => {
            faults.push(FieldFault::invalid("/candidate", "give exactly one of id, externalId and email"));
            None
        }
    }
}

impl From<Notify> for domain::Notify {
    fn from(word: Notify) -> Self {
        match word {
            Notify::None => Self::None,
            Notify::VendorEmail => Self::VendorEmail,
        }
    }
}

impl From<domain::Notify> for Notify {
    fn from(notify: domain::Notify) -> Self {
        match notify {
            domain::Notify::None => Self::None,
            domain::Notify::VendorEmail => Self::VendorEmail,
        }
    }
}

impl From<IfAssignmentExists> for domain::IfAssignmentExists {
    fn from(word: IfAssignmentExists) -> Self {
        match word {
            IfAssignmentExists::Reuse => Self::Reuse,
            IfAssignmentExists::CreateNew => Self::CreateNew,
            IfAssignmentExists::Fail => Self::Fail,
        }
    }
}

impl From<ProctoringInput> for domain::Proctoring {
    fn from(input: ProctoringInput) -> Self {
        let ProctoringInput { enabled, parameters } = input;
        Self { enabled: enabled.unwrap_or(false), parameters: parameters.unwrap_or_default() }
    }
}

/// What the gateway knows an assignment to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// The vendor has the booking.
    Assigned,
    /// A write is under way.
    Pending,
    /// The booking was withdrawn.
    Cancelled,
    /// The vendor refused; there is no booking.
    Failed,
    /// It is not known whether there is a booking.
    Unknown,
}

impl From<domain::AssignmentState> for AssignmentState {
    fn from(state: domain::AssignmentState) -> Self {
        match state {
            domain::AssignmentState::Assigned => Self::Assigned,
            domain::AssignmentState::Pending => Self::Pending,
            domain::AssignmentState::Cancelled => Self::Cancelled,
            domain::AssignmentState::Failed => Self::Failed,
            domain::AssignmentState::Unknown => Self::Unknown,
        }
    }
}

impl From<AssignmentState> for domain::AssignmentState {
    fn from(state: AssignmentState) -> Self {
        match state {
            AssignmentState::Assigned => Self::Assigned,
            AssignmentState::Pending => Self::Pending,
            AssignmentState::Cancelled => Self::Cancelled,
            AssignmentState::Failed => Self::Failed,
            AssignmentState::Unknown => Self::Unknown,
        }
    }
}

/// The candidate of an assignment, as far as the gateway knows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentCandidate {
    /// The gateway's identifier, where the gateway has the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The caller's own id, where the order named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The e-mail address, where the order named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl AssignmentCandidate {
    fn of(key: domain::CandidateKey, known: Option<CandidateId>) -> Self {
        let known = known.map(String::from);
        match key {
            domain::CandidateKey::Id(id) => Self { id: Some(id.into()), external_id: None, email: None },
            domain::CandidateKey::ExternalId(id) => Self { id: known, external_id: Some(id), email: None },
            domain::CandidateKey::Email(email) => Self { id: known, external_id: None, email: Some(email) },
        }
    }
}

/// Supervision of the attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proctoring {
    /// Whether the attempt is supervised.
    pub enabled: bool,
    /// Names and values the vendor defines.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The way into the assessment. Whoever has the address is let in: keep it out of logs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The address to open.
    #[schema(format = "uri")]
    pub url: String,
    /// Until when it works, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// One candidate booked for one assessment. Members nobody has given are absent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(assignment_example))]
pub struct Assignment {
    /// The gateway's identifier.
    #[schema(read_only)]
    pub id: String,
    /// The connection it lives at.
    pub connection: String,
    /// What the gateway knows it to be.
    #[schema(read_only)]
    pub state: AssignmentState,
    /// What is known of the last write.
    #[schema(read_only)]
    pub outcome: Outcome,
    /// For whom.
    pub candidate: AssignmentCandidate,
    /// The assessment as the order named it.
    pub assessment: String,
    /// From when it may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_from: Option<Timestamp>,
    /// Until when it may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
    /// The vendor-side centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// Who tells the candidate.
    pub notify: Notify,
    /// Whether the candidate need not enter a password.
    pub passwordless: bool,
    /// Supervision of the attempt.
    pub proctoring: Proctoring,
    /// The caller's order id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How the vendor names the booking, as far as it has told.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = BTreeMap<String, Value>, read_only)]
    pub vendor_ref: Map<String, Value>,
    /// The way in, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub launch: Option<Launch>,
    /// What to know about the last write.
    #[schema(read_only)]
    pub warnings: Vec<Warning>,
    /// When the record was made and last changed.
    #[schema(read_only)]
    pub meta: Meta,
}

impl From<domain::Assignment> for Assignment {
    fn from(assignment: domain::Assignment) -> Self {
        let domain::Assignment {
            id,
            tenant: _,
            connection,
            candidate_id,
            order,
            vendor_key: _,
            assessment_ref: _,
            subject: _,
            state,
            outcome: known,
            vendor_ref,
            launch,
            warnings,
            created,
            last_modified,
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
            state: state.into(),
            outcome: outcome(known),
            candidate: AssignmentCandidate::of(candidate, candidate_id),
            assessment,
            valid_from,
            valid_until,
            center,
            notify: notify.into(),
            passwordless,
            proctoring: Proctoring { enabled, parameters },
            reference,
            vendor_ref,
            launch: launch.map(|domain::Launch { url, expires_at }| Launch { url, expires_at }),
            warnings: warnings.into_iter().map(Into::into).collect(),
            meta: Meta { created, last_modified },
        }
    }
}

/// Assignments, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(assignment_list_example))]
pub struct AssignmentList {
    /// This part of the list.
    pub items: Vec<Assignment>,
    /// Gives the next part as `cursor`; `null` at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// The example of an order, also in bulks.
pub(super) fn new_assignment_example() -> Value {
    json!({
        "candidate": { "externalId": "emp-1001" },
        "assessment": "rust-101",
        "validFrom": "2026-12-01T08:00:00Z",
        "validUntil": "2026-12-15T18:00:00Z",
        "reference": "order-7781",
    })
}

/// The example of an assignment, also in lists and bulk results.
pub(super) fn assignment_example() -> Value {
    json!({
        "id": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70",
        "connection": "startexam-main",
        "state": "assigned",
        "outcome": "applied",
        "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "externalId": "emp-1001" },
        "assessment": "rust-101",
        "validFrom": "2026-12-01T08:00:00Z",
        "validUntil": "2026-12-15T18:00:00Z",
        "center": "mycenter",
        "notify": "none",
        "passwordless": false,
        "proctoring": { "enabled": false },
        "reference": "order-7781",
        "vendorRef": { "id": "7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f" },
        "launch": { "url": "https://go.startexam.com/mycenter#participant/7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f",
                    "expiresAt": "2026-12-15T18:00:00Z" },
        "warnings": [],
        "meta": { "created": "2026-11-22T09:31:00Z", "lastModified": "2026-11-22T09:31:00Z" },
    })
}

fn assignment_list_example() -> Value {
    json!({ "items": [assignment_example()], "nextCursor": null })
}
