//! Assignments: a candidate is booked for an assessment once, unless the caller asks for another booking.

pub(in crate::service) mod booking;
pub(in crate::service) mod list;

use std::convert::Infallible;
use std::sync::Arc;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey, NewAssignment};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::SettledBy;
use crate::domain::ids::AssignmentId;
use crate::domain::intent::{Intent, StoredReply, Write};
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::vendor::{CallPurpose, Cancellation, VendorKey};
use crate::service::audit::entry::AuditFacts;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, nothing_to_settle};
use crate::service::snapshot::Snapshot;
use crate::service::write::erasure::candidate_erased;
use crate::service::write::handle::{AcceptedSender, Removal, WriteHandle, WriteResult};
use crate::service::write::reconciler::{blocked_by_unknown_write, manual_resolution, with_reason};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, RequestContext};
use crate::store::{PreparedRecord, PreparedWrite};

impl Gateway {
    /// Books a candidate. With `strict`, fields the vendor does not support are an error.
    pub async fn create_assignment(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        order: NewAssignment,
        strict: bool,
    ) -> Result<WriteHandle<Assignment>, Error> {
        let configured = self.configured();
        let connection = self.connection_of_order(&configured, caller, connection, &order).await?;
        self.spawn_idempotent(caller, "assignments.create", move |gateway, caller, acceptance| async move {
            gateway.book(&caller, &configured, &connection, order, strict, &acceptance).await
        })
    }

    /// Returns the tenant's assignment, with a warning if its last write is still unknown; `not_found` if there is
    /// none.
    pub async fn assignment(&self, caller: &RequestContext, id: &AssignmentId) -> Result<Assignment, Error> {
        let mut assignment = self.own_assignment(caller, id).await?;
        if assignment.state == AssignmentState::Unknown {
            assignment.warnings.extend(self.0.reconciler.unknown_write_warning(id.as_str()).await?);
        }
        Ok(assignment)
    }

    /// Returns the tenant's assignment as stored.
    async fn own_assignment(&self, caller: &RequestContext, id: &AssignmentId) -> Result<Assignment, Error> {
        let assignment = self.0.store.assignment(&caller.tenant, id).await.or_not_applied()?;
        assignment
            .filter(|assignment| caller.connections.contains(&assignment.connection))
            .ok_or_else(|| Error::new(Code::NotFound, format!("There is no assignment {id}.")))
    }

    /// Refuses to change a booking: none of the vendors documents a call for it, and each declares so
    /// (`assignments.update`). `touched` are the pointers of the fields to change.
    ///
    /// # Errors
    /// `not_found`; `capability_unsupported` with these fields. Nothing is sent.
    pub async fn refuse_assignment_change(
        &self,
        caller: &RequestContext,
        id: &AssignmentId,
        touched: Vec<String>,
    ) -> Result<Infallible, Error> {
        let assignment = self.own_assignment(caller, id).await?;
        let connection = self.connection_of(&assignment.connection)?;
        let error = connection.unsupported(WriteKind::AssignmentsUpdate);
        let detail = "cannot be changed at the vendor once the candidate is booked";
        let fields = touched.into_iter().map(|pointer| FieldError::unsupported(pointer, detail));
        Err(Error { errors: fields.collect(), ..error })
    }

    /// Withdraws a booking; succeeds if it is already withdrawn.
    pub fn cancel_assignment(
        &self,
        caller: &RequestContext,
        id: &AssignmentId,
    ) -> Result<WriteHandle<Removal<Assignment>>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "assignments.cancel", move |gateway, caller, acceptance| async move {
            let assignment = gateway.own_assignment(&caller, &id).await?;
            if assignment.state != AssignmentState::Cancelled {
                gateway.connection_of(&assignment.connection)?.require_capability(WriteKind::AssignmentsCancel)?;
            }
            let _lock = gateway.lock_subject(&assignment.subject_key()).await?;
            let assignment = gateway.own_assignment(&caller, &id).await?;
            gateway.withdraw(&caller, assignment, &acceptance).await
        })
    }

    /// Settles an assignment whose state is `unknown` as an operator reports; `Outcome::Unknown` is rejected.
    pub fn settle_assignment(
        &self,
        caller: &RequestContext,
        id: &AssignmentId,
        outcome: Outcome,
    ) -> Result<WriteHandle<Assignment>, Error> {
        let result = manual_resolution(outcome)?;
        let id = id.clone();
        self.spawn_idempotent(caller, "assignments.settle", move |gateway, caller, _acceptance| async move {
            let _lock = gateway.lock_subject(&gateway.own_assignment(&caller, &id).await?.subject_key()).await?;
            let assignment = gateway.own_assignment(&caller, &id).await?;
            let intent = gateway.0.store.intent(id.as_str()).await.or_not_applied()?;
            let is_open = |intent: &Intent| !intent.in_flight && assignment.state == AssignmentState::Unknown;
            let Some(mut intent) = intent.filter(is_open) else { return Err(nothing_to_settle()) };
            // The request's own audit entry records the resolution.
            intent.reason = None;
            let result = with_reason(result, assignment.problem.as_deref());
            let connection = gateway.connection_of(&assignment.connection)?;
            let ended = gateway
                .0
                .executor
                .conclude_one(&connection, assignment.into(), intent, result, SettledBy::Operator)
                .await?;
            Ok(WriteResult::Existing(ended.record.try_into()?))
        })
    }

    /// Selects an order's connection and checks that its vendor supports bookings.
    ///
    /// # Errors
    /// As [`Snapshot::connection_of_assessment`], and `capability_unsupported`.
    pub(super) async fn connection_of_order(
        &self,
        configured: &Snapshot,
        caller: &RequestContext,
        named: Option<&str>,
        order: &NewAssignment,
    ) -> Result<Arc<Connection>, Error> {
        let connection = match configured.connection_of_assessment(caller, named, &order.assessment) {
            // The request names no connection, but the candidate belongs to one.
            Err(error) if matches!(error.code, Code::ConnectionRequired | Code::InvalidReference) => {
                match &order.candidate {
                    CandidateKey::Id(id) => {
                        let candidate = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
                        let Some(candidate) = candidate else { return Err(error) };
                        configured.named(caller, &candidate.connection)?
                    }
                    CandidateKey::ExternalId(_) | CandidateKey::Email(_) => return Err(error),
                }
            }
            chosen => chosen?,
        };
        connection.require_capability(WriteKind::AssignmentsCreate)?;
        Ok(connection)
    }

    /// Rejects a write about this booking if another tenant has registered the person, and reconciles other tenants'
    /// open writes about the same subject; the caller holds the subject's lock.
    pub(super) async fn reject_or_reconcile_other_tenants(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        assignment: &Assignment,
    ) -> Result<(), Error> {
        self.reject_other_tenants_people(caller, connection, [assignment.vendor_key.as_str()]).await?;
        let open = self.0.store.intents_of(assignment.subject_key().as_str()).await.or_not_applied()?;
        self.reconcile_other_tenants_writes(caller, connection, open).await
    }

    async fn withdraw(
        &self,
        caller: &RequestContext,
        assignment: Assignment,
        acceptance: &AcceptedSender<Removal<Assignment>>,
    ) -> Result<WriteResult<Removal<Assignment>>, Error> {
        if assignment.state == AssignmentState::Cancelled {
            return Ok(WriteResult::Existing(Removal::Done));
        }
        if assignment.is_erased() {
            return Err(candidate_erased());
        }
        let connection = &*self.connection_of(&assignment.connection)?;
        self.reject_or_reconcile_other_tenants(caller, connection, &assignment).await?;
        let open = if assignment.state.is_terminal() {
            None
        } else {
            self.0.store.intent(assignment.id.as_str()).await.or_not_applied()?
        };
        // If the open write is a withdrawal too, this one shares its outcome; if it is a booking, this one was not
        // sent.
        let shares = open.is_some_and(|open| matches!(open.write, Write::Cancel(_)));
        let call = caller.call_context(CallPurpose::Reconcile);
        let settled = self.0.reconciler.reconcile(connection, assignment.into(), &call, SettledBy::Caller).await;
        let settled =
            settled.map_err(|error| if shares { error } else { blocked_by_unknown_write(connection, error) })?;
        let Some(record) = settled.record else { return Ok(WriteResult::Existing(Removal::Done)) };
        let assignment = Assignment::try_from(record)?;
        match assignment.state {
            AssignmentState::Cancelled => return Ok(WriteResult::Existing(Removal::Done)),
            AssignmentState::Assigned => {}
            AssignmentState::Failed | AssignmentState::Pending | AssignmentState::Unknown => {
                return Err(Error::new(
                    Code::NotFound,
                    "The vendor rejected this booking, so there is nothing to withdraw.",
                ));
            }
        }
        let cancellation = Cancellation {
            id: assignment.id.clone(),
            candidate: VendorKey(assignment.vendor_key.clone()),
            assessment: assignment.assessment_ref.clone(),
        };
        let cancel = Write::Cancel(cancellation);
        let intent = self.0.executor.intent(caller, connection, assignment.subject_key(), cancel);
        let pending = Assignment {
            state: AssignmentState::Pending,
            outcome: Outcome::Unknown,
            problem: None,
            last_modified: intent.started,
            ..assignment
        };
        let record = PreparedRecord::Assignment(pending);
        let write = PreparedWrite { record, intent, subjects: Vec::new() };
        let accept = |record: &Record| accept_assignment(acceptance, record, |it| Removal::Pending(Box::new(it)));
        self.0.executor.execute(caller, connection, None, write, accept).await?.applied()?;
        Ok(WriteResult::Created(Removal::Done))
    }
}

impl Replayable for Assignment {
    const IS_STORED_WITH_OUTCOME: bool = true;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        let (created, assignment) = written.clone().into_ended()?;
        Some(StoredReply::Assignment { created, assignment: Box::new(assignment) })
    }

    fn connection(written: &WriteResult<Self>) -> Option<&str> {
        Some(&written.value().connection)
    }

    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts> {
        let Self { id, connection, outcome, .. } = written.value();
        Some(AuditFacts { object: Some(id.path()), connection: Some(connection.clone()), outcome: *outcome })
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Assignment { created, assignment } = reply else { return None };
        Some(WriteResult::ended(created, *assignment))
    }
}

/// Announces an assignment whose write has begun.
pub(super) fn accept_assignment<T>(
    acceptance: &AcceptedSender<T>,
    record: &Record,
    shown: impl FnOnce(Assignment) -> T,
) {
    if let Record::Assignment(assignment) = record {
        acceptance.accept(shown(assignment.as_ref().clone()), assignment.id.path());
    }
}
