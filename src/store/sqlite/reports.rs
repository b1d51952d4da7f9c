//! Reports and received webhooks. Everything here runs inside a transaction of the writer thread, unless documented.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;
use crate::store::codec::{NewReceivedRow, NewReportRow, RepeatRow};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::items::MAX_PORTION;
use crate::store::sqlite::write_context::WriteContext;

pub(super) fn receive(connection: &Connection, row: &NewReceivedRow) -> Result<(), StoreError> {
    let NewReceivedRow { token, connection: name, sealed, body } = row;
    connection
        .prepare_cached("INSERT INTO received (token, connection, sealed, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![token, name, sealed, body])?;
    Ok(())
}

/// Removes a webhook; fails if it is gone.
pub(super) fn remove_received(connection: &Connection, number: i64) -> Result<(), StoreError> {
    let removed = connection.prepare_cached("DELETE FROM received WHERE number = ?1")?.execute([number])?;
    if removed == 0 { Err(StoreError::Superseded) } else { Ok(()) }
}

/// Inserts a report, without the person if its candidate is gone. Fails if it is recorded already.
pub(super) fn insert_report(tx: &WriteContext<'_>, row: &NewReportRow) -> Result<(), StoreError> {
    if is_erased(tx.connection, row)? {
        return write_report(tx, &tx.records.dismissed_row(row.record.clone())?);
    }
    write_report(tx, row)
}

fn write_report(tx: &WriteContext<'_>, row: &NewReportRow) -> Result<(), StoreError> {
    let NewReportRow {
        record: _,
        id,
        tenant,
        connection: name,
        state,
        series,
        candidate,
        digest,
        received,
        as_of,
        repeats,
        sealed,
        reading,
        body,
        hints,
    } = row;
    let series = series_number(tx.connection, series, candidate.as_deref())?;
    let is_parked = row.is_parked();
    let inserted = tx
        .connection
        .prepare_cached(
            "INSERT INTO reports (id, tenant, connection, state, series, candidate, digest, received, as_of, repeats,
                 due, rechecks, sealed, reading, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14)
             ON CONFLICT (digest) DO NOTHING",
        )?
        .execute(params![
            id, tenant, name, state, series, candidate, digest, received, as_of, repeats, is_parked, sealed, reading,
            body
        ])?;
    if inserted == 0 {
        return Err(StoreError::Superseded);
    }
    if hints.is_empty() { Ok(()) } else { insert_hints(tx.connection, tx.connection.last_insert_rowid(), hints) }
}

fn insert_hints(connection: &Connection, report: i64, hints: &[BlindIndex]) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO report_hints (blind, report) VALUES (?1, ?2)")?;
    for hint in hints {
        statement.execute(params![hint, report])?;
    }
    Ok(())
}

/// Counts a repeat; the time of the report never moves back.
pub(super) fn repeat(connection: &Connection, row: &RepeatRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE reports SET repeats = repeats + ?3, as_of = max(as_of, coalesce(?2, as_of)) WHERE id = ?1",
        )?
        .execute(params![row.id, row.as_of, row.count])?;
    Ok(())
}

/// Updates a report, if it is not gone. One that has become due since its recheck of this number stays due.
pub(super) fn update_report(tx: &WriteContext<'_>, row: &NewReportRow, rechecks: i64) -> Result<(), StoreError> {
    let erased;
    let row = if is_erased(tx.connection, row)? {
        erased = tx.records.dismissed_row(row.record.clone())?;
        &erased
    } else {
        row
    };
    let known: Option<(i64, bool)> = tx
        .connection
        .prepare_cached("SELECT number, body IS NOT NULL FROM reports WHERE id = ?1")?
        .query_row([&row.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((number, has_body)) = known else { return Ok(()) };
    let series = series_number(tx.connection, &row.series, row.candidate.as_deref())?;
    tx.connection
        .prepare_cached(
            "UPDATE reports SET tenant = ?2, state = ?3, series = ?4, candidate = ?5, as_of = max(as_of, ?6), sealed = ?7,
                 reading = ?8, due = ?9 AND rechecks > ?10,
                 body = CASE WHEN ?3 = 'dismissed' AND ?8 IS NULL THEN NULL ELSE body END
             WHERE number = ?1",
        )?
        .execute(params![
            number,
            row.tenant,
            row.state,
            series,
            row.candidate,
            row.as_of,
            row.sealed,
            row.reading,
            row.is_waiting(),
            rechecks
        ])?;
    tx.connection.prepare_cached("DELETE FROM report_hints WHERE report = ?1")?.execute([number])?;
    if row.keeps_hints() || has_body { insert_hints(tx.connection, number, &row.hints) } else { Ok(()) }
}

/// Makes the waiting reports due that have one of these hints.
pub(super) fn recheck(connection: &Connection, hints: &[BlindIndex]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "UPDATE reports SET due = 1, rechecks = rechecks + 1
         WHERE number IN (SELECT report FROM report_hints WHERE blind = ?1) AND state <> 'dismissed'",
    )?;
    for hint in hints {
        statement.execute([hint])?;
    }
    Ok(())
}

/// Returns whether the candidate of a report is gone.
fn is_erased(connection: &Connection, row: &NewReportRow) -> Result<bool, StoreError> {
    row.candidate.as_deref().map_or(Ok(false), |id| Ok(!is_candidate_present(connection, id)?))
}

pub(super) fn is_candidate_present(connection: &Connection, id: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("SELECT 1 FROM candidates WHERE id = ?1")?.exists([id])?)
}

/// Returns the number of a series, which it may have in any of these forms; inserts it if it is new. Records whom its latest
/// report is about.
pub(super) fn series_number(
    connection: &Connection,
    forms: &[BlindIndex],
    candidate: Option<&str>,
) -> Result<Option<i64>, StoreError> {
    let Some(first) = forms.first() else { return Ok(None) };
    let mut find = connection.prepare_cached("SELECT number, candidate FROM series WHERE blind = ?1")?;
    for form in forms {
        let found: Option<(i64, Option<String>)> =
            find.query_row([form], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((number, known)) = found else { continue };
        if candidate.is_some() && candidate != known.as_deref() {
            connection
                .prepare_cached("UPDATE series SET candidate = ?2 WHERE number = ?1")?
                .execute(params![number, candidate])?;
        }
        return Ok(Some(number));
    }
    connection
        .prepare_cached("INSERT INTO series (blind, candidate) VALUES (?1, ?2)")?
        .execute(params![first, candidate])?;
    Ok(Some(connection.last_insert_rowid()))
}

/// Removes a portion of the bodies of applied reports received before this time, and their hints: a booking that becomes known
/// later claims their attempts no more. Returns how many, and whether there may be more.
pub(super) fn purge_bodies(connection: &Connection, before: i64) -> Result<(u64, bool), StoreError> {
    let sql = "SELECT number, octet_length(body) FROM reports
               WHERE state = 'applied' AND body IS NOT NULL AND received < ?1 ORDER BY received LIMIT ?2";
    let remove = ["UPDATE reports SET body = NULL WHERE number = ?1", "DELETE FROM report_hints WHERE report = ?1"];
    purge(connection, sql, &remove, before)
}

/// Removes a portion of the reports that are not applied and were received before this time, as [`purge_bodies`].
pub(super) fn purge_reports(connection: &Connection, before: i64) -> Result<(u64, bool), StoreError> {
    let sql = "SELECT number, coalesce(octet_length(body), 0) FROM reports
               WHERE state <> 'applied' AND received < ?1 ORDER BY received LIMIT ?2";
    purge(connection, sql, &["DELETE FROM reports WHERE number = ?1"], before)
}

fn purge(connection: &Connection, select: &str, remove: &[&str], before: i64) -> Result<(u64, bool), StoreError> {
    let (mut bytes, mut over) = (0, Vec::<i64>::new());
    {
        let mut statement = connection.prepare_cached(select)?;
        let mut rows = statement.query(params![before, i64::try_from(MAX_PORTION.rows).unwrap_or(i64::MAX)])?;
        while bytes < MAX_PORTION.bytes
            && let Some(row) = rows.next()?
        {
            over.push(row.get(0)?);
            bytes = bytes.saturating_add(usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0));
        }
    }
    for sql in remove {
        let mut statement = connection.prepare_cached(sql)?;
        for number in &over {
            statement.execute([number])?;
        }
    }
    Ok((over.len() as u64, !over.is_empty()))
}
