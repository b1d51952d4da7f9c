//! Assignments: a candidate is booked for an assessment once, unless the caller asks for another booking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Map;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{Candidate, CandidateState, Identity, Person};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, StoredReply, Write};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::record::{Record, RecordId};
use crate::domain::validation::normalize_identity;
use crate::domain::vendor::{Booking, CallPurpose, Cancellation, Plan, VendorKey};
use crate::service::audit::entry::AuditFacts;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, enforce_strict, nothing_to_settle, reference};
use crate::service::snapshot::Snapshot;
use crate::service::write::erasure::candidate_erased;
use crate::service::write::handle::{AcceptedSender, Removal, WriteHandle, WriteResult};
use crate::service::write::reconciler::{blocked_by_unknown_write, manual_resolution, retry_after, with_reason};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, RequestContext};
use crate::store::{AssignmentFilter, CandidateSelector, Page, PreparedRecord, PreparedWrite};

/// Booking record with the intent to commit before the vendor is called.
pub(super) struct PreparedBooking {
    pub(super) assignment: Assignment,
    pub(super) intent: Intent,
}

/// Order with everything it names looked up.
pub(super) struct ResolvedOrder {
    pub(super) key: VendorKey,
    pub(super) candidate: Option<Candidate>,
    pub(super) assessment: String,
}

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

    /// Validates an order as the vendor would, whoever it is for; looks nothing up and sends nothing.
    #[must_use]
    pub fn review_assignment(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        order: &NewAssignment,
    ) -> Vec<FieldError> {
        let configured = self.configured();
        let of_entry = configured.catalogue.assessments.get(&order.assessment).map(|entry| entry.connection.as_str());
        let plan = configured.select_connection(caller, connection, of_entry).and_then(|connection| {
            connection.require_capability(WriteKind::AssignmentsCreate)?;
            let assessment = configured.assessment_ref(&connection, &order.assessment, "/assessment")?;
            let resolved = ResolvedOrder { key: VendorKey(String::new()), candidate: None, assessment };
            self.prepare_booking(caller, &connection, order, resolved, self.0.system.now(), false)
        });
        plan.map_or_else(|fault| fault.errors, |_| Vec::new())
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
            let _lock = gateway.lock_subject(&assignment.lock_key()).await?;
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
            let _lock = gateway.lock_subject(&gateway.own_assignment(&caller, &id).await?.lock_key()).await?;
            let assignment = gateway.own_assignment(&caller, &id).await?;
            let intent = gateway.0.store.intent(id.as_str()).await.or_not_applied()?;
            let is_open = |intent: &Intent| !intent.under_way && assignment.state == AssignmentState::Unknown;
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
            Err(fault) if fault.code == Code::ConnectionRequired => match &order.candidate {
                CandidateKey::Id(id) => {
                    let candidate = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
                    let Some(candidate) = candidate else { return Err(fault) };
                    configured.named(caller, &candidate.connection)?
                }
                CandidateKey::ExternalId(_) | CandidateKey::Email(_) => return Err(fault),
            },
            chosen => chosen?,
        };
        connection.require_capability(WriteKind::AssignmentsCreate)?;
        Ok(connection)
    }

    /// Books an order: looks it up, plans, locks the subject, commits the intent, calls the vendor and commits the
    /// outcome.
    pub(super) async fn book(
        &self,
        caller: &RequestContext,
        configured: &Snapshot,
        connection: &Connection,
        order: NewAssignment,
        strict: bool,
        acceptance: &AcceptedSender<Assignment>,
    ) -> Result<WriteResult<Assignment>, Error> {
        let resolved = self.resolve(caller, configured, connection, &order).await?;
        let PreparedBooking { assignment, mut intent } =
            self.prepare_booking(caller, connection, &order, resolved, self.0.system.now(), strict)?;
        let _lock = self.lock_subject(&assignment.lock_key()).await?;
        if let Some(existing) = self.find_existing_booking(caller, connection, &order, &assignment, &mut intent).await?
        {
            return Ok(WriteResult::Existing(existing));
        }
        self.mark_first_booking(connection, &assignment, &mut intent).await?;
        let record = PreparedRecord::Assignment(assignment);
        let write = PreparedWrite { record, intent, subjects: Vec::new() };
        let accept = |record: &Record| accept_assignment(acceptance, record, |assignment| assignment);
        let executed = self.0.executor.execute(caller, connection, None, write, accept).await?;
        let (record, created) = executed.applied()?;
        Ok(WriteResult::ended(created, record.try_into()?))
    }

    /// Looks up an order's assessment and candidate, reconciling the candidate's earlier write.
    pub(super) async fn resolve(
        &self,
        caller: &RequestContext,
        configured: &Snapshot,
        connection: &Connection,
        order: &NewAssignment,
    ) -> Result<ResolvedOrder, Error> {
        let assessment = configured.assessment_ref(connection, &order.assessment, "/assessment")?;
        let candidate = self.candidate_of_order(caller, connection, &order.candidate).await?;
        let person: Option<&Person> = candidate.as_ref().map(|candidate| &candidate.person);
        let key = connection.vendor().candidate_key(&order.candidate, person);
        let key = key.map_err(|fault| connection.tag_connection(reference(fault)))?;
        Ok(ResolvedOrder { key, candidate, assessment })
    }

    async fn candidate_of_order(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        key: &CandidateKey,
    ) -> Result<Option<Candidate>, Error> {
        let (pointer, found) = match key {
            CandidateKey::Id(id) => {
                let found = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
                let here = found.filter(|candidate| candidate.connection == connection.name);
                if here.is_none() {
                    let detail = "there is no such candidate at this connection";
                    return Err(connection.tag_connection(reference(FieldError::invalid("/candidate/id", detail))));
                }
                ("/candidate/id", here.into_iter().collect())
            }
            CandidateKey::ExternalId(id) => {
                ("/candidate/externalId", self.holders(caller, connection, &Identity::ExternalId(id.clone())).await?)
            }
            CandidateKey::Email(email) => (
                "/candidate/email",
                self.holders(caller, connection, &Identity::Email(normalize_identity(email))).await?,
            ),
        };
        match <[Candidate; 1]>::try_from(found) {
            Ok([candidate]) => self.reconcile_for_booking(caller, connection, candidate, pointer).await.map(Some),
            Err(found) if found.is_empty() => Ok(None),
            Err(_) => Err(connection
                .tag_connection(reference(FieldError::invalid(pointer, "several candidates have this address")))),
        }
    }

    async fn holders(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, Error> {
        let found = self.0.store.candidates(&caller.tenant, Some(&connection.name), identity).await;
        let mut found = found.or_not_applied()?;
        found.retain(|candidate| candidate.state != CandidateState::Failed);
        Ok(found)
    }

    /// Reconciles a candidate's unknown registration before it is booked.
    async fn reconcile_for_booking(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        candidate: Candidate,
        pointer: &str,
    ) -> Result<Candidate, Error> {
        if candidate.state == CandidateState::Registered {
            return Ok(candidate);
        }
        let id = candidate.id.clone();
        let (reconciler, call) = (&self.0.reconciler, caller.call_context(CallPurpose::Reconcile));
        let of_candidate = RecordId::Candidate(id.clone());
        let reconciled = reconciler.lock_and_reconcile(&caller.tenant, connection, &of_candidate, &call).await;
        // The booking itself was not sent, even if the candidate's outcome is unknown.
        let reconciled = reconciled.map_err(|error| {
            let detail = format!("The candidate's own write is not settled: {}", error.detail);
            let unsettled = Error::new(Code::SubjectUnsettled, detail).with_retry_after(retry_after(&error));
            connection.tag_connection(unsettled.with_resource(id.path()))
        })?;
        let candidate = reconciled.and_then(|reconciled| reconciled.record).map(Candidate::try_from).transpose()?;
        candidate.filter(|candidate| candidate.state == CandidateState::Registered).ok_or_else(|| {
            connection
                .tag_connection(reference(FieldError::invalid(pointer, "the vendor does not have this candidate")))
        })
    }

    /// Plans a booking and builds its record; nothing is stored or sent. Pass the same `accepted` for all rows of a
    /// bulk: it determines the validity, and only rows of equal validity share a call.
    pub(super) fn prepare_booking(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        order: &NewAssignment,
        resolved: ResolvedOrder,
        accepted: Timestamp,
        strict: bool,
    ) -> Result<PreparedBooking, Error> {
        let ResolvedOrder { key, candidate, assessment } = resolved;
        let id = AssignmentId::generate(&self.0.system);
        let private = candidate.as_ref().map_or_else(BTreeMap::new, |candidate| candidate.private.clone());
        let planned = connection.vendor().plan_assignment(&id, order, key, private, assessment, accepted);
        let Plan { write: booking, warnings } =
            planned.map_err(|faults| connection.tag_connection(Error::from_fields(faults)))?;
        enforce_strict(strict, &warnings).map_err(|fault| connection.tag_connection(fault))?;
        if is_window_over(booking.valid_until, self.0.system.now().max(accepted)) {
            let fault = FieldError::invalid("/validUntil", "is in the past");
            return Err(connection.tag_connection(Error::from_fields(vec![fault])));
        }
        let assignment = Assignment {
            id,
            tenant: caller.tenant.clone(),
            connection: connection.name.clone(),
            candidate_id: candidate.map(|candidate| candidate.id),
            vendor_key: booking.candidate.0.clone(),
            identity: Some(connection.identity_of_key(&booking.candidate.0)),
            assessment_ref: booking.assessment.clone(),
            subject: subject(&booking, connection.descriptor().identifies_by_email()),
            order: NewAssignment {
                valid_from: booking.valid_from,
                valid_until: booking.valid_until,
                center: booking.center.clone(),
                ..order.clone()
            },
            state: AssignmentState::Pending,
            outcome: Outcome::Unknown,
            vendor_ref: Map::new(),
            launch: None,
            problem: None,
            warnings,
            created: accepted,
            last_modified: accepted,
        };
        let intent = self.0.executor.intent(caller, connection, &assignment.lock_key(), Write::Assign(booking));
        Ok(PreparedBooking { assignment, intent })
    }

    /// Rejects a write about this booking if another tenant has registered the person, and reconciles other tenants'
    /// open writes about the same subject; the caller holds the subject's lock.
    async fn reject_or_reconcile_other_tenants(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        assignment: &Assignment,
    ) -> Result<(), Error> {
        self.reject_other_tenants_people(caller, connection, [assignment.vendor_key.as_str()]).await?;
        let open = self.0.store.intents_of(&assignment.lock_key()).await.or_not_applied()?;
        self.reconcile_other_tenants_writes(caller, connection, open).await
    }

    /// Returns the existing booking if the order reuses it; the caller holds the subject's lock. If that booking's
    /// window is over and the connection rebooks (`rebook_expired`), changes the intent to create a new booking and returns `None`.
    pub(super) async fn find_existing_booking(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        order: &NewAssignment,
        wanted: &Assignment,
        intent: &mut Intent,
    ) -> Result<Option<Assignment>, Error> {
        self.reject_or_reconcile_other_tenants(caller, connection, wanted).await?;
        let store = &self.0.store;
        let earlier = store.bookings(&caller.tenant, &connection.name, &wanted.subject).await.or_not_applied()?;
        let now = self.0.system.now();
        let over = |assignment: &Assignment| is_window_over(assignment.order.valid_until, now);
        let mut live: Option<Assignment> = None;
        for assignment in earlier {
            let (id, open) = (assignment.id.clone(), !assignment.state.is_terminal());
            let call = caller.call_context(CallPurpose::Reconcile);
            let reconciled = self.0.reconciler.reconcile(connection, assignment.into(), &call).await;
            // With `reuse`, the order shares the outcome of the open booking; any other order was not sent.
            let shares = order.if_exists == IfAssignmentExists::Reuse;
            let reconciled =
                reconciled.map_err(|error| if shares { error } else { blocked_by_unknown_write(connection, error) })?;
            let Some(record) = reconciled.record else { continue };
            let mut settled = Assignment::try_from(record)?;
            if open {
                // Read it as stored: its person may have been erased while it was open.
                settled = store.assignment(&caller.tenant, &id).await.or_not_applied()?.unwrap_or(settled);
            }
            let better = live.as_ref().is_none_or(|known| over(known) && !over(&settled));
            if settled.state == AssignmentState::Assigned && !settled.is_erased() && better {
                live = Some(settled);
            }
        }
        match (order.if_exists, live) {
            (IfAssignmentExists::Reuse, Some(live)) if over(&live) && connection.vendor().rebooks_expired() => {
                if let Write::Assign(booking) = &mut intent.write {
                    booking.if_exists = IfAssignmentExists::CreateNew;
                }
                Ok(None)
            }
            (IfAssignmentExists::Reuse, Some(live)) => {
                let window_over = over(&live).then(window_over);
                let mut live = with_difference_warnings(live, order);
                live.warnings.extend(window_over);
                Ok(Some(live))
            }
            (IfAssignmentExists::Fail, Some(live)) => {
                let detail = format!("The gateway knows this assignment as {}.", live.id);
                let fault = Error::new(Code::AssignmentAlreadyExists, detail).with_resource(live.id.path());
                Err(connection.tag_connection(fault))
            }
            (IfAssignmentExists::CreateNew, _) | (_, None) => Ok(None),
        }
    }

    /// Records in the intent whether this is the first booking of its subject, which decides how it may be reconciled.
    pub(super) async fn mark_first_booking(
        &self,
        connection: &Connection,
        assignment: &Assignment,
        intent: &mut Intent,
    ) -> Result<(), Error> {
        let known = self.0.store.is_subject_known(&connection.name, &assignment.subject).await.or_not_applied()?;
        if let Write::Assign(booking) = &mut intent.write {
            booking.first_booking = !known;
        }
        Ok(())
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
        let reconciled = self.0.reconciler.reconcile(connection, assignment.into(), &call).await;
        let reconciled =
            reconciled.map_err(|error| if shares { error } else { blocked_by_unknown_write(connection, error) })?;
        let Some(record) = reconciled.record else { return Ok(WriteResult::Existing(Removal::Done)) };
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
        let intent = self.0.executor.intent(caller, connection, &assignment.lock_key(), cancel);
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
fn accept_assignment<T>(acceptance: &AcceptedSender<T>, record: &Record, shown: impl FnOnce(Assignment) -> T) {
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

/// Returns the key by which two bookings are the same: candidate, assessment and centre. E-mail addresses ignore case.
fn subject(booking: &Booking, by_email: bool) -> String {
    let center = booking.center.as_deref().unwrap_or_default();
    let candidate = if by_email { normalize_identity(&booking.candidate.0) } else { booking.candidate.0.clone() };
    format!("{candidate}\n{}\n{center}", booking.assessment)
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}

/// Returns whether a window is over at `now`; one without an end never is.
fn is_window_over(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_some_and(|until| until <= now)
}

fn window_over() -> Warning {
    let detail =
        "The booking's window is over, so the candidate can no longer start; book again with ifExists create_new.";
    Warning::new(WarningCode::WindowOver, detail)
}

/// Adds a warning for each field in which the order differs from the existing booking, which is not changed.
fn with_difference_warnings(mut live: Assignment, order: &NewAssignment) -> Assignment {
    let there = &live.order;
    let differences = [
        ("/validFrom", order.valid_from.is_some() && there.valid_from != order.valid_from),
        ("/validUntil", order.valid_until.is_some() && there.valid_until != order.valid_until),
        ("/notify", there.notify != order.notify),
        ("/passwordless", there.passwordless != order.passwordless),
        ("/proctoring", there.proctoring != order.proctoring),
        ("/reference", order.reference.is_some() && there.reference != order.reference),
    ];
    let detail = "The assignment already exists with a different value; nothing was changed (see ifExists).";
    let warnings = differences.iter().filter(|(_, differs)| *differs);
    live.warnings
        .extend(warnings.map(|(pointer, _)| Warning::with_pointer(WarningCode::ExistingDiffers, pointer, detail)));
    live
}
