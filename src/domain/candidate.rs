//! Candidates: people registered at a connection, as described by a caller and as recorded by the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::error::{Error, FieldError};
use super::ids::CandidateId;
use super::outcome::{Outcome, Warning};
use super::validation::{FieldErrors, normalize_identity, pointer_token};
use super::words::words;
use crate::secret::Secret;

/// A person's attributes (SCIM and `OneRoster` fields). Valid by construction through [`Person::checked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The caller's own id.
    pub external_id: Option<String>,
    /// The sign-in name.
    pub user_name: Option<String>,
    /// The name.
    pub name: Name,
    /// The e-mail address.
    pub email: Option<String>,
    /// Whether the person may take part; `None` means yes.
    pub active: Option<bool>,
    /// Telephone numbers, at most one per kind.
    pub phone_numbers: Vec<PhoneNumber>,
    /// Postal address.
    pub address: Address,
    /// The vendor-side group (classroom, course) that the person joins.
    pub group: Option<String>,
    /// Date of birth, `YYYY-MM-DD`.
    pub birth_date: Option<String>,
    /// Gender, as the vendor spells it.
    pub gender: Option<String>,
    /// A picture in Base64.
    pub photo: Option<Photo>,
    /// Fields defined by the vendor's account.
    pub custom: BTreeMap<String, String>,
}

/// A picture in Base64, by far the largest field of a person. Clones share the text, because the record, the intent and
/// the call hold the same person at the same time.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Photo(Arc<str>);

impl From<String> for Photo {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Deref for Photo {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Photo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Photo({} bytes)", self.len())
    }
}

/// The parts of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// First name.
    pub given_name: Option<String>,
    /// Last name.
    pub family_name: Option<String>,
    /// The display name.
    pub formatted: Option<String>,
}

/// A postal address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Street and number.
    pub street_address: Option<String>,
    /// City.
    pub locality: Option<String>,
    /// State or province.
    pub region: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Country, as the vendor spells it.
    pub country: Option<String>,
}

/// A telephone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// The kind of number.
    pub kind: PhoneKind,
    /// The number as written.
    pub value: String,
}

words! {
    /// The type of a telephone number.
    #[schema(as = PhoneType)]
    pub enum PhoneKind {
        /// A mobile telephone.
        Mobile "mobile",
        /// A work telephone.
        Work "work",
    }
}

words! {
    /// What to do if the gateway already has the candidate.
    #[derive(Default)]
    pub enum IfCandidateExists {
        /// Return the existing candidate; a warning `existing_differs` names the fields that differ.
        #[default]
        Reuse "reuse",
        /// Send the new field values to the vendor.
        Update "update",
        /// Reject the request with `candidate_already_exists`.
        Fail "fail",
    }
}

/// A valid request to register a person.
#[derive(Debug, Clone)]
pub struct NewCandidate {
    /// The person.
    pub person: Person,
    /// The sign-in password; stored only until the write is reconciled.
    pub password: Option<Secret>,
    /// The action if the gateway already has the candidate.
    pub if_exists: IfCandidateExists,
}

/// Maximum lengths, in characters. `EXTERNAL_ID` is the smallest limit that a vendor documents (`StartExam`: 250).
pub mod limits {
    /// The caller's own id.
    pub const EXTERNAL_ID: usize = 250;
    /// Names, numbers, groups and other lines.
    pub const LINE: usize = 200;
    /// A password.
    pub const PASSWORD: usize = 128;
    /// A picture in Base64 (about 768 KiB of picture).
    pub const PHOTO: usize = 1 << 20;
    /// Number of custom fields.
    pub const CUSTOM_MEMBERS: usize = 50;
}

impl Person {
    /// Validates the person. Pointers are those of the API (`/name/givenName`).
    ///
    /// # Errors
    /// All invalid fields.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut faults = FieldErrors::new();
        faults.check_line("/externalId", self.external_id.as_deref(), limits::EXTERNAL_ID);
        faults.check_line("/userName", self.user_name.as_deref(), limits::LINE);
        faults.check_line("/name/givenName", self.name.given_name.as_deref(), limits::LINE);
        faults.check_line("/name/familyName", self.name.family_name.as_deref(), limits::LINE);
        faults.check_line("/name/formatted", self.name.formatted.as_deref(), limits::LINE);
        faults.check_email("/email", self.email.as_deref());
        faults.check_line("/group", self.group.as_deref(), limits::LINE);
        faults.check_date("/birthDate", self.birth_date.as_deref());
        faults.check_line("/gender", self.gender.as_deref(), limits::LINE);
        faults.check_line("/photo", self.photo.as_deref(), limits::PHOTO);
        for (pointer, value) in self.address.members() {
            faults.check_line(pointer, value, limits::LINE);
        }
        for (index, number) in self.phone_numbers.iter().enumerate() {
            faults.check_line(&format!("/phoneNumbers/{index}/value"), Some(&number.value), limits::LINE);
            if self.phone_numbers[..index].iter().any(|earlier| earlier.kind == number.kind) {
                let pointer = format!("/phoneNumbers/{index}/type");
                faults.push(FieldError::invalid(pointer, "an earlier number has the same type"));
            }
        }
        for (name, value) in &self.custom {
            let pointer = format!("/custom/{}", pointer_token(name));
            faults.check_line(&pointer, Some(name), limits::LINE);
            faults.check_line(&pointer, Some(value), limits::LINE);
        }
        if self.custom.len() > limits::CUSTOM_MEMBERS {
            let detail = format!("must not have more than {} entries", limits::CUSTOM_MEMBERS);
            faults.push(FieldError::invalid("/custom", detail));
        }
        faults.into_result(self)
    }

    /// Returns whether the person may take part.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.unwrap_or(true)
    }

    /// Returns the number of this kind.
    #[must_use]
    pub fn phone(&self, kind: PhoneKind) -> Option<&str> {
        self.phone_numbers.iter().find(|number| number.kind == kind).map(|number| number.value.as_str())
    }

    /// Overlays the fields that `given` sets; returns the result and the pointers of the fields that changed.
    #[must_use]
    pub fn merged_with(&self, given: &Self) -> (Self, Vec<String>) {
        let over = |given: &Option<String>, present: &Option<String>| given.clone().or_else(|| present.clone());
        let mut phone_numbers = self.phone_numbers.clone();
        for number in &given.phone_numbers {
            phone_numbers.retain(|present| present.kind != number.kind);
            phone_numbers.push(number.clone());
        }
        let mut custom = self.custom.clone();
        custom.extend(given.custom.clone());
        let person = Self {
            external_id: over(&given.external_id, &self.external_id),
            user_name: over(&given.user_name, &self.user_name),
            name: Name {
                given_name: over(&given.name.given_name, &self.name.given_name),
                family_name: over(&given.name.family_name, &self.name.family_name),
                formatted: over(&given.name.formatted, &self.name.formatted),
            },
            email: over(&given.email, &self.email),
            active: given.active.or(self.active),
            phone_numbers,
            address: Address {
                street_address: over(&given.address.street_address, &self.address.street_address),
                locality: over(&given.address.locality, &self.address.locality),
                region: over(&given.address.region, &self.address.region),
                postal_code: over(&given.address.postal_code, &self.address.postal_code),
                country: over(&given.address.country, &self.address.country),
            },
            group: over(&given.group, &self.group),
            birth_date: over(&given.birth_date, &self.birth_date),
            gender: over(&given.gender, &self.gender),
            photo: given.photo.clone().or_else(|| self.photo.clone()),
            custom,
        };
        let touched = self.differences(&person);
        (person, touched)
    }

    /// Returns the pointers of the fields in which the two differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (one, two) = (self.flat(), other.flat());
        let pointers: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        pointers.into_iter().filter(|pointer| one.get(*pointer) != two.get(*pointer)).cloned().collect()
    }

    /// Returns the pointers of the fields that are set, for warnings about unsupported ones.
    #[must_use]
    pub fn present_members(&self) -> Vec<String> {
        self.members(|index, _| index.to_string()).into_iter().map(|(pointer, _)| pointer).collect()
    }

    /// Maps pointers to values for comparison: telephone numbers by kind, because their order is irrelevant, and
    /// `active` only if it differs from the default.
    fn flat(&self) -> BTreeMap<String, String> {
        let mut members: BTreeMap<_, _> =
            self.members(|_, number| number.kind.as_str().to_owned()).into_iter().collect();
        if self.is_active() {
            members.remove("/active");
        }
        members
    }

    /// Lists all set fields with their pointers; `phone` names a telephone number below `/phoneNumbers/`.
    fn members(&self, phone: impl Fn(usize, &PhoneNumber) -> String) -> Vec<(String, String)> {
        let active = self.active.map(|active| active.to_string());
        let single = [
            ("/externalId", self.external_id.as_deref()),
            ("/userName", self.user_name.as_deref()),
            ("/name/givenName", self.name.given_name.as_deref()),
            ("/name/familyName", self.name.family_name.as_deref()),
            ("/name/formatted", self.name.formatted.as_deref()),
            ("/email", self.email.as_deref()),
            ("/active", active.as_deref()),
            ("/group", self.group.as_deref()),
            ("/birthDate", self.birth_date.as_deref()),
            ("/gender", self.gender.as_deref()),
            ("/photo", self.photo.as_deref()),
        ];
        let given = |(pointer, value): (&str, Option<&str>)| Some((pointer.to_owned(), value?.to_owned()));
        let phones = (0..)
            .zip(&self.phone_numbers)
            .map(|(index, number)| (format!("/phoneNumbers/{}", phone(index, number)), number.value.clone()));
        let custom =
            self.custom.iter().map(|(name, value)| (format!("/custom/{}", pointer_token(name)), value.clone()));
        let address = self.address.members().into_iter().filter_map(given);
        single.into_iter().filter_map(given).chain(phones).chain(address).chain(custom).collect()
    }
}

impl Name {
    /// Returns the display name: `formatted`, else first and last name joined.
    #[must_use]
    pub fn display_name(&self) -> Option<String> {
        if self.formatted.is_some() {
            return self.formatted.clone();
        }
        let parts: Vec<&str> =
            [&self.given_name, &self.family_name].into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { None } else { Some(parts.join(" ")) }
    }
}

impl Address {
    /// Lists all fields with their pointers.
    fn members(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("/address/streetAddress", self.street_address.as_deref()),
            ("/address/locality", self.locality.as_deref()),
            ("/address/region", self.region.as_deref()),
            ("/address/postalCode", self.postal_code.as_deref()),
            ("/address/country", self.country.as_deref()),
        ]
    }
}

words! {
    /// What the gateway knows about a candidate.
    pub enum CandidateState {
        /// The vendor has the person.
        Registered "registered",
        /// A write is in progress.
        Pending "pending",
        /// The vendor rejected the registration; it does not have the person.
        Failed "failed",
        /// It is unknown whether the vendor has the person.
        Unknown "unknown",
    }
}

impl CandidateState {
    /// Returns whether no write about the candidate is open.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Registered | Self::Failed)
    }
}

/// A candidate as recorded by the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The gateway's identifier.
    pub id: CandidateId,
    /// The tenant that owns the candidate.
    pub tenant: String,
    /// The connection that the candidate belongs to.
    pub connection: String,
    /// The person.
    pub person: Person,
    /// The state of the candidate.
    pub state: CandidateState,
    /// The outcome of the last write.
    pub outcome: Outcome,
    /// The vendor's identifiers for the person (`id`, …), as far as it has returned them.
    pub vendor_ref: Map<String, Value>,
    /// Data that the adapter keeps for later writes and the gateway never shows (a sign-in token for launch links).
    pub private: BTreeMap<String, String>,
    /// The scope of the key that stores the password generated for a request without an `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_key: Option<String>,
    /// Why the last write failed or is unknown; kept until the next write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Error>>,
    /// Warnings for the caller.
    pub warnings: Vec<Warning>,
    /// The creation time of the record.
    pub created: Timestamp,
    /// The time of the last change.
    pub last_modified: Timestamp,
}

impl Candidate {
    /// Removes the person, who was erased.
    #[must_use]
    pub fn without_person(self) -> Self {
        let (vendor_ref, private) = (Map::new(), BTreeMap::new());
        let (password_key, problem) = (None, None);
        Self { person: Person::default(), vendor_ref, private, password_key, problem, warnings: Vec::new(), ..self }
    }
}

/// An identity by which a person is recognised within a tenant and connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The caller's own id, compared exactly.
    ExternalId(String),
    /// The sign-in name, compared case-insensitively.
    UserName(String),
    /// The e-mail address, compared case-insensitively.
    Email(String),
}

words! {
    /// The kinds of [`Identity`], by the candidate field that holds it. A vendor declares by which of them it identifies
    /// people.
    pub enum IdentityKind {
        /// The caller's own id.
        ExternalId "externalId",
        /// The sign-in name.
        UserName "userName",
        /// The e-mail address.
        Email "email",
    }
}

impl Identity {
    /// Lists the identities of a person that are of these kinds.
    #[must_use]
    pub fn of(person: &Person, kinds: &[IdentityKind]) -> Vec<Self> {
        let identity = |kind: &IdentityKind| match kind {
            IdentityKind::ExternalId => person.external_id.clone().map(Self::ExternalId),
            IdentityKind::UserName => person.user_name.as_deref().map(|name| Self::UserName(normalize_identity(name))),
            IdentityKind::Email => person.email.as_deref().map(|email| Self::Email(normalize_identity(email))),
        };
        kinds.iter().filter_map(identity).collect()
    }

    /// Returns kind and value, as stored.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::ExternalId(value) => (IdentityKind::ExternalId.as_str(), value),
            Self::UserName(value) => (IdentityKind::UserName.as_str(), value),
            Self::Email(value) => (IdentityKind::Email.as_str(), value),
        }
    }
}

/// Changes to a candidate: fields to set and fields to clear (RFC 7396 merge patch).
#[derive(Debug, Clone, Default)]
pub struct CandidateChanges {
    /// The person as it will be; only fields in `touched` differ from the present one.
    pub person: Person,
    /// Pointers of the fields that the patch names.
    pub touched: Vec<String>,
}
