//! Arguments and results of the store that concern reports and results.

use jiff::Timestamp;

use crate::domain::ids::{AssignmentId, CandidateId, ReportId};
use crate::domain::results::{
    Activity, ExamResult, Grading, Reading, Report, ReportContext, ReportDigest, ReportState, SeriesKey, Sighting,
};

/// A report to record, with what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReport {
    /// The report. The store gives it its place in the order of arrival.
    pub report: Report,
    /// Its body as it came; `None` for a report about an erased person.
    pub body: Option<Vec<u8>>,
    /// What it says; `None` if it cannot be read or the person was erased. Outlives the body.
    pub reading: Option<Reading>,
    /// The series it belongs to, once it is known whose it is.
    pub series: Option<SeriesKey>,
}

/// A change of a recorded report: what became of it when it was looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportChange {
    /// The report with its new state, tenant, candidate, assignment and result.
    pub report: Report,
    /// What it says now; `None` if it cannot be read or the person was erased. A dismissed report without a reading loses
    /// its body.
    pub reading: Option<Reading>,
    /// The series it belongs to, once it is known whose it is.
    pub series: Option<SeriesKey>,
    /// [`StoredReport::rechecks`] as it was read: a report that has become due since stays due.
    pub rechecks: u64,
}

/// A webhook that has arrived and is not yet read. Its place in the order of arrival is `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedWebhook {
    /// Its number; the store assigns it.
    pub id: u64,
    /// The connection it is for.
    pub connection: String,
    /// What its reader needs besides its body.
    pub context: ReportContext,
    /// When it arrived, by the gateway's clock.
    pub arrived: Timestamp,
    /// Its body.
    pub body: Vec<u8>,
}

/// What by which a person or a registration becomes known: reports that are parked for want of it are to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportHint {
    /// The vendor's id of a registration.
    Participant(String),
    /// A caller's id of a person.
    ExternalId(String),
    /// An e-mail address, in the form by which addresses are compared.
    Email(String),
}

/// Everything recorded of a series.
#[derive(Debug, Clone)]
pub struct Series {
    /// The series.
    pub key: SeriesKey,
    /// Its applied reports in the order of arrival; none about an erased person.
    pub sightings: Vec<Sighting>,
    /// Its results, the oldest first; superseded ones too.
    pub results: Vec<ExamResult>,
}

/// How far a feed was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPosition {
    /// The connection.
    pub connection: String,
    /// The centre; empty for the account's own.
    pub center: String,
    /// The watermark by the vendor's clock; never moves backwards.
    pub watermark: Timestamp,
    /// When the last run that read it to its end began, by the gateway's clock; never moves backwards.
    pub read: Timestamp,
}

/// Filter for a list of results.
#[derive(Debug, Clone, Default)]
pub struct ResultFilter {
    /// Of this assignment.
    pub assignment: Option<AssignmentId>,
    /// Of one of these candidates; of all if `None`.
    pub candidates: Option<Vec<CandidateId>>,
    /// Of this assessment, by the vendor's id; several if connections know it by several.
    pub assessment_refs: Option<Vec<String>>,
    /// At one of these connections; at all of them if `None`.
    pub connections: Option<Vec<String>>,
    /// With this activity.
    pub activity: Option<Activity>,
    /// With this grading.
    pub grading: Option<Grading>,
    /// Modified at or after this time.
    pub modified_since: Option<Timestamp>,
}

/// Filter for a list of reports.
#[derive(Debug, Clone, Default)]
pub struct ReportFilter {
    /// In this state.
    pub state: Option<ReportState>,
    /// At one of these connections; at all of them if `None`.
    pub connections: Option<Vec<String>>,
}

/// The number of reports in a state at a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportCount {
    /// The connection.
    pub connection: String,
    /// The state.
    pub state: ReportState,
    /// How many.
    pub count: u64,
}

/// A report as recorded, with what a reader of it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// The report.
    pub report: Report,
    /// What it says; `None` if it cannot be read.
    pub reading: Option<Reading>,
    /// Its place in the order of arrival.
    pub arrival: u64,
    /// How often it has become due to be looked at again.
    pub rechecks: u64,
}

/// The digest of a report at a connection, with what identifies a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedReport {
    /// The connection.
    pub connection: String,
    /// The digest.
    pub digest: ReportDigest,
    /// Until when the vendor's state is known by the repeat; moves the report's own time forward, never back. `None` for a
    /// webhook, whose repeat may be an old request.
    pub as_of: Option<Timestamp>,
    /// How many times it came again; 0 only moves its time.
    pub count: u64,
    /// The report's id.
    pub id: ReportId,
}

/// A report that is to be fetched from the vendor, since the feed's entry says too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFetch {
    /// The connection.
    pub connection: String,
    /// Whose attempt it is about.
    pub candidate: CandidateId,
    /// The vendor's id of the registration.
    pub participant: String,
    /// The registration's centre, if it is known.
    pub center: Option<String>,
    /// When it is to be fetched, by the gateway's clock.
    pub due: Timestamp,
}

/// A recorded [`NewFetch`] that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFetch {
    /// Its number.
    pub number: u64,
    /// How often it was requested.
    pub requests: u64,
    /// How often the vendor did not answer.
    pub failures: u32,
    /// The vendor's id of the registration.
    pub participant: String,
    /// The registration's centre, if it is known.
    pub center: Option<String>,
}

/// What came of a [`ReportFetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchEnd {
    /// [`ReportFetch::number`].
    pub number: u64,
    /// [`ReportFetch::requests`] as it was read.
    pub requests: u64,
    /// If it failed: how often it has failed by now, and when it is due again.
    pub postponed: Option<(u32, Timestamp)>,
}

/// The number of reports of a connection that are to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchCount {
    /// The connection.
    pub connection: String,
    /// How many.
    pub pending: u64,
    /// How many of these the vendor has failed to answer.
    pub failing: u64,
}
