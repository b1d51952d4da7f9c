//! Renewal of index entries made by earlier versions. Runs inside transactions of the writer thread, before the gateway
//! serves.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::intent::Intent;
use crate::store::codec::{RecordCodec, RenewedIdentity, SealedRow};
use crate::store::sqlite::identities::{IdentityOwner, holders, insert_identity, is_held};
use crate::store::sqlite::lookups::add_lookup;
use crate::store::sqlite::statements;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::{Collision, IdentityUpkeep, ReindexedPage, StoreError};

/// The progress of a task.
struct Progress {
    after: String,
    done: bool,
    found: u64,
}

/// A page of a task: what to report, and the records it changed and read.
struct TaskPage {
    report: ReindexedPage,
    found: u64,
    last: Option<String>,
    read: usize,
}

/// Renews the next records of the first task that is not done.
pub(super) fn reindex(tx: &WriteContext<'_>, limit: usize) -> Result<IdentityUpkeep, StoreError> {
    let mut found = 0;
    for task in ["candidates", "assignments"] {
        let progress = progress(tx.connection, task)?;
        if progress.done {
            found += progress.found;
            continue;
        }
        let page = match task {
            "assignments" => assignments(tx, &progress.after, limit)?,
            _ => candidates(tx, &progress.after, limit)?,
        };
        let (after, done) = (page.last.unwrap_or(progress.after), page.read < limit);
        tx.connection
            .prepare_cached("UPDATE upkeep SET after = ?2, done = ?3, found = ?4 WHERE task = ?1")?
            .execute(params![task, after, done, i64::try_from(progress.found + page.found).unwrap_or(i64::MAX)])?;
        return Ok(IdentityUpkeep::Page(page.report));
    }
    Ok(IdentityUpkeep::Done { found })
}

fn progress(connection: &Connection, task: &str) -> Result<Progress, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Progress { after: row.get(0)?, done: row.get(1)?, found: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0) })
    };
    let sql = "SELECT after, done, found FROM upkeep WHERE task = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([task], read)?)
}

fn candidates(tx: &WriteContext<'_>, after: &str, limit: usize) -> Result<TaskPage, StoreError> {
    let records = tx.records;
    let mut statement = tx.connection.prepare_cached(
        "SELECT c.id, c.tenant, c.connection, c.sealed, i.tenant, i.connection, i.sealed
         FROM candidates c LEFT JOIN intents i ON i.record = c.id WHERE c.id > ?1 ORDER BY c.id LIMIT ?2",
    )?;
    let rows: Vec<(SealedRow, Option<SealedRow>)> = statement
        .query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let candidate: SealedRow = statements::row(row)?;
            let open = row.get::<_, Option<Vec<u8>>>(6)?.map(|sealed| {
                Ok::<_, rusqlite::Error>(SealedRow {
                    id: candidate.id.clone(),
                    tenant: row.get(4)?,
                    connection: row.get(5)?,
                    sealed,
                    photo: None,
                })
            });
            Ok((candidate, open.transpose()?))
        })?
        .collect::<Result<_, _>>()?;
    let mut page = TaskPage {
        report: ReindexedPage::default(),
        found: 0,
        last: rows.last().map(|(row, _)| row.id.clone()),
        read: rows.len(),
    };
    for (row, open) in rows {
        let opened = renewed(records, &row, open.as_ref());
        match opened {
            Ok(identities) if identities.is_empty() => {}
            Ok(identities) => {
                page.found += 1;
                let owner = IdentityOwner { id: &row.id, tenant: &row.tenant, connection: &row.connection };
                for identity in &identities {
                    page.report.collisions.extend(renew(tx, owner, identity)?);
                }
            }
            Err(StoreError::Unreadable(_)) => page.report.unreadable.push(row.id),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

fn renewed(
    records: &RecordCodec,
    row: &SealedRow,
    open: Option<&SealedRow>,
) -> Result<Vec<RenewedIdentity>, StoreError> {
    let open: Option<Intent> = open.map(|open| records.intent(open)).transpose()?;
    Ok(records.renewed_identities(&records.candidate(row)?, open.as_ref()))
}

/// Adds the entries of one candidate that can be read.
pub(super) fn renew_candidate(tx: &WriteContext<'_>, id: &str) -> Result<(), StoreError> {
    let one = "SELECT id, tenant, connection, sealed FROM candidates WHERE id = ?1";
    let open = "SELECT record, tenant, connection, sealed FROM intents WHERE record = ?1";
    let read = |sql| tx.connection.prepare_cached(sql)?.query_row([id], statements::row::<SealedRow>).optional();
    let Some(row) = read(one)? else { return Ok(()) };
    let identities = match renewed(tx.records, &row, read(open)?.as_ref()) {
        Err(StoreError::Unreadable(_)) => return Ok(()),
        identities => identities?,
    };
    let owner = IdentityOwner { id: &row.id, tenant: &row.tenant, connection: &row.connection };
    identities.iter().try_for_each(|identity| renew(tx, owner, identity).map(drop))
}

/// Adds the entries of an identity; returns the collision if another candidate holds it.
fn renew(
    tx: &WriteContext<'_>,
    owner: IdentityOwner<'_>,
    renewed: &RenewedIdentity,
) -> Result<Option<Collision>, StoreError> {
    let RenewedIdentity { identity, kind, former, lookup } = renewed;
    tx.memo.forget(owner.id);
    let mut collision = None;
    if is_held(tx.connection, owner.id, kind, former)? {
        let held = holders(tx.read(), owner.connection, identity)?;
        match held.into_iter().next() {
            None => insert_identity(tx, owner, &tx.records.identity(owner.connection, identity))?,
            Some(holder) if holder.candidate == owner.id => {}
            Some(holder) => {
                collision = Some(Collision { candidate: owner.id.to_owned(), holder: holder.candidate, kind });
            }
        }
    }
    // Also beside a collision: within its own tenant, the record is the only one that can be found.
    if let Some(blind) = lookup {
        add_lookup(tx, owner, kind, blind)?;
    }
    Ok(collision)
}

fn assignments(tx: &WriteContext<'_>, after: &str, limit: usize) -> Result<TaskPage, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, tenant, connection, sealed FROM assignments WHERE person IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let rows: Vec<SealedRow> = statement
        .query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], statements::row)?
        .collect::<Result<_, _>>()?;
    let (last, read) = (rows.last().map(|row| row.id.clone()), rows.len());
    let mut page = TaskPage { report: ReindexedPage::default(), found: 0, last, read };
    for row in rows {
        match tx.records.renewed_person(&row) {
            Ok(None) => {}
            Ok(Some(person)) => {
                page.found += 1;
                tx.connection
                    .prepare_cached("UPDATE assignments SET person = ?2 WHERE id = ?1")?
                    .execute(params![row.id, person])?;
            }
            Err(StoreError::Unreadable(_)) => page.report.unreadable.push(row.id),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}
