//! Ingests a bulk: stores its rows as they arrive, so that only the contract limits its size, and turns them into an
//! operation once all are stored.

use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error};
use crate::domain::identity::ExternalId;
use crate::domain::ids::OperationId;
use crate::domain::operation::{
    Item, ItemId, ItemOutcome, ItemRequest, ItemState, Operation, OperationKind, OperationState,
};
use crate::service::bulk::{BulkRow, OperationStatus};
use crate::service::catalogue::Catalogue;
use crate::service::errors::{StoreResultExt as _, key_in_progress, key_reused, with_resource_if_unknown};
use crate::service::exchange_log::traceparent;
use crate::service::{Gateway, IdempotencyRequest, RequestContext};
use crate::store::{AcceptResult, StoreError};

/// Options of a bulk besides its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkOptions {
    /// Connection of all rows.
    pub connection: Option<String>,
    /// Number of failed rows after which sending stops.
    pub fail_on_errors: Option<u64>,
}

/// Result of accepting a request that creates an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedOperation {
    /// New operation, as accepted.
    New(Box<OperationStatus>),
    /// Operation that an earlier request under the same `Idempotency-Key` created.
    Earlier(OperationId),
}

impl AcceptedOperation {
    /// Returns the operation's id.
    #[must_use]
    pub fn id(&self) -> &OperationId {
        match self {
            Self::New(view) => &view.operation.id,
            Self::Earlier(id) => id,
        }
    }
}

impl Gateway {
    /// Queues an operation without rows, at most once under the caller's key.
    ///
    /// # Errors
    /// `idempotency_key_reused`, `idempotency_in_progress`, `store_unavailable`.
    pub(in crate::service) async fn queue_operation(
        &self,
        caller: &RequestContext,
        mut operation: Operation,
    ) -> Result<AcceptedOperation, Error> {
        self.0.store.open_operation(&operation).await.or_not_applied()?;
        caller.exchange.set_operation(operation.id.clone());
        operation.state = OperationState::Queued;
        let key = caller.key.clone().map(|request| self.0.idempotency.acquisition(caller, request));
        let accepted = self.0.store.accept_operation(&operation, key.as_ref()).await.or_not_applied();
        match accepted.map_err(|error| with_resource_if_unknown(error, &operation.id.path()))? {
            AcceptResult::Queued => {
                self.0.active_operations.notify();
                Ok(AcceptedOperation::New(Box::new(OperationStatus::queued(operation))))
            }
            AcceptResult::Replayed(id) => Ok(AcceptedOperation::Earlier(id)),
            AcceptResult::KeyMismatch => Err(key_reused()),
            AcceptResult::KeyInProgress => Err(key_in_progress()),
        }
    }
}

/// Bulk upload in progress. Dropping it without [`BulkUpload::finish`] discards its rows.
#[must_use = "a bulk that is not finished is discarded"]
pub struct BulkUpload {
    gateway: Gateway,
    caller: RequestContext,
    operation: Operation,
    /// Orders that determine the connection if the options name none.
    deciding: DecidingRows,
    /// Number of rows that failed while they were read.
    refused: u64,
    kept: bool,
}

/// Orders that determine the connection of a bulk, without the person.
#[derive(Default)]
struct DecidingRows {
    /// The first row, with its position.
    first: Option<(u64, NewAssignment)>,
    /// The first row whose assessment is in the catalogue: the first row's may be mistyped.
    catalogued: Option<NewAssignment>,
}

impl DecidingRows {
    /// Notes a row if it is one of them.
    fn note(&mut self, index: u64, order: &NewAssignment, catalogue: &Catalogue) {
        let needs_entry = self.catalogued.is_none() && catalogue.assessments.contains_key(&order.assessment);
        if self.first.is_some() && !needs_entry {
            return;
        }
        // Only a candidate named by the gateway's id helps to select the connection.
        let by_id = matches!(order.candidate, CandidateKey::Id(_));
        let candidate = if by_id { order.candidate.clone() } else { CandidateKey::ExternalId(ExternalId::default()) };
        let order = NewAssignment { candidate, ..order.clone() };
        if needs_entry {
            self.catalogued = Some(order.clone());
        }
        self.first.get_or_insert((index, order));
    }
}

/// Makes the pointers of a row's error relative to the bulk.
fn of_row(error: Error, index: u64) -> Error {
    if error.code != Code::InvalidReference {
        return error;
    }
    let prefix = format!("/items/{index}");
    let fields = error.errors.into_iter().map(|field| field.with_prefix(&prefix));
    fields.fold(Error::new(error.code, format!("{prefix}{}", error.detail)), Error::with_field)
}

impl Gateway {
    /// Starts a bulk upload.
    ///
    /// # Errors
    /// `draining`, `store_unavailable`.
    pub async fn receive(
        &self,
        caller: &RequestContext,
        kind: OperationKind,
        strict: bool,
    ) -> Result<BulkUpload, Error> {
        self.refuse_when_draining()?;
        let now = self.0.system.now();
        let operation = Operation {
            id: OperationId::generate(&self.0.system),
            tenant: caller.tenant.clone(),
            client: caller.client.clone(),
            kind,
            connection: String::new(),
            strict,
            fail_on_errors: None,
            state: OperationState::Receiving,
            cancelling: false,
            total: 0,
            created: now,
            accepted: now,
            started: None,
            finished: None,
            request_id: caller.exchange.request_id().to_owned(),
            traceparent: traceparent(&caller.exchange),
            replay: None,
        };
        self.0.store.open_operation(&operation).await.or_not_applied()?;
        caller.exchange.set_operation(operation.id.clone());
        Ok(BulkUpload {
            gateway: self.clone(),
            caller: caller.clone(),
            operation,
            deciding: DecidingRows::default(),
            refused: 0,
            kept: false,
        })
    }

    /// Selects the bulk's connection and checks that its vendor supports the write kind of the rows: as for the first
    /// row alone, or for the first one with a catalogue id if that one names none.
    async fn connection_of_bulk(
        &self,
        caller: &RequestContext,
        kind: OperationKind,
        named: Option<&str>,
        DecidingRows { first, catalogued }: DecidingRows,
    ) -> Result<String, Error> {
        let configured = self.configured();
        let connection = match (kind, first) {
            (OperationKind::Assignments, Some((index, order))) => {
                let of_first = self.connection_of_order(&configured, caller, named, &order).await;
                match (of_first, catalogued) {
                    (Err(error), Some(order))
                        if matches!(error.code, Code::ConnectionRequired | Code::InvalidReference) =>
                    {
                        self.connection_of_order(&configured, caller, named, &order).await?
                    }
                    (of_first, _) => of_first.map_err(|error| of_row(error, index))?,
                }
            }
            _ => configured.select_connection(caller, named, None)?,
        };
        connection.require_capability(match kind {
            OperationKind::Candidates => WriteKind::CandidatesCreate,
            OperationKind::Assignments => WriteKind::AssignmentsCreate,
            OperationKind::ProgramEmployees | OperationKind::Reread | OperationKind::Replay => {
                WriteKind::ProgramsEmployees
            }
        })?;
        Ok(connection.name.clone())
    }
}

impl BulkUpload {
    /// Stores some rows; a few hundred per call is a good size.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn push(&mut self, rows: Vec<BulkRow>) -> Result<(), Error> {
        let mut items = Vec::with_capacity(rows.len());
        let configured = self.gateway.configured();
        for BulkRow { item_id, line, row } in rows {
            let at = ItemId { operation: self.operation.id.clone(), index: self.operation.total };
            self.operation.total += 1;
            let (row, end) = match row {
                Ok(row) => (Some(row), None),
                Err(error) => (None, Some(ItemOutcome::failed(error))),
            };
            if let Some(ItemRequest::Assignment(order)) = &row {
                self.deciding.note(at.index, order, &configured.catalogue);
            }
            self.refused += u64::from(end.is_some());
            let state = end.as_ref().map_or(ItemState::Waiting, ItemOutcome::state);
            let (record, password_gone) = (None, false);
            items.push(Item { id: at, item_id, line, state, record, request: row, password_gone, outcome: end });
        }
        self.gateway.0.store.add_items(items).await.or_not_applied()
    }

    /// Turns the rows into an operation, under the idempotency key if there is one, and queues it.
    ///
    /// # Errors
    /// Errors of the bulk as a whole (`connection_required`, `capability_unsupported`, …) and `idempotency_key_reused`;
    /// the rows are then discarded.
    pub async fn finish(
        mut self,
        envelope: BulkOptions,
        key: Option<IdempotencyRequest>,
    ) -> Result<AcceptedOperation, Error> {
        let BulkOptions { connection, fail_on_errors } = envelope;
        let (gateway, caller) = (self.gateway.clone(), self.caller.clone());
        let kind = self.operation.kind;
        let named = connection.as_deref();
        let deciding = std::mem::take(&mut self.deciding);
        self.operation.connection = gateway.connection_of_bulk(&caller, kind, named, deciding).await?;
        self.operation.fail_on_errors = fail_on_errors;
        self.operation.state = OperationState::Queued;
        let claim = key.map(|request| gateway.0.idempotency.acquisition(&caller, request));
        gateway.refuse_when_draining()?;
        // From here on the rows are not discarded: if the store's response is lost, the operation may be queued
        // nevertheless.
        self.kept = true;
        let accepted = gateway.0.store.accept_operation(&self.operation, claim.as_ref()).await;
        match accepted {
            Ok(AcceptResult::Queued) => {
                gateway.0.active_operations.notify();
                let mut view = OperationStatus::queued(self.operation.clone());
                view.progress.not_applied = self.refused;
                view.progress.pending -= self.refused;
                Ok(AcceptedOperation::New(Box::new(view)))
            }
            Ok(AcceptResult::Replayed(id)) => Ok(AcceptedOperation::Earlier(id)),
            Ok(AcceptResult::KeyMismatch) => Err(key_reused()),
            Ok(AcceptResult::KeyInProgress) => Err(key_in_progress()),
            Err(error) => Err(lost(&error, &self.operation.id)),
        }
    }
}

impl Drop for BulkUpload {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (gateway, id) = (self.gateway.clone(), self.operation.id.clone());
        // If this fails, the rows are removed after the instance has ended.
        self.gateway.0.tasks.spawn(async move {
            if let Err(error) = gateway.0.store.discard_operation(&id).await {
                tracing::warn!(%error, "removing an unfinished bulk failed; will retry later");
            }
        });
    }
}

fn lost(error: &StoreError, id: &OperationId) -> Error {
    tracing::error!(%error, "the store failed while accepting a bulk");
    let detail = "The store failed while accepting the bulk; the operation may be running.";
    let wait = Some(std::time::Duration::from_secs(1));
    Error::unknown(Code::StoreUnavailable, detail).with_retry_after(wait).with_resource(format!("/operations/{id}"))
}
