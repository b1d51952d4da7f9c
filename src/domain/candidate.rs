//! A person registered at a connection: what a caller may say of one, and what the gateway remembers.

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
use crate::secret::Secret;

/// What describes a person (SCIM and `OneRoster` members). Valid by construction through [`Person::checked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The caller's own id.
    pub external_id: Option<String>,
    /// The name to sign in with.
    pub user_name: Option<String>,
    /// The name in its parts.
    pub name: Name,
    /// Where mail reaches the person.
    pub email: Option<String>,
    /// Whether the person may take part; `None` was not said and means yes.
    pub active: Option<bool>,
    /// Telephone numbers, at most one a kind.
    pub phone_numbers: Vec<PhoneNumber>,
    /// Postal address.
    pub address: Address,
    /// The vendor-side group (classroom, course) the person joins.
    pub group: Option<String>,
    /// Date of birth, `YYYY-MM-DD`.
    pub birth_date: Option<String>,
    /// As the vendor spells it.
    pub gender: Option<String>,
    /// Base64 of a picture.
    pub photo: Option<Photo>,
    /// Members only the vendor's account knows.
    pub custom: BTreeMap<String, String>,
}

/// A picture in Base64, by far the largest member of a person. Clones share its text: a person on the way to the vendor is
/// in several places at once (record, intent, call).
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

/// A name in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// First name.
    pub given_name: Option<String>,
    /// Last name.
    pub family_name: Option<String>,
    /// The name as it is shown.
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
    /// Which one it is.
    pub kind: PhoneKind,
    /// The number as written.
    pub value: String,
}

/// Kinds of telephone numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneKind {
    /// A mobile telephone.
    Mobile,
    /// At work.
    Work,
}

impl PhoneKind {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Work => "work",
        }
    }
}

/// What to do when the gateway already has the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfCandidateExists {
    /// Answer the one there is.
    #[default]
    Reuse,
    /// Send the new members to the vendor.
    Update,
    /// Refuse.
    Fail,
}

/// A valid request to register a person.
#[derive(Debug, Clone)]
pub struct NewCandidate {
    /// The person.
    pub person: Person,
    /// The password to sign in with; never stored longer than the write is unsettled.
    pub password: Option<Secret>,
    /// What to do when the gateway already has the candidate.
    pub if_exists: IfCandidateExists,
}

/// Longest accepted values, in characters. `EXTERNAL_ID` is the smallest limit a vendor documents (`StartExam`: 250).
pub mod limits {
    /// The caller's own id.
    pub const EXTERNAL_ID: usize = 250;
    /// Names, numbers, groups and other lines.
    pub const LINE: usize = 200;
    /// A password.
    pub const PASSWORD: usize = 128;
    /// A picture in Base64 (about 768 KiB of picture).
    pub const PHOTO: usize = 1 << 20;
    /// Number of custom members.
    pub const CUSTOM_MEMBERS: usize = 50;
}

impl Person {
    /// The person, if every member is in order. Pointers are those of the API (`/name/givenName`).
    ///
    /// # Errors
    /// Every member at fault.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut faults = FieldErrors::new();
        faults.line("/externalId", self.external_id.as_deref(), limits::EXTERNAL_ID);
        faults.line("/userName", self.user_name.as_deref(), limits::LINE);
        faults.line("/name/givenName", self.name.given_name.as_deref(), limits::LINE);
        faults.line("/name/familyName", self.name.family_name.as_deref(), limits::LINE);
        faults.line("/name/formatted", self.name.formatted.as_deref(), limits::LINE);
        faults.email("/email", self.email.as_deref());
        faults.line("/group", self.group.as_deref(), limits::LINE);
        faults.date("/birthDate", self.birth_date.as_deref());
        faults.line("/gender", self.gender.as_deref(), limits::LINE);
        faults.line("/photo", self.photo.as_deref(), limits::PHOTO);
        for (pointer, value) in self.address.members() {
            faults.line(pointer, value, limits::LINE);
        }
        for (index, number) in self.phone_numbers.iter().enumerate() {
            faults.line(&format!("/phoneNumbers/{index}/value"), Some(&number.value), limits::LINE);
            if self.phone_numbers[..index].iter().any(|earlier| earlier.kind == number.kind) {
                let pointer = format!("/phoneNumbers/{index}/type");
                faults.push(FieldError::invalid(pointer, "an earlier number has the same type"));
            }
        }
        for (name, value) in &self.custom {
            let pointer = format!("/custom/{}", pointer_token(name));
            faults.line(&pointer, Some(name), limits::LINE);
            faults.line(&pointer, Some(value), limits::LINE);
        }
        if self.custom.len() > limits::CUSTOM_MEMBERS {
            let detail = format!("must not have more than {} members", limits::CUSTOM_MEMBERS);
            faults.push(FieldError::invalid("/custom", detail));
        }
        faults.into_result(self)
    }

    /// Whether the person may take part.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.unwrap_or(true)
    }

    /// The number of this kind.
    #[must_use]
    pub fn phone(&self, kind: PhoneKind) -> Option<&str> {
        self.phone_numbers.iter().find(|number| number.kind == kind).map(|number| number.value.as_str())
    }

    /// This person with the members given in the other, and the pointers of those that changed by it.
    #[must_use]
    pub fn merged_with(&self, given: &Self) -> (Self, Vec<String>) {
        let Self {
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
        } = given;
        let mut phones = self.phone_numbers.clone();
        for number in phone_numbers {
            phones.retain(|present| present.kind != number.kind);
            phones.push(number.clone());
        }
        let over = |given: &Option<String>, present: &Option<String>| given.clone().or_else(|| present.clone());
        let mut all_custom = self.custom.clone();
        all_custom.extend(custom.clone());
        let person = Self {
            external_id: over(external_id, &self.external_id),
            user_name: over(user_name, &self.user_name),
            name: Name {
                given_name: over(&name.given_name, &self.name.given_name),
                family_name: over(&name.family_name, &self.name.family_name),
                formatted: over(&name.formatted, &self.name.formatted),
            },
            email: over(email, &self.email),
            active: active.or(self.active),
            phone_numbers: phones,
            address: Address {
                street_address: over(&address.street_address, &self.address.street_address),
                locality: over(&address.locality, &self.address.locality),
                region: over(&address.region, &self.address.region),
                postal_code: over(&address.postal_code, &self.address.postal_code),
                country: over(&address.country, &self.address.country),
            },
            group: over(group, &self.group),
            birth_date: over(birth_date, &self.birth_date),
            gender: over(gender, &self.gender),
            photo: photo.clone().or_else(|| self.photo.clone()),
            custom: all_custom,
        };
        let touched = self.differences(&person);
        (person, touched)
    }

    /// Pointers of the members in which the two differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (one, two) = (self.flat(), other.flat());
        let pointers: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        pointers.into_iter().filter(|pointer| one.get(*pointer) != two.get(*pointer)).cloned().collect()
    }

    /// Pointers of the members that are given, for warnings about ones a vendor has no place for.
    #[must_use]
    pub fn present_members(&self) -> Vec<String> {
        self.members(|index, _| index.to_string()).into_iter().map(|(pointer, _)| pointer).collect()
    }

    /// Every member by its pointer, for comparison: telephone numbers by their kind, since their order says nothing, and
    /// `active` only where it is not what goes without saying.
    fn flat(&self) -> BTreeMap<String, String> {
        let mut members: BTreeMap<_, _> =
            self.members(|_, number| number.kind.as_str().to_owned()).into_iter().collect();
        if self.is_active() {
            members.remove("/active");
        }
        members
    }

    /// Every member that is given, with its pointer; `phone` names a telephone number below `/phoneNumbers/`.
    fn members(&self, phone: impl Fn(usize, &PhoneNumber) -> String) -> Vec<(String, String)> {
        let Self {
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
        } = self;
        let active = active.map(|active| active.to_string());
        let photo = photo.as_deref().map(str::to_owned);
        let single = [
            ("/externalId", external_id),
            ("/userName", user_name),
            ("/name/givenName", &name.given_name),
            ("/name/familyName", &name.family_name),
            ("/name/formatted", &name.formatted),
            ("/email", email),
            ("/active", &active),
            ("/group", group),
            ("/birthDate", birth_date),
            ("/gender", gender),
            ("/photo", &photo),
        ];
        let single = single.into_iter().filter_map(|(pointer, value)| Some((pointer.to_owned(), value.clone()?)));
        let phones = phone_numbers
            .iter()
            .enumerate()
            .map(|(index, number)| (format!("/phoneNumbers/{}", phone(index, number)), number.value.clone()));
        let address =
            address.members().into_iter().filter_map(|(pointer, value)| Some((pointer.to_owned(), value?.to_owned())));
        let custom = custom.iter().map(|(name, value)| (format!("/custom/{}", pointer_token(name)), value.clone()));
        single.chain(phones).chain(address).chain(custom).collect()
    }
}

impl Name {
    /// The name as it is shown: `formatted`, else first and last name joined.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        if self.formatted.is_some() {
            return self.formatted.clone();
        }
        let parts: Vec<&str> =
            [&self.given_name, &self.family_name].into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { None } else { Some(parts.join(" ")) }
    }
}

impl Address {
    /// Every member with its pointer.
    #[must_use]
    pub fn members(&self) -> [(&'static str, Option<&str>); 5] {
        let Self { street_address, locality, region, postal_code, country } = self;
        [
            ("/address/streetAddress", street_address.as_deref()),
            ("/address/locality", locality.as_deref()),
            ("/address/region", region.as_deref()),
            ("/address/postalCode", postal_code.as_deref()),
            ("/address/country", country.as_deref()),
        ]
    }
}

/// What the gateway knows a candidate to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// The vendor has the person.
    Registered,
    /// A write is under way.
    Pending,
    /// The vendor refused; it does not have the person.
    Failed,
    /// It is not known whether the vendor has the person.
    Unknown,
}

impl CandidateState {
    /// Whether no write about it is open.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Registered | Self::Failed)
    }
}

/// A candidate as the gateway remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The gateway's identifier.
    pub id: CandidateId,
    /// Who owns it.
    pub tenant: String,
    /// The connection it lives at.
    pub connection: String,
    /// The person.
    pub person: Person,
    /// What the gateway knows it to be.
    pub state: CandidateState,
    /// What is known of the last write.
    pub outcome: Outcome,
    /// How the vendor names the person (`id`, …), as far as it has told.
    pub vendor_ref: Map<String, Value>,
    /// What the adapter keeps for later and nobody is shown (a sign-in token for launch links).
    pub private: BTreeMap<String, String>,
    /// The scope of the key under which the password is kept that the gateway made up for a request without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_key: Option<String>,
    /// Why the last write failed or is unknown; kept until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Error>>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// When the record was made.
    pub created: Timestamp,
    /// When it last changed.
    pub last_modified: Timestamp,
}

impl Candidate {
    /// The record without the person, who was erased.
    #[must_use]
    pub fn without_person(self) -> Self {
        let (vendor_ref, private) = (Map::new(), BTreeMap::new());
        let (password_key, problem) = (None, None);
        Self { person: Person::default(), vendor_ref, private, password_key, problem, warnings: Vec::new(), ..self }
    }
}

/// By which a person is recognised within a tenant and connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The caller's own id, compared exactly.
    ExternalId(String),
    /// The sign-in name, compared without case.
    UserName(String),
    /// The e-mail address, compared without case.
    Email(String),
}

/// The kinds of [`Identity`]. A vendor declares which of them it knows people by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// The caller's own id.
    ExternalId,
    /// The sign-in name.
    UserName,
    /// The e-mail address.
    Email,
}

impl IdentityKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::ExternalId, Self::UserName, Self::Email];

    /// The member of a candidate that holds it.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::ExternalId => "externalId",
            Self::UserName => "userName",
            Self::Email => "email",
        }
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

    /// Kind and value, as the store keeps them.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::ExternalId(value) => (IdentityKind::ExternalId.member(), value),
            Self::UserName(value) => (IdentityKind::UserName.member(), value),
            Self::Email(value) => (IdentityKind::Email.member(), value),
        }
    }
}

/// A change to a candidate: the members to set, and those to clear (RFC 7396 merge patch).
#[derive(Debug, Clone, Default)]
pub struct CandidateChanges {
    /// The person as it will be; only members in `touched` differ from the present one.
    pub person: Person,
    /// Pointers of the members the patch names.
    pub touched: Vec<String>,
}
