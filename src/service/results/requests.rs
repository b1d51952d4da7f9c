//! Requests that change what is known: refreshing an assignment, a person's word about a report, reading now.

use std::sync::Arc;

use crate::domain::assignment::{Assignment, CandidateKey};
use crate::domain::candidate::CandidateState;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId, ReportId};
use crate::domain::results::{Reading, Report, ReportChannel, ReportSource, ReportState, SeriesKey};
use crate::domain::vendor::CallPurpose;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, reference};
use crate::service::results::chunk::{Chunk, FetchRequest, Look};
use crate::service::results::hints::participant_of;
use crate::service::results::ingest::require_source;
use crate::service::results::matching::Owner;
use crate::service::{Gateway, RequestContext};
use crate::store::{Mutation, ReportChange, StoredReport};

/// Whose a report is, by a person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportTarget {
    /// This assignment's.
    Assignment(AssignmentId),
    /// This candidate's.
    Candidate(CandidateId),
}

impl Gateway {
    /// Asks the vendor for the assignment's report now, and returns the assignment. A vendor that knows of no attempt leaves
    /// it as it is.
    ///
    /// # Errors
    /// `not_found`; `capability_unsupported` if the vendor cannot be asked; `invalid_reference` without a registration at the
    /// vendor; the vendor's errors; `store_unavailable`.
    pub async fn refresh_assignment(&self, caller: &RequestContext, id: &AssignmentId) -> Result<Assignment, Error> {
        let assignment = self.assignment(caller, id).await?;
        let connection = self.connection_of(&assignment.connection)?;
        let source = require_source(&connection)?;
        require_feed(&connection)?;
        let Some(participant) = participant_of(&assignment) else {
            let detail = "The vendor's id of this registration is not known, so the vendor cannot be asked about it.";
            return Err(connection.tag_connection(Error::new(Code::InvalidReference, detail)));
        };
        let request = FetchRequest { participant: participant.to_owned(), center: assignment.order.center.clone() };
        let call = caller.call_context(CallPurpose::Initial);
        // Work in progress, also if the caller hangs up.
        let _token = self.0.tasks.token();
        let fetched = self.fetch_report(&connection, source, &request, &call).await?;
        self.ingest(&connection, Chunk::of_arrivals(fetched.into_iter().collect())).await?;
        self.assignment(caller, id).await
    }

    /// Matches a parked report with what a person names.
    ///
    /// # Errors
    /// `not_found`; `report_matched` if it is applied already; `invalid_reference`; `store_unavailable`.
    pub async fn match_report(
        &self,
        caller: &RequestContext,
        id: &ReportId,
        target: ReportTarget,
    ) -> Result<Report, Error> {
        let connection = self.connection_of(&self.own_report(caller, id).await?.report.connection)?;
        let lock = self.lock_reports(&connection.name).await?;
        let stored = self.own_report(caller, id).await?;
        refuse_matched(&stored.report)?;
        let Some(reading) = &stored.reading else {
            let detail = "The report cannot be read, so no result can be made from it.";
            return Err(Error::new(Code::InvalidReference, detail));
        };
        let owner = self.owner_said(caller, &connection, reading, target).await?;
        let report = Look { stored, said: Some(owner) };
        let plan = self.plan_chunk(&connection, Chunk::of_looks(vec![report]), lock).await?;
        self.commit_plan(plan, Vec::new()).await?;
        Ok(self.own_report(caller, id).await?.report)
    }

    /// Dismisses a report that is of no use.
    ///
    /// # Errors
    /// `not_found`; `report_matched` if it is applied; `store_unavailable`.
    pub async fn dismiss_report(&self, caller: &RequestContext, id: &ReportId) -> Result<Report, Error> {
        let connection = self.own_report(caller, id).await?.report.connection;
        let _lock = self.lock_reports(&connection).await?;
        let StoredReport { report, reading, rechecks, arrival: _ } = self.own_report(caller, id).await?;
        refuse_matched(&report)?;
        if report.state == ReportState::Dismissed {
            return Ok(report);
        }
        let report = Report { state: ReportState::Dismissed, parked_for: None, ..report };
        let change = ReportChange { report: report.clone(), reading, series: None, rechecks };
        self.0.store.commit(vec![Mutation::UpdateReport(Box::new(change))]).await.or_not_applied()?;
        Ok(report)
    }

    /// Has the feeds of a connection read at once.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `capability_unsupported` for a connection without a feed.
    pub fn read_feed_now(&self, caller: &RequestContext, connection: &str) -> Result<(), Error> {
        let connection = self.configured().named(caller, connection)?;
        require_source(&connection)?;
        require_feed(&connection)?;
        if let Some(signals) = self.0.results.signals(&connection.name) {
            signals.read_feed();
        }
        Ok(())
    }

    /// Returns the caller's report.
    pub(super) async fn own_report(&self, caller: &RequestContext, id: &ReportId) -> Result<StoredReport, Error> {
        let found = self.0.store.report(id).await.or_not_applied()?;
        let own = |stored: &StoredReport| {
            let Report { tenant, connection, .. } = &stored.report;
            tenant.as_ref() == Some(&caller.tenant) && caller.connections.contains(connection)
        };
        found.filter(own).ok_or_else(|| Error::new(Code::NotFound, format!("There is no report {id}.")))
    }

    /// Returns the owner that a person names.
    async fn owner_said(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        reading: &Reading,
        target: ReportTarget,
    ) -> Result<Owner, Error> {
        let store = &self.0.store;
        let invalid =
            |pointer: &str, detail: &str| connection.tag_connection(reference(FieldError::invalid(pointer, detail)));
        let (pointer, candidate, booking) = match target {
            ReportTarget::Assignment(id) => {
                let found = store.assignment(&caller.tenant, &id).await.or_not_applied()?;
                let here = found.filter(|booking| booking.connection == connection.name && !booking.is_erased());
                let booking = here.ok_or_else(|| invalid("/assignment", "there is no such assignment here"))?;
                let candidate = match (&booking.candidate_id, &booking.identity) {
                    (Some(id), _) => store.candidate(&caller.tenant, id).await.or_not_applied()?,
                    (None, Some(identity)) => {
                        let name = Some(connection.name.as_str());
                        let found = store.candidates(&caller.tenant, name, identity).await.or_not_applied()?;
                        found.into_iter().find(|candidate| candidate.state != CandidateState::Failed)
                    }
                    (None, None) => None,
                };
                ("/assignment", candidate, Some(booking))
            }
            ReportTarget::Candidate(id) => {
                ("/candidate", store.candidate(&caller.tenant, &id).await.or_not_applied()?, None)
            }
        };
        let candidate = candidate.filter(|candidate| candidate.connection == connection.name);
        let candidate = candidate.ok_or_else(|| invalid(pointer, "there is no such candidate at the connection"))?;
        let assessment_ref = booking.as_ref().map(|booking| booking.assessment_ref.clone());
        let Some(assessment_ref) = assessment_ref.or_else(|| reading.hints.test.clone()) else {
            return Err(invalid("/candidate", "the report names no test: name the assignment instead"));
        };
        let known = Owner { assessment_ref, by_hand: true, ..Owner::new(&candidate) };
        let bookings = match (&booking, &reading.series) {
            (None, SeriesKey::CandidateAtTest { .. }) => {
                let key = CandidateKey::Id(candidate.id.clone());
                let key = connection.vendor().candidate_key(&key, Some(&candidate.person)).ok();
                let known_as: Vec<_> = key.map(|key| connection.identity_of_key(&key.0)).into_iter().collect();
                let found = store.assignments_of_people(&connection.name, &[candidate.id], &known_as).await;
                found.or_not_applied()?
            }
            _ => Vec::new(),
        };
        let own =
            |booking: &Assignment| booking.tenant == caller.tenant && booking.assessment_ref == known.assessment_ref;
        let bookings = bookings.into_iter().filter(|booking| own(booking) && booking.state.is_terminal()).map(Arc::new);
        Ok(Owner { booking: booking.map(Arc::new), bookings: bookings.collect(), ..known })
    }
}

/// Rejects a connection that has no feed, so that its vendor cannot be asked about attempts.
fn require_feed(connection: &Connection) -> Result<(), Error> {
    if let Some(ReportChannel::Feed(_)) = connection.report_source().map(ReportSource::channel) {
        return Ok(());
    }
    let vendor = connection.descriptor().name;
    let detail = format!("{vendor} cannot be asked about attempts: it tells of them by itself.");
    Err(connection.tag_connection(Error::new(Code::CapabilityUnsupported, detail)))
}

fn refuse_matched(report: &Report) -> Result<(), Error> {
    if report.state != ReportState::Applied {
        return Ok(());
    }
    let error = Error::new(Code::ReportMatched, "A result is made from this report already.");
    Err(match &report.result {
        Some(result) => error.with_resource(result.path()),
        None => error,
    })
}
