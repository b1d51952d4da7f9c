//! Results, watermarks, and the mutations that concern them, those of one transaction together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{PgConnection, Row as _};

use super::error::TxError;
use super::fetches;
use super::reports::{self, SeriesNumbers};
use super::transaction::WriteContext;
use crate::store::StoreError;
use crate::store::codec::{
    FeedRow, FetchChangeRow, NewFetchRow, NewReceivedRow, NewReportRow, RepeatRow, ResultMutation, ResultRow, SealedRow,
};
use crate::store::columns::FromColumns as _;
use crate::store::encryption::BlindIndex;
use crate::store::sql::Statement;

/// Mutations by kind, each in order.
#[derive(Default)]
struct Sorted<'a> {
    received: Vec<&'a NewReceivedRow>,
    removed: Vec<i64>,
    reports: Vec<&'a NewReportRow>,
    repeats: Vec<&'a RepeatRow>,
    updates: Vec<(&'a NewReportRow, i64)>,
    results: Vec<&'a ResultRow>,
    watermarks: Vec<&'a FeedRow>,
    sweeps: Vec<&'a Statement>,
    requested: Vec<&'a NewFetchRow>,
    fetched: Vec<&'a FetchChangeRow>,
    hints: Vec<BlindIndex>,
    /// The connections whose hints are sought.
    sought: BTreeSet<&'a str>,
}

impl<'a> Sorted<'a> {
    fn of(mutations: &[&'a ResultMutation]) -> Self {
        let mut sorted = Self::default();
        for mutation in mutations {
            match mutation {
                ResultMutation::Receive(row) => sorted.received.push(row),
                ResultMutation::RemoveReceived(number) => sorted.removed.push(*number),
                ResultMutation::Report(row) => sorted.reports.push(row),
                ResultMutation::Repeat(row) => sorted.repeats.push(row),
                ResultMutation::Update(row, rechecks) => sorted.updates.push((row, *rechecks)),
                ResultMutation::Result(row) => sorted.results.push(row),
                ResultMutation::Watermark(row) => sorted.watermarks.push(row),
                ResultMutation::RecordSweep(statement) => sorted.sweeps.push(statement),
                ResultMutation::RequestFetch(row) => sorted.requested.push(row),
                ResultMutation::EndFetch(row) => sorted.fetched.push(row),
                ResultMutation::Recheck(connection, hints) => {
                    sorted.hints.extend(hints);
                    sorted.sought.insert(connection);
                }
            }
        }
        sorted
    }
}

/// Applies mutations, kind by kind: a report is there before it is repeated or updated.
pub(super) async fn apply(tx: &mut WriteContext<'_>, mutations: &[&ResultMutation]) -> Result<(), TxError> {
    let Sorted {
        received,
        removed,
        reports: new,
        repeats,
        updates,
        results,
        watermarks,
        sweeps,
        requested,
        fetched,
        hints,
        sought,
    } = Sorted::of(mutations);
    reports::receive(tx.connection, &received).await?;
    reports::remove_received(tx.connection, &removed).await?;
    let named = new.iter().copied().chain(updates.iter().map(|(row, _)| *row));
    let named: BTreeSet<&str> = named
        .filter_map(|row| row.candidate.as_deref())
        .chain(results.iter().map(|row| row.candidate.as_str()))
        .chain(requested.iter().map(|row| row.candidate.as_str()))
        .collect();
    let living = reports::hold_candidates(tx.connection, named).await?;
    let new = reports::without_erased(tx, &new, &living)?;
    let new: Vec<&NewReportRow> = new.iter().map(reports::Presence::row).collect();
    let updated: Vec<&NewReportRow> = updates.iter().map(|(row, _)| *row).collect();
    let updated = reports::without_erased(tx, &updated, &living)?;
    let updated: Vec<(&NewReportRow, i64)> =
        updated.iter().map(reports::Presence::row).zip(updates.iter().map(|(_, rechecks)| *rechecks)).collect();
    let results: Vec<&ResultRow> = results.into_iter().filter(|row| living.contains(&row.candidate)).collect();
    let requested: Vec<&NewFetchRow> = requested.into_iter().filter(|row| living.contains(&row.candidate)).collect();

    let of_reports = || new.iter().copied().chain(updated.iter().map(|(row, _)| *row));
    let hinting = of_reports().filter(|row| !row.hints.is_empty()).map(|row| row.connection.as_str()).collect();
    reports::lock_hints(tx.connection, &hinting, &sought).await?;
    let wanted: Vec<(&[BlindIndex], Option<&str>)> = of_reports()
        .map(|row| (row.series.as_slice(), row.candidate.as_deref()))
        .chain(results.iter().map(|row| (row.series.as_slice(), Some(row.candidate.as_str()))))
        .chain(requested.iter().map(|row| (row.series.as_slice(), None)))
        .collect();
    let series = reports::number_series(tx.connection, &wanted).await?;
    reports::insert(tx.connection, &new, &series).await?;
    reports::repeat(tx.connection, &repeats).await?;
    reports::update(tx.connection, &updated, &series).await?;
    put(tx.connection, &results, &series).await?;
    move_watermarks(tx.connection, &watermarks).await?;
    for sweep in sweeps {
        tx.run(sweep).await?;
    }
    fetches::request(tx.connection, &requested, &series).await?;
    fetches::change(tx.connection, &fetched).await?;
    reports::recheck(tx.connection, &hints).await
}

/// Inserts or replaces results. Fails if another writer has made a version of one meanwhile.
async fn put(connection: &mut PgConnection, rows: &[&ResultRow], series: &SeriesNumbers) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let recorded = sqlx::query(
        "SELECT r.tenant, r.id, r.version FROM unnest($1::text[], $2::text[]) AS given (tenant, id)
         JOIN results r USING (tenant, id) ORDER BY r.number FOR UPDATE OF r",
    )
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let mut versions: HashMap<(String, String), i64> = recorded
        .iter()
        .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)))
        .collect::<Result<_, sqlx::Error>>()?;
    let mut last: BTreeMap<(&str, &str), &ResultRow> = BTreeMap::new();
    for row in rows {
        let key = (row.tenant.clone(), row.id.clone());
        if !row.follows(versions.get(&key).copied()) {
            return Err(StoreError::Superseded.into());
        }
        versions.insert(key, row.version);
        last.insert((&row.tenant, &row.id), row);
    }
    let last: Vec<&ResultRow> = last.into_values().collect();
    let numbers = write(connection, &last, series).await?;
    let new: Vec<(&ResultRow, &Vec<u8>)> =
        rows.iter().filter_map(|row| Some((*row, row.new_version.as_ref()?))).collect();
    let number = |row: &ResultRow| numbers.get(&(row.tenant.clone(), row.id.clone())).copied();
    sqlx::query(
        "INSERT INTO result_versions (result, version, sealed) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])",
    )
    .bind(new.iter().map(|(row, _)| number(row)).collect::<Vec<_>>())
    .bind(new.iter().map(|(row, _)| row.version).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, sealed)| sealed.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes different results; returns their numbers by tenant and id.
async fn write(
    connection: &mut PgConnection,
    rows: &[&ResultRow],
    series: &SeriesNumbers,
) -> Result<HashMap<(String, String), i64>, TxError> {
    let written = sqlx::query(
        "INSERT INTO results (id, tenant, connection, series, candidate, assignment, assessment_ref, activity, grading,
             modified, version, sealed)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
             $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[])
         ON CONFLICT (tenant, id) DO UPDATE SET
             connection = excluded.connection, series = excluded.series, candidate = excluded.candidate,
             assignment = excluded.assignment, assessment_ref = excluded.assessment_ref, activity = excluded.activity,
             grading = excluded.grading, modified = excluded.modified, version = excluded.version,
             sealed = excluded.sealed
         RETURNING tenant, id, number",
    )
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| series.number(&row.series)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.candidate.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assignment.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assessment_ref.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.activity).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.grading).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.modified).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let number = |row: &sqlx::postgres::PgRow| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
    Ok(written.iter().map(number).collect::<Result<_, sqlx::Error>>()?)
}

async fn move_watermarks(connection: &mut PgConnection, rows: &[&FeedRow]) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut latest: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for row in rows {
        let (watermark, read) = latest.entry((&row.connection, &row.center)).or_insert((row.watermark, row.read));
        (*watermark, *read) = ((*watermark).max(row.watermark), (*read).max(row.read));
    }
    sqlx::query(
        "INSERT INTO feeds (connection, center, watermark, read_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
         ON CONFLICT (connection, center) DO UPDATE SET watermark = greatest(feeds.watermark, excluded.watermark),
             read_at = greatest(feeds.read_at, excluded.read_at)",
    )
    .bind(latest.keys().map(|(connection, _)| *connection).collect::<Vec<_>>())
    .bind(latest.keys().map(|(_, center)| *center).collect::<Vec<_>>())
    .bind(latest.values().map(|(watermark, _)| *watermark).collect::<Vec<_>>())
    .bind(latest.values().map(|(_, read)| *read).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Indexes the registrations of the next assignments of an earlier version. Leaves out those with an open write: an instance of
/// that version may still add the registration, and knows nothing of the index. Returns whether all others are indexed.
pub(super) async fn index_participants(tx: &mut WriteContext<'_>, limit: usize) -> Result<bool, TxError> {
    let rows = sqlx::query(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE participant IS NULL AND id > '' AND state NOT IN ('pending', 'unknown') ORDER BY id LIMIT $1
         FOR NO KEY UPDATE",
    )
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut *tx.connection)
    .await?;
    let rows = rows.iter().map(SealedRow::from_columns).collect::<Result<Vec<_>, sqlx::Error>>()?;
    let indexed = rows.iter().map(|row| tx.records.indexed_participant(row)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "UPDATE assignments AS known SET participant = given.participant
         FROM unnest($1::text[], $2::bytea[]) AS given (id, participant) WHERE known.id = given.id",
    )
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(&indexed)
    .execute(&mut *tx.connection)
    .await?;
    Ok(rows.len() < limit)
}
