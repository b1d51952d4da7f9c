//! Candidates: people registered at a connection, as described by a caller and as recorded by the gateway.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::person::{Address, Name, Person, PhoneKind, PhoneNumber, Photo, limits};
use super::error::Error;
use super::identity::{EmailAddress, ExternalId, UserName};
use super::ids::CandidateId;
use super::outcome::{Outcome, Warning};
use super::words::words;
use crate::secret::Secret;

mod person;

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

/// An identity by which a person is recognised within a tenant and connection. Two are equal if their keys are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The caller's own id.
    ExternalId(ExternalId),
    /// The sign-in name.
    UserName(UserName),
    /// The e-mail address.
    Email(EmailAddress),
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
            IdentityKind::UserName => person.user_name.clone().map(Self::UserName),
            IdentityKind::Email => person.email.clone().map(Self::Email),
        };
        kinds.iter().filter_map(identity).collect()
    }

    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> IdentityKind {
        match self {
            Self::ExternalId(_) => IdentityKind::ExternalId,
            Self::UserName(_) => IdentityKind::UserName,
            Self::Email(_) => IdentityKind::Email,
        }
    }

    /// Returns the key by which it is compared.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        match self {
            Self::ExternalId(text) => text.identity(),
            Self::UserName(text) => text.identity(),
            Self::Email(text) => text.identity(),
        }
    }

    /// Returns the spelling that the vendor knows.
    #[must_use]
    pub fn spelling(&self) -> &str {
        match self {
            Self::ExternalId(text) => text,
            Self::UserName(text) => text,
            Self::Email(text) => text,
        }
    }

    /// Returns kind and key, as stored.
    #[must_use]
    pub fn parts(&self) -> (&'static str, Cow<'_, str>) {
        (self.kind().as_str(), self.key())
    }

    /// Returns the texts other than the key by which earlier versions store it.
    #[must_use]
    pub fn former_texts(&self) -> Vec<Cow<'_, str>> {
        match self {
            Self::ExternalId(text) => text.former_texts(),
            Self::UserName(text) => text.former_texts(),
            Self::Email(text) => text.former_texts(),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
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
