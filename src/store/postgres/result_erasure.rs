//! Erasure of what is known of a candidate's attempts.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::error::TxError;
use super::reports;
use super::transaction::WriteContext;
use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::CandidateId;
use crate::domain::results::SeriesKey;
use crate::store::codec::{ReportRecordRow, candidate_hints, hints_of, participant_of};
use crate::store::columns::FromColumns as _;
use crate::store::encryption::BlindIndex;
use crate::store::postgres::query::people_with;
use crate::store::{ReportHint, StoreError};

/// Removes the results of a candidate that was removed, and everything of the person from its reports, which stay as dismissed.
/// A later report about the person is recognised by the hints that are kept, as keyed values.
pub(super) async fn erase_results(
    tx: &mut WriteContext<'_>,
    id: &CandidateId,
    candidate: Option<&Candidate>,
    assignments: &[Assignment],
) -> Result<(), TxError> {
    let sought = candidate.iter().map(|candidate| candidate.connection.as_str()).collect();
    reports::lock_hints(tx.connection, &BTreeSet::new(), &sought).await?;
    let series = series_of(tx, id, assignments).await?;
    let own = own_reports(tx.connection, id, &series).await?;
    for sql in ["DELETE FROM results WHERE series = ANY($1)", "DELETE FROM series WHERE number = ANY($1)"] {
        sqlx::query(sql).bind(&series).execute(&mut *tx.connection).await?;
    }
    let rest = sqlx::query("DELETE FROM results WHERE candidate = $1").bind(id.as_str());
    rest.execute(&mut *tx.connection).await?;
    let mut erased: BTreeSet<BlindIndex> = BTreeSet::new();
    erased.extend(dismiss(tx, own).await?);
    let mut forms: Vec<BlindIndex> = Vec::new();
    for (name, hint) in participants(assignments) {
        erased.insert(tx.records.hint_index(name, &hint));
        forms.extend(tx.records.hint_forms(name, &hint));
    }
    for (hint, identity) in candidate.into_iter().flat_map(candidate_hints) {
        let Some(Candidate { connection: name, .. }) = candidate else { continue };
        let of_hint = tx.records.hint_forms(name, &hint);
        if is_shared(tx, name, &identity).await? {
            // It may be about the other one, and is no longer ambiguous.
            reports::recheck(tx.connection, &of_hint).await?;
            continue;
        }
        erased.insert(tx.records.hint_index(name, &hint));
        forms.extend(of_hint);
    }
    let others = unapplied_with(tx.connection, &forms).await?;
    dismiss(tx, others).await?;
    sqlx::query("INSERT INTO erased_hints (blind) SELECT * FROM unnest($1::bytea[]) ON CONFLICT DO NOTHING")
        .bind(erased.into_iter().collect::<Vec<_>>())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Returns whether another candidate at the connection has the identity; the one that is erased is gone already.
async fn is_shared(tx: &mut WriteContext<'_>, connection: &str, identity: &Identity) -> Result<bool, TxError> {
    Ok(!people_with(tx.connection, tx.records, connection, std::slice::from_ref(identity)).await?.is_empty())
}

/// Returns the numbers of the series of a candidate: those of its reports and results, and of its registrations.
async fn series_of(
    tx: &mut WriteContext<'_>,
    id: &CandidateId,
    assignments: &[Assignment],
) -> Result<Vec<i64>, TxError> {
    let forms: Vec<BlindIndex> = participants(assignments)
        .filter_map(|(name, hint)| match hint {
            ReportHint::Participant(id) => Some(tx.records.series_forms(name, &SeriesKey::Participant(id))),
            ReportHint::ExternalId(_) | ReportHint::Email(_) => None,
        })
        .flatten()
        .collect();
    let numbers = sqlx::query_scalar(
        "SELECT number FROM series WHERE candidate = $1
         UNION SELECT series FROM results WHERE candidate = $1
         UNION SELECT number FROM series WHERE blind = ANY($2)",
    );
    Ok(numbers.bind(id.as_str()).bind(forms).fetch_all(&mut *tx.connection).await?)
}

/// Lists the registrations of assignments, each with its connection.
fn participants(assignments: &[Assignment]) -> impl Iterator<Item = (&str, ReportHint)> {
    assignments
        .iter()
        .filter_map(|booked| Some((booked.connection.as_str(), ReportHint::Participant(participant_of(booked)?))))
}

async fn own_reports(
    connection: &mut PgConnection,
    id: &CandidateId,
    series: &[i64],
) -> Result<Vec<ReportRecordRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT number, id, tenant, connection, state, as_of, repeats, rechecks, sealed, reading FROM reports
         WHERE number = ANY(ARRAY(SELECT number FROM reports WHERE series = ANY($1)
                                  UNION SELECT number FROM reports WHERE candidate = $2 AND series IS NULL))
         ORDER BY number FOR UPDATE",
    );
    let rows = rows.bind(series).bind(id.as_str()).fetch_all(connection).await?;
    rows.iter().map(ReportRecordRow::from_columns).collect()
}

/// Returns the parked reports with these hints, and those that a person has dismissed; an applied one is its candidate's, whatever
/// else it hints at.
async fn unapplied_with(
    connection: &mut PgConnection,
    hints: &[BlindIndex],
) -> Result<Vec<ReportRecordRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT number, id, tenant, connection, state, as_of, repeats, rechecks, sealed, reading FROM reports
         WHERE number = ANY(ARRAY(SELECT report FROM report_hints WHERE blind = ANY($1))) AND state <> 'applied'
         ORDER BY number FOR UPDATE",
    );
    rows.bind(hints).fetch_all(connection).await?.iter().map(ReportRecordRow::from_columns).collect()
}

/// Removes the person from reports; returns the index values of the hints that they had. Those that cannot be read are removed.
async fn dismiss(tx: &mut WriteContext<'_>, rows: Vec<ReportRecordRow>) -> Result<Vec<BlindIndex>, TxError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (mut hints, mut damaged) = (Vec::new(), Vec::new());
    let mut dismissed: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    for row in rows {
        match tx.records.stored_report(&row) {
            Ok(stored) => {
                let name = &stored.report.connection;
                hints.extend(stored.reading.iter().flat_map(hints_of).map(|hint| tx.records.hint_index(name, &hint)));
                dismissed.insert(row.number, tx.records.dismissed_row(stored.report)?.sealed);
            }
            Err(StoreError::Unreadable(_)) => damaged.push(row.number),
            Err(error) => return Err(error.into()),
        }
    }
    sqlx::query("DELETE FROM reports WHERE number = ANY($1)").bind(damaged).execute(&mut *tx.connection).await?;
    sqlx::query(
        "UPDATE reports AS known SET state = 'dismissed', sealed = given.sealed, series = NULL, candidate = NULL,
             reading = NULL, body = NULL, due = false
         FROM unnest($1::bigint[], $2::bytea[]) AS given (number, sealed) WHERE known.number = given.number",
    )
    .bind(dismissed.keys().copied().collect::<Vec<_>>())
    .bind(dismissed.values().map(Vec::as_slice).collect::<Vec<_>>())
    .execute(&mut *tx.connection)
    .await?;
    sqlx::query("DELETE FROM report_hints WHERE report = ANY($1)")
        .bind(dismissed.keys().copied().collect::<Vec<_>>())
        .execute(&mut *tx.connection)
        .await?;
    Ok(hints)
}
