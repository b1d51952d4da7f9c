//! The audit record.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::TxError;
use super::transaction::WriteContext;
use crate::domain::audit::{Entry, NOTHING};
use crate::store::StoreError;
use crate::store::codec::{AuditHead, AuditRow};

/// Appends entries, each to its tenant's chain. Locks the end of each chain until the transaction ends, in tenant
/// order, so that transactions do not deadlock.
pub(super) async fn append(tx: &mut WriteContext<'_>, entries: &[&Entry]) -> Result<(), TxError> {
    let tenants: BTreeSet<&str> = entries.iter().map(|entry| entry.tenant.as_str()).collect();
    let mut heads = lock_heads(tx, tenants.into_iter().collect()).await?;
    let mut lines: Vec<(&str, AuditRow)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let missing = || StoreError::Unreadable(format!("audit_heads {}: is missing", entry.tenant));
        let head = heads.get_mut(&entry.tenant).ok_or_else(missing)?;
        let row = tx.records.audit_row(entry, head)?;
        *head = AuditHead { seq: row.seq, hash: row.hash.clone() };
        lines.push((&entry.tenant, row));
    }
    sqlx::query(
        "WITH lines AS (
             INSERT INTO audit (tenant, seq, sealed) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[]))
         UPDATE audit_heads AS head SET seq = last.seq, hash = last.hash
         FROM unnest($4::text[], $5::bigint[], $6::text[]) AS last (tenant, seq, hash)
         WHERE head.tenant = last.tenant",
    )
    .bind(lines.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, row)| row.seq).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, row)| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(heads.keys().map(String::as_str).collect::<Vec<_>>())
    .bind(heads.values().map(|head| head.seq).collect::<Vec<_>>())
    .bind(heads.values().map(|head| head.hash.as_str()).collect::<Vec<_>>())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Locks the ends of these tenants' chains and returns them.
async fn lock_heads(tx: &mut WriteContext<'_>, tenants: Vec<&str>) -> Result<BTreeMap<String, AuditHead>, TxError> {
    // The update changes nothing: it locks the row, which the statement inserts if it is missing.
    let rows = sqlx::query(
        "INSERT INTO audit_heads AS head (tenant, seq, hash) SELECT tenant, 0, $2 FROM unnest($1::text[]) AS of (tenant)
         ON CONFLICT (tenant) DO UPDATE SET seq = head.seq RETURNING tenant, seq, hash",
    )
    .bind(tenants)
    .bind(NOTHING)
    .fetch_all(&mut *tx.connection)
    .await?;
    let head = |row: PgRow| Ok((row.try_get(0)?, AuditHead { seq: row.try_get(1)?, hash: row.try_get(2)? }));
    Ok(rows.into_iter().map(head).collect::<Result<_, sqlx::Error>>()?)
}
