//! Booking: a candidate is booked for an assessment once, unless the caller asks for another booking.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Map;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{Candidate, CandidateState, Identity, Person};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::SettledBy;
use crate::domain::ids::AssignmentId;
use crate::domain::intent::{Intent, Write};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::record::Record;
use crate::domain::validation::normalize_identity;
use crate::domain::vendor::{Booking, CallPurpose, Plan, VendorKey};
use crate::service::assignments::accept_assignment;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, enforce_strict, reference};
use crate::service::snapshot::Snapshot;
use crate::service::write::handle::{AcceptedSender, WriteResult};
use crate::service::write::reconciler::{blocked_by_unknown_write, retry_after};
use crate::service::{Gateway, RequestContext};
use crate::store::{PreparedRecord, PreparedWrite};

/// Booking record with the intent to commit before the vendor is called.
pub(in crate::service) struct PreparedBooking {
    pub(in crate::service) assignment: Assignment,
    pub(in crate::service) intent: Intent,
}

/// Order with everything it names looked up.
pub(in crate::service) struct ResolvedOrder {
    pub(in crate::service) key: VendorKey,
    pub(in crate::service) candidate: Option<Candidate>,
    pub(in crate::service) assessment: String,
}

impl Gateway {
    /// Validates an order as the vendor would, for any person; looks nothing up and sends nothing.
    #[must_use]
    pub fn review_assignment(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        order: &NewAssignment,
    ) -> Vec<FieldError> {
        let configured = self.configured();
        let selected = configured.connection_of_assessment(caller, connection, &order.assessment);
        let plan = selected.and_then(|connection| {
            connection.require_capability(WriteKind::AssignmentsCreate)?;
            let assessment = configured.assessment_ref(caller, &connection, &order.assessment, "/assessment")?;
            let resolved = ResolvedOrder { key: VendorKey(String::new()), candidate: None, assessment };
            self.prepare_booking(caller, &connection, order, resolved, self.0.system.now(), false)
        });
        plan.map_or_else(|error| error.errors, |_| Vec::new())
    }

    /// Books an order: looks it up, plans, locks the subject, commits the intent, calls the vendor and commits the
    /// outcome.
    pub(in crate::service) async fn book(
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
        let _lock = self.lock_subject(&assignment.subject_key()).await?;
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
    pub(in crate::service) async fn resolve(
        &self,
        caller: &RequestContext,
        configured: &Snapshot,
        connection: &Connection,
        order: &NewAssignment,
    ) -> Result<ResolvedOrder, Error> {
        let assessment = configured.assessment_ref(caller, connection, &order.assessment, "/assessment")?;
        let candidate = self.candidate_of_order(caller, connection, &order.candidate).await?;
        let person: Option<&Person> = candidate.as_ref().map(|candidate| &candidate.person);
        let earlier = match &candidate {
            Some(_) => None,
            None => self.spelling_of_earlier_bookings(caller, connection, &order.candidate).await?,
        };
        let key = connection.vendor().candidate_key(earlier.as_ref().unwrap_or(&order.candidate), person);
        let key = key.map_err(|error| connection.tag_connection(reference(error)))?;
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
            CandidateKey::Email(email) => {
                ("/candidate/email", self.holders(caller, connection, &Identity::Email(email.clone())).await?)
            }
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
        Ok(self.without_other_spellings(found, identity))
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
        let locked = reconciler.lock_candidate(&caller.tenant, &id, connection.longest_call()).await?;
        let settled = match locked {
            Some((_lock, candidate)) => {
                reconciler.reconcile(connection, candidate.into(), &call, SettledBy::Caller).await.map(Some)
            }
            None => Ok(None),
        };
        // The booking itself was not sent, even if the candidate's outcome is unknown.
        let settled = settled.map_err(|error| {
            let detail = format!("The candidate's own write is not settled: {}", error.detail);
            let unsettled = Error::new(Code::SubjectUnsettled, detail).with_retry_after(retry_after(&error));
            connection.tag_connection(unsettled.with_resource(id.path()))
        })?;
        let candidate = settled.and_then(|settled| settled.record).map(Candidate::try_from).transpose()?;
        candidate.filter(|candidate| candidate.state == CandidateState::Registered).ok_or_else(|| {
            connection
                .tag_connection(reference(FieldError::invalid(pointer, "the vendor does not have this candidate")))
        })
    }

    /// Plans a booking and builds its record; nothing is stored or sent. Pass the same `accepted` for all rows of a
    /// bulk: it determines the validity, and only rows of equal validity share a call.
    pub(in crate::service) fn prepare_booking(
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
            planned.map_err(|errors| connection.tag_connection(Error::from_fields(errors)))?;
        enforce_strict(strict, &warnings).map_err(|error| connection.tag_connection(error))?;
        if is_window_over(booking.valid_until, self.0.system.now().max(accepted)) {
            let error = FieldError::invalid("/validUntil", "is in the past");
            return Err(connection.tag_connection(Error::from_fields(vec![error])));
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
            expiry_reported: false,
        };
        let intent = self.0.executor.intent(caller, connection, assignment.subject_key(), Write::Assign(booking));
        Ok(PreparedBooking { assignment, intent })
    }

    /// Returns the existing booking if the order reuses it; the caller holds the subject's lock. If that booking's
    /// window is over and the connection rebooks (`rebook_expired`), changes the intent to create a new booking and returns `None`.
    pub(in crate::service) async fn find_existing_booking(
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
            let settled = self.0.reconciler.reconcile(connection, assignment.into(), &call, SettledBy::Caller).await;
            // With `reuse`, the order shares the outcome of the open booking; any other order was not sent.
            let shares = order.if_exists == IfAssignmentExists::Reuse;
            let settled =
                settled.map_err(|error| if shares { error } else { blocked_by_unknown_write(connection, error) })?;
            let Some(record) = settled.record else { continue };
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
                let error = Error::new(Code::AssignmentAlreadyExists, detail).with_resource(live.id.path());
                Err(connection.tag_connection(error))
            }
            (IfAssignmentExists::CreateNew, _) | (_, None) => Ok(None),
        }
    }

    /// Records in the intent whether this is the first booking of its subject, which decides how it may be settled.
    pub(in crate::service) async fn mark_first_booking(
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
}

/// Returns the key by which two bookings are the same: candidate, assessment and centre. E-mail addresses ignore case.
fn subject(booking: &Booking, by_email: bool) -> String {
    let center = booking.center.as_deref().unwrap_or_default();
    let candidate = if by_email { normalize_identity(&booking.candidate.0) } else { booking.candidate.0.clone() };
    format!("{candidate}\n{}\n{center}", booking.assessment)
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
