//! A chunk of reports on its way through ingestion.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::ids::ReportId;
use crate::domain::results::{ReadReport, Reading, Report, ReportContext, ReportDigest, ReportKind, SeriesKey};
use crate::service::results::matching::Owner;
use crate::service::write::locks::SubjectLock;
use crate::store::{Mutation, NewFetch, RepeatedReport, ReportHint, StoredReport};

/// Number of reports that are ingested together.
pub(super) const CHUNK: usize = 200;

/// A report that has come.
pub(super) struct Arrival {
    pub(super) read: ReadReport,
    pub(super) kind: ReportKind,
    pub(super) context: ReportContext,
    pub(super) as_of: Timestamp,
    /// When it came, by the gateway's clock.
    pub(super) received: Timestamp,
    /// Its number among the received webhooks.
    pub(super) inbox: Option<u64>,
}

/// A recorded report that is looked at again.
pub(super) struct Look {
    pub(super) stored: StoredReport,
    /// Whose it is by a person's word.
    pub(super) said: Option<Owner>,
}

/// A recorded report of which the vendor has said that it holds until a later time.
#[derive(Debug, Clone)]
pub(super) struct TouchedReport {
    pub(super) id: ReportId,
    pub(super) digest: ReportDigest,
    pub(super) series: Option<SeriesKey>,
}

/// Reports that are ingested together.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) looks: Vec<Look>,
    /// Reports that hold until this time.
    pub(super) touched: Option<(Timestamp, Vec<TouchedReport>)>,
}

/// A registration whose report is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct FetchRequest {
    pub(super) participant: String,
    pub(super) center: Option<String>,
}

/// What the ingestion of a chunk changes. Holds the locks under which it was planned.
pub(super) struct IngestPlan {
    pub(super) changes: Vec<Mutation>,
    /// The reports of the chunk that are recorded when the changes are committed.
    pub(super) touched: Vec<TouchedReport>,
    /// Reports that are to be fetched.
    pub(super) fetches: Vec<NewFetch>,
    /// Repeats of reports that the same transaction records.
    pub(super) repeats_of_new: Vec<RepeatedReport>,
    /// Hints of reports that are to be looked at again.
    pub(super) rechecks: BTreeSet<ReportHint>,
    /// Locks of bookings that change.
    pub(super) booking_locks: Vec<SubjectLock>,
    _lock: SubjectLock,
}

/// A report whose owner is to be found.
pub(super) struct Draft {
    pub(super) report: Report,
    pub(super) reading: Reading,
    pub(super) kept: Kept,
    /// Whose it is by a person's word.
    pub(super) said: Option<Owner>,
}

/// Whether a report is recorded already.
pub(super) enum Kept {
    /// It is not; its body.
    New(Vec<u8>),
    /// It is.
    Recorded {
        /// Its place in the order of arrival.
        arrival: u64,
        /// How often it has become due.
        rechecks: u64,
    },
}

/// What a report says of its series' time: the digest of the report, and the time until which it holds.
pub(super) struct Move {
    pub(super) series: SeriesKey,
    pub(super) digest: ReportDigest,
    pub(super) as_of: Timestamp,
}

impl Chunk {
    /// Creates a chunk of reports that have come.
    pub(super) fn of_arrivals(arrivals: Vec<Arrival>) -> Self {
        Self { arrivals, ..Self::default() }
    }

    /// Creates a chunk of recorded reports that are looked at again.
    pub(super) fn of_looks(looks: Vec<Look>) -> Self {
        Self { looks, ..Self::default() }
    }
}

impl IngestPlan {
    pub(super) fn new(lock: SubjectLock) -> Self {
        Self {
            changes: Vec::new(),
            touched: Vec::new(),
            fetches: Vec::new(),
            repeats_of_new: Vec::new(),
            rechecks: BTreeSet::new(),
            booking_locks: Vec::new(),
            _lock: lock,
        }
    }
}

impl Draft {
    /// Creates the draft of a recorded report; `None` if it cannot be read.
    pub(super) fn of_look(look: Look) -> Option<Self> {
        let Look { stored: StoredReport { report, reading, arrival, rechecks }, said } = look;
        Some(Self { report, reading: reading?, kept: Kept::Recorded { arrival, rechecks }, said })
    }
}
