//! Results, watermarks, and the mutations that concern them. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;
use crate::store::codec::{FeedRow, ResultMutation, ResultRow, SealedRow};
use crate::store::columns::FromColumns as _;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{fetches, reports};

/// Applies one mutation.
pub(super) fn apply(tx: &WriteContext<'_>, change: &ResultMutation) -> Result<(), StoreError> {
    match change {
        ResultMutation::Receive(row) => reports::receive(tx.connection, row),
        ResultMutation::RemoveReceived(number) => reports::remove_received(tx.connection, *number),
        ResultMutation::Report(row) => reports::insert_report(tx, row),
        ResultMutation::Repeat(row) => reports::repeat(tx.connection, row),
        ResultMutation::Update(row, rechecks) => reports::update_report(tx, row, *rechecks),
        ResultMutation::Result(row) => put_result(tx.connection, row),
        ResultMutation::Watermark(row) => move_watermark(tx.connection, row),
        ResultMutation::RecordSweep(statement) => tx.run(statement),
        ResultMutation::RequestFetch(row) => fetches::request(tx.connection, row),
        ResultMutation::EndFetch(row) => fetches::change(tx.connection, row),
        ResultMutation::Recheck(_, hints) => reports::recheck(tx.connection, hints),
    }
}

/// Inserts or replaces a result, unless its candidate is gone. Fails if another writer has made a version meanwhile.
fn put_result(connection: &Connection, row: &ResultRow) -> Result<(), StoreError> {
    let ResultRow {
        id,
        tenant,
        connection: name,
        series,
        candidate,
        assignment,
        assessment_ref,
        activity,
        grading,
        modified,
        version,
        sealed,
        new_version,
    } = row;
    if !reports::is_candidate_present(connection, candidate)? {
        return Ok(());
    }
    let recorded: Option<(i64, i64)> = connection
        .prepare_cached("SELECT number, version FROM results WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant, id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if !row.follows(recorded.map(|(_, version)| version)) {
        return Err(StoreError::Superseded);
    }
    let series = reports::series_number(connection, series, Some(candidate))?;
    let number: i64 = connection
        .prepare_cached(
            "INSERT INTO results (number, id, tenant, connection, series, candidate, assignment, assessment_ref, activity,
                 grading, modified, version, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (number) DO UPDATE SET
                 connection = excluded.connection, series = excluded.series, candidate = excluded.candidate,
                 assignment = excluded.assignment, assessment_ref = excluded.assessment_ref,
                 activity = excluded.activity, grading = excluded.grading, modified = excluded.modified,
                 version = excluded.version, sealed = excluded.sealed
             RETURNING number",
        )?
        .query_row(
            params![
                recorded.map(|(number, _)| number),
                id,
                tenant,
                name,
                series,
                candidate,
                assignment,
                assessment_ref,
                activity,
                grading,
                modified,
                version,
                sealed
            ],
            |row| row.get(0),
        )?;
    if let Some(sealed) = new_version {
        connection
            .prepare_cached("INSERT INTO result_versions (result, version, sealed) VALUES (?1, ?2, ?3)")?
            .execute(params![number, version, sealed])?;
    }
    Ok(())
}

fn move_watermark(connection: &Connection, row: &FeedRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO feeds (connection, center, watermark, read_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (connection, center) DO UPDATE
             SET watermark = max(watermark, excluded.watermark), read_at = max(read_at, excluded.read_at)",
        )?
        .execute(params![row.connection, row.center, row.watermark, row.read])?;
    Ok(())
}

/// Indexes the registrations of the next assignments of an earlier version. Returns whether all are indexed.
pub(super) fn index_participants(tx: &WriteContext<'_>, limit: usize) -> Result<bool, StoreError> {
    let rows: Vec<SealedRow> = tx
        .connection
        .prepare_cached(
            "SELECT id, tenant, connection, sealed FROM assignments WHERE participant IS NULL AND id > '' ORDER BY id LIMIT ?1",
        )?
        .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| SealedRow::from_columns(row))?
        .collect::<Result<_, _>>()?;
    let mut write = tx.connection.prepare_cached("UPDATE assignments SET participant = ?2 WHERE id = ?1")?;
    for row in &rows {
        write.execute(params![row.id, tx.records.indexed_participant(row)?])?;
    }
    Ok(rows.len() < limit)
}
