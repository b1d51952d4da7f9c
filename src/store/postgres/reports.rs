//! Reports and received webhooks, many rows at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{PgConnection, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use crate::store::StoreError;
use crate::store::codec::{NewReceivedRow, NewReportRow, RepeatRow};
use crate::store::encryption::BlindIndex;

/// Maximum reports purged in one transaction, and maximum bytes of their bodies: no statement exceeds the statement timeout of
/// the server.
const MAX_PURGED: i64 = 5_000;
const MAX_PURGED_BYTES: i64 = 32 << 20;

/// Class of the advisory locks of hints: "hint".
const HINT_LOCKS: i32 = 0x6869_6e74;

/// The numbers of series by any of their forms.
pub(super) struct SeriesNumbers(HashMap<BlindIndex, i64>);

impl SeriesNumbers {
    /// Returns the number of the series with these forms.
    pub(super) fn number(&self, forms: &[BlindIndex]) -> Option<i64> {
        forms.iter().find_map(|form| self.0.get(form)).copied()
    }
}

pub(super) async fn receive(connection: &mut PgConnection, rows: &[&NewReceivedRow]) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO received (token, connection, sealed, body)
         SELECT token, connection, sealed, body
         FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) WITH ORDINALITY
             AS new (token, connection, sealed, body, place)
         ORDER BY place",
    )
    .bind(rows.iter().map(|row| row.token.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes webhooks; fails if one is gone.
pub(super) async fn remove_received(connection: &mut PgConnection, numbers: &[i64]) -> Result<(), TxError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let removed = sqlx::query("DELETE FROM received WHERE number = ANY($1)").bind(numbers).execute(connection).await?;
    if removed.rows_affected() == numbers.len() as u64 { Ok(()) } else { Err(StoreError::Superseded.into()) }
}

/// Returns which of these candidates are there, and keeps them from being erased until the commit.
pub(super) async fn hold_candidates(
    connection: &mut PgConnection,
    ids: BTreeSet<&str>,
) -> Result<HashSet<String>, TxError> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let living = sqlx::query_scalar("SELECT id FROM candidates WHERE id = ANY($1) ORDER BY id FOR KEY SHARE")
        .bind(ids.into_iter().collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(living.into_iter().collect())
}

/// Finds series, each by its forms, and inserts those that are new. Records whom the latest report of each is about.
pub(super) async fn number_series(
    connection: &mut PgConnection,
    wanted: &[(&[BlindIndex], Option<&str>)],
) -> Result<SeriesNumbers, TxError> {
    let mut numbers = SeriesNumbers(HashMap::new());
    let forms: BTreeSet<BlindIndex> = wanted.iter().flat_map(|(forms, _)| *forms).copied().collect();
    if forms.is_empty() {
        return Ok(numbers);
    }
    let forms: Vec<BlindIndex> = forms.into_iter().collect();
    find_series(connection, &forms, &mut numbers).await?;
    let is_new = |forms: &[BlindIndex]| numbers.number(forms).is_none();
    let new: BTreeSet<BlindIndex> =
        wanted.iter().filter(|(forms, _)| is_new(forms)).filter_map(|(forms, _)| forms.first()).copied().collect();
    if !new.is_empty() {
        sqlx::query("INSERT INTO series (blind) SELECT * FROM unnest($1::bytea[]) ON CONFLICT (blind) DO NOTHING")
            .bind(new.into_iter().collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
        // A statement of its own, so that it sees what another transaction has inserted.
        find_series(connection, &forms, &mut numbers).await?;
    }
    let about: BTreeMap<i64, &str> =
        wanted.iter().filter_map(|(forms, candidate)| Some((numbers.number(forms)?, (*candidate)?))).collect();
    sqlx::query(
        "UPDATE series SET candidate = given.candidate FROM unnest($1::bigint[], $2::text[]) AS given (number, candidate)
         WHERE series.number = given.number AND series.candidate IS DISTINCT FROM given.candidate",
    )
    .bind(about.keys().copied().collect::<Vec<_>>())
    .bind(about.values().copied().collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(numbers)
}

async fn find_series(
    connection: &mut PgConnection,
    forms: &[BlindIndex],
    numbers: &mut SeriesNumbers,
) -> Result<(), sqlx::Error> {
    let found: Vec<(BlindIndex, i64)> = sqlx::query_as("SELECT blind, number FROM series WHERE blind = ANY($1)")
        .bind(forms)
        .fetch_all(connection)
        .await?;
    numbers.0.extend(found);
    Ok(())
}

/// Inserts reports, in the order of arrival. Fails if one is recorded already.
pub(super) async fn insert(
    connection: &mut PgConnection,
    rows: &[&NewReportRow],
    series: &SeriesNumbers,
) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let inserted = sqlx::query(
        "INSERT INTO reports (id, tenant, connection, state, series, candidate, digest, received, as_of, repeats, due,
             rechecks, sealed, reading, body)
         SELECT id, tenant, connection, state, series, candidate, digest, received, as_of, repeats, parked,
             CASE WHEN parked THEN 1 ELSE 0 END, sealed, reading, body
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[], $8::bigint[],
             $9::bigint[], $10::bigint[], $11::boolean[], $12::bytea[], $13::bytea[], $14::bytea[]) WITH ORDINALITY
             AS new (id, tenant, connection, state, series, candidate, digest, received, as_of, repeats, parked, sealed,
                 reading, body, place)
         ORDER BY place ON CONFLICT (digest) DO NOTHING RETURNING id, number",
    )
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| series.number(&row.series)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.candidate.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.digest).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.received).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.as_of).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.repeats).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.is_parked()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reading.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.body.as_deref()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    if inserted.len() != rows.len() {
        return Err(StoreError::Superseded.into());
    }
    let numbers: HashMap<String, i64> =
        inserted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    insert_hints(connection, rows, &numbers).await
}

/// Inserts the hints of these reports, whose numbers are given by id.
async fn insert_hints(
    connection: &mut PgConnection,
    rows: &[&NewReportRow],
    numbers: &HashMap<String, i64>,
) -> Result<(), TxError> {
    let hints = rows.iter().filter_map(|row| Some((numbers.get(&row.id)?, &row.hints)));
    let hints: BTreeSet<(BlindIndex, i64)> =
        hints.flat_map(|(number, hints)| hints.iter().map(move |hint| (*hint, *number))).collect();
    if hints.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO report_hints (blind, report) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING",
    )
    .bind(hints.iter().map(|(hint, _)| *hint).collect::<Vec<_>>())
    .bind(hints.iter().map(|(_, number)| *number).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts repeats; the time of a report never moves back.
pub(super) async fn repeat(connection: &mut PgConnection, rows: &[&RepeatRow]) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut repeats: BTreeMap<&str, (i64, Option<i64>)> = BTreeMap::new();
    for row in rows {
        let (count, as_of) = repeats.entry(&row.id).or_default();
        *count += row.count;
        *as_of = (*as_of).max(row.as_of);
    }
    sqlx::query(
        "UPDATE reports AS known SET repeats = known.repeats + given.repeats, as_of = greatest(known.as_of, given.as_of)
         FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (id, repeats, as_of) WHERE known.id = given.id",
    )
    .bind(repeats.keys().copied().collect::<Vec<_>>())
    .bind(repeats.values().map(|(count, _)| *count).collect::<Vec<_>>())
    .bind(repeats.values().map(|(_, as_of)| *as_of).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Updates reports that are not gone, each with the number of rechecks up to which it is no longer due.
pub(super) async fn update(
    connection: &mut PgConnection,
    rows: &[(&NewReportRow, i64)],
    series: &SeriesNumbers,
) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    // The last change of each report.
    let rows: BTreeMap<&str, (&NewReportRow, i64)> =
        rows.iter().map(|(row, seen)| (row.id.as_str(), (*row, *seen))).collect();
    let changes = || rows.values().map(|(row, _)| *row);
    let updated = sqlx::query(
        "UPDATE reports AS known SET tenant = given.tenant, state = given.state, series = given.series,
             candidate = given.candidate, as_of = greatest(known.as_of, given.as_of), sealed = given.sealed,
             reading = given.reading, due = given.parked AND known.rechecks > given.rechecks,
             body = CASE WHEN given.state = 'dismissed' AND given.reading IS NULL THEN NULL ELSE known.body END
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bytea[], $8::bytea[],
             $9::boolean[], $10::bigint[])
             AS given (id, tenant, state, series, candidate, as_of, sealed, reading, parked, rechecks)
         WHERE known.id = given.id RETURNING known.id, known.number, known.body IS NOT NULL",
    )
    .bind(rows.keys().copied().collect::<Vec<_>>())
    .bind(changes().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(changes().map(|row| row.state).collect::<Vec<_>>())
    .bind(changes().map(|row| series.number(&row.series)).collect::<Vec<_>>())
    .bind(changes().map(|row| row.candidate.as_deref()).collect::<Vec<_>>())
    .bind(changes().map(|row| row.as_of).collect::<Vec<_>>())
    .bind(changes().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(changes().map(|row| row.reading.as_deref()).collect::<Vec<_>>())
    .bind(changes().map(NewReportRow::is_waiting).collect::<Vec<_>>())
    .bind(rows.values().map(|(_, rechecks)| *rechecks).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let numbers: HashMap<String, i64> =
        updated.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    sqlx::query("DELETE FROM report_hints WHERE report = ANY($1)")
        .bind(numbers.values().copied().collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let with_body: HashMap<String, bool> =
        updated.iter().map(|row| Ok((row.try_get(0)?, row.try_get(2)?))).collect::<Result<_, sqlx::Error>>()?;
    let hinting: Vec<&NewReportRow> =
        changes().filter(|row| row.keeps_hints() || with_body.get(&row.id).is_some_and(|has_body| *has_body)).collect();
    insert_hints(connection, &hinting, &numbers).await
}

/// Locks the hints of connections until the end of the transaction: exclusively where it writes hints, shared where it looks for
/// them. What makes a report explained would otherwise miss the hints of a report that another transaction is recording, and that
/// is looked at again before the first one has committed. It follows the locks of candidates and comes before those of reports.
pub(super) async fn lock_hints(
    connection: &mut PgConnection,
    written: &BTreeSet<&str>,
    sought: &BTreeSet<&str>,
) -> Result<(), TxError> {
    // In order, so that two transactions do not deadlock.
    let names: BTreeSet<&str> = written.union(sought).copied().collect();
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "SELECT FROM (SELECT hashtext(current_schema() || '/' || name) AS number, exclusive
                      FROM unnest($2::text[], $3::boolean[]) AS wanted (name, exclusive)) AS wanted
         WHERE CASE WHEN exclusive THEN pg_advisory_xact_lock($1, number) IS NULL
                    ELSE pg_advisory_xact_lock_shared($1, number) IS NULL END",
    )
    .bind(HINT_LOCKS)
    .bind(names.iter().copied().collect::<Vec<_>>())
    .bind(names.iter().map(|name| written.contains(name)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the waiting reports due that have one of these hints. Locks them in order, so that two transactions do not deadlock.
pub(super) async fn recheck(connection: &mut PgConnection, hints: &[BlindIndex]) -> Result<(), TxError> {
    if hints.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH hinted AS MATERIALIZED (
             SELECT number FROM reports
             WHERE number = ANY(ARRAY(SELECT report FROM report_hints WHERE blind = ANY($1))) AND state <> 'dismissed'
             ORDER BY number FOR NO KEY UPDATE)
         UPDATE reports AS known SET due = true, rechecks = known.rechecks + 1 FROM hinted
         WHERE known.number = hinted.number",
    )
    .bind(hints)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a portion of the bodies of applied reports received before this time, and their hints: a booking that becomes known
/// later claims their attempts no more. Returns how many, and whether there may be more.
pub(super) async fn purge_bodies(connection: &mut PgConnection, before: i64) -> Result<(u64, bool), TxError> {
    let purge = sqlx::query(
        "WITH part AS MATERIALIZED (
             SELECT number, octet_length(body) AS bytes, received FROM reports
             WHERE state = 'applied' AND body IS NOT NULL AND received < $1 ORDER BY received LIMIT $2
             FOR UPDATE SKIP LOCKED),
         measured AS (SELECT number, sum(bytes) OVER (ORDER BY received, number) - bytes AS before FROM part)
         UPDATE reports AS known SET body = NULL FROM measured
         WHERE known.number = measured.number AND measured.before < $3 RETURNING known.number",
    );
    let purge = purge.bind(before).bind(MAX_PURGED).bind(MAX_PURGED_BYTES);
    let gone = purge.fetch_all(&mut *connection).await?;
    let gone: Vec<i64> = gone.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?;
    sqlx::query("DELETE FROM report_hints WHERE report = ANY($1)").bind(&gone).execute(connection).await?;
    Ok((gone.len() as u64, !gone.is_empty()))
}

/// Removes a portion of the reports that are not applied and were received before this time, as [`purge_bodies`].
pub(super) async fn purge_reports(connection: &mut PgConnection, before: i64) -> Result<(u64, bool), TxError> {
    let purge = sqlx::query(
        "WITH part AS MATERIALIZED (
             SELECT number, coalesce(octet_length(body), 0) AS bytes, received FROM reports
             WHERE state <> 'applied' AND received < $1 ORDER BY received LIMIT $2 FOR UPDATE SKIP LOCKED),
         measured AS (SELECT number, sum(bytes) OVER (ORDER BY received, number) - bytes AS before FROM part)
         DELETE FROM reports AS known USING measured WHERE known.number = measured.number AND measured.before < $3",
    );
    let gone = purge.bind(before).bind(MAX_PURGED).bind(MAX_PURGED_BYTES).execute(connection).await?.rows_affected();
    Ok((gone, gone > 0))
}

/// Returns the rows of these reports, without the person where the candidate is gone.
pub(super) fn without_erased<'a>(
    tx: &WriteContext<'_>,
    rows: &[&'a NewReportRow],
    living: &HashSet<String>,
) -> Result<Vec<Presence<'a>>, StoreError> {
    let presence = |row: &&'a NewReportRow| match &row.candidate {
        Some(id) if !living.contains(id) => {
            Ok(Presence::Erased(Box::new(tx.records.dismissed_row(row.record.clone())?)))
        }
        _ => Ok(Presence::Present(row)),
    };
    rows.iter().map(presence).collect()
}

/// The row of a report as it is to be written.
pub(super) enum Presence<'a> {
    Present(&'a NewReportRow),
    /// Its candidate is gone.
    Erased(Box<NewReportRow>),
}

impl Presence<'_> {
    pub(super) fn row(&self) -> &NewReportRow {
        match self {
            Self::Present(row) => row,
            Self::Erased(row) => row,
        }
    }
}
