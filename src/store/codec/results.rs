//! Results and their versions in their sealed form, and the mutations of reports and results ready to write.

use crate::domain::ids::ResultId;
use crate::domain::results::{ExamResult, ResultVersion};
use crate::store::codec::fetches::{FetchChangeRow, NewFetchRow};
use crate::store::codec::reports::{NewReceivedRow, NewReportRow};
use crate::store::codec::{RecordCodec, SealedRow, check_columns, micros, unknown_format};
use crate::store::encryption::BlindIndex;
use crate::store::sql::Statement;
use crate::store::{FeedPosition, RepeatedReport, StoreError};

const RESULTS: &str = "results";
const VERSIONS: &str = "result_versions";

/// A change of reports and results, ready to write.
pub(in crate::store) enum ResultMutation {
    Receive(NewReceivedRow),
    RemoveReceived(i64),
    Report(Box<NewReportRow>),
    Repeat(RepeatRow),
    /// The report, and how often it had become due when it was read.
    Update(Box<NewReportRow>, i64),
    Result(Box<ResultRow>),
    Watermark(FeedRow),
    RecordSweep(Statement),
    RequestFetch(Box<NewFetchRow>),
    EndFetch(FetchChangeRow),
    /// The connection, and the forms of the hints.
    Recheck(String, Vec<BlindIndex>),
}

/// A repeat of a report.
pub(in crate::store) struct RepeatRow {
    pub id: String,
    pub as_of: Option<i64>,
    pub count: i64,
}

/// A row of `feeds`.
pub(in crate::store) struct FeedRow {
    pub connection: String,
    pub center: String,
    pub watermark: i64,
    pub read: i64,
}

/// A row of `results`, with its version.
pub(in crate::store) struct ResultRow {
    pub id: String,
    pub tenant: String,
    pub connection: String,
    /// Every form of its series, the one to write first.
    pub series: Vec<BlindIndex>,
    pub candidate: String,
    pub assignment: Option<String>,
    pub assessment_ref: String,
    pub activity: &'static str,
    pub grading: &'static str,
    pub modified: i64,
    pub version: i64,
    pub sealed: Vec<u8>,
    /// The sealed version, if it is new.
    pub new_version: Option<Vec<u8>>,
}

impl From<RepeatedReport> for RepeatRow {
    fn from(repeated: RepeatedReport) -> Self {
        let RepeatedReport { connection: _, digest: _, as_of, count, id } = repeated;
        Self { id: id.into(), as_of: as_of.map(micros), count: i64::try_from(count).unwrap_or(i64::MAX) }
    }
}

impl From<FeedPosition> for FeedRow {
    fn from(position: FeedPosition) -> Self {
        let FeedPosition { connection, center, watermark, read } = position;
        Self { connection, center, watermark: micros(watermark), read: micros(read) }
    }
}

impl ResultRow {
    /// Returns whether it may replace a result that has this version; `None` if there is none.
    pub(in crate::store) fn follows(&self, recorded: Option<i64>) -> bool {
        let before = if self.new_version.is_some() { self.version - 1 } else { self.version };
        recorded.unwrap_or(0) == before
    }
}

impl ResultMutation {
    /// Returns the size of what it writes, roughly.
    pub(in crate::store) fn bytes(&self) -> usize {
        match self {
            Self::Receive(row) => row.sealed.len() + row.body.len(),
            Self::Report(row) | Self::Update(row, _) => row.bytes(),
            Self::Result(row) => row.sealed.len() + row.new_version.as_ref().map_or(0, Vec::len),
            Self::Recheck(_, forms) => size_of_val(forms.as_slice()),
            Self::RequestFetch(row) => row.sealed.len(),
            Self::RecordSweep(statement) => statement.bytes(),
            Self::RemoveReceived(_) | Self::Repeat(_) | Self::Watermark(_) | Self::EndFetch(_) => 0,
        }
    }
}

impl RecordCodec {
    pub(super) fn result_row(
        &self,
        result: &ExamResult,
        version: Option<&ResultVersion>,
    ) -> Result<ResultRow, StoreError> {
        let state = &result.state;
        let seal_version = |version: &ResultVersion| {
            self.seal(VERSIONS, &version_place(result.id.as_str(), version.version.into()), version)
        };
        Ok(ResultRow {
            id: result.id.to_string(),
            tenant: result.tenant.clone(),
            connection: result.connection.clone(),
            series: self.series_forms(&result.connection, &result.series),
            candidate: state.candidate.to_string(),
            assignment: state.assignment.as_ref().map(ToString::to_string),
            assessment_ref: state.assessment_ref.clone(),
            activity: state.activity.as_str(),
            grading: state.grading.as_str(),
            modified: micros(result.last_modified),
            version: result.version.into(),
            sealed: self.seal(RESULTS, result.id.as_str(), result)?,
            new_version: version.map(seal_version).transpose()?,
        })
    }

    pub(in crate::store) fn exam_result(&self, row: &SealedRow) -> Result<ExamResult, StoreError> {
        let result: ExamResult = self.open_json(RESULTS, &row.id, &row.sealed)?;
        check_columns(row, result.id.as_str(), &result.tenant, &result.connection)?;
        Ok(result)
    }

    pub(in crate::store) fn result_version(
        &self,
        id: &ResultId,
        (number, sealed): &(i64, Vec<u8>),
    ) -> Result<ResultVersion, StoreError> {
        let place = version_place(id.as_str(), *number);
        let version: ResultVersion = self.open_json(VERSIONS, &place, sealed)?;
        if i64::from(version.version) == *number { Ok(version) } else { Err(unknown_format(VERSIONS, &place)) }
    }
}

fn version_place(result: &str, version: i64) -> String {
    format!("{result}/{version}")
}
