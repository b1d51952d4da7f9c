//! Reports that are still to be fetched. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::{FetchChangeRow, NewFetchRow};
use crate::store::sqlite::reports::{is_candidate_present, series_number};

/// Inserts a fetch, or counts another request for it, unless its candidate is gone.
pub(super) fn request(connection: &Connection, row: &NewFetchRow) -> Result<(), StoreError> {
    let NewFetchRow { series, candidate, token, connection: name, due, sealed } = row;
    if !is_candidate_present(connection, candidate)? {
        return Ok(());
    }
    let series = series_number(connection, series, None)?;
    connection
        .prepare_cached(
            "INSERT INTO report_fetches (series, token, connection, requests, failures, due, sealed)
             VALUES (?1, ?2, ?3, 1, 0, ?4, ?5)
             ON CONFLICT (series) DO UPDATE
             SET token = excluded.token, sealed = excluded.sealed, requests = requests + 1",
        )?
        .execute(params![series, token, name, due, sealed])?;
    Ok(())
}

/// Ends or postpones a fetch, unless it was requested again meanwhile.
pub(super) fn change(connection: &Connection, row: &FetchChangeRow) -> Result<(), StoreError> {
    let FetchChangeRow { series, requests, postponed } = row;
    match postponed {
        Some((failures, due)) => connection
            .prepare_cached("UPDATE report_fetches SET failures = ?3, due = ?4 WHERE series = ?1 AND requests = ?2")?
            .execute(params![series, requests, failures, due])?,
        None => connection
            .prepare_cached("DELETE FROM report_fetches WHERE series = ?1 AND requests = ?2")?
            .execute(params![series, requests])?,
    };
    Ok(())
}
