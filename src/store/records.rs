//! Between the domain and the tables, for every engine alike: what of a record stands in clear columns, what is sealed,
//! and how it is read back.
//!
//! In clear stand only ids, names the operator gave (tenant, connection), assessments, states and times. Everything about
//! a person is sealed; identities and subjects are blind indices. Nothing here may put record content into an error.
//!
//! A record is JSON inside its seal. A member added to a stored type later needs `#[serde(default)]`, or the records of
//! before can no longer be read; the tests hold the first form of each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::seal::{Blind, KeyId, Keyring, Place, SealError};
use super::{Change, StoreError};
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState, Identity, Person};
use crate::domain::environment::Environment;
use crate::domain::ids::CandidateId;
use crate::domain::journal::{Intent, Write};
use crate::domain::vendor::{Booking, Cancellation, KnownCandidate, Registration, Update};
use crate::secret::Secret;

#[cfg(test)]
mod tests;

const CANDIDATES: &str = "candidates";
const ASSIGNMENTS: &str = "assignments";
const INTENTS: &str = "intents";

/// Seals, opens and indexes records.
pub(super) struct Records {
    keyring: Keyring,
    environment: Environment,
}

/// A row of `candidates`, and of `lookups` what finds it.
pub(super) struct CandidateRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub state: &'static str,
    pub created: i64,
    pub modified: i64,
    pub sealed: Vec<u8>,
    pub lookups: Vec<Indexed>,
}

/// An index value ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    pub kind: &'static str,
    pub blind: Blind,
}

/// A row of `assignments`.
pub(super) struct AssignmentRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub candidate_id: Option<String>,
    pub subject: Blind,
    pub assessment_ref: String,
    pub assessment: String,
    pub state: &'static str,
    pub created: i64,
    pub sealed: Vec<u8>,
}

/// A row of `intents`.
pub(super) struct IntentRow {
    pub record: String,
    pub tenant: String,
    pub connection: String,
    pub operation: &'static str,
    pub started: i64,
    pub settle_from: i64,
    pub attempts: u32,
    pub sealed: Vec<u8>,
}

/// A [`Change`] ready to be written: all sealing is done.
pub(super) enum RowChange {
    Candidate(CandidateRow),
    /// Indexed by the engine, which knows the candidate's connection.
    Identities(CandidateId, Vec<Identity>),
    EraseCandidate(CandidateId),
    Assignment(AssignmentRow),
    Intent(IntentRow),
    Settled(String),
}

/// A sealed record as it comes from any of the tables.
pub(super) struct SealedRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub sealed: Vec<u8>,
}

impl Records {
    pub(super) const fn new(keyring: Keyring, environment: Environment) -> Self {
        Self { keyring, environment }
    }

    /// The id of the key that is written with, and the present moment: for the engine's list of keys in use.
    pub(super) fn key_in_use(&self) -> (KeyId, i64) {
        (self.keyring.current_id(), micros(self.environment.now()))
    }

    /// An error unless records under this key can be read.
    pub(super) fn require_key(&self, id: &[u8]) -> Result<(), StoreError> {
        Ok(self.keyring.require(id)?)
    }

    pub(super) fn change(&self, change: Change) -> Result<RowChange, StoreError> {
        Ok(match change {
            Change::Candidate(candidate) => RowChange::Candidate(self.candidate_row(&candidate)?),
            Change::Identities(id, identities) => RowChange::Identities(id, identities),
            Change::EraseCandidate(id) => RowChange::EraseCandidate(id),
            Change::Assignment(assignment) => RowChange::Assignment(self.assignment_row(&assignment)?),
            Change::Intent(intent) => RowChange::Intent(self.intent_row(&intent)?),
            Change::Settled(record) => RowChange::Settled(record),
        })
    }

    pub(super) fn candidate_row(&self, candidate: &Candidate) -> Result<CandidateRow, StoreError> {
        let lookups = Identity::of(&candidate.person, true)
            .iter()
            .map(|identity| {
                let (kind, text) = identity.parts();
                Indexed { kind, blind: self.keyring.blind(&tenant_scope(&candidate.tenant), kind, text) }
            })
            .collect();
        Ok(CandidateRow {
            id: candidate.id.to_string(),
            tenant: candidate.tenant.clone(),
            connection: candidate.connection.clone(),
            state: candidate_state(candidate.state),
            created: micros(candidate.created),
            modified: micros(candidate.last_modified),
            sealed: self.seal(CANDIDATES, candidate.id.as_str(), candidate)?,
            lookups,
        })
    }

    pub(super) fn assignment_row(&self, assignment: &Assignment) -> Result<AssignmentRow, StoreError> {
        Ok(AssignmentRow {
            id: assignment.id.to_string(),
            tenant: assignment.tenant.clone(),
            connection: assignment.connection.clone(),
            candidate_id: assignment.candidate_id.as_ref().map(ToString::to_string),
            subject: self.keyring.blind(&connection_scope(&assignment.connection), SUBJECT, &assignment.subject),
            assessment_ref: assignment.assessment_ref.clone(),
            assessment: assignment.order.assessment.clone(),
            state: assignment_state(assignment.state),
            created: micros(assignment.created),
            sealed: self.seal(ASSIGNMENTS, assignment.id.as_str(), assignment)?,
        })
    }

    pub(super) fn intent_row(&self, intent: &Intent) -> Result<IntentRow, StoreError> {
        let record = intent.write.record();
        Ok(IntentRow {
            record: record.to_owned(),
            tenant: intent.tenant.clone(),
            connection: intent.connection.clone(),
            operation: intent.write.operation().as_str(),
            started: micros(intent.started),
            settle_from: micros(intent.settle_from),
            attempts: intent.attempts,
            sealed: self.seal(INTENTS, record, &IntentRecord::from(intent.clone()))?,
        })
    }

    pub(super) fn candidate(&self, row: &SealedRow) -> Result<Candidate, StoreError> {
        let candidate: Candidate = self.open(CANDIDATES, row)?;
        agrees(row, candidate.id.as_str(), &candidate.tenant, &candidate.connection)?;
        Ok(candidate)
    }

    pub(super) fn assignment(&self, row: &SealedRow) -> Result<Assignment, StoreError> {
        let assignment: Assignment = self.open(ASSIGNMENTS, row)?;
        agrees(row, assignment.id.as_str(), &assignment.tenant, &assignment.connection)?;
        Ok(assignment)
    }

    pub(super) fn intent(&self, row: &SealedRow) -> Result<Intent, StoreError> {
        let intent = Intent::from(self.open::<IntentRecord>(INTENTS, row)?);
        agrees(row, intent.write.record(), &intent.tenant, &intent.connection)?;
        Ok(intent)
    }

    /// The identity as it is written to `identities`.
    pub(super) fn identity(&self, connection: &str, identity: &Identity) -> Indexed {
        let (kind, text) = identity.parts();
        Indexed { kind, blind: self.keyring.blind(&connection_scope(connection), kind, text) }
    }

    /// The identity in every form it may have in `identities`.
    pub(super) fn identity_forms(&self, connection: &str, identity: &Identity) -> Vec<Blind> {
        let (kind, text) = identity.parts();
        self.keyring.blinds(&connection_scope(connection), kind, text)
    }

    /// The identity in every form it may have in `lookups`.
    pub(super) fn lookup_forms(&self, tenant: &str, identity: &Identity) -> Vec<Blind> {
        let (kind, text) = identity.parts();
        self.keyring.blinds(&tenant_scope(tenant), kind, text)
    }

    /// The subject in every form it may have in `assignments`.
    pub(super) fn subject_forms(&self, connection: &str, subject: &str) -> Vec<Blind> {
        self.keyring.blinds(&connection_scope(connection), SUBJECT, subject)
    }

    fn seal(&self, table: &'static str, record: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(value).map(Zeroizing::new).map_err(|_| unreadable(table, record))?;
        Ok(self.keyring.seal(&self.environment, Place { table, record }, &json)?)
    }

    fn open<T: DeserializeOwned>(&self, table: &'static str, row: &SealedRow) -> Result<T, StoreError> {
        let json = self
            .keyring
            .open(Place { table, record: &row.id }, &row.sealed)
            .map_err(|error| StoreError::Unreadable(format!("{table} {}: {error}", row.id)))?;
        // serde_json's own message may quote what it read.
        serde_json::from_slice(&json).map_err(|_| unreadable(table, &row.id))
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The word for a state in the `state` columns.
pub(super) const fn assignment_state(state: AssignmentState) -> &'static str {
    match state {
        AssignmentState::Assigned => "assigned",
        AssignmentState::Pending => "pending",
        AssignmentState::Cancelled => "cancelled",
        AssignmentState::Failed => "failed",
        AssignmentState::Unknown => "unknown",
    }
}

const fn candidate_state(state: CandidateState) -> &'static str {
    match state {
        CandidateState::Registered => "registered",
        CandidateState::Pending => "pending",
        CandidateState::Failed => "failed",
        CandidateState::Unknown => "unknown",
    }
}

const SUBJECT: &str = "subject";

fn tenant_scope(tenant: &str) -> String {
    format!("tenant {tenant}")
}

fn connection_scope(connection: &str) -> String {
    format!("connection {connection}")
}

fn micros(moment: Timestamp) -> i64 {
    moment.as_microsecond()
}

fn unreadable(table: &str, record: &str) -> StoreError {
    StoreError::Unreadable(format!("{table} {record}: not in a form this version knows"))
}

/// The columns in clear decide who sees a record; whoever can write to the database must not be able to move one.
fn agrees(row: &SealedRow, id: &str, tenant: &str, connection: &str) -> Result<(), StoreError> {
    if row.id == id && row.tenant == tenant && row.connection == connection {
        return Ok(());
    }
    Err(StoreError::Unreadable(format!("{}: its columns do not agree with its seal", row.id)))
}

/// An [`Intent`] as it stands inside its seal.
#[derive(Serialize, Deserialize)]
struct IntentRecord {
    tenant: String,
    connection: String,
    write: WriteRecord,
    started: Timestamp,
    attempts: u32,
    settle_from: Timestamp,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WriteRecord {
    Register(RegistrationRecord),
    Update { candidate: KnownRecord, touched: Vec<String> },
    Hide(KnownRecord),
    Assign(Booking),
    Cancel(Cancellation),
}

#[derive(Serialize, Deserialize)]
struct RegistrationRecord {
    id: CandidateId,
    person: Person,
    own_user_name: bool,
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    password: Option<Secret>,
    own_password: bool,
}

#[derive(Serialize, Deserialize)]
struct KnownRecord {
    id: CandidateId,
    person: Person,
    vendor_ref: Map<String, Value>,
    private: BTreeMap<String, String>,
}

impl From<Intent> for IntentRecord {
    fn from(intent: Intent) -> Self {
        let Intent { tenant, connection, write, started, attempts, settle_from, reason } = intent;
        Self { tenant, connection, write: write.into(), started, attempts, settle_from, reason }
    }
}

impl From<IntentRecord> for Intent {
    fn from(record: IntentRecord) -> Self {
        let IntentRecord { tenant, connection, write, started, attempts, settle_from, reason } = record;
        Self { tenant, connection, write: write.into(), started, attempts, settle_from, reason }
    }
}

impl From<Write> for WriteRecord {
    fn from(write: Write) -> Self {
        match write {
            Write::Register(registration) => {
                let Registration { id, person, own_user_name, password, own_password } = registration;
                Self::Register(RegistrationRecord { id, person, own_user_name, password, own_password })
            }
            Write::Update(Update { candidate, touched }) => Self::Update { candidate: candidate.into(), touched },
            Write::Hide(candidate) => Self::Hide(candidate.into()),
            Write::Assign(booking) => Self::Assign(booking),
            Write::Cancel(cancellation) => Self::Cancel(cancellation),
        }
    }
}

impl From<WriteRecord> for Write {
    fn from(record: WriteRecord) -> Self {
        match record {
            WriteRecord::Register(registration) => {
                let RegistrationRecord { id, person, own_user_name, password, own_password } = registration;
                Self::Register(Registration { id, person, own_user_name, password, own_password })
            }
            WriteRecord::Update { candidate, touched } => Self::Update(Update { candidate: candidate.into(), touched }),
            WriteRecord::Hide(candidate) => Self::Hide(candidate.into()),
            WriteRecord::Assign(booking) => Self::Assign(booking),
            WriteRecord::Cancel(cancellation) => Self::Cancel(cancellation),
        }
    }
}

impl From<KnownCandidate> for KnownRecord {
    fn from(candidate: KnownCandidate) -> Self {
        let KnownCandidate { id, person, vendor_ref, private } = candidate;
        Self { id, person, vendor_ref, private }
    }
}

impl From<KnownRecord> for KnownCandidate {
    fn from(record: KnownRecord) -> Self {
        let KnownRecord { id, person, vendor_ref, private } = record;
        Self { id, person, vendor_ref, private }
    }
}

/// A [`Secret`] has no `Serialize` on purpose; inside a seal, and only there, it is written down.
#[expect(clippy::ref_option, reason = "the signature serde calls")]
fn write_secret<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}
