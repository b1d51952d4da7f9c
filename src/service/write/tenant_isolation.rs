//! Isolation of tenants that share a connection: a person registered by one tenant is out of reach of the others, and
//! writes about a person whom no tenant has registered are serialised across all tenants.
//!
//! Every write that passes on a vendor's key of a person is checked here, under the locks of its subjects.

use crate::domain::error::{Code, Error};
use crate::domain::event::SettledBy;
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::intent::{Intent, Write};
use crate::domain::vendor::{CallContext, CallPurpose};
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::write::reconciler::retry_after;
use crate::service::{Gateway, RequestContext};

impl Gateway {
    /// Rejects a write if another tenant has registered one of its people at the connection. `keys` are the vendor's
    /// keys of these people.
    ///
    /// # Errors
    /// `candidate_conflict`, without details; `store_unavailable`.
    pub(in crate::service) async fn reject_other_tenants_people<'a>(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let identities: Vec<_> = keys.into_iter().map(|key| connection.identity_of_key(key)).collect();
        if self
            .0
            .store
            .identities_of_other_tenants(&caller.tenant, &connection.name, &identities)
            .await
            .or_not_applied()?
        {
            let detail = "An identity is not available at this connection.";
            return Err(connection.tag_connection(Error::new(Code::CandidateConflict, detail)));
        }
        Ok(())
    }

    /// Reconciles those open writes that belong to other tenants, on behalf of their owners, so that none of them is
    /// resent after the caller's write.
    ///
    /// # Errors
    /// `subject_unsettled`, without details, if one of them stays unknown.
    pub(in crate::service) async fn reconcile_other_tenants_writes(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        open: Vec<Intent>,
    ) -> Result<(), Error> {
        for intent in open.into_iter().filter(|intent| intent.tenant != caller.tenant) {
            self.reconcile_for_owner(caller, connection, &intent).await.map_err(|error| {
                let unsettled =
                    Error::new(Code::SubjectUnsettled, "An earlier write about this resource is not settled.");
                connection.tag_connection(unsettled.with_retry_after(retry_after(&error)))
            })?;
        }
        Ok(())
    }

    async fn reconcile_for_owner(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        intent: &Intent,
    ) -> Result<(), Error> {
        let record = intent.write.record_id();
        let exchange = self.background_exchange(format!("settle-{record}"), None);
        let call = CallContext { purpose: CallPurpose::Reconcile, priority: caller.priority, exchange };
        let cause = Cause::Settling { resource: intent.write.record().path() };
        self.keep_exchange(&call.exchange, ExchangeOwner { tenant: intent.tenant.clone(), cause });
        match &intent.write {
            Write::Enrol(_) | Write::Assign(_) | Write::Cancel(_) => {
                // Reads the record under the lock: it may have been reconciled since.
                let id = intent.write.record();
                self.0
                    .reconciler
                    .reconcile_locked(&intent.tenant, connection, &id, &call, SettledBy::Reconciler)
                    .await
                    .map(drop)
            }
            // Their subject is a candidate, which belongs to one tenant.
            Write::Register(_) | Write::Update(_) | Write::Hide(_) => Ok(()),
        }
    }
}
