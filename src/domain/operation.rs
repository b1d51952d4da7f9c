//! Work of many rows: what a bulk is, how far it is, and what became of each row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::assignment::NewAssignment;
use super::candidate::NewCandidate;
use super::error::{Code, Error};
use super::ids::OperationId;
use super::outcome::{Outcome, Warning};
use super::program::EnrolmentCounts;
use super::vendor::EnrolmentBatch;
use crate::secret::Secret;

/// What an operation's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// People to register.
    Candidates,
    /// Bookings to make.
    Assignments,
    /// Vendor calls that change a program's employees.
    ProgramEmployees,
}

impl OperationKind {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Candidates => "candidates",
            Self::Assignments => "assignments",
            Self::ProgramEmployees => "program_employees",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Its rows are still arriving; nobody but its sender knows of it, and it may yet be refused.
    Receiving,
    /// All rows are in the store; nobody works on it yet.
    Queued,
    /// Rows are being sent.
    Running,
    /// Every row has ended.
    Completed,
    /// It was cancelled; what had not been sent was skipped.
    Cancelled,
}

impl OperationState {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Many writes accepted as one piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The gateway's identifier.
    pub id: OperationId,
    /// Who owns it.
    pub tenant: String,
    /// The client that asked for it.
    pub client: String,
    /// What its rows are.
    pub kind: OperationKind,
    /// Where all its rows go; empty while it is being received.
    pub connection: String,
    /// Whether members the vendor has no place for are a fault.
    pub strict: bool,
    /// Sending stops after this many failed rows.
    pub fail_on_errors: Option<u64>,
    /// How far it is.
    pub state: OperationState,
    /// Whether somebody asked for its end.
    pub cancelling: bool,
    /// How many rows it has.
    pub total: u64,
    /// When it was created.
    pub created: Timestamp,
    /// When its rows were accepted: at its creation, or at its last retry. Rows without a validity of their own begin at
    /// this moment.
    pub accepted: Timestamp,
    /// When the first row was about to be sent.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The id of the request it came with.
    pub request_id: String,
    /// W3C `traceparent` of that request.
    pub traceparent: Option<String>,
}

/// How many rows are how far; every row counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All rows.
    pub total: u64,
    /// Done, now or before.
    pub applied: u64,
    /// Failed, and nothing happened.
    pub not_applied: u64,
    /// Not known.
    pub unknown: u64,
    /// Not sent, because the operation stopped before.
    pub skipped: u64,
    /// Not ended yet.
    pub pending: u64,
}

/// What is told of a row: how far it is and how it ended, without what it asks for.
#[derive(Debug, Clone)]
pub struct ItemReport {
    /// Which row.
    pub id: ItemId,
    /// The caller's mark for it.
    pub item_id: Option<String>,
    /// How far it is.
    pub state: ItemState,
    /// The record it led to.
    pub record: Option<String>,
    /// Whether it could not be read.
    pub refused: bool,
    /// How it ended.
    pub outcome: Option<ItemOutcome>,
}

/// How far a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Nothing was sent for it.
    Waiting,
    /// Its record and intent are in the store; it is on its way.
    Claimed,
    /// Done, now or before.
    Applied,
    /// Failed, and nothing happened.
    NotApplied,
    /// Not known.
    Unknown,
    /// Not sent, because the operation stopped before.
    Skipped,
}

impl ItemState {
    /// The word in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Claimed => "claimed",
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Waiting, Self::Claimed, Self::Applied, Self::NotApplied, Self::Unknown, Self::Skipped]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// Names a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemId {
    /// Its operation.
    pub operation: OperationId,
    /// Its position in the request, from 0.
    pub index: u64,
}

/// What a row asks for. Where its password was part of it and is gone, the row cannot be sent any more.
#[derive(Debug, Clone)]
pub enum ItemRequest {
    /// A person to register.
    Candidate(Box<NewCandidate>),
    /// A booking to make.
    Assignment(Box<NewAssignment>),
    /// A vendor call that changes a program's employees.
    Enrolment(Box<EnrolmentBatch>),
}

/// One row of an operation.
#[derive(Debug, Clone)]
pub struct Item {
    /// Which row it is.
    pub id: ItemId,
    /// The caller's mark.
    pub item_id: Option<String>,
    /// How far it is.
    pub state: ItemState,
    /// The candidate or assignment it led to.
    pub record: Option<String>,
    /// What it asks for; none where it could not be read.
    pub request: Option<ItemRequest>,
    /// Whether it was given a password that is not kept any more.
    pub password_gone: bool,
    /// How it ended, once it has.
    pub outcome: Option<ItemOutcome>,
}

/// How a row ended.
#[derive(Debug, Clone)]
pub struct ItemOutcome {
    /// What became of it.
    pub result: ItemStatus,
    /// What the caller should know besides what the record itself says.
    pub warnings: Vec<Warning>,
    /// The password the gateway made up.
    pub initial_password: Option<Secret>,
    /// What the vendor counted, for a program's employees.
    pub counts: Option<EnrolmentCounts>,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// It was done now.
    Created,
    /// It was there before.
    Existing,
    /// It failed.
    Failed(Box<Error>),
}

impl ItemOutcome {
    /// An end with nothing to add.
    #[must_use]
    pub const fn of(result: ItemStatus) -> Self {
        Self { result, warnings: Vec::new(), initial_password: None, counts: None }
    }

    /// An end by this fault.
    #[must_use]
    pub fn failed(fault: Error) -> Self {
        Self::of(ItemStatus::Failed(Box::new(fault)))
    }

    /// The state of a row that ended so.
    #[must_use]
    pub fn state(&self) -> ItemState {
        match &self.result {
            ItemStatus::Created | ItemStatus::Existing => ItemState::Applied,
            ItemStatus::Failed(fault) if fault.code == Code::Skipped => ItemState::Skipped,
            ItemStatus::Failed(fault) => match fault.outcome {
                Outcome::Applied => ItemState::Applied,
                Outcome::NotApplied => ItemState::NotApplied,
                Outcome::Unknown => ItemState::Unknown,
            },
        }
    }
}
