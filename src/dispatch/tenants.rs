//! Tenants that share a connection: a person whom one has registered is out of reach of the others, and writes about a
//! person whom none has registered are ordered over all of them.
//!
//! Every write that passes a vendor's key of a person on comes through here, under the locks of its subjects.

use super::connections::Connection;
use super::journal::resource_of;
use super::settling::when_to_ask_again;
use super::{BeforeSending as _, Caller, Gateway};
use crate::domain::exchange::{About, Cause};
use crate::domain::ids::AssignmentId;
use crate::domain::journal::{Intent, Write};
use crate::domain::problem::{Code, Fault};
use crate::domain::vendor::{Attempt, Call};

impl Gateway {
    /// Refuses a write about people of whom another tenant has registered one at the connection. `keys` are how the vendor
    /// knows them.
    ///
    /// # Errors
    /// `candidate_conflict`, without details; `store_unavailable`.
    pub(super) async fn refuse_people_of_others<'a>(
        &self,
        caller: &Caller,
        connection: &Connection,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Fault> {
        let identities: Vec<_> = keys.into_iter().map(|key| connection.identity_of_key(key)).collect();
        if self.0.store.held_by_others(&caller.tenant, &connection.name, &identities).await.before_sending()? {
            let detail = "An identity is not available at this connection.";
            return Err(connection.own(Fault::new(Code::CandidateConflict, detail)));
        }
        Ok(())
    }

    /// Settles those of these open writes that other tenants made, on behalf of their owners, so that none of them is sent
    /// again after the caller's write.
    ///
    /// # Errors
    /// `subject_unsettled`, without details, while one of them stays unknown.
    pub(super) async fn settle_writes_of_others(
        &self,
        caller: &Caller,
        connection: &Connection,
        open: Vec<Intent>,
    ) -> Result<(), Fault> {
        for intent in open.into_iter().filter(|intent| intent.tenant != caller.tenant) {
            self.settle_for_owner(caller, connection, &intent).await.map_err(|fault| {
                let unsettled = Fault::new(Code::SubjectUnsettled, "An earlier write about this is not settled.");
                connection.own(unsettled.after(when_to_ask_again(&fault)))
            })?;
        }
        Ok(())
    }

    async fn settle_for_owner(&self, caller: &Caller, connection: &Connection, intent: &Intent) -> Result<(), Fault> {
        let record = intent.write.record();
        let exchange = self.background_exchange(format!("settle-{record}"), None);
        let call = Call { attempt: Attempt::Settling, lane: caller.lane, exchange };
        let cause = Cause::Settling { resource: resource_of(&intent.write) };
        self.keep_exchange(&call.exchange, About { tenant: intent.tenant.clone(), cause });
        match &intent.write {
            Write::Enrol(_) => self.settle_call(connection, record, &call).await.map(|_| ()),
            Write::Assign(_) | Write::Cancel(_) => {
                let Ok(id) = AssignmentId::parse(record) else { return Ok(()) };
                // Read under the lock: it may have been settled before.
                let found = self.0.store.assignment(&intent.tenant, &id).await.before_sending()?;
                let Some(assignment) = found else { return Ok(()) };
                self.settled_assignment(connection, assignment, &call).await.map(|_| ())
            }
            // Their subject is a candidate, which has one owner.
            Write::Register(_) | Write::Update(_) | Write::Hide(_) => Ok(()),
        }
    }
}
