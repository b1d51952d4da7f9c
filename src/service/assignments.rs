//! Assignments: a candidate is booked for an assessment once, unless the caller asks for another booking.

pub(in crate::service) mod booking;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey, NewAssignment};
use crate::domain::candidate::{CandidateState, Identity};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, StoredReply, Write};
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::vendor::{CallPurpose, Cancellation, VendorKey};
use crate::service::audit::entry::AuditFacts;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, nothing_to_settle, reference};
use crate::service::snapshot::Snapshot;
use crate::service::write::erasure::candidate_erased;
use crate::service::write::handle::{AcceptedSender, Removal, WriteHandle, WriteResult};
use crate::service::write::reconciler::{blocked_by_unknown_write, manual_resolution, with_reason};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, RequestContext};
use crate::store::{AssignmentFilter, CandidateSelector, Page, PreparedRecord, PreparedWrite};

/// Query for assignments; `None` fields match any value.
#[derive(Debug, Clone, Default)]
pub struct AssignmentQuery<'a> {
    /// Candidate.
    pub candidate: Option<&'a CandidateId>,
    /// Assessment, by catalogue id or the vendor's id.
    pub assessment: Option<&'a str>,
    /// Connection.
    pub connection: Option<&'a str>,
    /// State.
    pub state: Option<AssignmentState>,
    /// Maximum number of entries.
    pub limit: usize,
    /// Cursor of the previous page.
    pub cursor: Option<&'a str>,
}

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

    /// Returns a page of the tenant's assignments, newest first, and the cursor of the next page.
    pub async fn assignments(
        &self,
        caller: &RequestContext,
        query: AssignmentQuery<'_>,
    ) -> Result<(Vec<Assignment>, Option<String>), Error> {
        let AssignmentQuery { candidate, assessment, connection, state, limit, cursor } = query;
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let after = cursor.map(|cursor| AssignmentId::parse(cursor).map_err(|_| unknown_cursor())).transpose()?;
        let candidate = match candidate {
            Some(id) => {
                Some(CandidateSelector { id: id.clone(), known_as: self.vendor_identity(&caller.tenant, id).await? })
            }
            None => None,
        };
        let filter = AssignmentFilter {
            candidate,
            assessment: assessment.map_or_else(Vec::new, |text| self.forms_of_assessment(connection, text)),
            connection: connection.map(str::to_owned),
            state,
        };
        // One extra entry shows whether there is a next page.
        let page = Page { limit: limit + 1, after: after.map(String::from) };
        let _permit = self.read_permit(caller).await;
        let mut items = self.0.store.assignments(&caller.tenant, &filter, &page).await.or_not_applied()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        items.retain(|assignment| caller.connections.contains(&assignment.connection));
        Ok((items, next))
    }

    /// Returns the candidate's connection and the identity by which its vendor knows the candidate.
    async fn vendor_identity(&self, tenant: &str, id: &CandidateId) -> Result<Option<(String, Identity)>, Error> {
        let candidate = self.0.store.candidate(tenant, id).await.or_not_applied()?;
        // A candidate that the vendor rejected has given up its identities.
        let Some(candidate) = candidate.filter(|candidate| candidate.state != CandidateState::Failed) else {
            return Ok(None);
        };
        let Ok(connection) = self.connection_of(&candidate.connection) else { return Ok(None) };
        let key = connection.vendor().candidate_key(&CandidateKey::Id(id.clone()), Some(&candidate.person));
        Ok(key.ok().map(|key| (candidate.connection, connection.identity_of_key(&key.0))))
    }

    /// Returns all forms in which the requested assessment may be stored: as given, and as the vendors (or the one of
    /// this connection) write their ids.
    fn forms_of_assessment(&self, connection: Option<&str>, text: &str) -> Vec<String> {
        let configured = self.configured();
        let asked = configured.connections.iter().filter(|(name, _)| connection.is_none_or(|asked| asked == *name));
        let forms = asked.filter_map(|(_, connection)| connection.vendor().assessment_ref(text));
        forms.chain([text.to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
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
            let ended = gateway.0.executor.conclude_one(&connection, assignment.into(), intent, result).await?;
            Ok(WriteResult::Existing(ended.record.try_into()?))
        })
    }

    /// Selects an order's connection and checks that its vendor supports bookings.
    pub(super) async fn connection_of_order(
        &self,
        configured: &Snapshot,
        caller: &RequestContext,
        named: Option<&str>,
        order: &NewAssignment,
    ) -> Result<Arc<Connection>, Error> {
        let entry = configured.catalogue.assessments.get(&order.assessment);
        let connection = match configured.select_connection(caller, named, entry.map(|entry| entry.connection.as_str()))
        {
            // The request names no connection, but the candidate belongs to one.
            Err(error) if error.code == Code::ConnectionRequired => match &order.candidate {
                CandidateKey::Id(id) => {
                    let candidate = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
                    let Some(candidate) = candidate else { return Err(error) };
                    configured.named(caller, &candidate.connection)?
                }
                CandidateKey::ExternalId(_) | CandidateKey::Email(_) => return Err(error),
            },
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
        let settled = self.0.reconciler.reconcile(connection, assignment.into(), &call).await;
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

impl Snapshot {
    /// Returns the vendor's id of an assessment: from the catalogue, else the text in the vendor's own form.
    pub(super) fn assessment_ref(&self, connection: &Connection, text: &str, pointer: &str) -> Result<String, Error> {
        if let Some(entry) = self.catalogue.assessments.get(text) {
            if entry.connection == connection.name {
                return Ok(entry.reference.clone());
            }
            let detail = format!("the assessment belongs to the connection `{}`", entry.connection);
            return Err(connection.tag_connection(reference(FieldError::invalid(pointer, detail))));
        }
        connection.vendor().assessment_ref(text).ok_or_else(|| {
            let detail = "is neither in the catalogue nor a valid id at the vendor";
            connection.tag_connection(reference(FieldError::invalid(pointer, detail)))
        })
    }
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}
