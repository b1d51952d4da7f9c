//! Vendors' reports and received webhooks in their sealed form, and the hints by which parked reports are found.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::results::{Reading, Report, ReportContext, ReportDigest, ReportState, SeriesKey, Sighting};
use crate::store::codec::{RecordCodec, SealedRow, connection_scope, micros, unknown_format};
use crate::store::columns::{Columns, FromColumns};
use crate::store::encryption::BlindIndex;
use crate::store::{NewReport, ReceivedWebhook, ReportChange, ReportHint, StoreError, StoredReport};

const REPORTS: &str = "reports";
const RECEIVED: &str = "received";

const SERIES: &str = "series";

/// A row of `received`, ready to write.
pub(in crate::store) struct NewReceivedRow {
    pub token: String,
    pub connection: String,
    pub sealed: Vec<u8>,
    pub body: Vec<u8>,
}

/// A row of `received`, as read.
pub(in crate::store) struct ReceivedRow {
    number: i64,
    token: String,
    connection: String,
    sealed: Vec<u8>,
    body: Vec<u8>,
}

impl FromColumns for ReceivedRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            number: row.column(0)?,
            token: row.column(1)?,
            connection: row.column(2)?,
            sealed: row.column(3)?,
            body: row.column(4)?,
        })
    }
}

/// The sealed part of a received webhook without its body.
#[derive(Serialize, Deserialize)]
struct ReceivedRecord {
    connection: String,
    context: ReportContext,
    arrived: Timestamp,
}

/// A row of `reports`, ready to write, with its hints.
pub(in crate::store) struct NewReportRow {
    /// The record, needed if its person turns out to be erased.
    pub record: Report,
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub state: &'static str,
    /// Every form of its series, the one to write first; empty if it has none.
    pub series: Vec<BlindIndex>,
    pub candidate: Option<String>,
    pub digest: BlindIndex,
    pub received: i64,
    pub as_of: i64,
    pub repeats: i64,
    pub sealed: Vec<u8>,
    pub reading: Option<Vec<u8>>,
    pub body: Option<Vec<u8>>,
    /// The index values of its hints, if it waits for what they lead to, or an erasure must find it by them.
    pub hints: Vec<BlindIndex>,
}

impl NewReportRow {
    /// Returns whether it is parked, and so due at once.
    pub(in crate::store) fn is_parked(&self) -> bool {
        self.record.state == ReportState::Parked
    }

    /// Returns whether it keeps its hints without a body: an applied report has them only as long as its body.
    pub(in crate::store) fn keeps_hints(&self) -> bool {
        self.record.state != ReportState::Applied
    }

    /// Returns whether it waits for something to become known.
    pub(in crate::store) fn is_waiting(&self) -> bool {
        is_waiting(&self.record)
    }

    /// Returns the size of its sealed content.
    pub(in crate::store) fn bytes(&self) -> usize {
        let long = [&self.reading, &self.body];
        self.sealed.len() + long.into_iter().flatten().map(Vec::len).sum::<usize>()
    }
}

/// Returns whether a report waits for a person or a registration to become known, or for a booking that claims its attempt.
fn is_waiting(report: &Report) -> bool {
    match report.state {
        ReportState::Parked => true,
        ReportState::Applied => report.assignment.is_none(),
        ReportState::Repeated | ReportState::Rejected | ReportState::Dismissed => false,
    }
}

/// A row of `reports`, as read.
pub(in crate::store) struct ReportRecordRow {
    pub number: i64,
    pub id: String,
    tenant: String,
    connection: String,
    state: String,
    as_of: i64,
    repeats: i64,
    rechecks: i64,
    sealed: Vec<u8>,
    reading: Option<Vec<u8>>,
}

impl FromColumns for ReportRecordRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            number: row.column(0)?,
            id: row.column(1)?,
            tenant: row.column(2)?,
            connection: row.column(3)?,
            state: row.column(4)?,
            as_of: row.column(5)?,
            repeats: row.column(6)?,
            rechecks: row.column(7)?,
            sealed: row.column(8)?,
            reading: row.column(9)?,
        })
    }
}

/// A report's row with the form of its series by which it was found.
pub(in crate::store) struct SeriesReportRow(pub ReportRecordRow, pub BlindIndex);

impl FromColumns for SeriesReportRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self(ReportRecordRow::from_columns(row)?, row.column(10)?))
    }
}

/// A sealed result with the form of its series by which it was found.
pub(in crate::store) struct SeriesResultRow(pub SealedRow, pub BlindIndex);

impl FromColumns for SeriesResultRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self(SealedRow::from_columns(row)?, row.column(4)?))
    }
}

impl RecordCodec {
    /// Returns the keyed digest of a report. It is made under the key that the store was first written with, so that a report
    /// is still the same one after the keys were rotated.
    pub(in crate::store) fn report_digest(&self, input: &[u8]) -> ReportDigest {
        ReportDigest(self.keyring.report_digest(self.first_key.get(), input))
    }

    pub(in crate::store) fn received_row(&self, webhook: ReceivedWebhook) -> Result<NewReceivedRow, StoreError> {
        let ReceivedWebhook { id: _, connection, context, arrived, body } = webhook;
        let token = data_encoding::HEXLOWER.encode(&self.environment.random::<16>());
        let record = ReceivedRecord { connection: connection.clone(), context, arrived };
        Ok(NewReceivedRow {
            sealed: self.seal(RECEIVED, &token, &record)?,
            body: self.seal_bytes(RECEIVED, &body_place(&token), &body)?,
            token,
            connection,
        })
    }

    pub(in crate::store) fn received(&self, row: ReceivedRow) -> Result<ReceivedWebhook, StoreError> {
        let ReceivedRow { number, token, connection, sealed, body } = row;
        let record: ReceivedRecord = self.open_json(RECEIVED, &token, &sealed)?;
        if record.connection != connection {
            return Err(mismatch(&token));
        }
        let body = self.open_at(RECEIVED, &body_place(&token), &body)?.to_vec();
        let id = u64::try_from(number).unwrap_or(0);
        Ok(ReceivedWebhook { id, connection, context: record.context, arrived: record.arrived, body })
    }

    pub(in crate::store) fn new_report_row(&self, new: NewReport) -> Result<NewReportRow, StoreError> {
        let NewReport { report, body, reading, series } = new;
        let body = body.map(|body| self.seal_bytes(REPORTS, &body_place(report.id.as_str()), &body)).transpose()?;
        Ok(NewReportRow { body, ..self.report_row(report, reading.as_ref(), series.as_ref())? })
    }

    /// Returns the row of a change; its body is not among what changes.
    pub(in crate::store) fn changed_report_row(&self, change: ReportChange) -> Result<(NewReportRow, i64), StoreError> {
        let ReportChange { report, reading, series, rechecks } = change;
        let row = self.report_row(report, reading.as_ref(), series.as_ref())?;
        Ok((row, i64::try_from(rechecks).unwrap_or(i64::MAX)))
    }

    fn report_row(
        &self,
        report: Report,
        reading: Option<&Reading>,
        series: Option<&SeriesKey>,
    ) -> Result<NewReportRow, StoreError> {
        let id = report.id.to_string();
        // One that a person has dismissed waits for nothing; an erasure finds it by its hints.
        let has_hints = is_waiting(&report) || report.state == ReportState::Dismissed;
        let hints = reading.filter(|_| has_hints).map_or_else(Vec::new, hints_of);
        Ok(NewReportRow {
            tenant: report.tenant.clone().unwrap_or_default(),
            connection: report.connection.clone(),
            state: report.state.as_str(),
            series: series.map_or_else(Vec::new, |series| self.series_forms(&report.connection, series)),
            candidate: report.candidate.as_ref().map(ToString::to_string),
            digest: report.digest.0,
            received: micros(report.received),
            as_of: micros(report.as_of),
            repeats: i64::try_from(report.repeats).unwrap_or(i64::MAX),
            sealed: self.seal(REPORTS, &id, &report)?,
            reading: reading.map(|reading| self.seal(REPORTS, &reading_place(&id), reading)).transpose()?,
            body: None,
            hints: hints.iter().map(|hint| self.hint_index(&report.connection, hint)).collect(),
            record: report,
            id,
        })
    }

    /// Returns the row of a report whose person was erased: it is dismissed, and nothing of the person is left.
    pub(in crate::store) fn dismissed_row(&self, report: Report) -> Result<NewReportRow, StoreError> {
        let ReportContext { center, participant: _, assessment } = report.context;
        let dismissed = Report {
            state: ReportState::Dismissed,
            parked_for: None,
            rejection: None,
            context: ReportContext { center, participant: None, assessment },
            candidate: None,
            assignment: None,
            result: None,
            ..report
        };
        self.report_row(dismissed, None, None)
    }

    /// Opens a report. Its state of knowledge and its repeats are those of the columns, which a repeat moves.
    pub(in crate::store) fn stored_report(&self, row: &ReportRecordRow) -> Result<StoredReport, StoreError> {
        let mut report: Report = self.open_json(REPORTS, &row.id, &row.sealed)?;
        if report.id.as_str() != row.id
            || report.tenant.as_deref().unwrap_or_default() != row.tenant
            || report.connection != row.connection
            || report.state.as_str() != row.state
        {
            return Err(mismatch(&row.id));
        }
        if row.as_of > micros(report.as_of) {
            report.as_of = Timestamp::from_microsecond(row.as_of).map_err(|_| unknown_format(REPORTS, &row.id))?;
        }
        report.repeats = u64::try_from(row.repeats).unwrap_or(0);
        let reading = row.reading.as_ref();
        let reading = reading.map(|sealed| self.open_json(REPORTS, &reading_place(&row.id), sealed)).transpose()?;
        let number = |column: i64| u64::try_from(column).unwrap_or(0);
        Ok(StoredReport { report, reading, arrival: number(row.number), rechecks: number(row.rechecks) })
    }

    /// Opens a report of a series; `None` if it says nothing.
    pub(in crate::store) fn sighting(&self, row: &ReportRecordRow) -> Result<Option<Sighting>, StoreError> {
        let StoredReport { report, reading, arrival, rechecks: _ } = self.stored_report(row)?;
        let Report { kind, digest, as_of, .. } = report;
        Ok(reading.map(|reading| Sighting { kind, digest, as_of, arrival, reading }))
    }

    pub(in crate::store) fn report_body(&self, id: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.open_at(REPORTS, &body_place(id), sealed)?.to_vec())
    }

    /// Returns every form of a series, the one to write first.
    pub(in crate::store) fn series_forms(&self, connection: &str, key: &SeriesKey) -> Vec<BlindIndex> {
        self.keyring.blind_indices(&connection_scope(connection), SERIES, &key.index_text())
    }

    /// Returns the index value of a hint.
    pub(in crate::store) fn hint_index(&self, connection: &str, hint: &ReportHint) -> BlindIndex {
        let (kind, text) = parts(hint);
        self.keyring.blind_index(&connection_scope(connection), kind, &text)
    }

    /// Returns every form of a hint.
    pub(in crate::store) fn hint_forms(&self, connection: &str, hint: &ReportHint) -> Vec<BlindIndex> {
        let (kind, text) = parts(hint);
        self.keyring.blind_indices(&connection_scope(connection), kind, &text)
    }

    fn seal_bytes(&self, table: &'static str, record: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.keyring.seal(&self.environment, crate::store::encryption::AadContext { table, record }, bytes)?)
    }

    pub(super) fn open_json<T: DeserializeOwned>(
        &self,
        table: &'static str,
        record: &str,
        sealed: &[u8],
    ) -> Result<T, StoreError> {
        // The message of serde_json may quote its input.
        serde_json::from_slice(&self.open_at(table, record, sealed)?).map_err(|_| unknown_format(table, record))
    }
}

/// Lists what a reading says of whose attempt it may be.
pub(in crate::store) fn hints_of(reading: &Reading) -> Vec<ReportHint> {
    let hints = &reading.hints;
    let participant = hints.participant.clone().map(ReportHint::Participant);
    let external_id = hints.external_id.as_ref().map(|id| ReportHint::ExternalId(id.identity().into_owned()));
    let email = hints.email.as_ref().map(|email| ReportHint::Email(email.identity().into_owned()));
    [participant, external_id, email].into_iter().flatten().collect()
}

/// Lists the hints that lead to a candidate, each with the identity behind it.
pub(in crate::store) fn candidate_hints(candidate: &Candidate) -> Vec<(ReportHint, Identity)> {
    let person = &candidate.person;
    let external_id = person.external_id.clone();
    let external_id =
        external_id.map(|id| (ReportHint::ExternalId(id.identity().into_owned()), Identity::ExternalId(id)));
    let email = person.email.clone();
    let email = email.map(|email| (ReportHint::Email(email.identity().into_owned()), Identity::Email(email)));
    external_id.into_iter().chain(email).collect()
}

/// Returns the vendor's id of a booking's registration.
pub(in crate::store) fn participant_of(assignment: &Assignment) -> Option<String> {
    match assignment.vendor_ref.get("id")? {
        serde_json::Value::String(id) => Some(id.clone()),
        serde_json::Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// Returns kind and text of a hint, as indexed. A caller's spelling of an identity is brought into the form by which identities
/// are compared.
fn parts(hint: &ReportHint) -> (&'static str, Cow<'_, str>) {
    match hint {
        ReportHint::Participant(id) => ("participant", Cow::Borrowed(id)),
        ReportHint::ExternalId(id) => ("hint externalId", Cow::Owned(key(&Identity::ExternalId(id.clone().into())))),
        ReportHint::Email(email) => ("hint email", Cow::Owned(key(&Identity::Email(email.clone().into())))),
    }
}

fn key(identity: &Identity) -> String {
    identity.key().into_owned()
}

fn body_place(record: &str) -> String {
    format!("{record}/body")
}

fn reading_place(record: &str) -> String {
    format!("{record}/reading")
}

fn mismatch(record: &str) -> StoreError {
    StoreError::Unreadable(format!("{record}: its columns do not match its sealed content"))
}
