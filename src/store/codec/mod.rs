//! Conversion between domain types and table rows, shared by both engines: decides which columns are clear text and
//! which are sealed, and reads records back.
//!
//! Only ids, names the operator gave (tenant, connection), assessments, states and times are clear text. Everything
//! about a person is sealed; identities and subjects are blind indices. Nothing here may put record content into an
//! error.
//!
//! A sealed record is JSON. A field added to a stored type later needs `#[serde(default)]`, or older records can no
//! longer be read; the tests hold the first form of each type.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use self::intents::{OpenedIntent, SealedIntent};
use crate::domain::candidate::{Candidate, CandidateState, Identity, IdentityKind, Person};
use crate::domain::ids::{CandidateId, OperationId};
use crate::domain::intent::Intent;
use crate::domain::system::System;
use crate::store::encryption::{AadContext, BlindIndex, KeyId, Keyring, SealError};
use crate::store::{CandidateSelector, StoreError, SubjectHash};

mod assignments;
mod audit;
mod events;
mod fetches;
mod intents;
mod items;
mod keys;
mod mutations;
pub(super) mod operations;
mod reindex;
mod reports;
mod results;
mod secrets;
#[cfg(test)]
mod tests;
mod webhooks;

pub(super) use assignments::{AssignmentRow, assignment_state};
pub(super) use audit::{AuditHead, AuditRow};
pub(super) use events::{EventRow, NewEventRow};
pub(super) use fetches::{FetchChangeRow, FetchRow, NewFetchRow};
pub(super) use items::{ItemRow, ReportRow, index_column};
pub(super) use keys::{KeyRow, StoredKey};
pub(super) use mutations::{EncodedMutation, ItemOutcomeRow, PreparedWriteRow};
pub(super) use operations::OperationRow;
pub(super) use reindex::{OtherHolder, RenewedIdentity, is_of_another};
pub(super) use reports::{
    NewReceivedRow, NewReportRow, ReceivedRow, ReportRecordRow, SeriesReportRow, SeriesResultRow, candidate_hints,
    hints_of, participant_of,
};
pub(super) use results::{FeedRow, RepeatRow, ResultMutation, ResultRow};
pub(super) use webhooks::{DeliveryRow, WebhookMutation, WebhookRow};

const CANDIDATES: &str = "candidates";
const INTENTS_TABLE: &str = "intents";

/// Encoder and decoder of records: seals, opens and indexes them.
pub(super) struct RecordCodec {
    keyring: Keyring,
    environment: System,
    instance: String,
    /// Whether entries made of earlier versions' texts may exist that have no entry of the present form beside them.
    asks_former_texts: AtomicBool,
    /// The key that the store was first written with, once it is open.
    first_key: OnceLock<KeyId>,
}

/// A row of `candidates` with its look-up entries.
pub(super) struct CandidateRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub state: &'static str,
    pub created: i64,
    pub modified: i64,
    pub sealed: Vec<u8>,
    /// The picture, stored separately because lists are read without it.
    pub photo: Option<Vec<u8>>,
    /// The index value of its group; empty without one.
    pub group: Vec<u8>,
    pub lookups: Vec<Lookup>,
}

/// A row of `lookups`.
pub(super) struct Lookup {
    /// The identity behind the index value.
    pub identity: Identity,
    pub kind: &'static str,
    pub blind: BlindIndex,
}

/// An index value ready to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexValue {
    pub kind: &'static str,
    pub blind: BlindIndex,
}

/// A row of `intents`.
pub(super) struct IntentRow {
    pub record: String,
    pub tenant: String,
    pub connection: String,
    pub operation: &'static str,
    pub subject: BlindIndex,
    pub started: i64,
    pub settle_from: i64,
    pub due: Option<i64>,
    pub attempts: u32,
    /// Whether the writing instance is sending it.
    pub in_flight: bool,
    pub sealed: Vec<u8>,
}

/// A sealed record read from any of the tables.
pub(super) struct SealedRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub sealed: Vec<u8>,
    /// A candidate's picture, if it was requested.
    pub photo: Option<Vec<u8>>,
}

impl RecordCodec {
    pub(super) fn new(keyring: Keyring, environment: System) -> Self {
        let instance = data_encoding::HEXLOWER.encode(&environment.random::<12>());
        Self { keyring, environment, instance, asks_former_texts: AtomicBool::new(false), first_key: OnceLock::new() }
    }

    /// Records which key the store was first written with; the first word counts.
    pub(super) fn set_first_key(&self, id: &[u8]) {
        if let Ok(id) = KeyId::try_from(id) {
            self.first_key.get_or_init(|| id);
        }
    }

    /// Returns the id of the current key and the present time, for the engine's list of keys in use.
    pub(super) fn key_in_use(&self) -> (KeyId, i64) {
        (self.keyring.current_id(), micros(self.environment.now()))
    }

    /// Returns the ids of the keys that can read records.
    pub(super) fn key_ids(&self) -> Vec<KeyId> {
        self.keyring.ids()
    }

    /// Returns an unpredictable number from 0 to 1, to randomise pauses.
    pub(super) fn random_fraction(&self) -> f64 {
        f64::from(u32::from_be_bytes(self.environment.random())) / f64::from(u32::MAX)
    }

    /// Returns the name of this instance: random, so that no two openings of a store share one.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns an error unless records under this key can be read.
    pub(super) fn require_key(&self, id: &[u8]) -> Result<(), StoreError> {
        Ok(self.keyring.require(id)?)
    }

    pub(super) fn candidate_row(&self, candidate: &Candidate) -> Result<CandidateRow, StoreError> {
        let photo = candidate.person.photo.as_ref();
        let photo = photo.map(|photo| self.seal(CANDIDATES, &photo_place(&candidate.id), photo)).transpose()?;
        let sealed = if photo.is_some() {
            let person = Person { photo: None, ..candidate.person.clone() };
            self.seal(CANDIDATES, candidate.id.as_str(), &Candidate { person, ..candidate.clone() })?
        } else {
            self.seal(CANDIDATES, candidate.id.as_str(), candidate)?
        };
        Ok(CandidateRow {
            id: candidate.id.to_string(),
            tenant: candidate.tenant.clone(),
            connection: candidate.connection.clone(),
            state: candidate_state(candidate.state),
            created: micros(candidate.created),
            modified: micros(candidate.last_modified),
            sealed,
            photo,
            group: self.group_index(candidate),
            lookups: self.lookups(candidate),
        })
    }

    /// Returns the look-up entries for the identities in the candidate's record.
    pub(super) fn lookups(&self, candidate: &Candidate) -> Vec<Lookup> {
        let scope = tenant_scope(&candidate.tenant);
        let lookup = |identity: Identity| {
            let (kind, text) = identity.parts();
            Lookup { kind, blind: self.keyring.blind_index(&scope, kind, &text), identity: identity.clone() }
        };
        Identity::of(&candidate.person, IdentityKind::ALL).into_iter().map(lookup).collect()
    }

    /// Returns the index value of the candidate's group; empty if it has none.
    pub(super) fn group_index(&self, candidate: &Candidate) -> Vec<u8> {
        let group = candidate.person.group.as_deref();
        let index = |group| self.keyring.blind_index(&tenant_scope(&candidate.tenant), GROUP, group).to_vec();
        group.map_or_else(Vec::new, index)
    }

    /// Returns the group in every form it may have in `candidates`.
    pub(super) fn group_forms(&self, tenant: &str, group: &str) -> Vec<BlindIndex> {
        self.keyring.blind_indices(&tenant_scope(tenant), GROUP, group)
    }

    /// Returns every form in which assignments without a candidate name this person at their connection.
    pub(super) fn person_forms(&self, candidate: &Candidate) -> Vec<BlindIndex> {
        let identities = Identity::of(&candidate.person, IdentityKind::ALL);
        identities.iter().flat_map(|identity| self.identity_forms(&candidate.connection, identity)).collect()
    }

    /// Returns every form in which assignments that name no candidate name this person, each with its connection.
    pub(super) fn unlinked_forms(&self, of: Option<&CandidateSelector>) -> Vec<(String, BlindIndex)> {
        let known_as = of.into_iter().flat_map(|of| &of.known_as);
        let forms = known_as.flat_map(|(connection, identity)| {
            self.identity_forms(connection, identity).into_iter().map(|form| (connection.clone(), form))
        });
        forms.collect()
    }

    pub(super) fn intent_row(&self, intent: &Intent) -> Result<IntentRow, StoreError> {
        let record = intent.write.record_id();
        Ok(IntentRow {
            record: record.to_owned(),
            tenant: intent.tenant.clone(),
            connection: intent.connection.clone(),
            operation: intent.write.kind().as_str(),
            subject: self.lock_index(intent.subject.as_str()),
            started: micros(intent.started),
            settle_from: micros(intent.settle_from),
            due: intent.due.map(micros),
            attempts: intent.attempts,
            in_flight: intent.in_flight,
            sealed: self.seal(INTENTS_TABLE, record, &SealedIntent(intent))?,
        })
    }

    pub(super) fn candidate(&self, row: &SealedRow) -> Result<Candidate, StoreError> {
        let mut candidate: Candidate = self.open(CANDIDATES, row)?;
        check_columns(row, candidate.id.as_str(), &candidate.tenant, &candidate.connection)?;
        if let Some(sealed) = &row.photo {
            let place = photo_place(&candidate.id);
            let text = self.open_at(CANDIDATES, &place, sealed)?;
            candidate.person.photo = serde_json::from_slice(&text).map_err(|_| unknown_format(CANDIDATES, &place))?;
        }
        Ok(candidate)
    }

    /// Returns the candidate without its picture, even if an earlier version stored the picture inside the record.
    pub(super) fn candidate_without_photo(&self, row: &SealedRow) -> Result<Candidate, StoreError> {
        let mut candidate = self.candidate(row)?;
        candidate.person.photo = None;
        Ok(candidate)
    }

    pub(super) fn intent(&self, row: &SealedRow) -> Result<Intent, StoreError> {
        let intent = Intent::from(self.open::<OpenedIntent>(INTENTS_TABLE, row)?);
        check_columns(row, intent.write.record_id(), &intent.tenant, &intent.connection)?;
        Ok(intent)
    }

    /// Returns the identity as written to `identities`.
    pub(super) fn identity(&self, connection: &str, identity: &Identity) -> IndexValue {
        let (kind, text) = identity.parts();
        IndexValue { kind, blind: self.keyring.blind_index(&connection_scope(connection), kind, &text) }
    }

    /// Returns the identity in every form it may have in `identities`.
    pub(super) fn identity_forms(&self, connection: &str, identity: &Identity) -> Vec<BlindIndex> {
        self.forms(&connection_scope(connection), identity)
    }

    /// Returns the identity in every form it may have in `lookups`.
    pub(super) fn lookup_forms(&self, tenant: &str, identity: &Identity) -> Vec<BlindIndex> {
        self.forms(&tenant_scope(tenant), identity)
    }

    /// Returns the subject in every form it may have in `assignments`.
    pub(super) fn subject_forms(&self, connection: &str, subject: &str) -> Vec<BlindIndex> {
        self.keyring.blind_indices(&connection_scope(connection), SUBJECT, subject)
    }

    /// Returns the index value of the subject of a lock or of an intent.
    pub(super) fn lock_index(&self, subject: &str) -> BlindIndex {
        self.keyring.blind_index(TURN, SUBJECT, subject)
    }

    /// Returns the subject of a lock or of an intent in every form it may have.
    pub(super) fn lock_forms(&self, subject: &str) -> Vec<BlindIndex> {
        self.keyring.blind_indices(TURN, SUBJECT, subject)
    }

    /// Returns the hash of the subject of a row. Uses the current key only: if keys rotate during an operation,
    /// duplicates are detected by the record they lead to.
    pub(super) fn item_subject(&self, operation: &OperationId, text: &str) -> SubjectHash {
        let blind = self.keyring.blind_index(operation.as_str(), SUBJECT, text);
        let mut subject = SubjectHash::default();
        subject.copy_from_slice(&blind[..std::mem::size_of::<SubjectHash>()]);
        subject
    }

    /// Splits the stored subjects of rows, given as the position of each row and its concatenated hashes.
    pub(super) fn item_subjects(rows: &[(i64, Vec<u8>)]) -> Vec<(SubjectHash, u64)> {
        rows.iter()
            .flat_map(|(position, subjects)| {
                let index = u64::try_from(*position).unwrap_or(0);
                subjects
                    .as_chunks::<{ std::mem::size_of::<SubjectHash>() }>()
                    .0
                    .iter()
                    .map(move |subject| (*subject, index))
            })
            .collect()
    }

    /// Opens each of these rows.
    pub(super) fn open_all<T>(
        &self,
        rows: &[SealedRow],
        open: fn(&Self, &SealedRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        rows.iter().map(|row| open(self, row)).collect()
    }

    fn seal(&self, table: &'static str, record: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(value).map(Zeroizing::new).map_err(|_| unknown_format(table, record))?;
        Ok(self.keyring.seal(&self.environment, AadContext { table, record }, &json)?)
    }

    fn open<T: DeserializeOwned>(&self, table: &'static str, row: &SealedRow) -> Result<T, StoreError> {
        let json = self.open_at(table, &row.id, &row.sealed)?;
        // The message of serde_json may quote its input.
        serde_json::from_slice(&json).map_err(|_| unknown_format(table, &row.id))
    }

    fn open_at(&self, table: &'static str, record: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let opened = self.keyring.open(AadContext { table, record }, sealed);
        opened.map_err(|error| StoreError::Unreadable(format!("{table} {record}: {error}")))
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

fn photo_place(id: &CandidateId) -> String {
    format!("{id}/photo")
}

/// Returns the value of a state in the `state` column.
pub(super) const fn candidate_state(state: CandidateState) -> &'static str {
    match state {
        CandidateState::Registered => "registered",
        CandidateState::Pending => "pending",
        CandidateState::Failed => "failed",
        CandidateState::Unknown => "unknown",
    }
}

const SUBJECT: &str = "subject";
const GROUP: &str = "group";
const TURN: &str = "turn";

fn tenant_scope(tenant: &str) -> String {
    format!("tenant {tenant}")
}

fn connection_scope(connection: &str) -> String {
    format!("connection {connection}")
}

pub(super) fn micros(moment: Timestamp) -> i64 {
    moment.as_microsecond()
}

fn unknown_format(table: &str, record: &str) -> StoreError {
    StoreError::Unreadable(format!("{table} {record}: this version does not know the format"))
}

/// Checks the clear columns against the sealed content: they decide who sees a record, so write access to the database
/// must not be enough to move one.
fn check_columns(row: &SealedRow, id: &str, tenant: &str, connection: &str) -> Result<(), StoreError> {
    if row.id == id && row.tenant == tenant && row.connection == connection {
        return Ok(());
    }
    Err(StoreError::Unreadable(format!("{}: its columns do not match its sealed content", row.id)))
}
