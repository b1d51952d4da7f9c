//! Erasure of what is known of a candidate's attempts. Everything here runs inside a transaction of the writer thread.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::ids::CandidateId;
use crate::domain::results::SeriesKey;
use crate::store::codec::{ReportRecordRow, candidate_hints, hints_of, participant_of};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::query::people_with;
use crate::store::sqlite::reports;
use crate::store::sqlite::statements;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::{ReportHint, StoreError};

/// Removes the results of a candidate that is being erased, and everything of the person from its reports, which stay as
/// dismissed. A later report about the person is recognised by the hints that are kept, as keyed values.
pub(super) fn erase_results(
    tx: &WriteContext<'_>,
    id: &CandidateId,
    candidate: Option<&Candidate>,
    assignments: &[Assignment],
) -> Result<(), StoreError> {
    let connection = tx.connection;
    let series = series_of(tx, id, assignments)?;
    let mut reports = reports_where(connection, "candidate = ?1 AND series IS NULL", [id.as_str()])?;
    for number in &series {
        reports.extend(reports_where(connection, "series = ?1", [number])?);
        connection.prepare_cached("DELETE FROM results WHERE series = ?1")?.execute([number])?;
        connection.prepare_cached("DELETE FROM series WHERE number = ?1")?.execute([number])?;
    }
    connection.prepare_cached("DELETE FROM results WHERE candidate = ?1")?.execute([id.as_str()])?;
    let mut erased: BTreeSet<BlindIndex> = BTreeSet::new();
    for report in &reports {
        erased.extend(dismiss(tx, report)?);
    }
    let mut others = Vec::new();
    for (name, hint) in participants(assignments) {
        erased.insert(tx.records.hint_index(name, &hint));
        others.extend(unapplied_with(connection, &tx.records.hint_forms(name, &hint))?);
    }
    for (hint, identity) in candidate.into_iter().flat_map(candidate_hints) {
        let Some(Candidate { connection: name, .. }) = candidate else { continue };
        let forms = tx.records.hint_forms(name, &hint);
        if people_with(tx.read(), name, &identity)?.iter().any(|other| *other != id.as_str()) {
            // It may be about the other one, and is no longer ambiguous.
            reports::recheck(connection, &forms)?;
            continue;
        }
        erased.insert(tx.records.hint_index(name, &hint));
        others.extend(unapplied_with(connection, &forms)?);
    }
    for report in &others {
        dismiss(tx, report)?;
    }
    let mut mark = connection.prepare_cached("INSERT OR IGNORE INTO erased_hints (blind) VALUES (?1)")?;
    for hint in erased {
        mark.execute([hint])?;
    }
    Ok(())
}

/// Returns the numbers of the series of a candidate: those of its reports and results, and of its registrations.
fn series_of(tx: &WriteContext<'_>, id: &CandidateId, assignments: &[Assignment]) -> Result<BTreeSet<i64>, StoreError> {
    let mut known = tx.connection.prepare_cached(
        "SELECT number FROM series WHERE candidate = ?1 UNION SELECT series FROM results WHERE candidate = ?1",
    )?;
    let mut numbers: BTreeSet<i64> = known.query_map([id.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut by_form = tx.connection.prepare_cached("SELECT number FROM series WHERE blind = ?1")?;
    for (name, hint) in participants(assignments) {
        let ReportHint::Participant(participant) = hint else { continue };
        for form in tx.records.series_forms(name, &SeriesKey::Participant(participant)) {
            for number in by_form.query_map([form], |row| row.get(0))? {
                numbers.insert(number?);
            }
        }
    }
    Ok(numbers)
}

/// Lists the registrations of assignments, each with its connection.
fn participants(assignments: &[Assignment]) -> impl Iterator<Item = (&str, ReportHint)> {
    assignments
        .iter()
        .filter_map(|booked| Some((booked.connection.as_str(), ReportHint::Participant(participant_of(booked)?))))
}

fn unapplied_with(connection: &Connection, hints: &[BlindIndex]) -> Result<Vec<ReportRecordRow>, StoreError> {
    let mut reports = Vec::new();
    for hint in hints {
        // An applied one is its candidate's, whatever else it hints at.
        let condition = "number IN (SELECT report FROM report_hints WHERE blind = ?1) AND state <> 'applied'";
        reports.extend(reports_where(connection, condition, [hint])?);
    }
    Ok(reports)
}

fn reports_where(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<ReportRecordRow>, StoreError> {
    let columns = "number, id, tenant, connection, state, as_of, repeats, rechecks, sealed, reading";
    let mut statement = connection.prepare_cached(&format!("SELECT {columns} FROM reports WHERE {condition}"))?;
    let rows = statement.query_map(values, statements::row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes the person from a report; returns the index values of the hints that it had. One that cannot be read is removed.
fn dismiss(tx: &WriteContext<'_>, row: &ReportRecordRow) -> Result<Vec<BlindIndex>, StoreError> {
    let connection = tx.connection;
    let stored = match tx.records.stored_report(row) {
        Err(StoreError::Unreadable(_)) => {
            connection.prepare_cached("DELETE FROM reports WHERE number = ?1")?.execute([row.number])?;
            return Ok(Vec::new());
        }
        stored => stored?,
    };
    let name = stored.report.connection.clone();
    let hints = stored.reading.iter().flat_map(hints_of).map(|hint| tx.records.hint_index(&name, &hint)).collect();
    let dismissed = tx.records.dismissed_row(stored.report)?;
    connection
        .prepare_cached(
            "UPDATE reports SET state = ?2, sealed = ?3, series = NULL, candidate = NULL, reading = NULL, body = NULL, due = 0
             WHERE number = ?1",
        )?
        .execute(params![row.number, dismissed.state, dismissed.sealed])?;
    connection.prepare_cached("DELETE FROM report_hints WHERE report = ?1")?.execute([row.number])?;
    Ok(hints)
}
