//! Renewal of index entries made by earlier versions.
//!
//! While an instance of an earlier version is alive, it adds entries of its form, and finds people only by those. So the
//! renewal adds entries of the present form beside them, continues after the newest record, and starts once more when
//! the last of those instances has ended.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::candidates::{self, IndexForm};
use super::error::TxError;
use super::schema::IDENTITY_FORM;
use super::transaction::WriteContext;
use crate::domain::candidate::Candidate;
use crate::domain::ids::CandidateId;
use crate::store::codec::{RecordCodec, RenewedIdentity, SealedRow};
use crate::store::columns::FromColumns as _;
use crate::store::{Collision, IdentityUpkeep, ReindexedPage, StoreError};

/// The progress of a task.
struct Progress {
    task: String,
    after: String,
    done: bool,
    found: i64,
}

/// A page of a task: what to report, and the records it changed and read.
struct TaskPage {
    report: ReindexedPage,
    found: i64,
    last: Option<String>,
    read: usize,
}

/// Renews the next records of the first task that is not done.
pub(super) async fn reindex(tx: &mut WriteContext<'_>, limit: usize) -> Result<IdentityUpkeep, TxError> {
    // Other replicas wait here, and continue after this page.
    let rows = sqlx::query("SELECT task, after, done, found FROM upkeep ORDER BY task FOR UPDATE")
        .fetch_all(&mut *tx.connection)
        .await?;
    let progress = rows.iter().map(read_progress).collect::<Result<Vec<_>, _>>()?;
    let former_alive: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM instances WHERE NOT ended AND identity_form < $1)")
            .bind(IDENTITY_FORM)
            .fetch_one(&mut *tx.connection)
            .await?;
    let tasks: &[&str] = if former_alive { &["early"] } else { &["candidates", "assignments"] };
    let mut found = 0;
    for task in tasks {
        let Some(progress) = progress.iter().find(|progress| progress.task == *task) else { continue };
        if progress.done {
            found += u64::try_from(progress.found).unwrap_or(0);
            continue;
        }
        let mut page = match *task {
            "assignments" => assignments(tx, &progress.after, limit).await?,
            _ => renew_candidates(tx, &progress.after, limit).await?,
        };
        let is_last = page.read < limit;
        sqlx::query("UPDATE upkeep SET after = $2, done = $3, found = $4 WHERE task = $1")
            .bind(task)
            .bind(page.last.as_deref().unwrap_or(&progress.after))
            .bind(is_last && !former_alive)
            .bind(progress.found + page.found)
            .execute(&mut *tx.connection)
            .await?;
        if former_alive {
            // Reported when the renewal starts once more.
            page.report = ReindexedPage::default();
        }
        let waits = former_alive && is_last;
        return Ok(if waits { IdentityUpkeep::Waiting } else { IdentityUpkeep::Page(page.report) });
    }
    Ok(IdentityUpkeep::Done { found })
}

fn read_progress(row: &PgRow) -> Result<Progress, sqlx::Error> {
    Ok(Progress { task: row.try_get(0)?, after: row.try_get(1)?, done: row.try_get(2)?, found: row.try_get(3)? })
}

async fn renew_candidates(tx: &mut WriteContext<'_>, after: &str, limit: usize) -> Result<TaskPage, TxError> {
    let rows = candidate_rows(tx.connection, "c.id > $1 ORDER BY c.id LIMIT $2", after, limit).await?;
    let mut page = TaskPage {
        report: ReindexedPage::default(),
        found: 0,
        last: rows.last().map(|(row, _)| row.id.clone()),
        read: rows.len(),
    };
    for (row, open) in rows {
        match renewed(tx.records, &row, open.as_ref()) {
            Ok((_, identities)) if identities.is_empty() => {}
            Ok((candidate, _)) => {
                page.found += 1;
                page.report.collisions.extend(renew(tx, &candidate.id).await?);
            }
            Err(StoreError::Unreadable(_)) => page.report.unreadable.push(row.id),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(page)
}

/// Reads candidates, each with the open write about it.
async fn candidate_rows(
    connection: &mut PgConnection,
    which: &'static str,
    id: &str,
    limit: usize,
) -> Result<Vec<(SealedRow, Option<SealedRow>)>, sqlx::Error> {
    let start = "SELECT c.id, c.tenant, c.connection, c.sealed, i.tenant, i.connection, i.sealed
         FROM candidates c LEFT JOIN intents i ON i.record = c.id WHERE ";
    let sql = [start, which].concat();
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let read = |row: &PgRow| {
        let candidate = SealedRow::from_columns(row)?;
        let open = row.try_get::<Option<Vec<u8>>, _>(6)?.map(|sealed| {
            let (tenant, connection) = (row.try_get(4)?, row.try_get(5)?);
            Ok::<_, sqlx::Error>(SealedRow { id: candidate.id.clone(), tenant, connection, sealed, photo: None })
        });
        let open = open.transpose()?;
        Ok((candidate, open))
    };
    rows.fetch_all(connection).await?.iter().map(read).collect()
}

fn renewed(
    records: &RecordCodec,
    row: &SealedRow,
    open: Option<&SealedRow>,
) -> Result<(Candidate, Vec<RenewedIdentity>), StoreError> {
    let open = open.map(|open| records.intent(open)).transpose()?;
    let candidate = records.candidate(row)?;
    let identities = records.renewed_identities(&candidate, open.as_ref());
    Ok((candidate, identities))
}

/// Adds the entries of a candidate, read again under its lock; returns its collisions.
pub(super) async fn renew(tx: &mut WriteContext<'_>, id: &CandidateId) -> Result<Vec<Collision>, TxError> {
    let which = "c.id = $1 LIMIT $2 FOR NO KEY UPDATE OF c";
    let Some((row, open)) = candidate_rows(tx.connection, which, id.as_str(), 1).await?.pop() else {
        return Ok(Vec::new());
    };
    let (candidate, identities) = renewed(tx.records, &row, open.as_ref())?;
    let held = candidates::held_forms(tx.connection, id).await?;
    let mut collisions = Vec::new();
    for RenewedIdentity { identity, kind, former, lookup } in identities {
        if former.iter().any(|form| held.contains(form)) {
            let key = tx.records.key_forms(&candidate.connection, &identity);
            let form = |blind| IndexForm { connection: candidate.connection.clone(), kind, blind };
            let missing: Vec<IndexForm> = key.into_iter().filter(|blind| !held.contains(blind)).map(form).collect();
            if !candidates::has_taken_all(tx.connection, id, &candidate.tenant, &missing).await? {
                candidates::release_forms(tx.connection, id, &missing).await?;
                let holders = candidates::holders(&mut *tx.connection, &missing.iter().collect::<Vec<_>>()).await?;
                let holder = holders.into_values().next().map(|holder| holder.candidate);
                let candidate = id.to_string();
                collisions.extend(holder.map(|holder| Collision { candidate, holder, kind }));
            }
        }
        // Also beside a collision: within its own tenant, the record is the only one that can be found.
        if let Some(blind) = lookup {
            sqlx::query(
                "INSERT INTO lookups (candidate_id, kind, blind, tenant) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(id.as_str())
            .bind(kind)
            .bind(blind)
            .bind(&candidate.tenant)
            .execute(&mut *tx.connection)
            .await?;
        }
    }
    Ok(collisions)
}

async fn assignments(tx: &mut WriteContext<'_>, after: &str, limit: usize) -> Result<TaskPage, TxError> {
    let rows = sqlx::query(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE person IS NOT NULL AND id > $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE",
    )
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut *tx.connection)
    .await?;
    let rows = rows.iter().map(SealedRow::from_columns).collect::<Result<Vec<_>, sqlx::Error>>()?;
    let (last, read) = (rows.last().map(|row| row.id.clone()), rows.len());
    let mut page = TaskPage { report: ReindexedPage::default(), found: 0, last, read };
    for row in rows {
        match tx.records.renewed_person(&row) {
            Ok(None) => {}
            Ok(Some(person)) => {
                page.found += 1;
                sqlx::query("UPDATE assignments SET person = $2 WHERE id = $1")
                    .bind(&row.id)
                    .bind(person)
                    .execute(&mut *tx.connection)
                    .await?;
            }
            Err(StoreError::Unreadable(_)) => page.report.unreadable.push(row.id),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(page)
}
