//! Candidates in requests and responses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::common::{Meta, page_document};
use super::person::{
    Address, AddressInput, Name, NameInput, PhoneNumber, PhoneNumberInput, phone_numbers, with_person,
};
use crate::domain::candidate as domain;
use crate::domain::candidate::{CandidateState, Identity, IfCandidateExists, Person, limits};
use crate::domain::error::FieldError;
use crate::domain::identity::{EmailAddress, ExternalId, UserName};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::table::BulkItem;
use crate::domain::validation::FieldErrors;
use crate::http::extract::validate::{ApiInput, PasswordText, StrictObject, word};
use crate::http::problem::LastProblem;
use crate::secret::Secret;
use crate::service::{CandidateWithPassword, Gateway, RequestContext};

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

    const TABLE: Option<BulkItem> = Some(BulkItem::Candidates);

    fn checked(mut self) -> Result<ValidRegistration, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let person = Person { external_id: self.external_id.take().map(Into::into), ..self.take_person(&mut errors) };
        registration(errors, self.connection, person, self.password, self.if_exists)
    }

    fn review(rest: ValidRegistration, gateway: &Gateway, caller: &RequestContext) -> Vec<FieldError> {
        let ValidRegistration { connection, new } = rest;
        gateway.review_candidate(caller, connection.as_deref(), new)
    }
}

impl ApiInput for CandidateItem {
    type Checked = ValidRegistration;

    const TABLE: Option<BulkItem> = Some(BulkItem::Candidates);

    fn checked(mut self) -> Result<ValidRegistration, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        errors.check_line("/itemId", self.item_id.as_deref(), limits::LINE);
        let person = Person { external_id: self.external_id.take().map(Into::into), ..self.take_person(&mut errors) };
        registration(errors, self.connection, person, self.password, self.if_exists)
    }
}

impl ApiInput for CandidateChanges {
    /// The fields with a value.
    type Checked = Person;

    fn checked(mut self) -> Result<Person, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let person = self.take_person(&mut errors).checked().unwrap_or_else(|more| {
            errors.extend(more);
            Person::default()
        });
        errors.into_result(person)
    }
}

/// Checks what a registration has, besides the errors found in it already.
fn registration(
    mut errors: FieldErrors,
    connection: Option<String>,
    person: Person,
    password: Option<PasswordText>,
    if_exists: Option<IfCandidateExists>,
) -> Result<ValidRegistration, Vec<FieldError>> {
    errors.check_line("/connection", connection.as_deref(), limits::LINE);
    if let Some(PasswordText(password)) = &password {
        check_password(&mut errors, password);
    }
    let person = person.checked().unwrap_or_else(|more| {
        errors.extend(more);
        Person::default()
    });
    let password = password.map(|PasswordText(password)| Secret::new(password));
    let new = domain::NewCandidate { person, password, if_exists: if_exists.unwrap_or_default() };
    errors.into_result(ValidRegistration { connection, new })
}

fn check_password(errors: &mut FieldErrors, password: &str) {
    let length = password.chars().count();
    if length == 0 || length > limits::PASSWORD || password.chars().any(char::is_control) {
        let detail = format!("must have 1 to {} characters, none of them a control character", limits::PASSWORD);
        errors.push(FieldError::invalid("/password", detail));
    }
}

/// The identity to search for: exactly one of `email`, `externalId` and `userName`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "email": "amara.okafor@example.com" })))]
pub struct CandidateSearch {
    /// The connection to search. Default: all connections the client may use.
    #[schema(min_length = 1, max_length = 200)]
    connection: Option<String>,
    /// The e-mail address, compared case-insensitively.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// The caller's own id; spaces around it are ignored.
    #[schema(min_length = 1, max_length = 250)]
    external_id: Option<String>,
    /// The name to sign in with, compared case-insensitively.
    #[schema(min_length = 1, max_length = 200)]
    user_name: Option<String>,
}

impl ApiInput for CandidateSearch {
    type Checked = (Option<String>, Identity);

    fn checked(self) -> Result<Self::Checked, Vec<FieldError>> {
        let Self { connection, email, external_id, user_name } = self;
        let mut errors = FieldErrors::new();
        errors.check_line("/connection", connection.as_deref(), limits::LINE);
        if [&email, &external_id, &user_name].into_iter().flatten().count() != 1 {
            errors.push(FieldError::invalid("", "give exactly one of email, externalId and userName"));
        }
        let email = errors.take("/email", email.as_deref().map(EmailAddress::parse)).map(Identity::Email);
        let id = errors.take("/externalId", external_id.as_deref().map(ExternalId::parse)).map(Identity::ExternalId);
        let name = errors.take("/userName", user_name.as_deref().map(UserName::parse)).map(Identity::UserName);
        match email.or(id).or(name) {
            Some(identity) => errors.into_result((connection, identity)),
            None => Err(errors.into_errors()),
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
            outcome,
            vendor_ref,
            private: _,
            password_key: _,
            problem,
            warnings,
            created,
            last_modified,
        } = candidate;
        Self {
            id: id.into(),
            connection,
            state,
            outcome,
            active: person.is_active(),
            external_id: person.external_id.map(Into::into),
            user_name: person.user_name.map(Into::into),
            initial_password: None,
            name: Name::of(person.name),
            email: person.email.map(Into::into),
            phone_numbers: person.phone_numbers.into_iter().map(Into::into).collect(),
            address: Address::of(person.address),
            group: person.group,
            birth_date: person.birth_date,
            gender: person.gender,
            photo: person.photo.map(|photo| photo.to_string()),
            custom: person.custom,
            vendor_ref,
            problem: problem.as_deref().map(Into::into),
            warnings,
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

impl From<CandidateWithPassword> for Candidate {
    fn from(reply: CandidateWithPassword) -> Self {
        let CandidateWithPassword { candidate, initial_password } = reply;
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

page_document!(CandidateList, Candidate, candidate_list_example, "A page of candidates.");

fn new_candidate_example() -> Value {
    json!({
        "connection": "startexam-main",
        "externalId": "emp-1010",
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
        "externalId": "emp-1010",
        "name": { "givenName": "Jane", "familyName": "Doe" },
        "email": "jane.doe@example.com",
        "active": true,
        "phoneNumbers": [{ "type": "mobile", "value": "+49 151 0000000" }],
        "custom": { "Department": "Claims" },
        "vendorRef": { "id": "emp-1010" },
        "warnings": [],
        "meta": { "created": "2026-11-22T09:30:21.024Z", "lastModified": "2026-11-22T09:30:21.310Z" },
    })
}

/// Builds the example of a list: the person that the examples of searches name.
fn candidate_list_example() -> Value {
    let mut found = candidate_example();
    found["externalId"] = json!("emp-1001");
    found["name"] = json!({ "givenName": "Amara", "familyName": "Okafor" });
    found["email"] = json!("amara.okafor@example.com");
    found["vendorRef"] = json!({ "id": "emp-1001" });
    json!({ "items": [found], "nextCursor": null })
}
