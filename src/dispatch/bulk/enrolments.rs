//! Rows that are vendor calls changing a program's employees: one after the other, each journalled; after one that failed
//! nothing more is sent.
//!
//! Calls are ordered by employee over all programs of a connection, since the vendor's id of a program and the account's own
//! (`ext:`) cannot be told to be the same one.

use std::time::Duration;

use super::worker::Work;
use crate::dispatch::connections::Connection;
use crate::dispatch::journal::{Done, attempt_held, bound, resource_of, told_fault};
use crate::dispatch::settling::not_before_it_is_settled;
use crate::dispatch::{BeforeSending as _, Gateway, call, turns};
use crate::domain::ids::OperationId;
use crate::domain::journal::{EnrolmentWrite, Intent, Write};
use crate::domain::operation::{Item, ItemEnd, ItemRef, ItemResult, ItemState, Row};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::problem::{Code, Fault};
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::{Applied, Attempt, Call, EnrolmentCall};
use crate::store::{Change, StoreError};

/// Pause between two looks at a call whose grace is not over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is written as an enrolment's subject. Its turns are those of its employees, and open ones are found by connection.
fn subject(connection: &Connection) -> String {
    format!("{}\nprograms", connection.name)
}

/// Sends an operation's calls, each through the connection as it is configured when its turn has come; none any more when the
/// connection has left the configuration.
pub(super) async fn send_all(work: &Work, connection: &str) -> Result<(), Fault> {
    let id = &work.operation.id;
    loop {
        let states = [ItemState::Waiting, ItemState::Claimed];
        let next = work.gateway.0.store.items(id, &states, 0, 1).await.before_sending()?.pop();
        let Some(item) = next.filter(|_| !work.rests()) else { return Ok(()) };
        let Some(Row::Enrolment(enrolment)) = item.row.clone() else {
            let fault = Fault::new(Code::Internal, "The row is no change of a program's employees.");
            work.ended(vec![Change::ItemEnded(item.at, None, ItemEnd::failed(fault))]).await?;
            continue;
        };
        let Ok((connection, place)) = work.gateway.enrolment_place(connection, &work.queue_key()).await else {
            return Ok(());
        };
        let connection = connection.as_ref();
        let employees = turns::employees(&connection.name, &enrolment);
        let turns = work.gateway.0.turns.all(&employees).await.before_sending()?;
        let sent = match item.record.clone() {
            Some(record) => {
                let asked = call(&work.caller, Attempt::Settling);
                let settled = work.gateway.settle_call(connection, &record, &asked).await;
                settled.and_then(|refused| refused.map_or(Ok(()), Err))
            }
            None => work.send_call(connection, &item, *enrolment).await,
        };
        // Whoever takes over what a dead process was sending needs the turns.
        drop((turns, place));
        match sent {
            Ok(()) if item.record.is_some() => {
                // Settled; if nothing came of it, it is sent now.
                let told =
                    work.gateway.0.store.items(id, &[ItemState::Waiting], item.at.index, 1).await.before_sending()?;
                if told.iter().any(|now| now.at == item.at) {
                    let again = vec![Change::ItemWaiting(item.at.clone())];
                    work.gateway.0.store.commit(again).await.before_sending()?;
                }
            }
            Ok(()) => {}
            // Too early to look what became of it.
            Err(fault) if item.record.is_some() && fault.retry_after.is_some() && fault.outcome != Outcome::Unknown => {
                work.gateway.0.board.give_slot_back(id);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            // Neither what failed nor what comes after it is sent again by itself.
            Err(fault) => {
                let told = work.gateway.0.store.items(id, &states, item.at.index, 1).await.before_sending()?;
                if told.iter().any(|now| now.at == item.at) {
                    let end = ItemEnd::failed(fault);
                    work.ended(vec![Change::ItemEnded(item.at.clone(), item.record.clone(), end)]).await?;
                }
                work.gateway.0.store.skip_waiting(id).await.before_sending()?;
                return Ok(());
            }
        }
    }
}

impl Work {
    /// Sends one call for the first time; what was open about its employees before is settled first. The caller holds their
    /// turns.
    async fn send_call(&self, connection: &Connection, item: &Item, enrolment: EnrolmentCall) -> Result<(), Fault> {
        let gateway = &self.gateway;
        gateway.refuse_people_of_others(&self.caller, connection, enrolment.enrolment.employees()).await?;
        let mut open = gateway.0.store.enrolment_intents(&connection.name).await.before_sending()?;
        open.retain(|intent| about_the_same(&intent.write, &enrolment));
        let (own, of_others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|intent| intent.tenant == self.caller.tenant);
        gateway.settle_writes_of_others(&self.caller, connection, of_others).await?;
        for earlier in own {
            let asked = call(&self.caller, Attempt::Settling);
            let settled = gateway.settle_call(connection, earlier.write.record(), &asked).await;
            settled.map_err(|fault| not_before_it_is_settled(connection, fault))?;
        }
        let write = Write::Enrol(EnrolmentWrite { id: EnrolmentWrite::id_of(&item.at), call: enrolment });
        let intent = gateway.intent(&self.caller_of(item), connection, &subject(connection), write);
        let mut changes = vec![Change::Intent(intent.clone())];
        changes.extend(bound(&intent, &[]));
        match gateway.commit_intents(changes).await {
            Err(StoreError::Withdrawn) => return Ok(()),
            kept => kept.before_sending()?,
        }
        let row = gateway.send_one(connection, &intent.write, &call(&self.caller, Attempt::First)).await;
        gateway.conclude_call(connection, intent, row).await
    }
}

/// Whether an open write changes employees of this call too.
fn about_the_same(write: &Write, call: &EnrolmentCall) -> bool {
    matches!(write, Write::Enrol(open) if open.call.enrolment.overlaps(&call.enrolment))
}

impl Gateway {
    /// Settles the call with this record, if it is open; the caller holds its employees' turns. The fault that proved that
    /// nothing came of it, if that is how it ended.
    ///
    /// # Errors
    /// As [`Gateway::settled_candidate`]: it stays open.
    pub(in crate::dispatch) async fn settle_call(
        &self,
        connection: &Connection,
        record: &str,
        call: &Call,
    ) -> Result<Option<Fault>, Fault> {
        let Some(intent) = self.0.store.intent(record).await.before_sending()? else {
            // Settled before, and its row told.
            return Ok(None);
        };
        let resource = resource_of(&intent.write);
        let (intent, row) = self.attempt_again(connection, intent, &resource, call).await?;
        match self.conclude_call(connection, intent, row).await {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            end => Ok(end.err()),
        }
    }

    /// Writes down how a call ended.
    pub(in crate::dispatch) async fn conclude_call(
        &self,
        connection: &Connection,
        intent: Intent,
        row: crate::domain::vendor::Row<Done>,
    ) -> Result<(), Fault> {
        let resource = resource_of(&intent.write);
        let (changes, result) = self.call_after(connection, intent, row);
        self.kept(changes, &resource).await?;
        result
    }

    /// The changes that write down how a call ended, and the answer.
    pub(in crate::dispatch) fn call_after(
        &self,
        connection: &Connection,
        mut intent: Intent,
        row: crate::domain::vendor::Row<Done>,
    ) -> (Vec<Change>, Result<(), Fault>) {
        let record = intent.write.record().to_owned();
        let held = attempt_held(&intent);
        self.end_grace(&intent, &row);
        let line = self.settled_line(&intent, &row);
        let (changes, result): (Vec<Change>, _) = match row {
            Ok(Applied { value, mut warnings }) => {
                let counts = if let Done::Enrolled(counts) = value {
                    counts
                } else {
                    let detail = "The call was settled by hand; what it changed is not counted.";
                    warnings.push(Warning::new(WarningCode::CountsLowerBound, detail));
                    EnrolmentCounts::default()
                };
                let end = ItemEnd { warnings, counts: Some(counts), ..ItemEnd::of(ItemResult::Created) };
                let told = intent.origin.item.map(|item| Change::ItemEnded(item, Some(record.clone()), end));
                (told.into_iter().chain([Change::Settled(record)]).collect(), Ok(()))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                self.note_attempt_end(&mut intent, connection, &fault);
                let mut changes = told_fault(intent.origin.clone(), &record, &fault);
                changes.push(Change::Intent(intent));
                (changes, Err(fault))
            }
            Err(fault) => {
                let mut changes = told_fault(intent.origin, &record, &fault);
                changes.push(Change::Settled(record));
                (changes, Err(fault))
            }
        };
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }
}

/// The rows of an operation that makes these calls.
pub(in crate::dispatch) fn items(id: &OperationId, calls: Vec<EnrolmentCall>) -> Vec<Item> {
    let item = |(index, call): (usize, EnrolmentCall)| Item {
        at: ItemRef { operation: id.clone(), index: index as u64 },
        item_id: None,
        state: ItemState::Waiting,
        record: None,
        row: Some(Row::Enrolment(Box::new(call))),
        password_gone: false,
        end: None,
    };
    calls.into_iter().enumerate().map(item).collect()
}
