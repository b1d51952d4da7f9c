//! Conversion between operations and table rows. Operations contain nothing about a person, so nothing is sealed.

use jiff::Timestamp;

use crate::domain::ids::OperationId;
use crate::domain::intent::StoredReply;
use crate::domain::operation::{ItemState, Operation, OperationKind, OperationState, Progress};
use crate::store::codec::{RecordCodec, micros, unknown_format};
use crate::store::columns::{Columns, FromColumns};
use crate::store::sql::{self, Statement, values};
use crate::store::{AcceptResult, KeyState, RunningOperation, StoreError};

/// Reads a running operation from its columns.
pub(in crate::store) fn running(
    (id, connection, pending): (String, String, i64),
) -> Result<RunningOperation, StoreError> {
    let id = OperationId::parse(&id).map_err(|_| unknown_format(OPERATIONS, &id))?;
    Ok(RunningOperation { id, connection, pending: u64::try_from(pending).unwrap_or(0) })
}

const OPERATIONS: &str = "operations";

/// A row of `operations`.
pub(in crate::store) struct OperationRow {
    pub id: String,
    pub tenant: String,
    pub client: String,
    pub kind: String,
    pub connection: String,
    pub strict: bool,
    pub fail_on_errors: Option<i64>,
    pub state: String,
    pub cancelling: bool,
    pub total: i64,
    pub created: i64,
    pub accepted: i64,
    pub started: Option<i64>,
    pub finished: Option<i64>,
    pub request_id: String,
    pub traceparent: Option<String>,
    /// The JSON form of the replay.
    pub replay: Option<String>,
}

impl FromColumns for OperationRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            id: row.column(0)?,
            tenant: row.column(1)?,
            client: row.column(2)?,
            kind: row.column(3)?,
            connection: row.column(4)?,
            strict: row.column(5)?,
            fail_on_errors: row.column(6)?,
            state: row.column(7)?,
            cancelling: row.column(8)?,
            total: row.column(9)?,
            created: row.column(10)?,
            started: row.column(11)?,
            finished: row.column(12)?,
            request_id: row.column(13)?,
            traceparent: row.column(14)?,
            accepted: row.column(15)?,
            replay: row.column(16)?,
        })
    }
}

impl OperationRow {
    pub(in crate::store) fn of(operation: &Operation) -> Self {
        let Operation {
            id,
            tenant,
            client,
            kind,
            connection,
            strict,
            fail_on_errors,
            state,
            cancelling,
            total,
            created,
            accepted,
            started,
            finished,
            request_id,
            traceparent,
            replay,
        } = operation.clone();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            id: id.into(),
            tenant,
            client,
            kind: kind.as_str().to_owned(),
            connection,
            strict,
            fail_on_errors: fail_on_errors.map(number),
            state: state.as_str().to_owned(),
            cancelling,
            total: number(total),
            created: micros(created),
            accepted: micros(accepted),
            started: started.map(micros),
            finished: finished.map(micros),
            request_id,
            traceparent,
            // Ids, numbers and words are always JSON.
            replay: replay.and_then(|replay| serde_json::to_string(&replay).ok()),
        }
    }

    /// Returns the statement that inserts the operation; the instance is receiving it.
    pub(in crate::store) fn open(self, instance: &str) -> Statement {
        let values = values![
            self.id,
            self.tenant,
            self.client,
            self.kind,
            self.connection,
            self.strict,
            self.fail_on_errors,
            self.state,
            self.cancelling,
            self.total,
            self.created,
            self.started,
            self.finished,
            self.request_id,
            self.traceparent,
            self.accepted,
            instance.to_owned(),
            self.replay,
        ];
        Statement::new(sql::OPEN_OPERATION, values)
    }

    /// Returns the statement that updates the mutable columns of the operation.
    pub(in crate::store) fn update(self) -> Statement {
        let Self { id, connection, fail_on_errors, state, total, started, finished, .. } = self;
        let values = values![connection, fail_on_errors, state, total, started, finished, id];
        Statement::new(sql::UPDATE_OPERATION, values)
    }

    pub(in crate::store) fn operation(self) -> Result<Operation, StoreError> {
        use OperationState::{Cancelled, Completed, Queued, Receiving, Running};
        let odd = || unknown_format(OPERATIONS, &self.id);
        let moment = |micros: i64| Timestamp::from_microsecond(micros).map_err(|_| odd());
        let number = |number: i64| u64::try_from(number).map_err(|_| odd());
        let states = [Receiving, Queued, Running, Completed, Cancelled];
        Ok(Operation {
            id: OperationId::parse(&self.id).map_err(|_| odd())?,
            kind: OperationKind::parse(&self.kind).ok_or_else(odd)?,
            state: states.into_iter().find(|state| state.as_str() == self.state).ok_or_else(odd)?,
            fail_on_errors: self.fail_on_errors.map(number).transpose()?,
            total: number(self.total)?,
            created: moment(self.created)?,
            accepted: moment(self.accepted)?,
            started: self.started.map(moment).transpose()?,
            finished: self.finished.map(moment).transpose()?,
            tenant: self.tenant,
            client: self.client,
            connection: self.connection,
            strict: self.strict,
            cancelling: self.cancelling,
            request_id: self.request_id,
            traceparent: self.traceparent,
            replay: self.replay.map(|json| serde_json::from_str(&json).map_err(|_| odd())).transpose()?,
        })
    }

    /// Converts the readable rows; a damaged one must not block the others.
    pub(in crate::store) fn readable(rows: Vec<Self>) -> Vec<Operation> {
        let read = |row: Self| match row.operation() {
            Ok(operation) => Some(operation),
            Err(error) => {
                tracing::error!(%error, "operation is unreadable; skipping it");
                None
            }
        };
        rows.into_iter().filter_map(read).collect()
    }

    /// Returns whether these counts of rows by operation and state include rows of the operation that have an open
    /// write.
    pub(in crate::store) fn may_have_open_writes(&self, counts: &[(String, String, i64)]) -> bool {
        let is_open = |state| matches!(state, Some(ItemState::Claimed | ItemState::Unknown));
        let own = counts.iter().filter(|(operation, ..)| *operation == self.id);
        own.into_iter().any(|(_, state, count)| *count > 0 && is_open(ItemState::parse(state)))
    }

    /// Converts the row, and computes its progress from these counts of rows by operation and state, and of rows being
    /// settled by operation.
    pub(in crate::store) fn with_progress(
        self,
        counts: &[(String, String, i64)],
        settling: &[(String, i64)],
    ) -> Result<(Operation, Progress), StoreError> {
        let settling = settling.iter().find(|(operation, _)| *operation == self.id);
        let settling = settling.map_or(0, |(_, count)| u64::try_from(*count).unwrap_or(0));
        let progress = Progress { settling, ..self.progress(counts) };
        Ok((self.operation()?, progress))
    }

    fn progress(&self, counts: &[(String, String, i64)]) -> Progress {
        let mut progress = Progress { total: u64::try_from(self.total).unwrap_or(0), ..Progress::default() };
        for (_, state, count) in counts.iter().filter(|(operation, ..)| *operation == self.id) {
            let count = u64::try_from(*count).unwrap_or(0);
            match ItemState::parse(state) {
                Some(ItemState::Applied) => progress.applied += count,
                Some(ItemState::NotApplied) => progress.not_applied += count,
                Some(ItemState::Unknown) => progress.unknown += count,
                Some(ItemState::Skipped) => progress.skipped += count,
                Some(ItemState::Waiting | ItemState::Claimed) | None => progress.pending += count,
            }
        }
        progress
    }
}

impl RecordCodec {
    /// Decides by the state of its key whether an operation is accepted; if it is, returns the statement that stores
    /// the reply under the key.
    pub(in crate::store) fn accept_under_key(
        &self,
        id: &OperationId,
        state: KeyState,
    ) -> Result<(AcceptResult, Option<Statement>), StoreError> {
        Ok(match state {
            KeyState::Mismatch => (AcceptResult::KeyMismatch, None),
            KeyState::Completed(reply) => match *reply {
                StoredReply::Operation(id) => (AcceptResult::Replayed(id), None),
                _ => (AcceptResult::KeyMismatch, None),
            },
            KeyState::Acquired(key) | KeyState::Resumable(key, _) => {
                let sealed = self.seal_reply(&key, StoredReply::Operation(id.clone()))?;
                (AcceptResult::Queued, Some(Statement::new(sql::COMPLETE_KEY, values![sealed, key.token])))
            }
            KeyState::InProgress => (AcceptResult::KeyInProgress, None),
        })
    }
}
