//! Reports that are still to be fetched, many rows at once.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::error::TxError;
use super::reports::SeriesNumbers;
use crate::store::codec::{FetchChangeRow, NewFetchRow};

/// Inserts fetches, or counts another request for each; their candidates are held.
pub(super) async fn request(
    connection: &mut PgConnection,
    rows: &[&NewFetchRow],
    series: &SeriesNumbers,
) -> Result<(), TxError> {
    // One row each: a statement cannot affect a row twice.
    let rows: BTreeMap<i64, &NewFetchRow> =
        rows.iter().filter_map(|row| Some((series.number(&row.series)?, *row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO report_fetches AS known (series, token, connection, requests, failures, due, sealed)
         SELECT series, token, connection, 1, 0, due, sealed
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
             AS new (series, token, connection, due, sealed)
         ON CONFLICT (series) DO UPDATE
         SET token = excluded.token, sealed = excluded.sealed, requests = known.requests + 1",
    )
    .bind(rows.keys().copied().collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.token.as_str()).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.due).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends or postpones fetches, unless they were requested again meanwhile.
pub(super) async fn change(connection: &mut PgConnection, rows: &[&FetchChangeRow]) -> Result<(), TxError> {
    let mut ended: Vec<&FetchChangeRow> = rows.iter().copied().filter(|row| row.postponed.is_none()).collect();
    if !ended.is_empty() {
        ended.sort_by_key(|row| row.series);
        sqlx::query(
            "DELETE FROM report_fetches AS known USING unnest($1::bigint[], $2::bigint[]) AS given (series, requests)
             WHERE known.series = given.series AND known.requests = given.requests",
        )
        .bind(ended.iter().map(|row| row.series).collect::<Vec<_>>())
        .bind(ended.iter().map(|row| row.requests).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    let postponed: BTreeMap<i64, (i64, i64, i64)> = rows
        .iter()
        .filter_map(|row| row.postponed.map(|(failures, due)| (row.series, (row.requests, failures, due))))
        .collect();
    if !postponed.is_empty() {
        sqlx::query(
            "UPDATE report_fetches AS known SET failures = given.failures, due = given.due
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS given (series, requests, failures, due)
             WHERE known.series = given.series AND known.requests = given.requests",
        )
        .bind(postponed.keys().copied().collect::<Vec<_>>())
        .bind(postponed.values().map(|(requests, _, _)| *requests).collect::<Vec<_>>())
        .bind(postponed.values().map(|(_, failures, _)| *failures).collect::<Vec<_>>())
        .bind(postponed.values().map(|(_, _, due)| *due).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    }
    Ok(())
}
