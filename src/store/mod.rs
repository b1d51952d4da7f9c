//! What must survive: candidates, assignments and the intents of writes not answered yet, behind one [`Store`] trait.
//!
//! Every change is one transaction; a call that returned has survived. The store knows no vendor and decides nothing about
//! outcomes. Everything about a person is sealed before it reaches the disk (`seal`), and found again through keyed blind
//! indices.

use async_trait::async_trait;

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::Intent;

#[cfg(test)]
mod conformance;
mod records;
mod seal;
mod sqlite;

pub use seal::{Keyring, SealError};
pub use sqlite::SqliteStore;

/// The store cannot do its work; what was asked did not happen, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused, is gone, or its disk is full.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// A record cannot be read: another key sealed it, or it was damaged.
    #[error("a record of the store cannot be read: {0}")]
    Unreadable(String),
    /// An identity that was to be set is held by another candidate; nothing was written.
    #[error("another candidate holds one of the identities")]
    Conflict,
}

/// What happened to the claim of a new candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The record, its identities and its intent are written.
    Claimed,
    /// These candidates of the tenant hold one or more of the identities; nothing was written.
    Held(Vec<Candidate>),
    /// Another tenant holds one of the identities; nothing was written.
    HeldByOthers,
}

/// One change; several in one call are one transaction.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes the candidate over the tenant's one with the same id, its identities left as they are. Does nothing if there
    /// is none: a late outcome does not bring an erased person back.
    Candidate(Candidate),
    /// Sets the candidate's identities to these: all others of it are released. [`StoreError::Conflict`] if another
    /// candidate, of any tenant, holds one of them; nothing happens if the candidate was erased.
    Identities(CandidateId, Vec<Identity>),
    /// Removes the candidate, its identities and its intent.
    EraseCandidate(CandidateId),
    /// Writes the assignment over the one with the same id, or as a new one.
    Assignment(Assignment),
    /// Writes the intent over the one of the same record, or as a new one.
    Intent(Intent),
    /// Removes the record's intent: its outcome is known.
    Settled(String),
}

/// Which assignments are meant.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFilter {
    /// Of this candidate.
    pub candidate: Option<CandidateId>,
    /// Of this assessment, by the vendor's own id or as the caller named it.
    pub assessment: Option<String>,
    /// At this connection.
    pub connection: Option<String>,
    /// In this state.
    pub state: Option<AssignmentState>,
}

/// A part of a list: at most `limit` entries after the one named by `after`, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// Most entries.
    pub limit: usize,
    /// The last entry of the part before.
    pub after: Option<String>,
}

/// What the gateway needs to survive a restart.
#[async_trait]
pub trait Store: Send + Sync {
    /// Whether the store answers, by a read.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Writes a new candidate with its identities and its intent, unless somebody holds one of the identities.
    async fn claim(&self, candidate: &Candidate, identities: &[Identity], intent: &Intent)
    -> Result<Claim, StoreError>;

    /// Writes all changes, or none.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// The tenant's candidate with this id.
    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError>;

    /// The tenant's candidates with this identity, at this connection or at all of them.
    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// The tenant's assignment with this id.
    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError>;

    /// The tenant's assignments of this subject at this connection, newest first.
    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError>;

    /// Whether any tenant has or had an assignment of this subject at this connection.
    async fn subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError>;

    /// A part of the tenant's assignments, newest first.
    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError>;

    /// The open intent of this record.
    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError>;

    /// Every open intent, oldest first.
    async fn intents(&self) -> Result<Vec<Intent>, StoreError>;
}
