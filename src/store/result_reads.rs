//! The reads of reports and results that are the same for every engine.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId, ReportId, ResultId};
use crate::domain::results::{ExamResult, Report, ReportDigest, ResultVersion, SeriesKey};
use crate::store::{
    FeedPosition, FetchCount, Page, ReceivedWebhook, ReportCount, ReportFetch, ReportFilter, ReportHint, ResultFilter,
    Series, StoreError, StoredReport,
};

mod of_engine;

/// The reads of a [`Store`](crate::store::Store) that concern reports and results.
#[async_trait]
pub trait ResultReads: Send + Sync {
    /// Returns the webhooks of the connection that have arrived and are not yet read, in the order of arrival.
    async fn received_webhooks(&self, connection: &str, limit: usize) -> Result<Vec<ReceivedWebhook>, StoreError>;

    /// Returns the keyed digest of a report's [`digest_input`](crate::domain::results::digest_input).
    fn report_digest(&self, input: &[u8]) -> ReportDigest;

    /// Returns the connection's recorded reports with these digests, in any order.
    async fn reports_by_digest(&self, connection: &str, digests: &[ReportDigest]) -> Result<Vec<Report>, StoreError>;

    /// Returns everything recorded of these series of the connection, one each, in order; an unknown series is empty.
    async fn series(&self, connection: &str, keys: &[SeriesKey]) -> Result<Vec<Series>, StoreError>;

    /// Returns the report with this id, of whichever tenant.
    async fn report(&self, id: &ReportId) -> Result<Option<StoredReport>, StoreError>;

    /// Returns the body of a report as it came; `None` if it is no longer kept.
    async fn report_body(&self, id: &ReportId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns a page of the tenant's reports, newest first; with `None`, those that belong to no tenant.
    async fn reports(
        &self,
        tenant: Option<&str>,
        filter: &ReportFilter,
        page: &Page,
    ) -> Result<Vec<Report>, StoreError>;

    /// Returns reports of the connection that are due to be looked at again, in the order of arrival.
    async fn due_reports(&self, connection: &str, limit: usize) -> Result<Vec<StoredReport>, StoreError>;

    /// Returns the connection's parked reports after this place in the order of arrival, for the daily sweep.
    async fn parked_reports(&self, connection: &str, after: u64, limit: usize)
    -> Result<Vec<StoredReport>, StoreError>;

    /// Returns the connection's reports received at or after `since` and after this place in the order of arrival, in that
    /// order, for reading them again.
    async fn reports_since(
        &self,
        connection: &str,
        since: Timestamp,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredReport>, StoreError>;

    /// Returns of each hint, in order, whether it was one of a person who was erased at the connection. A report with an
    /// erased registration is dismissed; so is one with another erased hint if it fits no candidate.
    async fn erased_hints(&self, connection: &str, hints: &[ReportHint]) -> Result<Vec<bool>, StoreError>;

    /// Counts the reports by connection and state; as repeated count the repeats of those that are kept.
    async fn count_reports(&self) -> Result<Vec<ReportCount>, StoreError>;

    /// Returns the tenant's result with this id.
    async fn result(&self, tenant: &str, id: &ResultId) -> Result<Option<ExamResult>, StoreError>;

    /// Returns a page of the tenant's results, newest first.
    async fn results(&self, tenant: &str, filter: &ResultFilter, page: &Page) -> Result<Vec<ExamResult>, StoreError>;

    /// Returns the versions of the tenant's result, oldest first.
    async fn result_versions(&self, tenant: &str, id: &ResultId) -> Result<Vec<ResultVersion>, StoreError>;

    /// Returns all results of these assignments, in any order.
    async fn results_of_assignments(&self, ids: &[AssignmentId]) -> Result<Vec<ExamResult>, StoreError>;

    /// Returns all results of the candidate at the assessment, with or without an assignment, oldest first.
    async fn results_of_candidate(
        &self,
        candidate: &CandidateId,
        assessment_ref: &str,
    ) -> Result<Vec<ExamResult>, StoreError>;

    /// Returns how far the feeds of the connection were read, one each for every centre.
    async fn feed_positions(&self, connection: &str) -> Result<Vec<FeedPosition>, StoreError>;

    /// Returns when the last complete sweep of the connection began, by any instance; `None` if there was none.
    async fn last_sweep(&self, connection: &str) -> Result<Option<Timestamp>, StoreError>;

    /// Returns reports of the connection that are to be fetched by this time, those that have been due longest first.
    async fn due_fetches(&self, connection: &str, now: Timestamp, limit: usize)
    -> Result<Vec<ReportFetch>, StoreError>;

    /// Counts the reports that are to be fetched, by connection; a connection without any is absent.
    async fn count_fetches(&self) -> Result<Vec<FetchCount>, StoreError>;

    /// Returns the assignments, of all tenants, whose `vendorRef.id` is one of these registrations at the connection.
    async fn assignments_of_participants(
        &self,
        connection: &str,
        participants: &[String],
    ) -> Result<Vec<Assignment>, StoreError>;

    /// Returns the assignments at the connection, of all tenants, of people with one of these candidate ids or known to the
    /// vendor by one of these identities.
    async fn assignments_of_people(
        &self,
        connection: &str,
        ids: &[CandidateId],
        known_as: &[Identity],
    ) -> Result<Vec<Assignment>, StoreError>;

    /// Returns the candidates at the connection, of all tenants, with one of these identities, without their pictures.
    async fn candidates_at(&self, connection: &str, identities: &[Identity]) -> Result<Vec<Candidate>, StoreError>;

    /// Returns assignments of the connection that are booked or perhaps booked (`assigned`, `unknown`), of all tenants, after
    /// this id and ordered by it: for the sweep of bookings past their window and for the centres whose feeds are to be read.
    async fn booked_assignments(
        &self,
        connection: &str,
        after: Option<&AssignmentId>,
        limit: usize,
    ) -> Result<Vec<Assignment>, StoreError>;
}

/// Returns a text in which each of these texts is a line, and which has nothing else. Leaves out what no stored text is: a text
/// of several lines, or one with a NUL, which a server would reject as an error.
pub(super) fn lines(texts: &[String]) -> String {
    let mut lines = "\n".to_owned();
    for text in texts.iter().filter(|text| !text.contains(['\n', '\0'])) {
        lines.push_str(text);
        lines.push('\n');
    }
    lines
}

/// Converts a place in the order of arrival to its column.
pub(super) fn column(arrival: u64) -> i64 {
    i64::try_from(arrival).unwrap_or(i64::MAX)
}
