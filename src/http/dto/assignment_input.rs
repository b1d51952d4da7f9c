//! Assignments in requests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::assignment as domain;
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, Notify};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::CandidateId;
use crate::domain::table::BulkItem;
use crate::domain::validation::FieldErrors;
use crate::http::extract::validate::{ApiInput, StrictObject, date_time, word};
use crate::service::{Gateway, RequestContext};

/// Declares a document with the fields of an order, preceded by some of its own.
macro_rules! with_order {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)* .. }) => {
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$extra_meta])* $extra: $extra_type,)*
            /// The connection to book on. Default: the connection of the assessment's catalogue entry, the client's
            /// default, or the only connection.
            #[schema(min_length = 1, max_length = 200)]
            connection: Option<String>,
            /// The candidate to book.
            #[schema(value_type = CandidateReference, required = true, nullable = false)]
            candidate: Option<StrictObject<CandidateReference>>,
            /// A catalogue id (`GET /assessments`), or the vendor's own id.
            #[schema(required = true, nullable = false, min_length = 1, max_length = 250)]
            assessment: Option<String>,
            /// Start of the period in which the assessment may be taken.
            #[serde(default, deserialize_with = "date_time")]
            #[schema(value_type = Option<String>, format = DateTime)]
            valid_from: Option<Timestamp>,
            /// End of the period in which it may be taken; later than `validFrom`.
            #[serde(default, deserialize_with = "date_time")]
            #[schema(value_type = Option<String>, format = DateTime)]
            valid_until: Option<Timestamp>,
            /// The centre at the vendor.
            #[schema(min_length = 1, max_length = 200)]
            center: Option<String>,
            /// Who notifies the candidate. Default: `none`.
            #[serde(default, deserialize_with = "word")]
            notify: Option<Notify>,
            /// Whether the candidate can enter without a password. Default: false.
            passwordless: Option<bool>,
            /// Supervision of the attempt.
            #[schema(value_type = Option<ProctoringInput>)]
            proctoring: Option<StrictObject<ProctoringInput>>,
            /// What to do if the gateway already has a booking of this candidate for this assessment. Default: `reuse`.
            #[serde(default, deserialize_with = "word")]
            #[schema(write_only)]
            if_exists: Option<IfAssignmentExists>,
            /// The caller's order id.
            #[schema(min_length = 1, max_length = 200)]
            reference: Option<String>,
        }

        impl $name {
            /// Checks the order, besides the errors found in the document already.
            fn check_order(self, mut errors: FieldErrors) -> Result<ValidOrder, Vec<FieldError>> {
                errors.check_line("/connection", self.connection.as_deref(), 200);
                let candidate = candidate_key(&mut errors, self.candidate);
                if self.assessment.is_none() {
                    errors.push(FieldError::missing("/assessment", "is missing"));
                }
                let order = domain::NewAssignment {
                    // A placeholder lets the remaining fields be checked if one of these is already invalid.
                    candidate: candidate.unwrap_or_else(|| CandidateKey::ExternalId("-".into())),
                    assessment: self.assessment.unwrap_or_else(|| "-".to_owned()),
                    valid_from: self.valid_from,
                    valid_until: self.valid_until,
                    center: self.center,
                    notify: self.notify.unwrap_or_default(),
                    passwordless: self.passwordless.unwrap_or(false),
                    proctoring: self.proctoring.map(|StrictObject(proctoring)| proctoring.into()).unwrap_or_default(),
                    if_exists: self.if_exists.unwrap_or_default(),
                    reference: self.reference,
                };
                match order.checked() {
                    Ok(order) => errors.into_result(ValidOrder { connection: self.connection, order }),
                    Err(more) => {
                        errors.extend(more);
                        Err(errors.into_errors())
                    }
                }
            }
        }
    };
}

with_order! {
    /// A booking to make.
    #[schema(examples(new_assignment_example))]
    pub struct NewAssignment { .. }
}

with_order! {
    /// A row of a bulk request: a booking to make.
    pub struct AssignmentItem {
        /// The caller's label for the row, returned in its result.
        #[schema(min_length = 1, max_length = 200)]
        item_id: Option<String>,
        ..
    }
}

/// The candidate, identified in exactly one way.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateReference {
    /// The gateway's identifier.
    id: Option<String>,
    /// The caller's own id.
    #[schema(min_length = 1, max_length = 250)]
    external_id: Option<String>,
    /// The e-mail address.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
}

/// Supervision of the attempt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProctoringInput {
    /// Whether the attempt is supervised. Default: false.
    enabled: Option<bool>,
    /// Parameter names and values that the vendor defines.
    parameters: Option<BTreeMap<String, String>>,
}

/// A checked order and the connection it names.
pub(in crate::http) struct ValidOrder {
    pub(in crate::http) connection: Option<String>,
    pub(in crate::http) order: domain::NewAssignment,
}

impl ApiInput for NewAssignment {
    type Checked = ValidOrder;

    const TABLE: Option<BulkItem> = Some(BulkItem::Assignments);

    fn checked(self) -> Result<ValidOrder, Vec<FieldError>> {
        self.check_order(FieldErrors::new())
    }

    fn review(rest: ValidOrder, gateway: &Gateway, caller: &RequestContext) -> Vec<FieldError> {
        let ValidOrder { connection, order } = rest;
        gateway.review_assignment(caller, connection.as_deref(), &order)
    }
}

impl ApiInput for AssignmentItem {
    type Checked = ValidOrder;

    const TABLE: Option<BulkItem> = Some(BulkItem::Assignments);

    fn checked(self) -> Result<ValidOrder, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        errors.check_line("/itemId", self.item_id.as_deref(), 200);
        self.check_order(errors)
    }
}

fn candidate_key(
    errors: &mut FieldErrors,
    candidate: Option<StrictObject<CandidateReference>>,
) -> Option<CandidateKey> {
    let Some(StrictObject(CandidateReference { id, external_id, email })) = candidate else {
        errors.push(FieldError::missing("/candidate", "is missing"));
        return None;
    };
    match (id, external_id, email) {
        (Some(id), None, None) => {
            let id = CandidateId::parse(&id);
            if id.is_err() {
                let detail = "there is no such candidate";
                errors.push(FieldError::new("/candidate/id", Code::InvalidReference.as_str(), detail));
            }
            id.ok().map(CandidateKey::Id)
        }
        (None, Some(id), None) => Some(CandidateKey::ExternalId(id.into())),
        (None, None, Some(email)) => Some(CandidateKey::Email(email.into())),
        _ => {
            errors.push(FieldError::invalid("/candidate", "give exactly one of id, externalId and email"));
            None
        }
    }
}

impl From<ProctoringInput> for domain::Proctoring {
    fn from(input: ProctoringInput) -> Self {
        let ProctoringInput { enabled, parameters } = input;
        Self { enabled: enabled.unwrap_or(false), parameters: parameters.unwrap_or_default() }
    }
}

/// Builds the example of an order, also used in bulk requests.
pub(super) fn new_assignment_example() -> Value {
    json!({
        "candidate": { "externalId": "emp-1001" },
        "assessment": "safety-at-work",
        "validFrom": "2035-03-01T08:00:00Z",
        "validUntil": "2035-03-15T18:00:00Z",
        "reference": "order-7781",
    })
}
