//! Reports that are still to be fetched, in their sealed form.

use serde::{Deserialize, Serialize};

use crate::domain::results::SeriesKey;
use crate::store::codec::{RecordCodec, micros, unknown_format};
use crate::store::columns::{Columns, FromColumns};
use crate::store::encryption::BlindIndex;
use crate::store::{FetchEnd, NewFetch, ReportFetch, StoreError};

const FETCHES: &str = "report_fetches";

/// A row of `report_fetches`, ready to write.
pub(in crate::store) struct NewFetchRow {
    /// Every form of its series, the one to write first.
    pub series: Vec<BlindIndex>,
    pub candidate: String,
    pub token: String,
    pub connection: String,
    pub due: i64,
    pub sealed: Vec<u8>,
}

/// What changes in a row of `report_fetches`.
pub(in crate::store) struct FetchChangeRow {
    pub series: i64,
    pub requests: i64,
    /// The failures so far, and when it is due again; `None` if it is done.
    pub postponed: Option<(i64, i64)>,
}

/// A row of `report_fetches`, as read.
pub(in crate::store) struct FetchRow {
    series: i64,
    token: String,
    connection: String,
    requests: i64,
    failures: i64,
    sealed: Vec<u8>,
}

impl From<FetchEnd> for FetchChangeRow {
    fn from(end: FetchEnd) -> Self {
        let FetchEnd { number, requests, postponed } = end;
        let column = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            series: column(number),
            requests: column(requests),
            postponed: postponed.map(|(failures, due)| (failures.into(), micros(due))),
        }
    }
}

impl FromColumns for FetchRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            series: row.column(0)?,
            token: row.column(1)?,
            connection: row.column(2)?,
            requests: row.column(3)?,
            failures: row.column(4)?,
            sealed: row.column(5)?,
        })
    }
}

/// The sealed part of a row.
#[derive(Serialize, Deserialize)]
struct FetchRecord {
    connection: String,
    participant: String,
    center: Option<String>,
}

impl RecordCodec {
    pub(super) fn new_fetch_row(&self, fetch: NewFetch) -> Result<NewFetchRow, StoreError> {
        let NewFetch { connection, candidate, participant, center, due } = fetch;
        let token = data_encoding::HEXLOWER.encode(&self.environment.random::<16>());
        let series = self.series_forms(&connection, &SeriesKey::Participant(participant.clone()));
        let record = FetchRecord { connection: connection.clone(), participant, center };
        let sealed = self.seal(FETCHES, &token, &record)?;
        Ok(NewFetchRow { series, candidate: candidate.into(), token, connection, due: micros(due), sealed })
    }

    pub(in crate::store) fn report_fetch(&self, row: &FetchRow) -> Result<ReportFetch, StoreError> {
        let FetchRecord { connection, participant, center } = self.open_json(FETCHES, &row.token, &row.sealed)?;
        if connection != row.connection {
            return Err(unknown_format(FETCHES, &row.token));
        }
        let number = |column: i64| u64::try_from(column).unwrap_or(0);
        Ok(ReportFetch {
            number: number(row.series),
            requests: number(row.requests),
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
            participant,
            center,
        })
    }
}
