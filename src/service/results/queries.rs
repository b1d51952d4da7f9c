//! Lists of results and reports, and the progress of assignments.

use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::error::Error;
use crate::domain::identity::ExternalId;
use crate::domain::ids::{AssignmentId, CandidateId, ReportId, ResultId};
use crate::domain::results::{Activity, ExamResult, Grading, Progress, Report, ReportState, ResultVersion};
use crate::service::{Gateway, RequestContext};
use crate::store::{ListPart, Page};

/// Filter for a list of results.
#[derive(Debug, Clone, Default)]
pub struct ResultQuery {
    /// Of this assignment.
    pub assignment: Option<AssignmentId>,
    /// Of this candidate.
    pub candidate: Option<CandidateId>,
    /// Of candidates with this id of the caller's.
    pub external_id: Option<ExternalId>,
    /// Of this assessment: the catalogue's id or the vendor's.
    pub assessment: Option<String>,
    /// At this connection.
    pub connection: Option<String>,
    /// With this activity.
    pub activity: Option<Activity>,
    /// With this grading.
    pub grading: Option<Grading>,
    /// That count, or that do not.
    pub counts: Option<bool>,
    /// Modified at or after this time.
    pub modified_since: Option<Timestamp>,
}

/// A result as shown to a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultView {
    /// The result.
    pub result: ExamResult,
    /// The assessment by the catalogue's id, else by the vendor's.
    pub assessment: String,
    /// The caller's id of the candidate.
    pub external_id: Option<ExternalId>,
    /// The caller's reference of the assignment.
    pub reference: Option<String>,
    /// Whether this attempt is the one that counts.
    pub counts: bool,
}

/// Filter for a list of reports.
#[derive(Debug, Clone, Default)]
pub struct ReportQuery {
    /// In this state.
    pub state: Option<ReportState>,
    /// At this connection.
    pub connection: Option<String>,
}

/// A report as shown to a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportView {
    /// The report.
    pub report: Report,
    /// Its body, if asked for and still kept.
    pub body: Option<Vec<u8>>,
}

impl Gateway {
    /// Returns a part of the caller's results, newest first.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `store_unavailable`.
    pub async fn results(
        &self,
        _caller: &RequestContext,
        _query: &ResultQuery,
        _page: &Page,
    ) -> Result<ListPart<ResultView>, Error> {
        todo!()
    }

    /// Returns a result.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn result(&self, _caller: &RequestContext, _id: &ResultId) -> Result<ResultView, Error> {
        todo!()
    }

    /// Returns a result and its versions, oldest first.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn result_versions(
        &self,
        _caller: &RequestContext,
        _id: &ResultId,
    ) -> Result<(ResultView, Vec<ResultVersion>), Error> {
        todo!()
    }

    /// Returns the progress of these assignments of one tenant, one each, in order; `None` where the vendor tells nothing.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn progress_of(&self, _assignments: &[&Assignment]) -> Result<Vec<Option<Progress>>, Error> {
        todo!()
    }

    /// Returns a part of the caller's reports, newest first. Reports at a connection that nobody's candidate matches belong
    /// to the connection's owner.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `store_unavailable`.
    pub async fn reports(
        &self,
        _caller: &RequestContext,
        _query: &ReportQuery,
        _page: &Page,
    ) -> Result<ListPart<Report>, Error> {
        todo!()
    }

    /// Returns a report, with its body if asked for.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn report(
        &self,
        _caller: &RequestContext,
        _id: &ReportId,
        _with_body: bool,
    ) -> Result<ReportView, Error> {
        todo!()
    }
}
