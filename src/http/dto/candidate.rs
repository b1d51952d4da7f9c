//! Candidates in requests and responses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::common::{Meta, Outcome, Warning, outcome};
use super::person::{Address, IfCandidateExists, Name, PersonFields, PhoneNumber, with_person};
use crate::domain::candidate as domain;
use crate::domain::error::FieldError;
use crate::domain::validation::{FieldErrors, normalize_identity};
use crate::http::extract::validate::{ApiInput, PasswordText, word};
use crate::http::problem::LastProblem;
use crate::secret::Secret;
use crate::service::{CandidateWithWarnings, Gateway, RequestContext};

with_person! {
    /// A person to register.
    #[schema(examples(new_candidate_example))]
    pub struct NewCandidate {
        /// The connection to register the person on. Default: the client's default or the only connection.
        #[schema(min_length = 1, max_length = 200)]
        connection: Option<String>,
        /// The caller's own id, which identifies the person in later requests.
        #[schema(min_length = 1, max_length = 250)]
        external_id: Option<String>,
        ..
        /// The password to sign in with. If the vendor requires one and none is given, the gateway generates it and
        /// returns it once as `initialPassword`.
        #[schema(value_type = Option<String>, write_only, format = Password, min_length = 1, max_length = 128)]
        password: Option<PasswordText>,
        /// What to do if the gateway already has the candidate. Default: `reuse`.
        #[serde(default, deserialize_with = "word")]
        #[schema(write_only)]
        if_exists: Option<IfCandidateExists>,
    }
}

with_person! {
    /// A row of a bulk request: a person to register.
    pub struct CandidateItem {
        /// The caller's label for the row, returned in its result.
        #[schema(min_length = 1, max_length = 200)]
        item_id: Option<String>,
        /// If given, the same connection as the bulk request's: all its rows go to one connection.
        #[schema(min_length = 1, max_length = 200)]
        connection: Option<String>,
        /// The caller's own id, which identifies the person in later requests.
        #[schema(min_length = 1, max_length = 250)]
        external_id: Option<String>,
        ..
        /// The password to sign in with.
        #[schema(value_type = Option<String>, write_only, format = Password, min_length = 1, max_length = 128)]
        password: Option<PasswordText>,
        /// What to do if the gateway already has the candidate. Default: `reuse`.
        #[serde(default, deserialize_with = "word")]
        #[schema(write_only)]
        if_exists: Option<IfCandidateExists>,
    }
}

with_person! {
    /// A change to a candidate as a merge patch (RFC 7396): fields with a value are set, fields set to `null` are
    /// cleared, and all others stay. `phoneNumbers` is replaced as a whole.
    #[schema(examples(json!({ "name": { "familyName": "Doe-Smith" }, "phoneNumbers": null })))]
    pub struct CandidateChanges {
        ..
    }
}

/// A checked registration and the connection it names.
pub(in crate::http) struct ValidRegistration {
    pub(in crate::http) connection: Option<String>,
    pub(in crate::http) new: domain::NewCandidate,
}

impl ApiInput for NewCandidate {
    type Checked = ValidRegistration;

    fn checked(self) -> Result<ValidRegistration, Vec<FieldError>> {
        let Self {
            connection,
            external_id,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
            password,
            if_exists,
        } = self;
        let (person, own) = PersonFields {
            external_id,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
        }
        .into_person();
        let mut faults = FieldErrors::new();
        faults.extend(own);
        faults.check_line("/connection", connection.as_deref(), domain::limits::LINE);
        if let Some(PasswordText(password)) = &password {
            check_password(&mut faults, password);
        }
        let person = person.checked().unwrap_or_else(|more| {
            faults.extend(more);
            domain::Person::default()
        });
        let password = password.map(|PasswordText(password)| Secret::new(password));
        let if_exists = if_exists.map(Into::into).unwrap_or_default();
        faults.into_result(ValidRegistration { connection, new: domain::NewCandidate { person, password, if_exists } })
    }

    fn review(rest: ValidRegistration, gateway: &Gateway, caller: &RequestContext) -> Vec<FieldError> {
        let ValidRegistration { connection, new } = rest;
        gateway.review_candidate(caller, connection.as_deref(), new)
    }
}

fn check_password(faults: &mut FieldErrors, password: &str) {
    let length = password.chars().count();
    if length == 0 || length > domain::limits::PASSWORD || password.chars().any(char::is_control) {
        let detail =
            format!("must have 1 to {} characters, none of them a control character", domain::limits::PASSWORD);
        faults.push(FieldError::invalid("/password", detail));
    }
}

impl ApiInput for CandidateItem {
    type Checked = ValidRegistration;

    fn checked(self) -> Result<ValidRegistration, Vec<FieldError>> {
        let Self {
            item_id,
            connection,
            external_id,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
            password,
            if_exists,
        } = self;
        let mut faults = FieldErrors::new();
        faults.check_line("/itemId", item_id.as_deref(), domain::limits::LINE);
        let single = NewCandidate {
            connection,
            external_id,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
            password,
            if_exists,
        };
        match single.checked() {
            Ok(registration) => faults.into_result(registration),
            Err(more) => {
                faults.extend(more);
                Err(faults.into_result(()).err().unwrap_or_default())
            }
        }
    }
}

impl ApiInput for CandidateChanges {
    /// Only the given fields are checked here; the result is checked once the patch is applied to the candidate.
    type Checked = ();

    fn checked(self) -> Result<(), Vec<FieldError>> {
        let Self { user_name, name, email, active, phone_numbers, address, group, birth_date, gender, photo, custom } =
            self;
        let (person, own) = PersonFields {
            external_id: None,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
        }
        .into_person();
        let mut faults = FieldErrors::new();
        faults.extend(own);
        faults.extend(person.checked().err().unwrap_or_default());
        faults.into_result(())
    }
}

/// The identity to search for: exactly one of `email`, `externalId` and `userName`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "email": "jane.doe@example.com" })))]
pub struct CandidateSearch {
    /// The connection to search. Default: all connections the client may use.
    #[schema(min_length = 1, max_length = 200)]
    connection: Option<String>,
    /// The e-mail address, compared case-insensitively.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// The caller's own id; must match exactly.
    #[schema(min_length = 1, max_length = 250)]
    external_id: Option<String>,
    /// The name to sign in with, compared case-insensitively.
    #[schema(min_length = 1, max_length = 200)]
    user_name: Option<String>,
}

impl ApiInput for CandidateSearch {
    type Checked = (Option<String>, domain::Identity);

    fn checked(self) -> Result<Self::Checked, Vec<FieldError>> {
        let Self { connection, email, external_id, user_name } = self;
        let mut faults = FieldErrors::new();
        faults.check_line("/connection", connection.as_deref(), domain::limits::LINE);
        faults.check_email("/email", email.as_deref());
        faults.check_line("/externalId", external_id.as_deref(), domain::limits::EXTERNAL_ID);
        faults.check_line("/userName", user_name.as_deref(), domain::limits::LINE);
        match (email, external_id, user_name) {
            (Some(email), None, None) => {
                faults.into_result((connection, domain::Identity::Email(normalize_identity(&email))))
            }
            (None, Some(id), None) => faults.into_result((connection, domain::Identity::ExternalId(id))),
            (None, None, Some(name)) => {
                faults.into_result((connection, domain::Identity::UserName(normalize_identity(&name))))
            }
            _ => {
                faults.push(FieldError::invalid("", "give exactly one of email, externalId and userName"));
                Err(faults.into_result(()).err().unwrap_or_default())
            }
        }
    }
}

/// What the gateway knows about a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// The vendor has the person.
    Registered,
    /// A write is running.
    Pending,
    /// The vendor rejected it and does not have the person.
    Failed,
    /// Whether the vendor has the person is unknown.
    Unknown,
}

impl From<domain::CandidateState> for CandidateState {
    fn from(state: domain::CandidateState) -> Self {
        match state {
            domain::CandidateState::Registered => Self::Registered,
            domain::CandidateState::Pending => Self::Pending,
            domain::CandidateState::Failed => Self::Failed,
            domain::CandidateState::Unknown => Self::Unknown,
        }
    }
}

/// A person registered on a connection. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(candidate_example))]
pub struct Candidate {
    /// The gateway's identifier.
    #[schema(read_only)]
    pub id: String,
    /// The connection the person is registered on.
    pub connection: String,
    /// What the gateway knows about the candidate.
    #[schema(read_only)]
    pub state: CandidateState,
    /// What is known about the last write.
    #[schema(read_only)]
    pub outcome: Outcome,
    /// The caller's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The name to sign in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The password the gateway generated. Returned only in the response to the registration and by
    /// `POST /candidates/{id}/initial-password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub initial_password: Option<String>,
    /// The name and its parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the person may take assessments.
    pub active: bool,
    /// Telephone numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phone_numbers: Vec<PhoneNumber>,
    /// Postal address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The group at the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Date of birth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    pub birth_date: Option<String>,
    /// Gender, as the vendor spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    /// A picture in Base64. Omitted in lists and in results of operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub photo: Option<String>,
    /// Fields specific to the vendor account.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, String>,
    /// The vendor's identifiers of the person, as far as the vendor has returned them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = BTreeMap<String, Value>, read_only)]
    pub vendor_ref: Map<String, Value>,
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

impl From<domain::Candidate> for Candidate {
    fn from(candidate: domain::Candidate) -> Self {
        let domain::Candidate {
            id,
            tenant: _,
            connection,
            person,
            state,
            outcome: known,
            vendor_ref,
            private: _,
            password_key: _,
            problem,
            warnings,
            created,
            last_modified,
        } = candidate;
        let active = person.is_active();
        let domain::Person {
            external_id,
            user_name,
            name,
            email,
            active: _,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
        } = person;
        Self {
            id: id.into(),
            connection,
            state: state.into(),
            outcome: outcome(known),
            external_id,
            user_name,
            initial_password: None,
            name: Name::of(name),
            email,
            active,
            phone_numbers: phone_numbers.into_iter().map(Into::into).collect(),
            address: Address::of(address),
            group,
            birth_date,
            gender,
            photo: photo.map(|photo| photo.to_string()),
            custom,
            vendor_ref,
            problem: problem.as_deref().map(Into::into),
            warnings: warnings.into_iter().map(Into::into).collect(),
            meta: Meta::of(created, last_modified),
        }
    }
}

impl Candidate {
    /// Converts a candidate to a list entry, which omits the picture.
    pub(in crate::http) fn listed(candidate: domain::Candidate) -> Self {
        Self { photo: None, ..candidate.into() }
    }
}

impl From<CandidateWithWarnings> for Candidate {
    fn from(answer: CandidateWithWarnings) -> Self {
        let CandidateWithWarnings { candidate, initial_password } = answer;
        let initial_password = initial_password.map(|password| password.expose().to_owned());
        Self { initial_password, ..candidate.into() }
    }
}

/// A password generated by the gateway.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "initialPassword": "m4de-up-w0rds" })))]
pub struct InitialPassword {
    /// The password to sign in with.
    #[schema(format = Password)]
    pub initial_password: String,
}

/// A page of candidates.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(candidate_list_example))]
pub struct CandidateList {
    /// The entries of this page.
    pub items: Vec<Candidate>,
    /// The `cursor` of the next page; `null` at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

fn new_candidate_example() -> Value {
    json!({
        "connection": "startexam-main",
        "externalId": "emp-1001",
        "name": { "givenName": "Jane", "familyName": "Doe" },
        "email": "jane.doe@example.com",
        "phoneNumbers": [{ "type": "mobile", "value": "+49 151 0000000" }],
        "custom": { "Department": "Claims" },
        "ifExists": "reuse",
    })
}

/// Builds the example of a candidate, also used in lists and bulk results.
pub(super) fn candidate_example() -> Value {
    json!({
        "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "connection": "startexam-main",
        "state": "registered",
        "outcome": "applied",
        "externalId": "emp-1001",
        "name": { "givenName": "Jane", "familyName": "Doe" },
        "email": "jane.doe@example.com",
        "active": true,
        "phoneNumbers": [{ "type": "mobile", "value": "+49 151 0000000" }],
        "custom": { "Department": "Claims" },
        "vendorRef": { "id": "emp-1001" },
        "warnings": [],
        "meta": { "created": "2026-11-22T09:30:21.024Z", "lastModified": "2026-11-22T09:30:21.310Z" },
    })
}

fn candidate_list_example() -> Value {
    json!({ "items": [candidate_example()], "nextCursor": null })
}
