//! An operator's word on vendor calls of an enrolment that the gateway cannot settle.

use super::view::OperationView;
use crate::dispatch::candidates::nothing_to_settle;
use crate::dispatch::settling::by_hand;
use crate::dispatch::{BeforeSending as _, Caller, Gateway};
use crate::domain::ids::OperationId;
use crate::domain::journal::Intent;
use crate::domain::operation::{ItemState, OperationKind};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault, FieldFault};

/// An operator's word on the calls of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationSettlement {
    /// What really happened; `Outcome::Unknown` is refused.
    pub outcome: Outcome,
    /// The positions of the calls meant; all whose outcome is unknown when `None`.
    pub items: Option<Vec<u64>>,
}

impl Gateway {
    /// Settles unknown calls of an enrolment by an operator's word.
    pub async fn settle_operation(
        &self,
        caller: &Caller,
        id: &OperationId,
        settlement: OperationSettlement,
    ) -> Result<OperationView, Fault> {
        self.refuse_when_draining()?;
        let OperationSettlement { outcome, items } = settlement;
        let row = by_hand(outcome)?;
        let OperationView { operation, .. } = self.operation(caller, id).await?;
        if operation.kind != OperationKind::ProgramEmployees {
            let detail =
                "is for program calls only; settle each candidate or assignment of this operation at its own path";
            return Err(Fault::of_fields(vec![FieldFault::invalid("/outcome", detail)]));
        }
        let connection = self.connection_of(&operation.connection)?;
        for open in self.unknown_calls(id, items.as_deref()).await? {
            let _turns = self.turns_of(&open).await?;
            // Read under the turns: it may have been settled, or be on its way again.
            let now = self.0.store.intent(open.write.record()).await.before_sending()?;
            let Some(mut intent) = now.filter(|intent| !intent.under_way) else { continue };
            // The request's own line in the audit record says it.
            intent.reason = None;
            match self.conclude_call(&connection, intent, row.clone()).await {
                Err(fault) if fault.code == Code::StoreUnavailable => return Err(fault),
                _ => {}
            }
        }
        self.0.board.wake();
        self.operation(caller, id).await
    }

    /// The open intents of an operation's calls that no instance is sending: of all of them, or of these.
    async fn unknown_calls(&self, id: &OperationId, items: Option<&[u64]>) -> Result<Vec<Intent>, Fault> {
        let states = [ItemState::Unknown, ItemState::Claimed, ItemState::Waiting];
        let mut open = Vec::new();
        for item in self.0.store.items(id, &states, 0, usize::MAX).await.before_sending()? {
            if items.is_some_and(|items| !items.contains(&item.at.index)) {
                continue;
            }
            let Some(record) = &item.record else { continue };
            let intent = self.0.store.intent(record).await.before_sending()?;
            open.extend(intent.filter(|intent| !intent.under_way).map(|intent| (item.at.index, intent)));
        }
        let mut faults = Vec::new();
        for (position, index) in items.unwrap_or_default().iter().enumerate() {
            if !open.iter().any(|(known, _)| known == index) {
                let detail = "is not the position of a call whose outcome is unknown";
                faults.push(FieldFault::invalid(format!("/items/{position}"), detail));
            }
        }
        match (faults.is_empty(), open.is_empty()) {
            (false, _) => Err(Fault::of_fields(faults)),
            (true, true) => Err(nothing_to_settle()),
            (true, false) => Ok(open.into_iter().map(|(_, intent)| intent).collect()),
        }
    }
}
