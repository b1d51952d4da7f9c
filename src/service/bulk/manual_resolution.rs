//! Manual resolution of an enrolment's vendor calls that the gateway cannot reconcile.

use crate::domain::error::{Error, FieldError};
use crate::domain::event::SettledBy;
use crate::domain::ids::OperationId;
use crate::domain::intent::Intent;
use crate::domain::operation::{ItemState, OperationKind};
use crate::domain::outcome::Outcome;
use crate::domain::record::{Record, RecordId};
use crate::service::bulk::queries::OperationStatus;
use crate::service::errors::{StoreResultExt as _, nothing_to_settle};
use crate::service::write::reconciler::manual_resolution;
use crate::service::{Gateway, RequestContext};

/// Operator's resolution of an enrolment's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationSettlement {
    /// True outcome; `Outcome::Unknown` is rejected.
    pub outcome: Outcome,
    /// Positions of the calls; `None` for all whose outcome is unknown.
    pub items: Option<Vec<u64>>,
}

impl Gateway {
    /// Settles unknown calls of an enrolment as an operator reports.
    pub async fn settle_operation(
        &self,
        caller: &RequestContext,
        id: &OperationId,
        settlement: OperationSettlement,
    ) -> Result<OperationStatus, Error> {
        self.refuse_when_draining()?;
        let OperationSettlement { outcome, items } = settlement;
        let result = manual_resolution(outcome)?;
        let OperationStatus { operation, .. } = self.operation(caller, id).await?;
        if operation.kind != OperationKind::ProgramEmployees {
            let detail =
                "is for program calls only; settle each candidate or assignment of this operation at its own path";
            return Err(Error::from_fields(vec![FieldError::invalid("/outcome", detail)]));
        }
        let connection = self.connection_of(&operation.connection)?;
        for open in self.unknown_calls(id, items.as_deref()).await? {
            let _locks = self.lock_subjects(&open).await?;
            // Read under the locks: it may have been reconciled, or be in flight again.
            let now = self.0.store.intent(open.write.record_id()).await.or_not_applied()?;
            let Some(mut intent) = now.filter(|intent| !intent.in_flight) else { continue };
            // The request's own audit entry records the resolution.
            intent.reason = None;
            if let RecordId::Enrolment(call) = intent.write.record() {
                let record = Record::Enrolment(call);
                self.0.executor.conclude_one(&connection, record, intent, result.clone(), SettledBy::Operator).await?;
            }
        }
        self.0.active_operations.notify();
        self.operation(caller, id).await
    }

    /// Returns the open intents of the operation's calls (all, or those at `items`) that are not in flight.
    async fn unknown_calls(&self, id: &OperationId, items: Option<&[u64]>) -> Result<Vec<Intent>, Error> {
        let states = [ItemState::Unknown, ItemState::Claimed, ItemState::Waiting];
        let mut open = Vec::new();
        for item in self.0.store.items(id, &states, 0, usize::MAX).await.or_not_applied()? {
            if items.is_some_and(|items| !items.contains(&item.id.index)) {
                continue;
            }
            let Some(record) = &item.record else { continue };
            let intent = self.0.store.intent(record).await.or_not_applied()?;
            open.extend(intent.filter(|intent| !intent.in_flight).map(|intent| (item.id.index, intent)));
        }
        let mut errors = Vec::new();
        for (position, index) in items.unwrap_or_default().iter().enumerate() {
            if !open.iter().any(|(known, _)| known == index) {
                let detail = "is not the position of a call whose outcome is unknown";
                errors.push(FieldError::invalid(format!("/items/{position}"), detail));
            }
        }
        match (errors.is_empty(), open.is_empty()) {
            (false, _) => Err(Error::from_fields(errors)),
            (true, true) => Err(nothing_to_settle()),
            (true, false) => Ok(open.into_iter().map(|(_, intent)| intent).collect()),
        }
    }
}
