//! Requests that change what is known: refreshing an assignment, a person's word about a report, reading again.

use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::error::Error;
use crate::domain::ids::{AssignmentId, CandidateId, ReportId};
use crate::domain::results::Report;
use crate::service::{Gateway, OperationStatus, RequestContext};

/// Whose a report is, by a person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportTarget {
    /// This assignment's.
    Assignment(AssignmentId),
    /// This candidate's.
    Candidate(CandidateId),
}

impl Gateway {
    /// Asks the vendor for the assignment's report now, and returns the assignment.
    ///
    /// # Errors
    /// `not_found`; `capability_unsupported` if the vendor cannot be asked; `invalid_reference` without a registration at the
    /// vendor; the vendor's errors; `store_unavailable`.
    pub async fn refresh_assignment(&self, _caller: &RequestContext, _id: &AssignmentId) -> Result<Assignment, Error> {
        todo!()
    }

    /// Matches a parked report with what a person names.
    ///
    /// # Errors
    /// `not_found`; `report_matched` if it is applied already; `invalid_reference`; `store_unavailable`.
    pub async fn match_report(
        &self,
        _caller: &RequestContext,
        _id: &ReportId,
        _target: ReportTarget,
    ) -> Result<Report, Error> {
        todo!()
    }

    /// Dismisses a report that is of no use.
    ///
    /// # Errors
    /// `not_found`; `report_matched` if it is applied; `store_unavailable`.
    pub async fn dismiss_report(&self, _caller: &RequestContext, _id: &ReportId) -> Result<Report, Error> {
        todo!()
    }

    /// Starts an operation of kind `reread`: reads the connection's kept reports again under today's settings.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `capability_unsupported`, `draining`, `store_unavailable`.
    pub async fn reread_reports(
        &self,
        _caller: &RequestContext,
        _connection: &str,
        _since: Option<Timestamp>,
    ) -> Result<OperationStatus, Error> {
        todo!()
    }

    /// Has the feeds of a connection read at once.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `capability_unsupported` for a connection without a feed.
    pub fn read_feed_now(&self, _caller: &RequestContext, _connection: &str) -> Result<(), Error> {
        todo!()
    }
}
